#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the tests of this directory, as root, on the kernel under test:
#   run.sh                 all of them
#   run.sh zc_threshold    one program
#   run.sh zc_vma:fork_both_touch   one test of it
#   run.sh -l              their names, and what each proves
# One TAP stream, then "N passed, N failed, N skipped". Exit status 1 if
# anything failed, 4 if nothing can be tested here. Modules that it loads, it
# unloads. BIN=DIR says where the programs are.

set -u
here=$(cd "$(dirname "$0")" && pwd)
limit=${TEST_TIMEOUT:-300}
. "$here/tap.sh"

if [ -z "${BIN:-}" ]; then
	for BIN in "$here" "$here/../build/selftests"; do
		[ -x "$BIN/tcmu_handler" ] && break
	done
fi

# A line each: name, what it proves, and why it was not built, if it wasn't.
list() {
	cat "$BIN/tests.list"
	printf 'mkspecial_kunit\tSpecial PTEs are set and unmapped as they should be (KUnit).\n'
}
listed() { list | awk -F '\t' -v name="$1" '$1 == name { found = 1; print $3 } END { exit !found }'; }

# Renumber what the program says; the rest becomes comments.
take_results() {
	local line

	while IFS= read -r line; do
		if [[ $line =~ ^(ok|not\ ok)\ [0-9]+\ ([^\ ]+)\ ?(.*)$ ]]; then
			result "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" \
				"${BASH_REMATCH[3]}"
		elif [[ $line =~ ^1\.\.0\ #\ SKIP\ (.*)$ ]]; then
			result ok "$2" "# SKIP ${BASH_REMATCH[1]}"
		elif [[ $line =~ ^#\ +(RUN|OK)\ |^TAP|^1\.\.|^#\ (Starting|Totals|PASSED|FAILED|[0-9]+\ skipped) ]]; then
			:
		else
			echo "# ${line#\# }"
		fi
	done <"$1"
}

run_program() {
	local name=$1 test=$2 marker out rc before=$nr why

	why=$(listed "$name")
	if [ -n "$why" ]; then
		result ok "$name" "# SKIP $why"
		return
	fi
	marker=$(log_mark "$name")
	out=$(mktemp)
	echo "# $name"
	if [ -n "$test" ]; then
		timeout -k 10 "$limit" "$BIN/$name" -t "$test" >"$out" 2>&1
	else
		timeout -k 10 "$limit" "$BIN/$name" >"$out" 2>&1
	fi
	rc=$?
	take_results "$out" "$name"
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

modules() { cut -d ' ' -f 1 /proc/modules 2>/dev/null | sort; }

# Those that weren't there before, $1, have no reason to stay.
unload_modules() {
	local before=$1 marker new left=none last m

	new=$(comm -13 <(echo "$before") <(modules))
	[ -n "$new" ] || return
	echo "# loaded for the tests: ${new//$'\n'/ }"
	marker=$(log_mark modules)
	rmdir /sys/kernel/config/target/{loopback,iscsi,core/user_0} 2>/dev/null
	# In whatever order they let go of each other.
	until [ -z "$left" ] || [ "$left" = "${last:-}" ]; do
		last=$left
		for m in $new; do
			[ ! -d "/sys/module/$m" ] || rmmod "$m" 2>/dev/null
		done
		left=$(comm -13 <(echo "$before") <(modules))
	done
	if [ -z "$left" ]; then
		result ok modules_unloaded
	else
		for m in $left; do
			grep "^$m " /proc/modules | sed 's/^/# left: /'
		done
		result "not ok" modules_unloaded
	fi
	log_check "$marker" modules_unloaded.kernel_log
}

[ -f "$BIN/tests.list" ] || tap_die "no programs in $BIN; make, or give BIN=DIR"
if [ "${1:-}" = -l ]; then
	list | awk -F '\t' '{ printf "%-16s %s%s\n", $1, $2, $3 ? " (" $3 ")" : "" }'
	exit 0
fi
if [ $# -eq 0 ]; then
	mapfile -t names < <(list | cut -f 1)
	set -- "${names[@]}"
fi
for t; do
	listed "${t%%:*}" >/dev/null || tap_die "no test ${t%%:*}; run.sh -l lists them"
done

loaded=$(modules)
tap_start
# What isn't there, the programs that need it say.
modprobe -a -q tcm_loop iscsi_target_mod 2>/dev/null
[ ! -w /sys/kernel/debug/kmemleak ] || echo clear >/sys/kernel/debug/kmemleak
for t; do
	no_time_for "$t" && continue
	case $t in
	mkspecial_kunit) run_kunit ;;
	*:*) run_program "${t%%:*}" "${t#*:}" ;;
	*) run_program "$t" "" ;;
	esac
done
check_leaks
unload_modules "$loaded"
tap_end
