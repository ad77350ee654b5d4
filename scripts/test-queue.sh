#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The queue as git has it: series and covers/ fit together; make branch and make
# refresh give back what they got; make mbox, git am, git quiltimport and quilt
# give the same tree. On a small tree of the files that matter, and on a copy of
# the queue, both in a directory of its own. Part of make check.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
real=$SRC
unset KDIR BRANCH ON ALL FORCE SET SENDER REVISION
export BUILD=$work/build
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@localhost GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@localhost

works() {
	local name=$1
	shift
	if "$@" >"$log" 2>&1 </dev/null; then ok "$name"; else not_ok "$name" "$log"; fi
}
# fails NAME PATTERN COMMAND...: saying PATTERN in its last line
fails() {
	local name=$1 pattern=$2
	shift 2
	if ! "$@" >"$log" 2>&1 </dev/null && tail -n 1 "$log" | grep -qE "$pattern"; then ok "$name"
	else echo "expected to fail, with: $pattern" >>"$log"; not_ok "$name" "$log"; fi
}
same() { if [ "$2" = "$3" ]; then ok "$1"; else printf '%s\n' "$2" "$3" >"$log"; not_ok "$1" "$log"; fi; }

# known_tests: a line for each program, for each of its tests as program:test,
# for each KUnit test, and for each test of the whole stack
known_tests() {
	local file program
	for file in "$TOP"/selftests/*.c; do
		program=$(basename "$file" .c)
		echo "$program"
		sed -n -E "s/^TEST_F(_TIMEOUT)?\([a-z_]+, *([a-z_0-9]+).*/$program:\2/p" "$file"
	done
	basename -s .sh "$TOP"/tests/t_*.sh
	echo mkspecial_kunit
	(cd "$TOP/patches" && sed -n -E 's/^\+.*KUNIT_CASE\(([a-z_0-9]+)\).*/\1/p' -- *.patch)
}
# named_tests FILE...: "FILE: NAME" for each word in backquotes that looks like a
# test's name, and for each in the column of a table that is headed "test"
named_tests() {
	awk '
		FNR == 1 { column = 0 }
		!/^\|/ { column = 0 }
		/^\|/ { n = split($0, cell, "|"); if (cell[n - 1] ~ /^ tests? $/) column = n - 1 }
		function names(text, all,   word) {
			while (match(text, /`[a-z_0-9:]+`/)) {
				word = substr(text, RSTART + 1, RLENGTH - 2)
				text = substr(text, RSTART + RLENGTH)
				if (all || word ~ /^[a-z]+_[a-z_]+:[a-z_0-9]+$/ || word ~ /^(mkspecial|t)_/)
					print FILENAME ": " word
			}
		}
		column { names(cell[column], 1) }
		{ names($0, 0) }
		match($0, /[Cc]overed by the (tcmu )?selftests? .*/) {
			n = split(substr($0, RSTART), words, /[ ,]+/)
			for (i = 1; i <= n; i++) {
				sub(/\.$/, "", words[i])
				if (words[i] ~ /^[a-z]+_[a-z_]+:[a-z_0-9]+$/) print FILENAME ": " words[i]
			}
		}' "$@"
}
# unknown_tests FILE...: those that are not there. In a table a program may be
# left out when the row has named it: then any program's test will do.
unknown_tests() {
	named_tests "$@" | sort -u | awk '
		NR == FNR { known[$1]; sub(/.*:/, "", $1); known[$1]; next }
		!($2 in known)' <(known_tests) - | sed "s,^$TOP/,,"
}

