#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Why reading files is slower or faster when commands are mapped: reads and sums
# up the same files on two LUNs of zcfile over tcm_loop, one that copies and one
# that maps, in turns, under one condition after the other. In the guest:
#   make vm DISK=build/demo/data-....ext4 CMD='bench/verify.sh'
# ROUNDS: how often each (3). CONDITIONS: which of
#   disk     their files are on a disk, as in the demo
#   memory   their files are in memory, as in those that follow
#   one-cpu  all threads of tcmu-runner on one CPU: nobody to interrupt
#   small    zero_copy_min_bytes so high that everything is copied
#   large    reading 1 MiB ahead instead of 128 KiB
. "$(dirname "$0")/../tests/lib.sh"

set -u
rounds=${ROUNDS:-3}
src=$WORK/src lun=$WORK/lun memory=/dev/shm/verify
declare -A disks=()

die() {
	echo "verify: $*" >&2
	exit 1
}
file_of() { case $1 in disk-*) echo "$WORK/$1" ;; *) echo "$memory/$1" ;; esac; }

serve() {
	local name zero_copy
	for name in disk-copy disk-map memory-copy memory-map; do
		truncate -s 400M "$(file_of "$name")"
		zero_copy=0
		[[ $name != *-map ]] || zero_copy=1
		echo "/backstores/user:zcfile create name=$name size=400M cfgstring=$(file_of "$name") control=zero_copy=$zero_copy,hw_max_sectors=8192"
		say_loop "$name" "user:zcfile/$name"
	done | tcli >"$WORK/targetcli.out" 2>&1
	for name in disk-copy disk-map memory-copy memory-map; do
		wait_for 30 "a disk for $name" scsi_disk loop "$name" 0 || return
		disks[$name]=$disk
		mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$disk" && mount "$disk" "$lun" &&
			cp -a "$src/drivers" "$lun/" && umount "$lun" || return
	done
}

# One value each: milliseconds, ticks of user space and of the kernel and idle,
# commands mapped and copied, PTEs set, TLB flushes, shootdown IPIs.
numbers() {
	awk '{ print int($1 * 1000) }' /proc/uptime
	awk '/^cpu / { print $2, $4 + $7 + $8, $5 + $6 }' /proc/stat
	for which in mapped_cmds copied_cmds pages unmaps; do counter "$1" $which; done
	awk '/^ *TLB:/ { print $2 + $3 }' /proc/interrupts
}
columns='%-9s %-5s %7s %6s %6s %6s %7s %7s %7s %8s %6s\n'
measure() {
	local name=$2-$3 before after i
	mount -o noatime "${disks[$name]}" "$lun" || die "can't mount $name"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	mapfile -t before < <(numbers "$name" | tr ' ' '\n')
	(cd "$lun" && find . -type f -print0 | sort -z | xargs -0 b2sum) >"$WORK/sums"
	mapfile -t after < <(numbers "$name" | tr ' ' '\n')
	umount "$lun"
	cmp -s "$WORK/sums" "$WORK/sums.src" || die "$name: checksums differ"
	for i in "${!before[@]}"; do after[i]=$((after[i] - before[i])); done
	# shellcheck disable=SC2059
	printf "$columns" "$1" "$3" "${after[@]}"
}
# condition NAME FILES: both LUNs, who is first taking turns
condition() {
	local round
	for ((round = 0; round < rounds; round++)); do
		if ((round % 2)); then
			measure "$1" "$2" map
			measure "$1" "$2" copy
		else
			measure "$1" "$2" copy
			measure "$1" "$2" map
		fi
	done
}

trap 'umount "$lun" "$src" 2>/dev/null; rm -rf "$memory"; cleanup' EXIT
mkdir -p "$src" "$lun" "$memory"
mount -o ro /dev/vdb "$src" || die "no disk with files; give DISK="
(cd "$src" && find drivers -type f -print0 | sed -z 's,^,./,' | sort -z | xargs -0 b2sum) >"$WORK/sums.src"
# shellcheck disable=SC2119
runner_start || die "no tcmu-runner"
serve || die "no LUNs: $(cat "$WORK/targetcli.out")"

# shellcheck disable=SC2059
printf "$columns" condition LUN ms user kernel idle mapped copied PTEs flushes IPIs
for condition in ${CONDITIONS:-disk memory one-cpu small large}; do
	case $condition in
	disk | memory) condition "$condition" "$condition" ;;
	one-cpu)
		taskset -acp 0 "$(runner_pid)" >/dev/null || die "taskset failed"
		condition one-cpu memory
		taskset -acp "0-$(($(nproc) - 1))" "$(runner_pid)" >/dev/null
		;;
	small)
		echo $((1 << 30)) >"$(backstore memory-map)/attrib/zero_copy_min_bytes"
		condition small memory
		echo 65536 >"$(backstore memory-map)/attrib/zero_copy_min_bytes"
		;;
	large)
		for name in copy map; do echo 1024 >"/sys/block/${disks[memory-$name]#/dev/}/queue/read_ahead_kb"; done
		condition large memory
		;;
	*) die "$condition is none of the conditions" ;;
	esac
done
