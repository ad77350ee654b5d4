#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the tests of the whole stack, as root, on the kernel under test:
#   run.sh                 all of them
#   run.sh t_smoke         one script
#   run.sh -l              their names
# One TAP stream, then "N passed, N failed, N skipped"; exit status 1 if
# anything failed. RUNNER_ROOT=DIR says where the patched tcmu-runner is
# installed.

set -u
here=$(cd "$(dirname "$0")" && pwd)
limit=1200
# The debug kernel takes its time.
[ ! -e /sys/kernel/debug/kmemleak ] || limit=4800
limit=${TEST_TIMEOUT:-$limit}
. "$here/../selftests/tap.sh"

all_tests() {
	local t

	for t in "$here"/t_*.sh; do
		basename "$t" .sh
	done
}

# Renumber what the script says, as it says it; the rest becomes comments. Its
# plan is left in $planned.
take_results() {
	local name=$1 line

	planned=
	while IFS= read -r line; do
		if [[ $line =~ ^(ok|not\ ok)\ [0-9]+\ ([^#]*[^#\ ])\ ?(#.*)?$ ]]; then
			result "${BASH_REMATCH[1]}" "$name: ${BASH_REMATCH[2]}" \
				"${BASH_REMATCH[3]}"
		elif [[ $line =~ ^1\.\.([0-9]+)\ ?(#.*)?$ ]]; then
			planned=${BASH_REMATCH[1]}
			[ "$planned" -ne 0 ] || result ok "$name" "${BASH_REMATCH[2]}"
		else
			echo "# ${line#\# }"
		fi
	done
}

run_script() {
	local name=$1 marker out pid rc planned before=$nr start=$SECONDS

	marker=$(log_mark "$name")
	out=$(mktemp)
	echo "# $name"
	# Not a pipe: what the script leaves running would keep it open.
	timeout -k 10 "$limit" bash "$here/$name.sh" </dev/null >"$out" 2>&1 &
	pid=$!
	take_results "$name" < <(tail -n +1 -f -s 0.2 --pid=$pid "$out")
	wait $pid
	rc=$?
	rm -f "$out"
	if timed_out $rc; then
		result "not ok" "$name: finished in $limit s"
	elif [ -z "$planned" ]; then
		echo "# exit status $rc"
		result "not ok" "$name: came to its end"
	elif [ "$planned" -ne 0 ] && [ "$planned" -ne $((nr - before)) ]; then
		result "not ok" "$name: $planned results planned, $((nr - before)) seen"
	fi
	# What a test left would spoil the next one.
	# shellcheck disable=SC2016
	timeout -k 10 300 bash -c '. "$1"/lib.sh; cleanup' - "$here" 2>&1 </dev/null | sed 's/^/# /'
	[ "${PIPESTATUS[0]}" -eq 0 ] || result "not ok" "$name: cleaned up"
	log_check "$marker" "$name: kernel log"
	echo "# $name took $((SECONDS - start)) s"
}

if [ "${1:-}" = -l ]; then
	all_tests
	exit 0
fi
if [ $# -eq 0 ]; then
	mapfile -t names <<<"$(all_tests)"
	set -- "${names[@]}"
fi
for t; do
	[ -f "$here/$t.sh" ] || tap_die "no test $t; run.sh -l lists them"
done

tap_start
for t; do
	no_time_for "$t" || run_script "$t"
done
tap_end
