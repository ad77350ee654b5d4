#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Which trees the series and each of its sets fit: a table of what was tried.
# The trees are the newest linux-source of several of Debian's suites, or the
# one given as KDIR (left as it is: all is done on copies). For each, and each
# set on the ones that it needs:
#   applies	with patch, or which patch and file don't, and why
#   builds	the directories that the set touches, with the stack as modules
#   selftests	the whole series only: a kernel of that tree in the guest
#   SUITES='sid trixie'	other suites
#   T=name		this selftest instead of all; T=none: no kernel, no guest
# Needs the guest image (make compat sees to that).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"
. "$(dirname "$0")/sets.sh"

suites=${SUITES:-trixie-backports experimental sid trixie bookworm}
[[ $suites =~ ^[a-z\ -]+$ ]] || die "SUITES='$suites': must be names of Debian's suites"
[[ ${T:-} =~ ^[A-Za-z0-9_:.-]*$ ]] || die "T=$T is not the name of a test"
mapfile -t patches < <(series_patches)
[ ${#patches[@]} -gt 0 ] || die "the series is empty"
for patch in "${patches[@]}"; do
	[ -f "$TOP/patches/$patch" ] || die "series names $patch, which is not in patches/"
done
own=${KDIR:-}
unset KDIR
dir=$BUILD/compat
lock "$dir"
rm -f "$dir"/*.rows
start=$SECONDS
mapfile -t sets < <(set_names)
# The whole of it is one more, unless it is the only one.
[ ${#sets[@]} = 1 ] || sets+=(series)

# patches_of SET: it and what it needs
patches_of() {
	if [ "$1" = series ]; then series_patches; return; fi
	# shellcheck disable=SC2046
	set_patches $(set_closure "$1")
}
files_of() { (cd "$TOP/patches" && xargs -r cat) | files_of_patches; }

# get SUITE: its newest linux-source, in $deb and $package
get() {
	local found
	found=$(
		lock "$CACHE/apt"
		private_apt "$1" || exit
		newest=$(apt-cache pkgnames linux-source- | grep -E '^linux-source-[0-9]+\.[0-9]+$' | sort -V | tail -n 1)
		apt-cache madison "$newest" | awk '{ print $1, $3; exit }'
	)
	[ -n "$found" ] || return
	package=${found% *}
	deb=$CACHE/linux/${package}_${found#* }_all.deb
	sealed "$deb" && return
	need_space "$CACHE/linux" 400 "the download"
	(debian_download deb "$1" "$CACHE/compat" "$package") || return
	mkdir -p "$CACHE/linux"
	mv "$CACHE/compat/${package}_"*.deb "$CACHE/linux/" || return
	seal "$deb"
}

# try SET IN: with IN, which holds the touched files; sets $fits and $why
try() {
	local patch out hunks file
	fits=yes why=
	while read -r patch; do
		if out=$(patch -d "$2" -p1 -f -r - --no-backup-if-mismatch <"$TOP/patches/$patch" 2>&1); then
			! grep -q 'with fuzz' <<<"$out" || fits="with fuzz"
			continue
		fi
		file=$(awk '/^patching file/ { f = $3 } /^\|\+\+\+ / { f = $2; sub("^[^/]*/", "", f) }
			/^The next patch would/ { f = $8; sub(",$", "", f) }
			/FAILED|No file to patch|already exists|previously applied/ { bad = 1 }
			bad && f { print f; exit }' <<<"$out")
		hunks=$(sed -n 's/^\([0-9]* out of [0-9]* hunks*\) .*/\1 elsewhere or otherwise there/p' <<<"$out" | head -n 1)
		! grep -q 'No file to patch' <<<"$out" || hunks="there is no such file"
		! grep -qE 'previously applied' <<<"$out" || hunks="there already"
		fits=no why="$patch, $file: ${hunks:-does not fit}"
		return
	done < <(patches_of "$1")
}

# build SET TREE OBJ: the directories that it touches
build() {
	local dirs
	mapfile -t dirs < <(patches_of "$1" | files_of | grep '\.c$' | directories)
	KSRC=$2 kmake "$3" -s allnoconfig KCONFIG_ALLCONFIG="$dir/fragments" >"$dir/log" 2>&1 &&
		KSRC=$2 kmake "$3" "${dirs[@]}" >"$dir/log" 2>&1
}

# unpack_source [FILE...]: those of $deb, or all of it
unpack_source() {
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$package.tar.xz" |
		tar -xJ --strip-components=1 -C "$dir/$from/linux" "${@/#/$package/}"
}
unpack_all() {
	need_space "$dir" 5000 "the source of $from"
	say "unpacking all of $(basename "$deb")"
	unpack_source || die "$deb could not be unpacked (is there room in $dir?)"
}
mapfile -t files < <(series_patches | files_of)

# one_tree NAME LABEL UNPACK: $dir/NAME/linux has at least the touched files,
# unpatched; after UNPACK it has all of them
one_tree() {
	local name=$1 label=$2 unpack=$3 here=$dir/$1 src=$dir/$1/linux set builds tests
	mkdir -p "$here/before"
	(cd "$src" && for file in "${files[@]}"; do [ ! -f "$file" ] || cp --parents "$file" "$here/before/"; done)
	for set in "${sets[@]}"; do
		builds=- tests=-
		rm -rf "$here/after"
		cp -r "$here/before" "$here/after"
		try "$set" "$here/after"
		if [ "$fits" != no ]; then
			$unpack
			unpack=:
			say "$label: building what $set touches"
			cp -r "$here/after/." "$src/"
			if build "$set" "$src" "$here/obj"; then
				builds=yes
			else
				builds=no
				why=$(grep -m 1 -E 'error:|Error' "$dir/log" | sed "s,^$src/,,; s,^\(\.\./\)*linux/,,") || :
				cp "$dir/log" "$here/$set.log"
			fi
			# As it was: new times, so that make sees it.
			(cd "$src" && rm -f "${files[@]}")
			cp -r "$here/before/." "$src/"
		fi
		if [ "$builds" = yes ] && [ "$set" = "${sets[-1]}" ] && [ "${T:-}" != none ]; then
			tests=$(selftests "$name" "$label")
		fi
		echo "$label|$set|$fits|$builds|$tests|$why" | tee -a "$dir/$name.rows"
	done
}

# selftests NAME LABEL: prints how they went
selftests() {
	local here=$dir/$1 log=$dir/$1/selftests.log
	export KDIR=$here/linux BUILD=$here KERNEL=plain
	say "$2: its kernel, and the selftests on it" >&2
	if ! "$TOP/scripts/apply.sh" apply >"$log" 2>&1 || ! "$TOP/scripts/kernel.sh" >>"$log" 2>&1; then
		tail -n 1 "$log" >&2
		echo "no kernel"
		return
	fi
	(SRC=$KDIR; build_selftests) >>"$log" 2>&1 || { echo "do not build"; return; }
	# What vm.sh prints on its own comes after the totals.
	"$TOP/scripts/vm.sh" -t "${TIMEOUT:-1800}" \
		"BIN=/project${BUILD#"$TOP"}/selftests /project/selftests/run.sh ${T:-}" >>"$log" 2>&1 || :
	ran=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
	"$TOP/scripts/apply.sh" unapply >/dev/null
	echo "${ran:-did not end}"
}

merge_fragments tcmu-zero-copy guest modules >"$dir/fragments"
failed=
if [ -n "$own" ]; then
	need_tree "$own"
	say "copying $own"
	need_space "$dir" 5000 "a copy of the kernel source"
	rm -rf "$dir/own"
	mkdir -p "$dir/own/linux"
	tar -c -C "$own" --exclude=./.git . | tar -x -C "$dir/own/linux" || die "could not copy $own"
	KDIR=$dir/own/linux BUILD=$dir/unapply "$TOP/scripts/apply.sh" unapply >/dev/null
	one_tree own "$(tree_version "$own") (KDIR)" :
	suites=
fi
for from in $suites; do
	if ! get "$from"; then
		say "no kernel source could be had from $from" >&2
		failed+=" $from"
		continue
	fi
	rm -rf "${dir:?}/$from"
	mkdir -p "$dir/$from/linux"
	say "unpacking what the series touches of $(basename "$deb")"
	# tar complains of every file that is not there.
	unpack_source "${files[@]}" 2>/dev/null || :
	version=${deb#*_}
	one_tree "$from" "$from ${version%_all.deb}" unpack_all
	# Of each tree the kernel is of use later, the source is not.
	rm -rf "${dir:?}/$from/linux" "${dir:?}/$from/obj"
done

[ -n "$(find "$dir" -maxdepth 1 -name '*.rows')" ] || die "no kernel source could be had from:$failed"
printf '\n# took %d s\n' $((SECONDS - start))
{
	echo "tree|set|applies|builds|selftests|what does not fit first, and why"
	cat "$dir"/*.rows
} | column -t -s '|' | tee "$dir/report"
[ -z "$failed" ] || die "no kernel source could be had from:$failed"
