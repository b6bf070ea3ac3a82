#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sanitize.sh address|undefined|thread FOLDER: builds the libraries with a sanitizer of GCC's in FOLDER, and runs the C tests and the Go tests of backends and
# runtime with them. That the run can fail is tried with bugs that have to be found. docs/failure-modes.md says what each run sees and what it does not.
set -euo pipefail
kind=$1 build=$(realpath -m "$2") root=$(realpath "$(dirname "$0")/..")
cd "$root"
fail() {
    echo "sanitize.sh: $*" >&2
    exit 1
}
step() { printf '%s: ' "$1"; }
# Go tests of packages with so much more of flags and environment: what ran and what was skipped is shown, all of it is in the log.
log=$build-go.log
tests() {
    SETUN_TEST_LIBRARIES=$build SETUN_TEST_NATIVE=require SETUN_TEST_SANITIZER=$kind CGO_ENABLED=0 go test -count=1 -short -timeout 60m -exec "env ${preload:+LD_PRELOAD=$preload}" -v "$@" 2>&1 |
        tee -a "$log" | { grep -E '^(ok|FAIL|panic|\?|--- |    --- (FAIL|SKIP)|.*(_test\.go|conform\.go):[0-9]+:|SUMMARY)' || test $? -eq 1; }
}

broken='^Test(F0[6-9]|F1[0-3]|F14Wrong|F27|FloatEnvironmentChangedInACall|NoMemoryIsNoVerdict)'
preload= image=ptx libraries="simd_c cpp" packages="./internal/plugin ./backends/simd_c ./backends/cpp ./backends/conform ./runtime"
case $kind in
address)
    preload=$(cc -print-file-name=libasan.so)
    # strstr would measure the image of the CUDA kernels, megabytes, at each look into it. Crashes are Go's to report, as without a sanitizer. Leaks are looked for in the C tests: in a Go program nothing is found (google/sanitizers 1223).
    export ASAN_OPTIONS=detect_leaks=0:intercept_strstr=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0
    ;;
undefined) export UBSAN_OPTIONS=print_stacktrace=1 ;;
thread)
    preload=$(cc -print-file-name=libtsan.so)
    # Go ends a program without C's exit, where races would be counted: so the first one ends it.
    export TSAN_OPTIONS=suppressions=$root/native/tsan.supp:halt_on_error=1:exitcode=66:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0
    image=off libraries=cpp # the other one has no threads
    packages=${packages#* }
    broken="$broken|^TestOneUnitInOneLaneIsNoticed\$"
    echo "left out: ./internal/plugin, whose tests make libraries of their own, without a sanitizer"
    ;;
*) fail "no such sanitizer: $kind" ;;
esac
[ -z "$preload" ] || [ -f "$preload" ] || fail "cc has no run-time for -fsanitize=$kind ($preload)"

trap 'test $? = 0 || echo "sanitize.sh: failed; libraries were opened by descriptors, so for (…/6+0x1234) see: addr2line -Cife $build/libsetun_cpp.so 0x1234, or another library"' EXIT
umask 022
mkdir -p "$build"
cmake -S . -B "$build" -DSETUN_SANITIZE="$kind" -DSETUN_CUDA=$image -DCMAKE_BUILD_TYPE=Release >"$build.log" && cmake --build "$build" -j 2 >>"$build.log" || {
    cat "$build.log"
    exit 1
}

# The C tests, with leaks.
for library in $libraries; do
    step "test_$library"
    ASAN_OPTIONS=detect_leaks=1 "$build/test_$library" | tail -1
done
if [ $kind = address ]; then
    if out=$(ASAN_OPTIONS=detect_leaks=1 "$build/test_simd_c" --leak 2>&1) || [[ $out != *"LeakSanitizer: detected memory leaks"* ]]; then fail "a leak was not found: $out"; fi
    echo "test_simd_c --leak: found, as it has to be"
fi
if [ $image != off ]; then
    step test_leaks
    ASAN_OPTIONS=detect_leaks=1 "$build/test_leaks" "$build/libcuda_fake.so" | tail -1
fi

# The Go tests. Only the tests' processes get the run-time, not the go command and the compilers.
rm -rf "$log" "$build/state"
export SETUN_STATE=$build/state # what was quarantined in an earlier run is tried again; make has a folder of its own here, which stays
export XDG_DATA_HOME=$build/data # libraries that were installed are built without the sanitizer, which takes what it does not see of them for races
unset SETUN_BACKEND_PATH SETUN_PLUGINS
echo "left out: tests of broken libraries, which are not built with a sanitizer: $broken"
tests -skip "$broken" $packages
if [ $image = off ]; then
    echo "left out: ./backends/cuda, since the stand-in for the driver switches stacks in ways that the sanitizer cannot follow"
    exit
fi
export SETUN_CUDA_DRIVER=$build/libcuda_fake.so SETUN_TEST_CUDA=require
raised=
if [ -n "$preload" ]; then # a process with raised privileges gets no LD_PRELOAD
    raised='^TestDriverInRaisedProcess$'
    echo "left out of ./backends/cuda: the run-time cannot be loaded first where privileges are raised: $raised"
fi
tests -skip "${raised:-^$}" ./backends/cuda
