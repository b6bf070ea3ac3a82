#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything that a machine with a GPU has to say about the CUDA library: gpu.sh BUNDLE RESULTS [parts]. `make gpu-bundle` makes the bundle; the machine needs the driver,
# g++, cmake and, for all parts, nvcc and compute-sanitizer, but no Go. Parts: assemble build conform bench peers regret sanitize; all by default.
set -u
bundle=$(cd "$1" && pwd)
mkdir -p "$2"
results=$(cd "$2" && pwd)
shift 2
parts=${*:-assemble build conform bench peers regret sanitize}
source=$bundle/source
work=${TMPDIR:-/tmp}/setun-gpu
failed=
export PATH=$PATH:/usr/local/cuda/bin
mkdir -p "$work"

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 begun=$SECONDS rc
    shift 2
    case " $parts " in *" ${name%%-*} "*) ;; *) return 0 ;; esac
    timeout "$limit" "$@" >"$results/$name.out" 2>"$results/$name.err"
    rc=$?
    echo "== $name: $([ $rc = 0 ] && echo ok || echo "FAILED ($rc)") in $((SECONDS - begun)) s"
    [ $rc = 0 ] || failed="$failed $name"
}

nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv | tee "$results/device.csv"

part assemble 60 bash -c "for f in kernels kernels80; do ptxas -arch=sm_90 -v '$source'/native/cuda/ptx/\$f.ptx -o '$work'/\$f.cubin || exit 1; done"
for image in ptx nvcc; do
    [ -d "$bundle/$image" ] && cp -r "$bundle/$image" "$work/" && continue # made elsewhere
    part "build-$image" 240 bash -c "cmake -S '$source' -B '$work/$image' -DCMAKE_BUILD_TYPE=Release -DSETUN_CUDA=$image &&
        cmake --build '$work/$image' --target setun_cuda setun_simd_c setun_cpp gpu_bench -j 16"
done
for image in ptx nvcc; do
    [ -f "$work/$image/libsetun_cuda.so" ] || continue
    part "conform-$image" 400 env SETUN_TEST_LIBRARIES="$work/$image" SETUN_TEST_CUDA=require "$bundle/cuda.test" -test.v ${SHORT:+-test.short}
    part "bench-$image" 150 "$work/$image/gpu_bench" "$work/$image/libsetun_cuda.so" "${MEGABYTES:-1080}"
done
part peers 150 python3 "$bundle/peers.py" "${MEGABYTES:-1080}"
part regret 200 env SETUN_BACKEND_PATH="$work/nvcc" SETUN_PROFILE="$work/profile.json" bash -c "'$bundle/calibrate' doctor && '$bundle/calibrate' run --quick && '$bundle/calibrate' regret --json"
for tool in memcheck racecheck synccheck; do
    part "sanitize-$tool" 150 env SETUN_BENCH_ONCE=1 compute-sanitizer --tool $tool --error-exitcode 9 "$work/nvcc/gpu_bench" "$work/nvcc/libsetun_cuda.so" 1
done
echo "failed:${failed:- none}"
[ -z "$failed" ]
