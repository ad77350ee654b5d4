#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Apply the series to the kernel tree with quilt (apply), or take it off again
# and leave the tree as it was before (unapply).
#   apply.sh apply|unapply
. "$(dirname "$0")/lib.sh"

me=${1:-}
case $me in apply | unapply) ;; *) die "usage: apply.sh apply|unapply" ;; esac

# The series as it was applied, kept in the tree: it can be taken off again
# after patches/ has moved on.
kept=.applied-series

need quilt
need_tree "$SRC"
lock "$BUILD"
cd "$SRC"
version=$(tree_version .)
mapfile -t patches < <(series_patches)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Whatever ~/.quiltrc and the environment may say.
quilt() {
	QUILT_PC=.pc QUILT_PATCHES=patches QUILT_SERIES=series command quilt --quiltrc /dev/null "$@"
}
# link DIR: where the tree's series is
link() { ln -sfn "$1/patches" patches; ln -sfn "$1/series" series; }
ours() { [ -d "$kept" ]; }
untouched() { [ ! -e "$kept" ] && [ ! -e .pc ] && [ ! -e patches ] && [ ! -L patches ] && [ ! -e series ] && [ ! -L series ]; }
current() {
	cmp -s "$TOP/series" "$kept/series" &&
		diff -rq "$scratch/patches" "$kept/patches" >/dev/null &&
		[ "$(printf '%s\n' "${patches[@]}")" = "$(cat .pc/applied-patches 2>/dev/null)" ]
}
touched_files() {
	find "$1" -type f -exec sed -n 's,^\(+++\|---\) [^/]*/\([^[:space:]]*\).*,\2,p' {} + | sort -u
}
remove_traces() { rm -rf .pc "$kept"; rm -f patches series; }

take_off() {
	local out
	if [ -s .pc/applied-patches ]; then
		link "$kept"
		out=$(quilt pop -a 2>&1) || {
			link "$TOP"
			printf '%s\n' "$out" | sed 's/^/  /' >&2
			die "files of the series were changed in $SRC since it was applied; save and undo those changes first"
		}
	fi
	remove_traces
}

# Try everything on copies of the files it touches: the tree is left alone
# unless all of it fits.
rehearse() {
	local patch file out
	mkdir "$scratch/tree"
	for file in $(touched_files "$scratch/patches"); do
		[ ! -f "$file" ] || cp --parents "$file" "$scratch/tree"
	done
	for patch in "${patches[@]}"; do
		out=$(patch -d "$scratch/tree" -p1 -f -r - <"$TOP/patches/$patch" 2>&1) && continue
		file=$(awk '/^patching file/ { f = $3 } /^\|\+\+\+ / { f = $2; sub("^[^/]*/", "", f) }
			/^The next patch would/ { f = $8; sub(",$", "", f) }
			/FAILED|No file to patch|already exists|previously applied/ { bad = 1 }
			bad && f { print f; exit }' <<<"$out")
		printf '%s\n' "$out" | sed 's/^/  /' >&2
		die "patches/$patch does not fit ${file:-the tree}: $SRC is Linux $version, the series is for $KVERSION.x; nothing is left applied"
	done
}

put_on() {
	local out
	[ ${#patches[@]} = 0 ] || rehearse
	mkdir -p "$kept"
	cp -r "$scratch/patches" "$TOP/series" "$kept/"
	link "$TOP"
	if [ ${#patches[@]} -gt 0 ]; then
		out=$(quilt push -a 2>&1) || {
			quilt pop -a -f >/dev/null 2>&1 || :
			remove_traces
			printf '%s\n' "$out" | sed 's/^/  /' >&2
			die "quilt could not apply the series to Linux $version in $SRC; nothing is left applied"
		}
		! grep -q 'with fuzz' <<<"$out" || say "note: some of it applied with fuzz"
	fi
	is_series_version "$version" ||
		say "note: the series fits, but it is for Linux $KVERSION.x and this is $version"
	say "${#patches[@]} patches applied to Linux $version in $SRC"
}

if ! ours && ! untouched; then
	die "$SRC has a quilt series (.pc, patches or series) that this did not put there; take it off first, or add ours to it with quilt import"
fi

if [ "$me" = unapply ]; then
	if ours; then
		take_off
		say "the series is taken off $SRC"
	else
		say "the series is not applied to $SRC"
	fi
	exit 0
fi

mkdir "$scratch/patches"
for patch in "${patches[@]}"; do
	[ -f "$TOP/patches/$patch" ] || die "series names $patch, which is not in patches/"
	install -D -m 644 "$TOP/patches/$patch" "$scratch/patches/$patch"
done

if ! ours; then
	put_on
elif current; then
	say "${#patches[@]} patches are applied to Linux $version in $SRC"
else
	say "the series has changed, applying it anew"
	mkdir "$scratch/before"
	for file in $(touched_files "$kept/patches"); do
		[ ! -f "$file" ] || cp -p --parents "$file" "$scratch/before"
	done
	take_off
	put_on
	# What came out the same need not be built again.
	(cd "$scratch/before" && find . -type f) | while read -r file; do
		! cmp -s "$scratch/before/$file" "$file" || touch -r "$scratch/before/$file" "$file"
	done
fi
