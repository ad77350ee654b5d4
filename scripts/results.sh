# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Counting results, for the scripts that test: each prints a line per result
# and one line of totals at its end.

passed=0 failed=0 skipped=0
failures=()
durations=() lap_at=$SECONDS elapsed=0

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

# lap NAME [SECONDS]: what has run since the last lap, or for SECONDS before
# this script did. beside NAME SECONDS: what ran at the same time as others.
lap() {
	local seconds=${2:-$((SECONDS - lap_at))}
	durations+=("$seconds $1")
	elapsed=$((elapsed + seconds))
	[ -n "${2:-}" ] || lap_at=$SECONDS
}
beside() { durations+=("$2 ($1)"); }
# As a table, for what comes at the end.
laps() {
	local line
	for line in "${durations[@]}" "$elapsed in all"; do
		printf '#  %4d:%02d  %s\n' $((${line%% *} / 60)) $((${line%% *} % 60)) "${line#* }"
	done
}

# stage NAME COMMAND...: shows what another such script prints, but adds its
# totals to ours. A script that fails with no failed result counts as one.
# (The shell reads line by line; awk would hold back what comes from a pipe.)
stage() {
	local name=$1 status=0 p='' f=0 s=0 line
	shift
	printf '\n# %s\n' "$name"
	exec 8< <("$@" 2>&1)
	local job=$!
	while IFS= read -r line <&8; do
		if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
			p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[3]}
			continue
		fi
		[[ $line != 'not ok '* ]] || failures+=("$name: ${line#not ok }")
		printf '%s\n' "$line"
	done
	wait $job || status=$?
	passed=$((passed + ${p:-0})) failed=$((failed + f)) skipped=$((skipped + s))
	if [ -z "$p" ]; then
		not_ok "$name did not come to its end"
	elif [ $status != 0 ] && [ "$f" = 0 ]; then
		not_ok "$name failed, see above (exit status $status)"
	fi
	lap "$name"
}

# aside KEY COMMAND...: runs it beside what follows. joined KEY, for stage:
# prints what it printed, until its end, and returns its status.
declare -A aside_pid=()
aside() {
	local key=$1 log=$BUILD/aside-$1.log
	shift
	rm -f "$log" "$log".*
	{
		local start=$SECONDS status=0
		"$@" >"$log" 2>&1 </dev/null || status=$?
		echo $((SECONDS - start)) >"$log.took"
		echo $status >"$log.status"
	} &
	aside_pid[$key]=$!
	trap 'pkill -P "$(printf "%s," "${aside_pid[@]}")" || :' EXIT
}
joined() {
	tail -n +1 -f --pid="${aside_pid[$1]}" "$BUILD/aside-$1.log"
	return "$(cat "$BUILD/aside-$1.log.status")"
}
aside_took() { cat "$BUILD/aside-$1.log.took" 2>/dev/null || echo 0; }

totals() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
}
