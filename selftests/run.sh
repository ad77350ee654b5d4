#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the tests of this directory, as root, on the kernel under test:
#   run.sh                 all of them
#   run.sh zc_threshold    one program
#   run.sh zc_vma:fork_both_touch   one test of it
#   run.sh -l              their names
# One TAP stream, then "N passed, N failed, N skipped"; exit status 1 if
# anything failed. BIN=DIR says where the programs are.

set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
limit=${TEST_TIMEOUT:-300}
nr=0 passed=0 failed=0 skipped=0

if [ -z "${BIN:-}" ]; then
	for BIN in "$here" "$here/../build/selftests"; do
		[ -x "$BIN/tcmu_handler" ] && break
	done
fi

all_tests() {
	local p

	for p in "$BIN"/zc_* "$BIN"/ring_*; do
		case $p in
		*.c | *.h | *.o | *.d) continue ;;
		esac
		[ -x "$p" ] && basename "$p"
	done
	echo mkspecial_kunit
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
	result "not ok" "$name.kernel_log"
}

# Renumber what the program says; the rest becomes comments.
take_results() {
	local line

	while IFS= read -r line; do
		if [[ $line =~ ^(ok|not\ ok)\ [0-9]+\ ([^\ ]+)\ ?(.*)$ ]]; then
			result "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" \
				"${BASH_REMATCH[3]}"
		elif [[ $line =~ ^#\ +(RUN|OK)\ |^TAP|^1\.\.|^#\ (Starting|Totals|PASSED|FAILED|[0-9]+\ skipped) ]]; then
			:
		else
			echo "# ${line#\# }"
		fi
	done <"$1"
}

run_program() {
	local name=$1 test=$2 marker out rc before=$nr

	marker="tcmu-selftest-$$-$name-$SECONDS"
	echo "$marker" >/dev/kmsg
	out=$(mktemp)
	echo "# $name"
	if [ -n "$test" ]; then
		timeout -k 10 "$limit" "$BIN/$name" -t "$test" >"$out" 2>&1
	else
		timeout -k 10 "$limit" "$BIN/$name" >"$out" 2>&1
	fi
	rc=$?
	take_results "$out"
	rm -f "$out"
	if [ $rc -eq 124 ] || [ $rc -eq 137 ]; then
		result "not ok" "$name.finished_in_${limit}_s"
	elif [ $nr -eq $before ]; then
		echo "# exit status $rc"
		result "not ok" "$name.ran"
	fi
	# What a crashed test left would spoil the next one.
	timeout -k 10 60 "$BIN/tcmu_handler" --cleanup --name zct- ||
		result "not ok" "$name.cleaned_up"
	check_log "$name" "$marker"
}

# The mm helper's own test, built into the kernel.
run_kunit() {
	local dir=/sys/kernel/debug/kunit/vm_insert_mkspecial marker out
	local conf=CONFIG_VM_INSERT_MKSPECIAL_KUNIT_TEST=

	echo "# mkspecial_kunit"
	if [ ! -d $dir ]; then
		if zcat /proc/config.gz 2>/dev/null | grep -q "^$conf"; then
			result "not ok" mkspecial_kunit
			echo "# $conf is set, but $dir is missing"
		else
			result ok mkspecial_kunit "# SKIP kernel built without ${conf%=}"
		fi
		return
	fi
	marker="tcmu-selftest-$$-kunit-$SECONDS"
	echo "$marker" >/dev/kmsg
	[ -w $dir/run ] && echo 1 >$dir/run
	out=$(mktemp)
	cat $dir/results >"$out"
	sed 's/^/# /' "$out"
	# The test's own verdict is the unindented line, if there is one.
	if grep -q '^ *ok ' "$out" && ! grep -q 'not ok' "$out"; then
		result ok mkspecial_kunit
	else
		result "not ok" mkspecial_kunit
	fi
	rm -f "$out"
	check_log mkspecial_kunit "$marker"
}

# On a debug kernel: nothing that the tests used may be lost.
check_leaks() {
	local file=/sys/kernel/debug/kmemleak out

	[ -w $file ] || return
	# An object counts as leaked only after some seconds.
	echo scan >$file
	sleep 6
	echo scan >$file
	out=$(cat $file)
	if [ -z "$out" ]; then
		result ok kmemleak
	else
		echo "$out" | head -n 100 | sed 's/^/# /'
		result "not ok" kmemleak
	fi
}

if [ "${1:-}" = -l ]; then
	all_tests
	exit 0
fi
[ "$(id -u)" -eq 0 ] || die "needs root"
[ -x "$BIN/tcmu_handler" ] || die "no programs in $BIN; make, or give BIN=DIR"
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
[ -d /sys/kernel/config/target ] || modprobe target_core_user 2>/dev/null
[ -d /sys/kernel/config/target ] || die "no target core in this kernel"
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
# Markers must not be suppressed.
echo on >/proc/sys/kernel/printk_devkmsg 2>/dev/null
[ -w /sys/kernel/debug/kmemleak ] && echo clear >/sys/kernel/debug/kmemleak

if [ $# -eq 0 ]; then
	mapfile -t names <<<"$(all_tests)"
	set -- "${names[@]}"
fi
for t; do
	if [ "${t%%:*}" != mkspecial_kunit ] && [ ! -x "$BIN/${t%%:*}" ]; then
		die "no test ${t%%:*}; run.sh -l lists them"
	fi
done

echo "TAP version 13"
for t; do
	case $t in
	mkspecial_kunit) run_kunit ;;
	*:*) run_program "${t%%:*}" "${t#*:}" ;;
	*) run_program "$t" "" ;;
	esac
done
check_leaks
echo "1..$nr"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
