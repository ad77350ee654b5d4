# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: GPL-2.0
# The series as commits: for the scripts that make a branch of it and take it
# back. Needs $work, a directory of the caller's to write into. The index is
# one of our own there, so that neither the user's files nor what he has
# staged are touched.

BRANCH=${BRANCH:-tcmu-zero-copy}
# Where the selftests are in a kernel tree, and whose entry they belong to.
SELFTESTS=tools/testing/selftests/tcmu
TARGETS=tools/testing/selftests/Makefile
ENTRY='SCSI TARGET CORE USER DRIVER'

# In the tree's repository: with settings of the user's that change what patches
# look like or whether they apply kept out.
tree_git() {
	git -C "$SRC" -c diff.algorithm=myers -c diff.context=3 -c diff.interHunkContext=0 \
		-c diff.noprefix=false -c diff.mnemonicPrefix=false -c diff.suppressBlankEmpty=false \
		-c diff.indentHeuristic=true -c diff.renames=true -c diff.submodule=short \
		-c core.abbrev=12 -c core.quotePath=true -c core.autocrlf=false -c apply.whitespace=nowarn \
		-c i18n.commitEncoding=UTF-8 -c i18n.logOutputEncoding=UTF-8 -c commit.gpgSign=false "$@"
}
index_git() { GIT_INDEX_FILE=$work/index tree_git "$@"; }
state() { tree_git config "branch.$BRANCH.queue-$1"; }
set_state() { tree_git config "branch.$BRANCH.queue-$1" "$2"; }
tip_of() { tree_git rev-parse -q --verify "refs/heads/$1^{commit}"; }

need_git_tree() {
	need_tree "$SRC"
	need git
	[ "$(git -C "$SRC" rev-parse --show-cdup 2>/dev/null && echo top)" = $'\ntop' ] ||
		die "$SRC is not the top of a git checkout; a branch needs one"
	git check-ref-format --branch "$BRANCH" >/dev/null 2>&1 ||
		die "BRANCH=$BRANCH is no name for a branch"
}
need_good_series() {
	series_faults >"$work/faults"
	[ ! -s "$work/faults" ] || { sed 's/^/  /' "$work/faults" >&2; die "series and covers/ don't fit together (see above)"; }
}

# find_base: the commit that the series goes on. ON=commit says it; else it is
# what is checked out or, if that is the branch itself, what that was made on.
find_base() {
	local base
	if [ -n "${ON:-}" ]; then
		tree_git rev-parse -q --verify "$ON^{commit}" || die "ON=$ON is no commit of $SRC"
		return
	fi
	if base=$(state base) && tip_of "$BRANCH" >/dev/null &&
		tree_git merge-base --is-ancestor "$base" HEAD 2>/dev/null &&
		tree_git merge-base --is-ancestor HEAD "refs/heads/$BRANCH"; then
		echo "$base"
	else
		tree_git rev-parse -q --verify 'HEAD^{commit}' || die "$SRC has no commit yet"
	fi
}

# The files of the selftests: what git would take, or all if this is no checkout.
selftest_files() {
	(cd "$TOP/selftests" && { git ls-files -co --exclude-standard 2>/dev/null || find . -type f | sed 's,^\./,,'; }) |
		while read -r file; do [ ! -f "$TOP/selftests/$file" ] || echo "$file"; done | LC_ALL=C sort -u
}
# queue_hash: of all that a branch is made from
queue_hash() {
	(cd "$TOP" && {
		series_patches | sed 's,^,patches/,'
		selftest_files | sed 's,^,selftests/,'
		echo series
		echo covers/MAINTAINERS
	} | while read -r file; do stat -c '%a' "$file" && cat "$file"; done) | sha256sum | cut -c 1-40
}

# start_on COMMIT: the index is what that commit has.
start_on() { rm -f "$work/index"; index_git read-tree "$1"; }

