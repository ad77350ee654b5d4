# shellcheck shell=bash
# Counting results, for the scripts that test: each prints a line per result
# and one line of totals at its end.

passed=0 failed=0 skipped=0
failures=()

ok() { passed=$((passed + 1)); echo "ok - $1"; }
skip() { skipped=$((skipped + 1)); echo "ok - $1 # SKIP $2"; }
# not_ok NAME [FILE]: FILE holds the details
not_ok() {
	failed=$((failed + 1))
	failures+=("$1")
	echo "not ok - $1"
	[ -z "${2:-}" ] || head -n 60 "$2" | sed 's/^/  /'
}
# result NAME FILE: it is well if there is nothing in FILE
result() { if [ -s "$2" ]; then not_ok "$1" "$2"; else ok "$1"; fi; }

# stage NAME COMMAND...: shows what another such script prints, but adds its
# totals to ours. A script that fails with no failed result counts as one.
stage() {
	local name=$1 status=0 p='' f=0 s=0 line totals
	shift
	totals=$(mktemp)
	printf '\n# %s\n' "$name"
	"$@" 2>&1 | awk -v totals="$totals" '
		/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { print $1, $3, $5 >totals; next }
		/^not ok / { print >(totals ".failed") }
		{ print; fflush() }' || status=$?
	read -r p f s <"$totals" || :
	passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
	if [ -e "$totals.failed" ]; then
		while read -r line; do failures+=("$name: ${line#not ok }"); done <"$totals.failed"
	fi
	rm -f "$totals" "$totals.failed"
	if [ -z "$p" ]; then
		not_ok "$name did not come to its end"
	elif [ "$status" != 0 ] && [ "${f:-0}" = 0 ]; then
		not_ok "$name failed, see above (exit status $status)"
	fi
}

totals() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
}
