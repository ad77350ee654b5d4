#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Three LUNs: mapped (in place over iSCSI), in place, and copied. Each is a disk
# over tcm_loop and another one over iSCSI, so there are six disks. fio
# writes and verifies all of them while faults are injected, chosen at random.
# After each fault, I/O must go on on every disk. make soak runs it:
#   SOAK_SECONDS=n   for how long (300)
#   SEED=n           for the order of the faults, and for fio (random); it is printed
# The same seed gives the same order, but not the same timing.
. "$(dirname "$0")/lib.sh"

duration=${SOAK_SECONDS:-300}
seed=${SEED:-$(od -An -N 2 -t u2 /dev/urandom | tr -d ' ')}
RANDOM=$seed
declare -A disks offsets count
luns=(mapped inplace copied)

image() { echo "$WORK/image-$1"; }
six_disks() {
	local name fabric
	for name in "${luns[@]}"; do
		truncate -s 64M "$(image "$name")" || return
	done
	# A small data area is full now and then.
	luns_create "loop iscsi" <<-END || return
		mapped zcfile 64M $(image mapped) zero_copy=1,hw_max_sectors=8192
		inplace zcfile 64M $(image inplace) zero_copy_in_place=1,hw_max_sectors=8192,max_data_area_mb=8
		copied zcfile 64M $(image copied) zero_copy=0,hw_max_sectors=8192,max_data_area_mb=8
	END
	for name in "${luns[@]}"; do
		for fabric in loop iscsi; do
			lun_disk $fabric "$name" && disks[$fabric-$name]=$disk || return
			offsets[$fabric-$name]=0
		done
		# The two disks of a LUN share it.
		offsets[iscsi-$name]=32m
	done
}

# load NAME SEED: runs fio again and again, until $WORK/stop exists; it finishes
# the last round.
load() {
	local round=0
	{
		while [ ! -e "$WORK/stop" ]; do
			round=$((round + 1))
			fio --name="$1" --filename="${disks[$1]}" --offset="${offsets[$1]}" \
				--size=32m --io_size=8m --rw=randwrite \
				--bssplit=512/40:4k/40:16k/10:64k/6:256k/3:1m/1 \
				--ioengine=libaio --direct=1 --iodepth=16 \
				--verify=crc32c --verify_fatal=1 --verify_backlog=128 \
				--verify_state_save=0 --allow_file_create=0 --randseed=$(($2 * 1000 + round)) \
				--output-format=json --output="$WORK/fio-$1" || break
			verified "$WORK/fio-$1" >>"$WORK/verified"
		done 2>"$WORK/fio-$1.err"
		[ -e "$WORK/stop" ]
		echo $? >"$WORK/status-$1"
	} >/dev/null 2>&1 &
}
# Prints how many reads fio has verified: it compares all that it reads with what
# it wrote.
verified() {
	python3 - "$1" <<-'END'
		import json, sys
		text = open(sys.argv[1]).read()
		job = json.loads(text[text.index("{"):])["jobs"][0]
		print(job["read"]["total_ios"] if not job["error"] else 0)
	END
}
so_far() { awk '{ n += $1 } END { print n + 0 }' "$WORK/verified" 2>/dev/null || echo 0; }
no_errors() {
	local name status=0
	for name in "${!disks[@]}"; do
		[ "$(cat "$WORK/status-$name")" = 0 ] && continue
		complain "$name: $(cat "$WORK/fio-$name.err")" "$(grep -v '^[ {}]' "$WORK/fio-$name" | head -n 10)"
		status=1
	done
	return $status
}

