#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh TIME FOLDER: builds native/test/fuzz.c and the libraries with clang in FOLDER and runs it for so long (10m), or so often (500000x): the libraries for
# processors first, then that for CUDA devices on the stand-in for the driver. What was interesting stays in FOLDER/corpus, what failed in FOLDER.
set -euo pipefail
time=$1 build=$(realpath -m "$2")
cd "$(dirname "$0")/.."
case $time in
*x) limit=-runs=${time%x} ;;
*h) limit=-max_total_time=$((${time%h} * 3600)) ;;
*m) limit=-max_total_time=$((${time%m} * 60)) ;;
*) limit=-max_total_time=${time%s} ;;
esac
mkdir -p "$build/corpus" "$build/corpus-cuda"

clang=none
echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p && n > 1ul << 40; }' >"$build/probe.c"
for version in "" -22 -21 -20 -19 -18 -17 -16 -15 -14; do
    command -v "clang++$version" >/dev/null || continue
    if "clang$version" -fsanitize=fuzzer,address,undefined -o "$build/probe" "$build/probe.c" 2>/dev/null; then
        clang=$version
        break
    fi
done
if [ "$clang" = none ]; then
    echo "no clang with libFuzzer (Debian, Ubuntu: apt-get install clang-19 libclang-rt-19-dev)" >&2
    exit 1
fi

CC=clang$clang CXX=clang++$clang cmake -S . -B "$build" -DSETUN_SANITIZE=address,undefined -DSETUN_FUZZ=ON -DSETUN_CUDA=ptx -DCMAKE_BUILD_TYPE=Release >"$build.log" &&
    cmake --build "$build" --target fuzz libraries cuda_fake -j 2 >>"$build.log" || {
    cat "$build.log"
    exit 1
}
cd "$build"
for symbolizer in llvm-symbolizer$clang llvm-symbolizer; do
    if path=$(command -v "$symbolizer"); then
        export ASAN_SYMBOLIZER_PATH=$path
        break
    fi
done
run() { # what, libraries, corpus
    echo "== $1"
    SETUN_FUZZ=$2 ./fuzz "$limit" -max_len=200 -len_control=0 -timeout=120 -rss_limit_mb=4096 -report_slow_units=60 -print_funcs=0 "$3" 2>&1 | tee "$3.log" |
        grep -E 'MISMATCH|ERROR|runtime error|SUMMARY|#[0-5] |Test unit|Base64|INITED|DONE|Done'
}
run "simd_c and cpp" "$build/libsetun_simd_c.so:$build/libsetun_cpp.so" corpus
# The stand-in has a stack for each thread of a GPU: no copies of those. It looks into an image of megabytes, which strstr would measure each time.
ASAN_OPTIONS=detect_stack_use_after_return=0:intercept_strstr=0 SETUN_CUDA_DRIVER=$build/libcuda_fake.so run "cuda on the stand-in" "$build/libsetun_simd_c.so:$build/libsetun_cuda.so" corpus-cuda
