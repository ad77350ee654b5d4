#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of the benchmark: makes all devices, then measures the cells
# that stdin has, all contenders of a cell one after the other, ROUNDS times.
#   guest.sh DIR ROUNDS     programs are in DIR: load, tcmu_handler, kublk
# A cell is: FABRIC CONTENDER TARGET THREADS randread|randwrite BYTES DEPTH JOBS
# Prints progress, and lines for the host to keep: "@raw" and "@info".
# LOAD_MS, WARM_MS: how long a run is, and its warm-up.
. "$(dirname "$0")/../tests/lib.sh"

set -u
bin=$1 rounds=$2
core=$target/core
tpg=$target/iscsi/$(iqn bench)/tpgt_1
size=$((64 << 20))
huge=/dev/huge
start=$SECONDS
declare -A disks=() tcmu=()

say() { echo "bench: $*"; }
die() {
	echo "bench: $*" >&2
	exit 1
}
# bounded SECONDS COMMAND...: or it is over
bounded() { wait_for "$1" "${*:2}" "${@:2}" || exit; }

# --- the devices
# tcmu NAME TARGET ZERO_COPY THREADS: and its LUN of tcm_loop
tcmu() {
	local log=/run/$1.log
	# cmd_time_out: a run on a slow machine is not to be cut.
	"$bin/tcmu_handler" --name "$1" --target "$2" --zero-copy "$3" --threads "$4" \
		--size $size --min-bytes 4096 --area-mb 128 --time-out 0 >"$log" 2>&1 &
	bounded 60 grep -q . "$log"
	read -r _ "disks[loop.$1]" _ < <(cat "$log")
	[[ ${disks[loop.$1]} = /dev/* ]] || die "$1: $(cat "$log")"
	tcmu[$1]=$core/user_0/$1
	add_iscsi_lun "$1" "$core/user_0/$1"
}

luns=0
declare -A lun_of=()
add_iscsi_lun() {
	mkdir "$tpg/lun/lun_$luns"
	ln -s "$2" "$tpg/lun/lun_$luns/bench"
	lun_of[$1]=$luns
	luns=$((luns + 1))
}

# The target core's own memory, which is not even read: what the fabric costs.
ramdisk() {
	local tpg
	tpg=$target/loopback/$(naa rd)/tpgt_1
	mkdir -p "$core/rd_mcp_0/rd"
	echo "rd_pages=$((size / 4096)),rd_nullio=1" >"$core/rd_mcp_0/rd/control"
	echo 1 >"$core/rd_mcp_0/rd/enable"
	mkdir -p "$tpg"
	naa initiator >"$tpg/nexus"
	mkdir "$tpg/lun/lun_0"
	ln -s "$core/rd_mcp_0/rd" "$tpg/lun/lun_0/bench"
	bounded 30 scsi_disk loop rd 0
	disks[loop.rd]=$disk
	add_iscsi_lun rd "$core/rd_mcp_0/rd"
}

# Both ends as they come, but for the initiator's queue, which is to be longer
# than the longest one here.
iscsi_target() {
	mkdir -p "$tpg/np/$portal"
	for setting in authentication=0 generate_node_acls=1 demo_mode_write_protect=0 cache_dynamic_acls=1; do
		echo "${setting#*=}" >"$tpg/attrib/${setting%=*}"
	done
}
# The LUNs are in the session once there is a connection.
iscsi_disks() {
	local name
	echo 1 >"$tpg/enable"
	sed -i 's/^node.session.queue_depth.*/node.session.queue_depth = 128/' /etc/iscsi/iscsid.conf
	iscsi_login bench || die "no iSCSI session"
	for name in "${!lun_of[@]}"; do
		bounded 60 scsi_disk iscsi bench "${lun_of[$name]}"
		disks[iscsi.$name]=$disk
	done
}

# ublk NAME ID QUEUES FLAGS...
ublk() {
	local name=$1 id=$2 queues=$3
	shift 3
	"$bin/kublk" add -t null -n "$id" -q "$queues" -d 128 "$@" >"/run/$name.log" 2>&1 ||
		die "kublk $*: $(cat "/run/$name.log")"
	bounded 20 test -b "/dev/ublkb$id"
	disks[$name]=/dev/ublkb$id
}

# One request of the benchmark is one of the device, where that can be.
set_queue() {
	local queue=/sys/block/${1#/dev/}/queue
	echo none >"$queue/scheduler"
	echo 2 >"$queue/nomerges"
	cat "$queue/max_hw_sectors_kb" >"$queue/max_sectors_kb" 2>/dev/null
}

make_devices() {
	local handler threads name id=0

	iscsi_target
	say "the devices of rd_mcp and tcmu"
	ramdisk
	for handler in $handlers; do
		for threads in $thread_counts; do
			tcmu "$handler$threads-copy" "$handler" 0 "$threads"
			tcmu "$handler$threads-zc" "$handler" 1 "$threads"
		done
	done
	say "the iSCSI session"
	iscsi_disks
	disks[null_blk]=/dev/nullb0
	if [ -e /dev/ublk-control ] && [ -x "$bin/kublk" ]; then
		say "the devices of ublk"
		echo 72 >/proc/sys/vm/nr_hugepages
		{ mkdir $huge && mount -t hugetlbfs none $huge; } || die "no hugetlbfs"
		fallocate -l 128M $huge/buffers || die "no huge pages"
		for threads in $thread_counts; do
			# kublk has a thread for each queue.
			name=$((threads > 0 ? threads : 1))
			ublk "ublk$threads-copy" $((id++)) $name
			ublk "ublk$threads-u" $((id++)) $name -u
			ublk "ublk$threads-z" $((id++)) $name -z
			ublk "ublk$threads-auto_zc" $((id++)) $name --auto_zc
			ublk "ublk$threads-shmem_zc" $((id++)) $name --shmem_zc --htlb $huge/buffers
		done
	fi
	for name in "${disks[@]}"; do set_queue "$name"; done
	# Memory that the first one to touch it would have to wait for.
	for name in "${!disks[@]}"; do
		[[ $name != loop.ram* ]] || dd if=/dev/zero of="${disks[$name]}" bs=1M count=$((size >> 20)) oflag=direct status=none ||
			die "$name can't be written"
	done
}

# What the limits of the devices are, for the report.
describe() {
	local name queue
	echo "kernel $(uname -r), $(nproc) CPUs, $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB"
	for name in "${!disks[@]}"; do
		queue=/sys/block/${disks[$name]#/dev/}/queue
		echo "$name max_sectors_kb $(cat "$queue/max_sectors_kb") max_segments $(cat "$queue/max_segments") max_segment_size $(cat "$queue/max_segment_size")"
	done | sort
}

# --- the runs
# CONTENDER=copy|mapped|inplace|rd|... of FABRIC: leaves $device, and $zc, the
# tcmu device, if it is one. Fails if the kernel doesn't have it.
choose() {
	local fabric=$1 contender=$2 handler=$3 threads=$4
	zc='' device='' extra=()
	case $fabric.$contender in
	loop.rd | iscsi.rd) device=${disks[$fabric.rd]} ;;
	loop.copy | iscsi.copy) zc=$handler$threads-copy ;;
	loop.mapped) zc=$handler$threads-zc ;;
	iscsi.mapped | iscsi.inplace)
		zc=$handler$threads-zc
		if [ -e "${tcmu[$zc]}/attrib/zero_copy_in_place" ]; then
			case $contender in
			mapped) echo 0 ;;
			inplace) echo 1 ;;
			esac >"${tcmu[$zc]}/attrib/zero_copy_in_place"
		elif [ "$contender" = inplace ]; then
			return 1
		fi
		;;
	ublk.*)
		device=${disks[ublk$threads-$contender]:-}
		[ "$contender" != shmem_zc ] || extra=(-m "$huge/buffers")
		;;
	none.null_blk) device=${disks[null_blk]} ;;
	esac
	[ -z "$zc" ] || { device=${disks[$fabric.$zc]} extra=(-a "${tcmu[$zc]}/statistics/tcmu"); }
	[ -n "$device" ]
}

