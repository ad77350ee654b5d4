#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What vm.sh makes of guests that fail in every way. Part of make test; needs
# the plain kernel and the guest image.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset KERNEL TIMEOUT MEM SMP DISK

# guest NAME STATUS PATTERN [OPTION...] COMMAND: PATTERN is in its output
guest() {
	local name=$1 want=$2 pattern=$3 status=0
	shift 3
	"$TOP/scripts/vm.sh" "$@" >"$work/log" 2>&1 </dev/null || status=$?
	if [ $status = "$want" ] && grep -qE "$pattern" "$work/log"; then
		ok "$name"
	else
		printf 'exit status %s, expected %s and: %s\n' "$status" "$want" "$pattern" >>"$work/log"
		not_ok "$name" "$work/log"
	fi
}
machines() { pgrep -f "qemu-system.*file=$work/disk," || :; }

truncate -s 1M "$work/disk"
guest "output and exit status are the command's; the project and the disk are there" 3 '^1048576$' \
	-d "$work/disk" 'cd /project/selftests && blockdev --getsize64 /dev/vdb >&2; exit 3'
guest "as many CPUs as were asked for" 0 '^3$' -c 3 nproc
guest "a time limit" 124 'did not end within 3 s' -t 3 -d "$work/disk" 'sleep 1000'
guest "a panic is shown" 125 'the guest died before the command ended' 'echo c >/proc/sysrq-trigger'
guest "a splat fails a command that succeeds" 125 'the kernel complained' \
	'echo "<4>WARNING: kernel/none.c:1 at nothing" >/dev/kmsg'

# A run that is killed takes its machine along.
"$TOP/scripts/vm.sh" -d "$work/disk" 'echo up; sleep 1000' >"$work/log" 2>&1 </dev/null &
run=$!
for _ in $(seq 300); do
	! grep -q up "$work/log" || break
	sleep 0.2
done
[ -n "$(machines)" ] || not_ok "the machine is found" "$work/log"
kill -KILL $run
wait $run 2>/dev/null || :
for _ in $(seq 50); do
	[ -n "$(machines)" ] || break
	sleep 0.2
done
machines >"$work/log"
result "no qemu stays behind when vm.sh is killed" "$work/log"

totals
