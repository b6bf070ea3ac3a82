#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fatbin.sh NVCC SOURCE LEAST IMAGE: machine code for the devices that this nvcc knows, or those of SETUN_CUDA_ARCHITECTURES, from a
# compute capability on, and PTX for later ones.
set -eu
nvcc=$1
source=$2
least=$3
image=$4
here=$(cd "$(dirname "$0")" && pwd)
known=$($nvcc --list-gpu-arch)
set --
for arch in ${SETUN_CUDA_ARCHITECTURES:-75 80 86 89 90 100 120}; do
    [ $arch -ge "$least" ] || continue
    case $known in *compute_$arch*) set -- "$@" -gencode "arch=compute_$arch,code=sm_$arch" last="$arch" ;; esac
done
flags=
for word in "$@"; do case $word in last=*) last=${word#last=} ;; *) flags="$flags $word" ;; esac done
# shellcheck disable=SC2086 # words without spaces
exec $nvcc -std=c++17 -O3 --fmad=false -Werror all-warnings -I"$here" $flags -gencode "arch=compute_$last,code=compute_$last" -fatbin "$source" -o "$image"