run() {
	local rw=$5 bs=$6 qd=$7 jobs=$8 write=() result
	choose "$1" "$2" "$3" "$4" || {
		missing["$1 $2"]=1
		return 0
	}
	[ "$rw" = randread ] || write=(-w)
	result=$("$bin/load" -f "$device" "${write[@]}" -b "$bs" -q "$qd" -j "$jobs" -s $size \
		-t "${LOAD_MS:-400}" -W "${WARM_MS:-100}" "${extra[@]}" 2>/run/load.log) ||
		die "$*: $(cat /run/load.log)"
	printf '@raw %s' "$round"
	printf '\t%s' "$@" "$result"
	echo
}

progress() {
	local elapsed=$((SECONDS - begun))
	[ $SECONDS -ge $((last + 10)) ] || return 0
	last=$SECONDS
	say "$done_runs of $total runs, round $round of $rounds, $elapsed s, about $((elapsed * (total - done_runs) / done_runs)) s to go (now: $*)"
}

declare -A missing=()
mapfile -t cells
handlers=$(printf '%s\n' "${cells[@]}" | awk '$2 != "rd" && ($1 == "loop" || $1 == "iscsi") { print $3 }' | sort -u)
thread_counts=$(printf '%s\n' "${cells[@]}" | awk '{ print $4 }' | sort -un)
make_devices
describe | sed 's/^/@info /'
say "all devices are there after $((SECONDS - start)) s"

total=$((${#cells[@]} * rounds)) done_runs=0 begun=$SECONDS last=$SECONDS
printf '@raw round\tfabric\tcontender\ttarget\tthreads\trw\tbs\tqd\tjobs\t%s\n' "$("$bin/load" -c)"
for ((round = 1; round <= rounds; round++)); do
	for cell in "${cells[@]}"; do
		# shellcheck disable=SC2086
		run $cell
		done_runs=$((done_runs + 1))
		progress "$cell"
	done
done
for cell in "${!missing[@]}"; do echo "@info not in this kernel: $cell"; done
say "$total runs in $((SECONDS - begun)) s"
