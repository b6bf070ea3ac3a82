#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sees to C and C++ compilers and cmake. As root on Debian or Ubuntu it installs what is missing; elsewhere it says what to install. It does not
# fail: without them everything still works, in pure Go. With --check it only tells by its exit status whether they are there. With --mpi it sees to an MPI
# in the same way, which only tests need.
set -eu

missing() {
    command -v cc >/dev/null 2>&1 || printf '%s ' gcc
    command -v c++ >/dev/null 2>&1 || printf '%s ' g++
    command -v cmake >/dev/null 2>&1 || printf '%s ' cmake
    command -v make >/dev/null 2>&1 || printf '%s ' make
}

if [ "${1:-}" = --mpi ]; then
    command -v mpirun >/dev/null 2>&1 && exit 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing openmpi-bin (apt-get)" >&2
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openmpi-bin; } >&2 && exit 0
    fi
    echo "no mpirun: tests of training in several processes will say that they are skipped (Debian, Ubuntu: apt-get install openmpi-bin)" >&2
    exit 0
fi
want=$(missing)
if [ "${1:-}" = --check ]; then
    [ -z "$want" ]
    exit
fi
[ -n "$want" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing $want(apt-get)" >&2
    if apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $want libc6-dev >&2; then
        exit 0
    fi
    echo "apt-get failed; going on in pure Go" >&2
    exit 0
fi
echo "for native speed install: $want(Debian, Ubuntu: apt-get install gcc g++ cmake make; macOS: xcode-select --install and cmake; Fedora: dnf install gcc gcc-c++ cmake make); going on in pure Go" >&2
