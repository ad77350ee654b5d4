# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# A copy of the tree below build/check, in which scripts can have the first N
# patches of the series. Sourced after lib.sh, with build/check locked.

check=$BUILD/check
tree=$check/linux

# The series as it is now, whatever happens to it in the meantime.
now=$check/now
rm -rf "$now"
mkdir "$now"
cp -r "$TOP/series" "$TOP/patches" "$now/"
mapfile -t patches < <(series_patches)
# shellcheck disable=SC2034
count=${#patches[@]}

if [ -n "${KDIR:-}" ]; then
	# Nothing says cheaply whether a tree of the user's has changed.
	base="$KDIR $$"
else
	base="$(cat "$SRC/.git/unpacked-from") $(tree_version "$SRC")"
fi

# touched N: the files of the first N patches
touched() { (cd "$now/patches" && cat "${patches[@]:0:$1}" /dev/null) | files_of_patches; }
mapfile -t c_files < <(touched "$count" | grep '\.c$')
# shellcheck disable=SC2034
mapfile -t dirs < <(printf '%s\n' "${c_files[@]}" | directories)

at=-1
quilt_here() {
	(cd "$tree" && QUILT_PATCHES=$now/patches QUILT_SERIES=$now/series QUILT_PC=.pc \
		quilt --quiltrc /dev/null "$@" >"$check/quilt.log" 2>&1) || {
		cat "$check/quilt.log" >&2
		die "quilt $* failed in $tree"
	}
}
copy_tree() {
	if [ "$(cat "$check/copied" 2>/dev/null)" = "$base" ]; then
		# From the backups: the patches may have changed since.
		[ ! -s "$tree/.pc/applied-patches" ] || quilt_here pop -a -f
		rm -rf "$tree/.pc"
	else
		say "copying $SRC"
		rm -rf "$tree" "$check"/obj* "$check/copied"
		need_space "$check" 2500 "a copy of the kernel source"
		if [ -n "${KDIR:-}" ]; then
			mkdir "$tree"
			tar -c -C "$SRC" --exclude=./.git . | tar -x -C "$tree" || die "could not copy $SRC"
			(KDIR=$tree BUILD=$check/unapply "$TOP/scripts/apply.sh" unapply >/dev/null)
			rm -rf "$check/unapply"
		else
			git -C "$SRC" checkout-index -a --prefix="$tree/" || die "could not copy $SRC"
		fi
	fi
	# Gone while the patches come and go: an interrupted run starts anew.
	rm -f "$check/copied"
	at=0
}
# go_to N: from fewer patches, or from any number with at=-1
go_to() {
	[ "$at" -ge 0 ] || copy_tree
	[ "$1" -le "$at" ] || quilt_here push $(($1 - at))
	at=$1
}
# At the end: the copy is good for the next one.
tree_done() { [ "$at" -lt 0 ] || echo "$base" >"$check/copied"; }
