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
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
limit=1200
# The debug kernel takes its time.
[ ! -e /sys/kernel/debug/kmemleak ] || limit=4800
limit=${TEST_TIMEOUT:-$limit}
nr=0 passed=0 failed=0 skipped=0

all_tests() {
	local t

	for t in "$here"/t_*.sh; do
		basename "$t" .sh
	done
}

die() {
	echo "run.sh: $*" >&2
	exit 2
}

# result ok|not\ ok NAME [DIRECTIVE]
result() {
	nr=$((nr + 1))
	case "$1 ${3:-}" in
	"not ok"*) failed=$((failed + 1)) ;;
	*"# SKIP"*) skipped=$((skipped + 1)) ;;
	*) passed=$((passed + 1)) ;;
	esac
	echo "$1 $nr $2${3:+ $3}"
}

# Kernel messages since the marker.
kernel_log() {
	dmesg | sed -n "/$1/,\$p"
}

splat='WARNING: |BUG: |kernel BUG|Oops|KASAN|UBSAN|blocked for more than|possible circular locking|possible recursive locking|suspicious RCU|general protection|Unable to handle|bad page|Bad page|refcount_t: |sleeping function called|soft lockup'

check_log() {
	local name=$1 log

	log=$(kernel_log "$2" | grep -E "$splat")
	[ -z "$log" ] && return
	kernel_log "$2" | grep -E -A 30 "$splat" | head -n 120 | sed 's/^/# /'
	result "not ok" "$name: kernel log"
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

	marker="tcmu-stack-$$-$name-$SECONDS"
	echo "$marker" >/dev/kmsg
	out=$(mktemp)
	echo "# $name"
	# Not a pipe: what the script leaves running would keep it open.
	timeout -k 10 "$limit" bash "$here/$name.sh" </dev/null >"$out" 2>&1 &
	pid=$!
	take_results "$name" < <(tail -n +1 -f -s 0.2 --pid=$pid "$out")
	wait $pid
	rc=$?
	rm -f "$out"
	if [ $rc -eq 124 ] || [ $rc -eq 137 ]; then
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
	check_log "$name" "$marker"
	echo "# $name took $((SECONDS - start)) s"
}

if [ "${1:-}" = -l ]; then
	all_tests
	exit 0
fi
[ "$(id -u)" -eq 0 ] || die "needs root"
[ -d /sys/kernel/config/target ] || modprobe target_core_user 2>/dev/null
[ -d /sys/kernel/config/target ] || die "no target core in this kernel"
# Markers must not be suppressed.
echo on >/proc/sys/kernel/printk_devkmsg 2>/dev/null

if [ $# -eq 0 ]; then
	mapfile -t names <<<"$(all_tests)"
	set -- "${names[@]}"
fi
for t; do
	[ -f "$here/$t.sh" ] || die "no test $t; run.sh -l lists them"
done

echo "TAP version 13"
for t; do
	run_script "$t"
done
echo "1..$nr"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
