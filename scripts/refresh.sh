#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Take the commits of the branch that make branch made back into patches/,
# series and selftests/. A patch that has not changed stays as it is, byte for
# byte. Either all of it is taken back, or nothing is changed here.
#   BRANCH=name   of the branch (tcmu-zero-copy)
#   ON=commit     what it is based on now, after it was rebased
#   ALL=yes       write every patch anew, also one that only moved
#   FORCE=yes     over changes made here since make branch
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$(dirname "$0")/commits.sh"

need_git_tree
# Not what a build holds: that may take long, and is not disturbed.
lock "$BUILD/queue"
tip=$(tip_of "$BRANCH") || die "$SRC has no branch $BRANCH; make it with: make branch"
base=$(state base) || die "branch $BRANCH in $SRC was not made by make branch; nothing is taken from it"
if [ -n "${ON:-}" ]; then
	base=$(tree_git rev-parse -q --verify "$ON^{commit}") || die "ON=$ON is no commit of $SRC"
fi
tree_git merge-base --is-ancestor "$base" "$tip" ||
	die "branch $BRANCH is not based on $(tree_git rev-parse --short "$base") any more; if it was rebased, say on what with ON=commit"
[ -z "$(tree_git rev-list --min-parents=2 "$base..$tip")" ] ||
	die "branch $BRANCH has a merge, $(tree_git rev-list --min-parents=2 --abbrev-commit -n 1 "$base..$tip"); rebase it, patches can't tell one"
[ -n "$(tree_git rev-list "$base..$tip")" ] || die "branch $BRANCH has no commits on $(tree_git rev-parse --short "$base")"
while read -r at; do
	[ -z "$(git -C "$at" status --porcelain --untracked-files=no)" ] ||
		die "branch $BRANCH is checked out in $at, with changes that are not committed; commit or undo them first"
done < <(tree_git worktree list --porcelain |
	awk -v ref="refs/heads/$BRANCH" '/^worktree / { at = substr($0, 10) } $1 == "branch" && $2 == ref { print at }')
# In a rebase the branch itself has not moved yet.
while read -r file; do
	! grep -qxsF "refs/heads/$BRANCH" "$file" || die "branch $BRANCH is being rebased; finish that first (git rebase --continue)"
done < <(find "$(cd "$SRC" && git rev-parse --path-format=absolute --git-common-dir)" -path '*/rebase-*/head-name')
[ "$(state queue)" = "$(queue_hash)" ] || [ "${FORCE:-}" = yes ] ||
	die "patches/, series or selftests/ have changed since the branch was made; make branch takes them, FORCE=yes overwrites them"