printf '# documents\n'
unknown_tests "$TOP"/*.md "$TOP"/docs/*.md "$TOP"/covers/* "$TOP"/patches/*.patch >"$log"
result "every test that a document names is there" "$log"
# shellcheck disable=SC2016
printf '| claim | test |\n|---|---|\n| x | `zc_vma:no_such_test`, `none_such` |\n\nSee `zc_io:direct`.\n' >"$work/names.md"
unknown_tests "$work/names.md" >"$log"
same "one that isn't there is noticed" "$(cut -d ' ' -f 2 "$log" | xargs)" "none_such zc_vma:no_such_test"

printf '# series and covers\n'
series_faults >"$log"
result "series and covers/ fit together" "$log"
for set in $(series_sets); do
	awk -v set="$set" 'NR == 1 && (!NF || /^\[/) || NR == 2 && NF || length > 75 { print FILENAME ":" NR ": " $0 }
		END { if (NR < 3) print FILENAME ": no more than a subject" }' "$TOP/covers/$set.txt" >"$log"
	result "covers/$set.txt is a subject, an empty line, and text" "$log"
done

queue=$work/queue
fresh() {
	rm -rf "$queue"
	mkdir "$queue"
	(cd "$TOP" && cp -r BASE series patches covers scripts "$queue/")
	mkdir "$queue/selftests"
	# What was built in there is none of it.
	(cd "$TOP/selftests" && { git ls-files -co --exclude-standard 2>/dev/null || find . -type f; } |
		while read -r file; do [ ! -f "$file" ] || cp -p --parents "$file" "$queue/selftests"; done)
}
faults() { TOP=$queue series_faults; }
# faulty NAME PATTERN: the copy has that fault
faulty() { if faults | grep -qE "$2"; then ok "$1"; else faults >"$log"; not_ok "$1" "$log"; fi; }
fresh
one=$(series_patches | head -n 1)
set=$(series_sets | head -n 1)
sed -i "1i $one" "$queue/series"
faulty "a patch in no set is noticed" "$one is in no set"
faulty "... and one named twice" "$one is named twice"
fresh
echo x >"$queue/patches/stray.patch"
faulty "a patch that series doesn't name is noticed" "stray.patch: series does not name it"
rm "$queue/covers/$set.txt"
faulty "a set without a cover letter is noticed" "covers/$set.txt: missing"
sed -i '0,/^# needs:.*/s//# needs: no-such-set/' "$queue/series"
faulty "a set that needs an unknown one is noticed" "set $set needs no-such-set"
fresh

if ! git -C "$real" rev-parse -q --verify HEAD >"$log" 2>&1 || [ -z "$(series_patches)" ]; then
	skip "make branch, refresh and mbox" "$real is no git checkout"
	totals
	exit
fi

# --- a small tree
tree=$work/tree
touched=$(cd "$TOP/patches" && series_patches | xargs cat | sed -n 's,^\(+++ b\|--- a\)/\([^[:space:]]*\).*,\2,p' | sort -u)
mapfile -t touched <<<"$touched"
git -C "$real" ls-tree -r --name-only HEAD -- "${touched[@]}" Makefile Kbuild MAINTAINERS .gitattributes \
	tools/testing/selftests/Makefile >"$work/files"
mkdir "$tree"
xargs git -C "$real" archive HEAD -- <"$work/files" | tar -x -C "$tree"
git -C "$tree" init -q
git -C "$tree" add -A -f
git -C "$tree" commit -q -m base
git_tree() { git -C "$tree" "$@"; }
base=$(git_tree rev-parse HEAD)
do_it() { local verb=$1; shift; env KDIR="$tree" "$@" "$queue/scripts/$verb.sh"; }
tip() { git_tree rev-parse tcmu-zero-copy; }
untouched() { git_tree status --porcelain --ignored >"$log"; [ "$(git_tree rev-parse HEAD)" = "$base" ] || echo HEAD >>"$log"; result "$1" "$log"; }
same_queue() { diff -r "$TOP/patches" "$queue/patches" && diff "$TOP/series" "$queue/series" && diff -r "$TOP/covers" "$queue/covers" && diff -r "$work/selftests" "$queue/selftests"; }
cp -rp "$queue/selftests" "$work/selftests"
count=$(series_patches | wc -l)

printf '# make branch\n'
echo mine >"$tree/Kbuild.mine" && git_tree add Kbuild.mine && git_tree reset -q && rm "$tree/Kbuild.mine"
fails "refresh without a branch" 'has no branch tcmu-zero-copy' do_it refresh
works "a branch is made" do_it branch
untouched "... and what is checked out stays as it was"
first=$(tip)
same "... with a commit for each patch, one for the selftests, one for MAINTAINERS" \
	"$(git_tree rev-list --count "$base..$first")" $((count + 2))
git_tree update-ref -d refs/heads/tcmu-zero-copy
works "it is made again" do_it branch
same "... with the same commits" "$(tip)" "$first"