# commit_patch PARENT FILE: a commit of the index with that patch, as git am
# would make it. Prints its id.
commit_patch() {
	local info=$work/mail
	git mailinfo --no-scissors --encoding=UTF-8 "$info.msg" "$info.diff" <"$2" >"$info" ||
		die "$2 is not a patch as mailed"
	field() { sed -n "s/^$1: //p" "$info" | head -n 1; }
	{ [ -n "$(field Subject)" ] && [ -n "$(field Email)" ] && [ -n "$(field Date)" ]; } ||
		die "$2 needs From, Date and Subject at its top"
	index_git apply --cached "$info.diff" 2>"$info.log" || {
		sed 's/^/  /' "$info.log" >&2
		die "${2#"$TOP/"} does not apply to $(tree_git rev-parse --short "$1") in $SRC; nothing is changed there"
	}
	{ printf '%s\n\n' "$(field Subject)"; cat "$info.msg"; } | git stripspace |
		commit_index "$1" "$(field Author)" "$(field Email)" "$(field Date)"
}
# commit_index PARENT NAME EMAIL DATE: the message is standard input.
commit_index() {
	local tree
	tree=$(index_git write-tree)
	GIT_AUTHOR_NAME=$2 GIT_AUTHOR_EMAIL=$3 GIT_AUTHOR_DATE=$4 \
		GIT_COMMITTER_NAME=$2 GIT_COMMITTER_EMAIL=$3 GIT_COMMITTER_DATE=$4 \
		tree_git commit-tree -p "$1" -F - "$tree"
}

# put MODE FILE PATH: into the index
put() {
	index_git update-index --add --cacheinfo "$1,$(tree_git hash-object -w --no-filters "$2"),$3"
}
# What MAINTAINERS says of our entry: its files.
entry_files() { awk -v entry="$ENTRY" '$0 == entry { on = 1; next } on && /^$/ { exit } on && sub(/^F:\t/, "")' "$1"; }

# commit_selftests PARENT NAME EMAIL DATE: the selftests and the entry in
# MAINTAINERS, as commits of their own. Prints the last one's id.
commit_selftests() {
	local file mode tip=$1 was glob signed="Signed-off-by: $2 <$3>"
	index_git rm -r -f -q --cached --ignore-unmatch -- "$SELFTESTS"
	while read -r file; do
		mode=100644
		[ ! -x "$TOP/selftests/$file" ] || mode=100755
		put $mode "$(realpath "$TOP/selftests/$file")" "$SELFTESTS/$file"
	done < <(selftest_files)
	index_git show ":$TARGETS" >"$work/targets" || die "$SRC has no $TARGETS"
	awk '/^TARGETS \+= / && !done && $3 >= "tcmu" { if ($3 != "tcmu") print "TARGETS += tcmu"; done = 1 } { print }' \
		"$work/targets" >"$work/targets.new"
	grep -q '^TARGETS += tcmu$' "$work/targets.new" || die "$TARGETS has no list of TARGETS to add tcmu to"
	put 100644 "$work/targets.new" "$TARGETS"
	tip=$(commit_index "$tip" "$2" "$3" "$4" <<-END
		selftests: tcmu: Add tests of the target with a handler in user space

		There are none for tcmu. Add a small handler, and tests which use it over
		the loopback fabric and over iSCSI: the ring with a handler that keeps to
		the rules and one that does not, and zero copy: what is mapped and what is
		copied, what the handler can reach and when, and that data is what it was.

		Without root, without tcmu, or where a test needs what the kernel does not
		have, they are skipped and say why.

		$signed
	END
	)
	{ index_git show ":MAINTAINERS" >"$work/maintainers" 2>/dev/null &&
		grep -qxF "$ENTRY" "$work/maintainers"; } || die "MAINTAINERS in $SRC has no entry $ENTRY"
	# Ours stands for all that is there; what upstream added must not get lost.
	while read -r was; do
		while read -r glob; do
			# shellcheck disable=SC2053
			[[ $was != $glob ]] || continue 2
		done <"$TOP/covers/MAINTAINERS"
		die "MAINTAINERS in $SRC has $was for $ENTRY; add it to covers/MAINTAINERS"
	done < <(entry_files "$work/maintainers")
	awk -v entry="$ENTRY" -v files="$TOP/covers/MAINTAINERS" '
		$0 == entry { on = 1 }
		on && /^F:/ { next }
		on && /^$/ { while ((getline line <files) > 0) print "F:\t" line; on = 0 }
		{ print }' "$work/maintainers" >"$work/maintainers.new"
	put 100644 "$work/maintainers.new" MAINTAINERS
	commit_index "$tip" "$2" "$3" "$4" <<-END
		MAINTAINERS: Add the new files of tcmu

		tcmu is in several files now, and has selftests.

		$signed
	END
}

# commit_series BASE: all of it, on the index of BASE. Prints the tip.
commit_series() {
	local tip=$1 patch
	start_on "$1"
	while read -r patch; do
		tip=$(commit_patch "$tip" "$TOP/patches/$patch") || exit
	done < <(series_patches)
	[ "$tip" != "$1" ] || die "series names no patch"
	commit_selftests "$tip" "$(tree_git log -1 --format=%an "$tip")" \
		"$(tree_git log -1 --format=%ae "$tip")" "$(tree_git log -1 --format=%aD "$tip")"
}
