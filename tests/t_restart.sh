#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The daemon is restarted under load: fio writes and verifies four LUNs, over
# both fabrics, with zero copy and without, while the daemon is stopped and
# killed, also while it starts. All I/O goes on each time, and fio finds nothing
# wrong. A device that is still in use when it starts is waited for. Commands
# that time out as the daemon is stopped fail, what was acknowledged before
# stays. LUNs are removed with commands in flight, and with the daemon dead.
. "$(dirname "$0")/lib.sh"

# name: a disk; over iSCSI it is the second half of a LUN whose first half is
# in use over tcm_loop.
declare -A disks offsets=([loop1]=0 [loop0]=0 [iscsi1]=32m [iscsi0]=32m [short]=0)

image() { echo "$WORK/image-$1"; }
four_disks() {
	local n fabric
	truncate -s 64M "$(image zc1)" "$(image zc0)" || return
	luns_create "loop iscsi" <<-END || return
		zc1 zcfile 64M $(image zc1) zero_copy=1,hw_max_sectors=8192
		zc0 zcfile 64M $(image zc0) zero_copy=0,hw_max_sectors=8192
	END
	for n in 0 1; do
		for fabric in loop iscsi; do
			lun_disk $fabric zc$n && disks[$fabric$n]=$disk || return
		done
	done
}
short_disk() {
	truncate -s 64M "$(image short)" &&
		backstore_create short zcfile 64M "$(image short)" "zero_copy=$1,hw_max_sectors=8192" &&
		# Can't be changed any more when it is exported.
		echo 3 >"$(backstore short)/attrib/cmd_time_out" &&
		loop_lun short && disks=([short]=$disk)
}

# load NAME: again and again, until there is $WORK/stop; the last round is complete.
load() {
	local round=0
	rm -f "$WORK/status-$1"
	{
		while [ ! -e "$WORK/stop" ]; do
			round=$((round + 1))
			fio --name="$1" --filename="${disks[$1]}" --offset="${offsets[$1]}" \
				--size=$((16 / slow))m --rw=randwrite --bssplit=4k/60:16k/20:64k/15:256k/5 \
				--ioengine=libaio --direct=1 --iodepth=16 \
				--verify=crc32c --verify_fatal=1 --verify_backlog=64 --verify_backlog_batch=32 \
				--verify_state_save=0 --allow_file_create=0 --randseed=$((RANDOM + round)) \
				--output="$WORK/fio-$1" || break
		done 2>"$WORK/fio-$1.err"
		[ -e "$WORK/stop" ]
		echo $? >"$WORK/status-$1"
	} >/dev/null 2>&1 &
}
no_errors() {
	local lun
	for lun; do
		[ "$(cat "$WORK/status-$lun")" = 0 ] ||
			complain "$lun: $(cat "$WORK/fio-$lun.err")" "$(grep -E 'err=|verify' "$WORK/fio-$lun")" || return
		grep -q 'err= 0' "$WORK/fio-$lun" || complain "$lun: $(cat "$WORK/fio-$lun")" || return
	done
}

all_go_on() { goes_on "${disks[@]}"; }

# shellcheck disable=SC2119
restart() { "runner_$1" && runner_start && all_go_on; }
restarts() {
	local round
	for round in $(seq "$2"); do
		restart "$1" || complain "round $round" || return
	done
}

# Kill the new daemon at a point of its start-up.
logged() { grep -q "$1" "$RUNNER_LOG" 2>/dev/null; }
# shellcheck disable=SC2119
half_started() {
	runner_kill && runner_spawn && wait_for 60 "'$1' in the log" logged "$1" &&
		runner_kill && runner_start && all_go_on
}

# Somebody has the uio device of a LUN as the daemon starts.
busy_seen() { grep -q EBUSY "$WORK/strace" 2>/dev/null; }
uio_of() {
	local dir
	for dir in /sys/class/uio/uio*; do
		grep -q "^tcm-user/[0-9]*/$1/" "$dir/name" && echo "/dev/${dir##*/}" && return
	done
	complain "no uio device of $1"
}
# The kernel lets go of it only when all that was mapped is gone.
opened() { { exec 9<>"$1"; } 2>/dev/null; }
# shellcheck disable=SC2119
start_busy() {
	local device status=0
	device=$(uio_of zc1) && runner_kill || return
	wait_for 20 "$device is free" opened "$device" || return
	RUNNER_PREFIX=(strace -D -f --seccomp-bpf -qq -o "$WORK/strace" -e trace=openat)
	# The daemon must not have it from us.
	runner_spawn 9>&- && wait_for 60 "the daemon finds $device busy" busy_seen || status=1
	exec 9>&-
	[ $status -eq 0 ] && wait_for 60 "tcmu-runner is on the bus" owns_bus_name && all_go_on
}

served() {
	local name
	for name; do
		grep -q "^Status: ACTIVATED" "$(backstore "$name")/info" || return
	done
	! grep "could not open\|could not find handler" "$RUNNER_LOG"
}