works "tcmu is among the TARGETS" git_tree grep -q '^TARGETS += tcmu$' "$first" -- tools/testing/selftests/Makefile
fails "a BRANCH that can't be" 'is no name for a branch' do_it branch BRANCH='a..b'
fails "an ON that isn't there" 'is no commit' do_it branch ON=nowhere

printf '# the same tree by every way\n'
patched=$(git_tree rev-parse "$first~2^{tree}")
apart() { git_tree worktree add -q --detach -f "$work/$1" "$base" && cd "$work/$1"; }
by_am() { (apart am && series_patches | sed "s,^,$TOP/patches/," | xargs git am -q --no-3way --committer-date-is-author-date) >"$log" 2>&1; git -C "$work/am" rev-parse 'HEAD^{tree}'; }
by_quiltimport() { (apart qi && git quiltimport --patches "$TOP/patches" --series "$TOP/series") >"$log" 2>&1; git -C "$work/qi" rev-parse 'HEAD^{tree}'; }
by_quilt() {
	(apart quilt && ln -s "$TOP/patches" "$TOP/series" . && quilt --quiltrc /dev/null push -a && rm -rf .pc series patches && git add -A -f) >"$log" 2>&1
	git -C "$work/quilt" write-tree
}
same "git am" "$(by_am)" "$patched"
same "git quiltimport" "$(by_quiltimport)" "$patched"
same "quilt push -a" "$(by_quilt)" "$patched"

printf '# make refresh\n'
works "it takes back what is unchanged" do_it refresh
works "... and nothing changes, byte for byte" same_queue
works "it writes all of it anew" do_it refresh ALL=yes
works "... and nothing changes, byte for byte" same_queue
rebase() { git -C "$work/am" -c sequence.editor="$1" rebase -q -i "$base"; }
git_tree worktree remove -f "$work/qi"
git_tree worktree remove -f "$work/quilt"
git -C "$work/am" checkout -q tcmu-zero-copy
# The second patch gets a better message, the third goes, a new one comes after the first.
mapfile -t patches < <(series_patches)
file=$(git_tree diff-tree -r --no-commit-id --name-only "$first~$((count + 1))" | grep '\.c$' | head -n 1)
echo '/* more */' >>"$work/am/$file"
fails "a branch with changes that are not committed" 'changes that are not committed' do_it refresh
git -C "$work/am" checkout -q "$file"
git -C "$work/am" checkout -q --detach
at=$first~$((count + 1))
reword() { git -C "$work/am" checkout -q --detach "$at" && git -C "$work/am" log -1 --format='%B%nIt says more now.' |
	git -C "$work/am" commit -q --amend -F - && git -C "$work/am" rebase -q --onto HEAD "$at" "$first"; }
works "a commit is amended" reword
git_tree update-ref refs/heads/tcmu-zero-copy "$(git -C "$work/am" rev-parse HEAD)"
works "... and refresh takes it" do_it refresh
diff -rq "$TOP/patches" "$queue/patches" >"$log" || :
same "... as a change of exactly that patch" "$(cat "$log")" "Files $TOP/patches/${patches[0]} and $queue/patches/${patches[0]} differ"
works "... which says so" grep -q '^It says more now' "$queue/patches/${patches[0]}"
works "series stays" cmp "$TOP/series" "$queue/series"

new=$(git -C "$work/am" rev-parse HEAD)
insert() {
	git -C "$work/am" checkout -q --detach "$new~$((count + 1))" && echo '/* more */' >>"$work/am/$file" &&
		git -C "$work/am" commit -q -a -m 'scsi: target: tcmu: Say (even) more!' &&
		git -C "$work/am" rebase -q --onto HEAD "$new~$((count + 1))" "$new"
}
works "a commit is put behind the first" insert
git_tree update-ref refs/heads/tcmu-zero-copy "$(git -C "$work/am" rev-parse HEAD)"
works "... and refresh takes it" do_it refresh
same "... after the first, in its set" "$(TOP=$queue set_patches "$set" | sed -n 2p)" tcmu-say-even-more.patch
fails "branch would lose nothing now, refresh saw it; a change of patches/ does" 'have changed since' \
	sh -c "echo >>'$queue/patches/${patches[1]}'; KDIR='$tree' '$queue/scripts/refresh.sh'"