# Leaves one of its arguments in $picked. It doesn't print it, as RANDOM doesn't
# advance in a $() subshell.
pick() {
	shift $((RANDOM % $#))
	picked=$1
}
pick_disk() {
	pick "${luns[@]}"
	picked=${disks[$1-$picked]}
}
set_attrib() { echo "$3" >"$(backstore "$1")/attrib/$2"; }

# The faults; the disks must survive each of them without an error.
daemon_stopped() {
	local pid
	pid=$(runner_pid) || return
	kill -STOP "$pid"
	sleep $((RANDOM % 3)).$((RANDOM % 10))
	kill -CONT "$pid"
}
# shellcheck disable=SC2119
daemon_killed() { runner_kill && runner_start; }
# shellcheck disable=SC2119
daemon_restarted() { runner_stop && runner_start; }
mapping_switched() { set_attrib mapped zero_copy_mapped $((RANDOM % 2)); }
in_place_switched() { pick mapped inplace; set_attrib "$picked" zero_copy_in_place $((RANDOM % 2)); }
min_bytes_changed() { pick 4096 65536 1048576; set_attrib mapped zero_copy_min_bytes "$picked"; }
lun_reset() { pick loop iscsi; pick_disk "$picked"; sg_reset --device "$picked"; }
session_reset() { pick_disk iscsi; sg_reset --target "$picked"; }
device_blocked() {
	local action
	pick "${luns[@]}"
	action=$(backstore "$picked")/action || return
	echo 1 >"$action/block_dev"
	sleep 0.$((RANDOM % 10))
	echo 0 >"$action/block_dev"
}
caches_dropped() {
	echo 3 >/proc/sys/vm/drop_caches
	[ ! -e /proc/sys/vm/compact_memory ] || echo 1 >/proc/sys/vm/compact_memory
}
blocks_reclaimed() {
	local file=/sys/module/target_core_user/parameters/global_max_data_area_mb before
	before=$(cat $file) && echo 1 >$file && sleep 0.$((RANDOM % 10)) && echo "$before" >$file
}
cpu_gone() {
	local cpu=/sys/devices/system/cpu/cpu1/online
	echo 0 >$cpu && sleep 0.$((RANDOM % 10)) && echo 1 >$cpu
}
faults=(daemon_stopped daemon_killed daemon_restarted mapping_switched in_place_switched
	min_bytes_changed lun_reset session_reset device_blocked caches_dropped blocks_reclaimed)
[ ! -e /sys/devices/system/cpu/cpu1/online ] || faults+=(cpu_gone)

injected() {
	local name
	for name in "${faults[@]}"; do printf '%s %s, ' "${count[$name]:-0}" "$name"; done | sed 's/, $//'
}

# Injects faults until the time is up, or until I/O on a disk stops.
soak() {
	local end=$((SECONDS + duration)) told=$SECONDS fault n=0
	while [ $SECONDS -lt $end ]; do
		pick "${faults[@]}"
		fault=$picked
		n=$((n + 1))
		"$fault" >"$WORK/fault" 2>&1 || complain "fault $n, $fault: $(cat "$WORK/fault")" || return
		count[$fault]=$((${count[$fault]:-0} + 1))
		goes_on "${disks[@]}" || complain "after fault $n, $fault" || return
		[ $SECONDS -lt $((told + 20)) ] ||
			{ told=$SECONDS; echo "# $((end - SECONDS)) s left, $n faults, $(so_far) I/Os verified"; }
	done
}

echo "# SEED=$seed SOAK_SECONDS=$duration"
check "tcmu-runner starts" runner_start || { plan; exit; }
if six_disks; then
	ok "six disks"
else
	not_ok "six disks"
	plan
	exit
fi
rm -f "$WORK/stop" "$WORK/verified" "$WORK"/status-*
n=0
for name in "${!disks[@]}"; do load "$name" $((seed * 10 + (n += 1))); done
if soak; then ok "I/O goes on after each fault"; else not_ok "I/O goes on after each fault"; fi
check "the loads end" loads_end "${!disks[@]}"
check "without an error, and with the data they wrote" no_errors
check "some commands were mapped" test "$(counter mapped mapped_cmds)" -gt 0
check "some commands were in place" test "$(counter inplace inplace_cmds)" -gt 0
check "all commands were copied where zero copy is off" test "$(uncopied copied cmds)" -eq 0
for name in "${luns[@]}"; do counters "$name" | sed -n "s,^\./\(.*\):\([1-9].*\),# $name: \1 \2,p"; done
echo "# faults: $(injected)"
echo "# SEED=$seed: $(so_far) I/Os verified in $duration s, with ${#faults[@]} kinds of faults"
plan
