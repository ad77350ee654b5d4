#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Write a set of the series as mails, by b4: build/mbox/SET.mbox, numbered and
# threaded, with the cover letter from covers/. Nothing is sent.
#   SET=name                    a set of series
#   SENDER='Name <mail>'        who sends it, and signs it off
#   REVISION=2                  of the set (1)
#   ON=commit                   what it is based on (what is checked out)
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$(dirname "$0")/commits.sh"

SET=${SET:-}
revision=${REVISION:-1}
sets=$(series_sets | tr '\n' ' ')
[ -n "$SET" ] || die "say which set: make mbox SET=name SENDER='Name <mail>', with one of: $sets"
grep -qxF -- "$SET" <<<"$(series_sets)" || die "series has no set $SET; there are: $sets"
[ -n "${SENDER:-}" ] ||
	die "a sender is needed, this repository's identity is a role and can't sign off: make mbox SET=$SET SENDER='Name <mail>'"
[[ $SENDER =~ ^([^\<\>]*[^\<\>[:space:]])\ \<([^\<\>@[:space:]]+@[^\<\>@[:space:]]+)\>$ ]] ||
	die "SENDER='$SENDER' is not of the form Name <mail>"
name=${BASH_REMATCH[1]} mail=${BASH_REMATCH[2]}
[[ $revision =~ ^[1-9][0-9]*$ ]] || die "REVISION=$revision is not a number from 1"
need b4
need_git_tree
need_good_series
# Not what a build holds: that may take long, and is not disturbed.
lock "$BUILD/queue"
base=$(find_base) || exit
role=$(base_value ROLE)
what=$(tree_git log -1 --format='%h (%s)' "$base")

# It stays the same for all revisions of a set.
change_id() { echo "20261126-$1-$(sha256sum <<<"tcmu-zero-copy $1" | cut -c 1-12)"; }

# A repository of its own, with no more than a few files checked out.
git clone -q -s --no-checkout "$SRC" "$work/tree" 2>"$work/log" || die "git could not clone $SRC: $(tail -n 1 "$work/log")"
SRC=$work/tree
tree_git config core.sparseCheckout true
tree_git config gc.auto 0
tree_git config core.abbrev 12
echo /Makefile >"$SRC/.git/info/sparse-checkout"
tree_git config user.name "$name"
tree_git config user.email "$mail"

# By SENDER instead of the role: From, which may be folded, and Signed-off-by.
by_sender() {
	awk -v role="$role" -v sender="$SENDER" '
		/^From: / && !author { author = $0; getline; while (/^[ \t]/) { author = author $0; getline }
			if (author == "From: " role) author = "From: " sender; else other = 1
			print author }
		$0 == "Signed-off-by: " role { $0 = "Signed-off-by: " sender; signed = 1 }
		/^---$/ && !end { end = 1; if (!signed) print "Signed-off-by: " sender }
		{ print }' "$1"
}
start_on "$base"
tip=$base needed=
add() {
	by_sender "$TOP/patches/$1" >"$work/patch"
	tip=$(commit_patch "$tip" "$work/patch") || exit
}
# all_needs SET: with what those need, each once and in the order of series
all_needs() {
	local need
	for need in $(set_needs "$1"); do all_needs "$need"; echo "$need"; done
}
# Not all_needs | grep -q: grep ends at the first match, and the pipe fails then.
mapfile -t wanted < <(all_needs "$SET")
for set in $(series_sets); do
	[[ " ${wanted[*]} " == *" $set "* ]] || continue
	needed+=" $set"
	for patch in $(set_patches "$set"); do add "$patch"; done
done
prerequisites=$tip
# b4's cover letter: an empty commit below the patches, with b4's notes in it.
id=$(change_id "$SET")
tip=$(index_git commit-tree -p "$tip" -F - "$(index_git write-tree)" <<-END
	$(cat "$TOP/covers/$SET.txt")

	Signed-off-by: $SENDER

	--- b4-submit-tracking ---
	# This section is used internally by b4 prep for tracking purposes.
	{ "series": { "revision": $revision, "change-id": "$id", "base-branch": null, "prefixes": [] } }
END
)
for patch in $(set_patches "$SET"); do add "$patch"; done
tree_git update-ref "refs/heads/b4/$SET" "$tip"
tree_git symbolic-ref HEAD "refs/heads/b4/$SET"
tree_git read-tree -m -u HEAD

{
	# shellcheck disable=SC2016
	printf '${cover}\n\n---\n${shortlog}\n\n${diffstat}\n---\n'
	echo "base-commit: $base"
	echo "change-id: $id"
	for set in $needed; do echo "prerequisite-change-id: $(change_id "$set"):v1"; done
	[ -z "$needed" ] || tree_git log -p --reverse --format='commit %H' "$base..$prerequisites" | git patch-id --stable |
		sed 's/ .*//; s/^/prerequisite-patch-id: /'
	# shellcheck disable=SC2016
	printf '\nBest regards,\n-- \n${signature}\n'
} >"$work/template"
# Whatever the user's own settings are: write, don't sign, don't ask anybody.
tree_git config b4.prep-cover-template "$work/template"
tree_git config b4.prep-pre-flight-checks disable-all
tree_git config b4.prep-cover-strategy commit
tree_git config sendemail.from "$SENDER"
tree_git config sendemail.smtpserver localhost
mkdir "$work/mails"
(cd "$SRC" && XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data \
	b4 send -o "$work/mails" --no-sign --to "$(set_field "$SET" to)") >"$work/log" 2>&1 ||
	{ sed 's/^/  /' "$work/log" >&2; die "b4 could not write the mails (see above)"; }
ls "$work/mails/"*.eml >/dev/null 2>&1 || { sed 's/^/  /' "$work/log" >&2; die "b4 wrote no mails (see above)"; }

out=$BUILD/mbox/$SET.mbox
mkdir -p "$BUILD/mbox"
for file in "$work/mails/"*.eml; do
	printf 'From mbox@z Thu Jan  1 00:00:00 1970\n'
	cat "$file"
	echo
done >"$work/mbox"
mv "$work/mbox" "$out"
say "$out: $(set_patches "$SET" | wc -l) patches on $what${needed:+ and the sets$needed}, to $(set_field "$SET" to)"
