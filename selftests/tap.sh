# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What makes one TAP stream of many tests, with the kernel's complaints as
# failures. Sourced by what runs them: run.sh here, and that of other suites.
#   tap_die MESSAGE              exit status 1
#   tap_skip REASON              nothing can be tested here: exit status 4
#   tap_start                    root? is there a target core? then the header
#   result ok|not\ ok NAME [DIRECTIVE]
#   marker=$(log_mark NAME)      what the kernel says after this ...
#   log_check MARKER RESULT      ... and that it complained is a failed RESULT
#   no_time_for NAME             past BUDGET, in seconds from the start, if there
#                                is one: counts it as skipped
#   timed_out STATUS             true if timeout(1) ended it with this status
#   tap_end                      the plan and the totals; fails if anything did

export LC_ALL=C
tap_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
nr=0 passed=0 failed=0 skipped=0

tap_die() {
	echo "run.sh: $*" >&2
	exit 1
}

tap_skip() {
	printf 'TAP version 13\n1..0 # SKIP %s\n' "$*"
	exit 4
}

tap_start() {
	local why=

	[ "$(id -u)" -eq 0 ] || tap_skip "needs root"
	if [ ! -d /sys/module/target_core_user ]; then
		why=$(modprobe target_core_user 2>&1) ||
			tap_skip "no tcmu in this kernel (CONFIG_TCM_USER2): ${why%%$'\n'*}"
	fi
	mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
	mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
	[ -d /sys/kernel/config/target ] ||
		tap_skip "no /sys/kernel/config/target: is configfs mounted?"
	# Markers must not be suppressed.
	echo on >/proc/sys/kernel/printk_devkmsg 2>/dev/null
	echo "TAP version 13"
}

result() {
	nr=$((nr + 1))
	case "$1 ${3:-}" in
	"not ok"*) failed=$((failed + 1)) ;;
	*"# SKIP"*) skipped=$((skipped + 1)) ;;
	*) passed=$((passed + 1)) ;;
	esac
	echo "$1 $nr $2${3:+ $3}"
}

log_mark() {
	local marker="tcmu-test-$$-$1-$SECONDS"
	echo "$marker" >/dev/kmsg
	echo "$marker"
}
log_since() { dmesg | sed -n "/$1/,\$p"; }
log_check() {
	log_since "$1" | grep -qE -f "$tap_dir/complaints" || return 0
	log_since "$1" | grep -E -A 30 -f "$tap_dir/complaints" | head -n 120 | sed 's/^/# /'
	result "not ok" "$2"
}

no_time_for() {
	[ -n "${BUDGET:-}" ] && [ "$SECONDS" -ge "$BUDGET" ] || return
	result ok "$1" "# SKIP no time left: $SECONDS s of $BUDGET are over"
}

timed_out() { [ "$1" -eq 124 ] || [ "$1" -eq 137 ]; }

tap_end() {
	echo "1..$nr"
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ]
}
