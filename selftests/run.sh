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
here=$(cd "$(dirname "$0")" && pwd)
limit=${TEST_TIMEOUT:-300}
. "$here/tap.sh"

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

	marker=$(log_mark "$name")
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
	if timed_out $rc; then
		result "not ok" "$name.finished_in_${limit}_s"
	elif [ $nr -eq $before ]; then
		echo "# exit status $rc"
		result "not ok" "$name.ran"
	fi
	# What a crashed test left would spoil the next one.
	timeout -k 10 60 "$BIN/tcmu_handler" --cleanup --name zct- ||
		result "not ok" "$name.cleaned_up"
	log_check "$marker" "$name.kernel_log"
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
	marker=$(log_mark mkspecial_kunit)
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
	log_check "$marker" mkspecial_kunit.kernel_log
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
[ -x "$BIN/tcmu_handler" ] || tap_die "no programs in $BIN; make, or give BIN=DIR"
if [ $# -eq 0 ]; then
	mapfile -t names <<<"$(all_tests)"
	set -- "${names[@]}"
fi
for t; do
	if [ "${t%%:*}" != mkspecial_kunit ] && [ ! -x "$BIN/${t%%:*}" ]; then
		tap_die "no test ${t%%:*}; run.sh -l lists them"
	fi
done

tap_start
[ ! -w /sys/kernel/debug/kmemleak ] || echo clear >/sys/kernel/debug/kmemleak
for t; do
	case $t in
	mkspecial_kunit) run_kunit ;;
	*:*) run_program "${t%%:*}" "${t#*:}" ;;
	*) run_program "$t" "" ;;
	esac
done
check_leaks
tap_end
