#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Run the tree's own checkpatch.pl --strict over every patch of the series.
# What it may say is listed in checkpatch-exceptions.
#   checkpatch-wrapper.sh [patch...]
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

exceptions=$TOP/scripts/checkpatch-exceptions
need_tree "$SRC"
[ -x "$SRC/scripts/checkpatch.pl" ] || die "$SRC has no scripts/checkpatch.pl"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

sed -e '/^#/d' -e '/^[[:space:]]*$/d' "$exceptions" >"$work/exceptions"
! awk 'NF < 3' "$work/exceptions" | grep . || die "$exceptions: these lines give no reason"

# Prints what is not excepted; notes the exceptions that were of use.
unexpected() {
	local patch=$1 type glob excepted line
	while read -r line; do
		type=$(sed -nE 's/^[^ ]* (ERROR|WARNING|CHECK):([A-Z0-9_]+): .*/\2/p' <<<"$line")
		while read -r glob excepted _; do
			# shellcheck disable=SC2053
			if [[ $patch == $glob ]] && [ "$type" = "$excepted" ]; then
				echo "$glob $excepted" >>"$work/used"
				continue 2
			fi
		done <"$work/exceptions"
		echo "$line"
	done
}

if [ $# -gt 0 ]; then patches=("$@"); else mapfile -t patches < <(series_patches); fi
touch "$work/used"
# This repository's commits are not the kernel's: no looking up of ids in it.
export GIT_DIR=none
# It writes a cache into the current directory.
cd "$work"
for patch in "${patches[@]}"; do
	"$SRC/scripts/checkpatch.pl" --strict --terse --show-types --no-summary --color=never \
		--root="$SRC" "$TOP/patches/$patch" >"$work/all" 2>&1 || :
	sed "s,^$TOP/,," "$work/all" | unexpected "$patch" >"$work/left"
	result "checkpatch $patch" "$work/left"
done
if [ $# = 0 ]; then
	awk 'NR == FNR { used[$1 " " $2]; next } !(($1 " " $2) in used)' \
		"$work/used" "$work/exceptions" >"$work/stale"
	# An empty first file would make the second look like the first.
	[ -s "$work/used" ] || cp "$work/exceptions" "$work/stale"
	result "every checkpatch exception is needed" "$work/stale"
fi
totals