git -C "$work/am" commit -q --allow-empty -m nothing
git_tree update-ref refs/heads/tcmu-zero-copy "$(git -C "$work/am" rev-parse HEAD)"
fails "branch doesn't throw commits away" 'has changes of its own' do_it branch
fails "a commit that changes nothing" 'changes nothing' do_it refresh FORCE=yes
git_tree update-ref refs/heads/tcmu-zero-copy "$new"
works "the branch without it again" do_it refresh FORCE=yes
same "... and the patch is gone" "$(find "$queue/patches" -name "*even-more*" | wc -l)" 0
same "... from series too" "$(grep -c even-more "$queue/series" || :)" 0
works "series is as before" cmp "$TOP/series" "$queue/series"
git -C "$work/am" checkout -q --detach "$new"
git -C "$work/am" merge -q --no-edit -s ours "$first" >"$log" 2>&1
git_tree update-ref refs/heads/tcmu-zero-copy "$(git -C "$work/am" rev-parse HEAD)"
fails "a branch with a merge" 'has a merge' do_it refresh
git -C "$work/am" checkout -q --detach "$new"
echo '# more' >>"$work/am/MAINTAINERS"
git -C "$work/am" commit -q -a -m 'MAINTAINERS: more'
git_tree update-ref refs/heads/tcmu-zero-copy "$(git -C "$work/am" rev-parse HEAD)"
fails "a change that can't be taken back" "can't be taken back" do_it refresh
git_tree update-ref refs/heads/tcmu-zero-copy "$(git_tree commit-tree -m other "$base^{tree}")"
fails "a branch that is based on something else" 'is not based on' do_it refresh
fails "ON with what isn't there" 'is no commit' do_it refresh ON=nowhere
git_tree worktree remove -f "$work/am"

printf '# make mbox\n'
fresh
works "back to the branch" do_it branch FORCE=yes
fails "no SET" 'say which set' do_it mbox
fails "a SET that isn't there" 'has no set nothing' do_it mbox SET=nothing
fails "no SENDER" 'a sender is needed' do_it mbox SET="$set"
fails "a SENDER that is no address" 'is not of the form' do_it mbox SET="$set" SENDER=me
sender='A. Sender <a@sender.example>'
for set in $(series_sets); do
	works "mbox of $set" do_it mbox SET="$set" SENDER="$sender"
	mbox=$BUILD/mbox/$set.mbox
	[ -s "$mbox" ] || continue
	n=$(set_patches "$set" | wc -l)
	[ "$n" = 1 ] || n=$((n + 1))
	same "... has the mails it should" "$(grep -c '^Message-Id: ' "$mbox")" "$n"
	[ "$n" = 1 ] || same "... in one thread" "$(grep -c '^In-Reply-To: ' "$mbox")" $((n - 1))
	works "... has a base" grep -q "^base-commit: $base" "$mbox"
	works "... and a change-id" grep -q "^change-id: 2.*-$set-" "$mbox"
	grep -nF "$(base_value ROLE)" "$mbox" >"$log" || :
	result "... says nothing of the role" "$log"
	[ -z "$(set_needs "$set")" ] || works "... says what it needs" grep -q '^prerequisite-patch-id: ' "$mbox"
done
# All of them, one after the other
git_tree worktree add -q --detach "$work/mbox" "$base"
for set in $(series_sets); do
	# The cover letter is no patch.
	rm -rf "$work/split" && mkdir "$work/split"
	git mailsplit -o"$work/split" "$BUILD/mbox/$set.mbox" >/dev/null
	# A set of one patch has none.
	{ grep -lE '^Subject: \[PATCH( v[0-9]+)? 0+/' "$work/split/"* || :; } | xargs -r rm
	works "git am of $set" git -C "$work/mbox" am -q "$work/split/"*
done
same "the mails give the same tree" "$(git -C "$work/mbox" rev-parse 'HEAD^{tree}')" "$patched"
git -C "$work/mbox" log --format='%an <%ae>' "$base..HEAD" | sort -u >"$log"
same "... by the sender" "$(cat "$log")" "$sender"

totals
