#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Which lines of the series ran: a kernel that counts (gcov), the selftests in
# the guest, and a table per file, then the lines that the series adds and that
# never ran. All of it is also in build/coverage/.
#   coverage.sh		all selftests
#   T=name		one of them
#   ALL=yes		and the tests of the whole stack
# Needs the patched tree and the guest image (make coverage sees to that).
. "$(dirname "$0")/lib.sh"

[[ ${T:-} =~ ^[A-Za-z0-9_:.-]*$ ]] || die "T=$T is not the name of a test"
need_tree "$SRC"
[ -s "$SRC/.pc/applied-patches" ] || die "the series is not applied to $SRC; run: make apply"
obj=$BUILD/kernel-coverage
dir=$BUILD/coverage
start=$SECONDS

command -v lcov >/dev/null || {
	say "installing lcov"
	(install_packages lcov) >"$BUILD/coverage.log" 2>&1 || die "lcov could not be installed, see $BUILD/coverage.log"
}
# Of the compiler that builds the kernel.
gcov=gcov-$(gcc -dumpversion)
command -v "$gcov" >/dev/null || gcov=gcov
need "$gcov"

KERNEL=coverage "$TOP/scripts/kernel.sh" || exit
(build_selftests) || exit
lock "$dir"
rm -rf "${dir:?}"/*
mkdir "$dir/counts"

# What debugfs says is the size of a counter file is 0; only reading it helps.
# shellcheck disable=SC2016
collect='mkdir -p /out/keep && cd /sys/kernel/debug/gcov && find . -name "*.gcda" | while read -r f; do
	mkdir -p "/out/keep/${f%/*}" && cat "$f" >"/out/keep/$f"; done'
run="/project/selftests/run.sh ${T:-}" limit=1800
[ -z "${ALL:-}" ] || run+="; s=\$?; /project/tests/run.sh" limit=9000
say "running the ${T:-selftests} on the coverage kernel"
status=0
KEEP=$dir/counts "$TOP/scripts/vm.sh" -k coverage -t "${TIMEOUT:-$limit}" \
	"s=0; $run; s=\$((s + \$?)); $collect; exit \$s" >"$dir/tests.log" 2>&1 || status=$?
tail -n 1 "$dir/tests.log"
[ $status = 0 ] || say "note: the tests failed (exit status $status), see $dir/tests.log; what ran is counted all the same"
[ -n "$(find "$dir/counts" -name '*.gcda' -size +0 -print -quit)" ] ||
	die "the guest brought no counts, see $dir/tests.log"

# lcov wants the notes of the compiler beside the counts. The counters have
# the object tree's own path in debugfs.
(cd "$dir/counts" && find . -name '*.gcda') | while read -r file; do
	notes=${file#.}
	notes=${notes%.gcda}.gcno
	[ ! -f "$notes" ] || cp "$notes" "$dir/counts/${file%.gcda}.gcno"
done
lcov --quiet --capture --directory "$dir/counts" --base-directory "$obj" --gcov-tool "$gcov" \
	--output-file "$dir/all.info" >"$dir/lcov.log" 2>&1 ||
	die "lcov could not read the counts, see $dir/lcov.log"

# original FILE: what it was before the series, as quilt has kept it
original() {
	local patch
	while read -r patch; do
		if [ -e "$SRC/.pc/$patch/$1" ]; then echo "$SRC/.pc/$patch/$1"; return; fi
	done <"$SRC/.pc/applied-patches"
}
# "FILE LINE" for each line that the series adds
touched_files | grep '\.[ch]$' | while read -r file; do
	before=$(original "$file")
	[ -n "$before" ] || continue
	diff -U0 "$before" "$SRC/$file" | awk -v file="$file" '/^@@/ {
		split(substr($3, 2), a, ","); n = (a[2] == "" ? 1 : a[2])
		for (i = 0; i < n; i++) print file, a[1] + i }' || :
done >"$dir/added"

# "FILE LINE COUNT" for each line that the compiler has code for; a header's
# once, whoever includes it.
awk -v src="$SRC/" '/^SF:/ { file = substr($0, 4); sub(".*/linux/", "", file); if (index($0, src)) file = substr($0, 4 + length(src)) }
	/^DA:/ { split(substr($0, 4), a, ","); count[file " " a[1]] += a[2] }
	END { for (line in count) print line, count[line] }' "$dir/all.info" >"$dir/counted"

awk 'NR == FNR { count[$1 " " $2] = $3; next }
	($1 " " $2) in count { print $1, $2, count[$1 " " $2] }' "$dir/counted" "$dir/added" |
	sort -k1,1 -k2,2n >"$dir/lines"
[ -s "$dir/lines" ] || die "none of the lines that the series adds were counted, see $dir/all.info"

{
	awk 'BEGIN { print "file", "lines", "ran", "never", "percent" }
		!($1 in n) { order[++files] = $1 }
		{ n[$1]++; all++; if ($3 > 0) { ran[$1]++; r++ } }
		END { for (i = 1; i <= files; i++) { f = order[i]
			print f, n[f], ran[f] + 0, n[f] - ran[f], int(100 * ran[f] / n[f]) }
			print "all", all, r + 0, all - r, int(100 * r / all) }' "$dir/lines" | column -t
	printf '\n# lines of the series that never ran\n'
	awk '$3 == 0 { print $1, $2 }' "$dir/lines" | while read -r file line; do
		printf '%s:%s:%s\n' "$file" "$line" "$(sed -n "${line}p" "$SRC/$file")"
	done
} | tee "$dir/report"
say "took $((SECONDS - start)) s; all of it is in $dir"
[ $status = 0 ]