# What a commit is as a patch of ours. Not the line with its id, which changes.
patch_of() {
	tree_git format-patch -1 --stdout --no-signature --subject-prefix=PATCH -N --no-thread --no-attach \
		--no-cover-letter --no-to --no-cc --no-add-header --no-signoff --no-from --no-base --no-notes \
		--encode-email-headers --stat=72 --no-ext-diff --no-textconv --no-color --summary -M -p "$1" | sed 1d
}
# Without what changes with the tree below it: ids of files, numbers of lines.
in_essence() { sed -E -e '/^index [0-9a-f]+\.\.[0-9a-f]+/d' -e 's/^@@ -[0-9,]+ \+[0-9,]+ @@.*/@@/' "$1"; }
subject_of() { git mailinfo --no-scissors /dev/null /dev/null <"$1" | sed -n 's/^Subject: //p'; }
# The file of a commit that is new
name_of() {
	sed -e 's/.*/\L&/' -e 's/[^a-z0-9_]\+/-/g' -e 's/^scsi-target-tcmu-/tcmu-/' -e 's/^-//' -e 's/-$//' -e 's/$/.patch/' <<<"$1"
}
ours() { case $1 in "$SELFTESTS"/* | "$TARGETS" | MAINTAINERS) ;; *) return 1 ;; esac; }

# The queue as it will be, beside the one that is.
new=$work/new
mkdir -p "$new/patches" "$new/covers" "$new/selftests"
declare -A file_of=() taken=()
while read -r patch; do file_of[$(subject_of "$TOP/patches/$patch")]=$patch; done < <(series_patches)
while read -r commit; do
	here=0 elsewhere=0
	while read -r path; do
		if ours "$path"; then here=1; else elsewhere=1; fi
	done < <(tree_git diff-tree --no-commit-id --no-renames --name-only -r "$commit")
	short=$(tree_git log -1 --format='%h (%s)' "$commit")
	[ $here = 0 ] || [ $elsewhere = 0 ] ||
		die "$short changes both the selftests or MAINTAINERS and other files; make two commits of it"
	[ $((here + elsewhere)) != 0 ] || die "$short changes nothing; drop it"
	[ $here = 0 ] || continue
	patch_of "$commit" >"$work/patch"
	subject=$(subject_of "$work/patch")
	case $subject in fixup!* | squash!* | amend!*) die "$short is still to be squashed: git rebase -i --autosquash" ;; esac
	patch=${file_of[$subject]:-$(name_of "$subject")}
	[ -z "${taken[$patch]:-}" ] || die "$short would be patches/$patch, as another commit before it; give it a subject of its own"
	taken[$patch]=1
	if [ "${ALL:-}" != yes ] && [ -f "$TOP/patches/$patch" ] &&
		cmp -s <(in_essence "$work/patch") <(in_essence "$TOP/patches/$patch"); then
		cp -p "$TOP/patches/$patch" "$new/patches/"
	else
		cp "$work/patch" "$new/patches/$patch"
	fi
	echo "$patch" >>"$work/order"
done < <(tree_git rev-list --reverse "$base..$tip")
[ -s "$work/order" ] || die "branch $BRANCH has no commit that is a patch of ours"

# series: a patch that is new goes into the section of the one before it.
awk '
	FNR == NR {
		if (/^# set:/) { set = $3; at[set] = ++sets; name[sets] = set }
		else if (!/^#/ && NF) section[$1] = set
		next
	}
	{
		set = $1 in section ? section[$1] : set_before
		if (set == "") first = first $1 "\n"
		else if (at[set] < at[set_before]) {
			print $1 " is of set " set " and comes after one of set " set_before > "/dev/stderr"
			exit 1
		} else { list[set] = list[set] first $1 "\n"; first = ""; set_before = set }
	}
	END { if (first != "") list[name[1]] = first list[name[1]]
		for (i = 1; i <= sets; i++) printf "%s", list[name[i]] > (out "/" name[i]) }' \
	out="$(mkdir "$work/sets" && echo "$work/sets")" "$TOP/series" "$work/order" 2>"$work/log" ||
	die "$(cat "$work/log"); put the commits in the order of the sets, or move the patch in series first"
# Comments stay with the patch that they stand before.
awk -v sets="$work/sets" '
	function patches_of(set,  patch) {
		while ((getline patch <(sets "/" set)) > 0)
			printf "%s%s\n", before[patch], patch in whole ? whole[patch] : patch
	}
	function end_of_set() {
		if (set != "" && !done) patches_of(set)
		printf "%s", held
		held = ""; done = 0
	}
	FNR == NR {
		if (/^# set:/) { none_yet = 1; held = "" }
		else if (/^#/ || !NF) held = held $0 "\n"
		else { whole[$1] = $0; if (!none_yet) before[$1] = held; none_yet = 0; held = "" }
		next
	}
	FNR == 1 { held = "" }
	/^# set:/ { end_of_set(); set = $3; print; next }
	/^#/ || !NF { if (done) held = held $0 "\n"; else print; next }
	{ held = ""; if (!done) patches_of(set); done = 1 }
	END { end_of_set() }' "$TOP/series" "$TOP/series" >"$new/series"

# The selftests, and whose they are
tree_git ls-tree -r --format='%(objectmode) %(path)' "$tip:$SELFTESTS" >"$work/tests" 2>/dev/null || :
[ -s "$work/tests" ] || die "branch $BRANCH has no $SELFTESTS"
while read -r mode path; do
	mkdir -p "$new/selftests/$(dirname "$path")"
	tree_git cat-file blob "$tip:$SELFTESTS/$path" >"$new/selftests/$path"
	chmod "${mode#100}" "$new/selftests/$path"
done <"$work/tests"
tree_git show "$tip:MAINTAINERS" >"$work/maintainers"
entry_files "$work/maintainers" >"$new/covers/MAINTAINERS"

# What was taken back must give what is on the branch.
mkdir "$work/again"
apart=$work/again
again=$(TOP=$new work=$apart commit_series "$base") || exit
tree_git diff --quiet "$again" "$tip" || {
	tree_git diff --stat "$again" "$tip" | sed 's/^/  /' >&2
	die "the branch has changes that can't be taken back (see above); nothing is changed here"
}

# From here on nothing fails.
put_back() {
	if cmp -s "$1" "$2" && [ "$(stat -c %A "$1")" = "$(stat -c %A "$2")" ]; then return; fi
	mkdir -p "$(dirname "$2")"
	cp "$1" "$2"
	chmod --reference="$1" "$2"
	echo "  ${2#"$TOP/"}"
}
while read -r patch; do
	[ -n "${taken[$patch]:-}" ] || { rm -f "$TOP/patches/$patch"; echo "  patches/$patch is gone"; }
done < <(series_patches) >"$work/changes"
while read -r file; do
	[ -f "$new/selftests/$file" ] || { rm -f "$TOP/selftests/$file"; echo "  selftests/$file is gone"; }
done < <(selftest_files) >>"$work/changes"
while read -r file; do put_back "$new/$file" "$TOP/$file"; done >>"$work/changes" < <(cd "$new" && find . -type f | sed 's,^\./,,' | sort)
set_state base "$base"
set_state tip "$tip"
set_state queue "$(queue_hash)"
cat "$work/changes"
say "$(wc -l <"$work/order") patches; $(if [ -s "$work/changes" ]; then wc -l <"$work/changes"; else echo no; fi) files changed"
