#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No native object was built without stack protection or with a flag of the -ffast-math family, and no a*b + c was fused that the source did not fuse: check_flags.sh BUILD_FOLDER.
# Fused instructions belong to the files whose instruction set has them and whose source asks for each one.
set -eu
build=$1
here=$(dirname "$0")
fail() {
    echo "check_flags.sh: $*" >&2
    exit 1
}

commands=$(grep '"command"' "$build/compile_commands.json" | grep -v peer_loops) || fail "no compile commands in $build"
echo "$commands" | grep -v -e '-ffp-contract=off' && fail "built without -ffp-contract=off: the commands above"
echo "$commands" | grep -e '-ffast-math' -e '-Ofast' -e '-funsafe-math' -e '-fassociative-math' -e '-freciprocal-math' -e '-ffinite-math' -e '-ffp-contract=[^o]' -e '-fno-signed-zeros' &&
    fail "a flag that changes results: the commands above"
echo "$commands" | grep -v -e '-fstack-protector-strong' && fail "built without -fstack-protector-strong: the commands above"
grep -rnE 'FP_CONTRACT|fast-math|float_control|__attribute__ *\(\(optimize' "$here"/kernels "$here"/simd_c "$here"/cpp "$here"/include | grep -v 'never -ffast-math' &&
    fail "a pragma or an attribute that changes results: the lines above"

fused='v?fn?m(add|sub)(sub)?[0-9]*[sp][sd]|fn?m(add|sub)|fml[as]'
scan() { ${OBJDUMP:-objdump} -d --no-show-raw-insn "$1" | awk '{print $2}' | grep -cE "^($fused)\$" || :; }

# The scan must find what it looks for.
case $(${CC:-cc} -dumpmachine) in
x86_64*) probe="${CC:-cc} -O2 -mfma -ffp-contract=fast" ;;
*) probe="${CC:-cc} -O2 -ffp-contract=fast" ;;
esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo 'float f(float a, float b, float c) { return a * b + c; }' >"$dir/probe.c"
$probe -c -o "$dir/probe.o" "$dir/probe.c"
[ "$(scan "$dir/probe.o")" = 1 ] || fail "a fused product in a probe is not found: the scan says nothing"

scanned=0
for object in $(find "$build" -path '*setun_*' \( -name '*.c.o' -o -name '*.cpp.o' \)); do
    case $object in *isa_avx2* | *isa_avx512* | *isa_vnni* | *isa_neon*) continue ;; esac
    n=$(scan "$object")
    [ "$n" = 0 ] || fail "$object has $n fused products that its source does not ask for"
    scanned=$((scanned + 1))
done
[ "$scanned" -ge 10 ] || fail "$scanned objects in $build: there should be ten or more"
for library in "$build"/libsetun_*.so; do
    nm "$library" | grep -i fast_math && fail "$library is linked with what sets the processor to -ffast-math"
done
echo "$build: -ffp-contract=off and -fstack-protector-strong throughout, $scanned objects without fused products, none for -ffast-math"