# Four writers of numbered blocks on the short LUN, each in a region of its own,
# note which were acknowledged; check reads them. After an error a block may be
# the new one or the one before.
blocks() {
	cat >"$WORK/blocks.py" <<-'END'
		import mmap, os, random, sys
		mode, disk, notes = sys.argv[1:]
		size, count = 128 << 10, 100

		def block(worker, number):
		    return random.Random(f"{worker} {number}").randbytes(size)

		def offset(worker, number):
		    return (worker * count + number % count) * size

		def write(worker):
		    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
		    buffer = mmap.mmap(-1, size)
		    log = open(f"{notes}/{worker}", "w", buffering=1)
		    number = 0
		    while not os.path.exists(f"{notes}/stop"):
		        buffer[:] = block(worker, number)
		        try:
		            os.pwrite(fd, buffer, offset(worker, number))
		            log.write(f"{number} ok\n")
		        except OSError as error:
		            log.write(f"{number} {error}\n")
		        number += 1

		def check(worker):
		    may_be, bad, errors = {}, [], 0
		    for line in open(f"{notes}/{worker}"):
		        number, result = line.split(maxsplit=1)
		        number = int(number)
		        at = offset(worker, number)
		        if result == "ok\n":
		            may_be[at] = [number]
		        else:
		            may_be.setdefault(at, [None]).append(number)
		            errors += 1
		    fd = os.open(disk, os.O_RDONLY)
		    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
		    for at, numbers in may_be.items():
		        have = os.pread(fd, size, at)
		        if not any(n is None or block(worker, n) == have for n in numbers):
		            bad.append(numbers)
		    print(f"writer {worker}: {number + 1} blocks, {errors} errors, wrong: {bad or 'none'}")
		    return bad

		if mode == "check":
		    sys.exit(any([check(worker) for worker in range(4)]))
		for worker in range(4):
		    if not os.fork():
		        write(worker)
		        os._exit(0)
		sys.exit(any([os.wait()[1] for worker in range(4)]))
	END
	python3 "$WORK/blocks.py" "$1" "${disks[short]}" "$WORK/notes"
}
start_blocks() {
	rm -rf "$WORK/notes" "$WORK/blocks.status"
	mkdir "$WORK/notes"
	{
		blocks write
		echo $? >"$WORK/blocks.status"
	} >"$WORK/blocks.out" 2>&1 &
}
acknowledged() { echo $(($(grep -cs ' ok$' "$WORK/notes/$1"))); }
more_acknowledged() { [ "$(acknowledged "$1")" -ge "$2" ]; }
blocks_go_on() {
	local worker
	for worker in 0 1 2 3; do
		wait_for 60 "writer $worker goes on" more_acknowledged $worker \
			$(($(acknowledged $worker) + 20)) || return
	done
}
all_have_errors() { [ "$(grep -l Errno "$WORK"/notes/? | wc -l)" -eq 4 ]; }
# For longer than the commands' time, which is what the errors say.
stopped() {
	local pid
	pid=$(runner_pid) && blocks_go_on || return
	kill -STOP "$pid"
	wait_for 60 "commands time out" all_have_errors
	local status=$?
	kill -CONT "$pid"
	[ $status -eq 0 ] && blocks_go_on && [ "$(runner_pid)" = "$pid" ]
}
blocks_are_right() {
	touch "$WORK/notes/stop"
	wait_for 60 "the writers end" test -s "$WORK/blocks.status" || return
	[ "$(cat "$WORK/blocks.status")" -eq 0 ] || complain "$(cat "$WORK/blocks.out")" || return
	blocks check
}

nothing_left() { [ -z "$(objects)" ]; }
cleared_dead() {
	goes_on "${disks[short]}" && runner_kill && tcli clearconfig confirm=True && nothing_left
}

check "tcmu-runner starts" runner_start || { plan; exit; }
# Not by check: that would lose $disks in a subshell.
if four_disks; then
	ok "four disks"
else
	not_ok "four disks"
	plan
	exit
fi
for name in "${!disks[@]}"; do load "$name"; done
check "all disks are busy" all_go_on
check "restarts by SIGTERM" restarts stop 1
check "restarts by SIGKILL" restarts kill 2
check "killed as it starts" half_started Starting
check "killed as it opens its devices" half_started "zero copy is"
check "all devices are served" served zc1 zc0
check "a device that is busy is waited for" start_busy
check "the loads end" loads_end "${!disks[@]}"
check "without an error, and with the data they wrote" no_errors "${!disks[@]}"
check "data was not copied" test "$(uncopied zc1 bytes)" -gt $((4 << 20))
check "but with zero_copy=0" test "$(uncopied zc0 bytes)" -eq 0

rm "$WORK/stop"
for name in "${!disks[@]}"; do load "$name"; done
check "all disks are busy again" all_go_on
check "LUNs are removed under load" lun_remove luns
check "their loads end" loads_end "${!disks[@]}"
check "backstores are removed" eval 'backstore_delete zc1 && backstore_delete zc0'
check "the daemon is alive" runner_pid

for zero_copy in 1 0; do
	name="zero_copy=$zero_copy"
	if short_disk $zero_copy; then
		ok "$name: a disk with a command time-out of 3 s"
	else
		not_ok "$name: a disk with a command time-out of 3 s"
		continue
	fi
	start_blocks
	check "$name: goes on after commands timed out" stopped
	check "$name: what was acknowledged is there" blocks_are_right
	rm -f "$WORK/stop"
	load short
	check "$name: clearconfig under load, without a daemon" cleared_dead
	check "$name: the load ends" loads_end short
	check "$name: another daemon" runner_start
done
check "tcmu-runner ends" runner_stop
plan
