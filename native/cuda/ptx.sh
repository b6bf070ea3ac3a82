#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The committed PTX of the kernels: ptx.sh makes it, ptx.sh --check says whether it is what clang makes of the sources. The version is pinned: another one writes
# other text for the same program. PTX 6.3 for sm_75 and 7.0 for
# sm_80 are what old drivers take, too, and every later device can run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
clang=${CLANG:-clang-19}
if ! $clang --version 2>/dev/null | grep -q 'version 19\.1\.7'; then
    echo "SKIP: the PTX is made by clang 19.1.7, which is not installed"
    [ "${1:-}" = --check ] && exit 0
    exit 1
fi
made=$(mktemp)
trap 'rm -f "$made"' EXIT
make_ptx() { # SOURCE ARCHITECTURE FEATURE
    (cd "$here" && $clang -x cuda --cuda-device-only -nocudainc -nocudalib -std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Werror -I. \
        --cuda-gpu-arch="$2" --cuda-feature="$3" -S "$1.cu" -o "$made")
    sed "1i // Generated from native/cuda/$1.cu by native/cuda/ptx.sh. Do not edit." "$made"
}
for image in 'kernels sm_75 +ptx63' 'kernels80 sm_80 +ptx70'; do
    # shellcheck disable=SC2086 # three words
    set -- "${1:-}" $image
    file=$here/ptx/$2.ptx
    if [ "$1" = --check ]; then
        make_ptx "$2" "$3" "$4" | cmp - "$file" || {
            echo "$file is not what the sources give: run native/cuda/ptx.sh" >&2
            exit 1
        }
        echo "native/cuda/ptx/$2.ptx: what clang 19.1.7 makes of the sources"
    else
        make_ptx "$2" "$3" "$4" >"$file.new"
        mv "$file.new" "$file"
    fi
done
