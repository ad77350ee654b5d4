#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make a git branch of the series in the kernel tree: a commit for every patch,
# then the selftests and the entry in MAINTAINERS. The same input gives the same
# commits. What is checked out there, and the index, stay as they are.
#   BRANCH=name   of the branch (tcmu-zero-copy)
#   ON=commit     what it goes on (what is checked out)
#   FORCE=yes     even if the branch has commits that make refresh has not seen
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. "$(dirname "$0")/commits.sh"

need_git_tree
need_good_series
# Not what a build holds: that may take long, and is not disturbed.
lock "$BUILD/queue"
base=$(find_base) || exit
old=$(tip_of "$BRANCH") || old=
tip=$(commit_series "$base") || exit
if [ -n "$old" ] && [ "$old" != "$tip" ]; then
	[ "$(state tip)" = "$old" ] || [ "${FORCE:-}" = yes ] ||
		die "branch $BRANCH in $SRC has changes of its own; take them back with make refresh, or throw them away with FORCE=yes"
	at=$(tree_git worktree list --porcelain |
		awk -v ref="refs/heads/$BRANCH" '/^worktree / { at = substr($0, 10) } $1 == "branch" && $2 == ref { print at }')
	[ -z "$at" ] || die "branch $BRANCH is checked out in $at, and would change; check out something else there first"
fi
[ "$old" = "$tip" ] || tree_git update-ref -m "make branch" "refs/heads/$BRANCH" "$tip" ${old:+"$old"}
set_state base "$base"
set_state tip "$tip"
set_state queue "$(queue_hash)"
say "branch $BRANCH in $SRC: $(tree_git rev-list --count "$base..$tip") commits on $(tree_git log -1 --format='%h (%s)' "$base")"
