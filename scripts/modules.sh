#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Link the target stack's modules as in a mainline kernel: by modpost, against
# the exports of the kernel that they were built with, without those that only
# the distribution's source has (debian-only-exports). Part of make check;
# builds the plain kernel, which has them as modules, or finds it built.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

only=$TOP/scripts/debian-only-exports
obj=$BUILD/kernel-plain
# Beside the object tree: modpost looks for the sources as from there.
work=$BUILD/modules
name="the modules link against what mainline exports"

KERNEL=plain "$TOP/scripts/kernel.sh" || {
	not_ok "the plain kernel builds, and its modules link"
	totals
	exit
}
rm -rf "$work"
mkdir -p "$work"
# Copies: modpost writes beside the objects.
(cd "$obj" && sed 's/\.o$//' modules.order | while read -r module; do
	cp --parents "$module.o" "$module.mod" "$(dirname "$module")"/.*.cmd "$work/"
done) || die "$obj has no modules; remove it and try again"
cp "$obj/modules.order" "$work/"
# Of the kernel itself: the modules' own exports are found again.
awk -F '\t' 'NR == FNR { split($0, a, /[ \t]/); if (a[1] !~ /^#/) gone[a[1]]; next }
	$3 == "vmlinux" && !($2 in gone)' "$only" "$obj/Module.symvers" >"$work/mainline.symvers"
[ -s "$work/mainline.symvers" ] || die "$obj/Module.symvers lists no symbols of the kernel"

modules=$(wc -l <"$work/modules.order")
(cd "$work" && "$obj/scripts/mod/modpost" -M -E -i mainline.symvers -o Module.symvers -T modules.order) \
	>"$work/log" 2>&1 || :
[ -s "$work/Module.symvers" ] || [ -s "$work/log" ] || die "modpost did not link the $modules modules in $work"
cp "$work/log" "$work/details"
# What modpost complains of, and that we know why.
sed -n "s/.* \([^ ]*\): symbol '\([^']*\)' undefined.*/\2 \1/p" "$work/log" | sort -u |
	while read -r symbol module; do
		! grep -q "^${symbol}[[:space:]]" "$only" ||
			echo "$module uses $symbol, which Debian's source exports and mainline does not"
	done >>"$work/details"
result "$name" "$work/details"
totals
