#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Data in place and a bad network: what is sent late, twice, out of order or
# not at all, acknowledgements too, and then a network that is gone for a while
# with I/O in flight; in frames of 1500 bytes. The blocks that data is sent from
# may not be used for other commands before it arrived: fio finds the data it
# wrote. At last the same with digests, which every byte has to be right for; data
# is copied then, as a handler that changes it would end the session.
. "$(dirname "$0")/lib.sh"

size=$((48 / slow))

netem() { tc qdisc replace dev lo root netem limit 10000 "$@"; }
no_netem() { tc qdisc del dev lo root; }
retransmitted() { awk '$1 == "Tcp:" && n++ { print $13 }' /proc/net/snmp; }
more_retransmitted() { [ "$(retransmitted)" -ge "$1" ]; }

verified() {
	fio --eta=never --name=net --filename="$disk" --direct=1 --ioengine=libaio --iodepth=16 \
		--size=${size}m --rw=randrw --rwmixread=50 --bssplit=4k/40:16k/20:64k/20:256k/10:1m/10 \
		--verify=crc32c --verify_fatal=1 --verify_backlog=32 --verify_state_save=0
}
serve() {
	# As most networks have it, and not that of the loopback interface.
	ip link set lo mtu 1500 &&
		truncate -s 64M "$WORK/image" &&
		backstore_create disk zcfile 64M "$WORK/image" zero_copy=1,hw_max_sectors=8192 &&
		iscsi_lun disk
}
in_place() {
	counters disk
	[ "$(counter disk inplace_bytes)" -ge $((size << 20)) ] && [ "$(counter disk mapped_bytes)" -eq 0 ]
}

# Since the counter of what is in place had this value
none_in_place() { [ "$(counter disk inplace_cmds)" -eq "$1" ]; }

lossy() {
	local before
	before=$(retransmitted)
	netem delay 2ms 2ms loss 1% duplicate 1% reorder 10% || return
	verified
	local status=$?
	no_netem
	[ $status -eq 0 ] || return
	more_retransmitted $((before + 1)) || complain "nothing was lost"
}
outage() {
	local status=0
	{
		until [ -e "$WORK/stop" ] || [ $status -ne 0 ]; do
			verified
			status=$?
		done
		echo $status >"$WORK/status"
	} >"$WORK/fio.out" 2>&1 &
	goes_on "$disk" && netem loss 100% &&
		wait_for 60 "data is sent again" more_retransmitted $(($(retransmitted) + 3)) &&
		no_netem && goes_on "$disk" || status=1
	no_netem 2>/dev/null
	touch "$WORK/stop"
	wait_for 120 "fio ends" test -s "$WORK/status" || return
	[ "$(cat "$WORK/status")" = 0 ] || complain "$(cat "$WORK/fio.out")" || return
	return $status
}

# node ARGS: iscsiadm on that of our disk
node() { iscsiadm -m node -T "$(iqn disk)" -p "$portal" "$@"; }
login_with_digests() {
	node --logout && for which in Header Data; do
		node -o update -n "node.conn[0].iscsi.${which}Digest" -v CRC32C || return
	done && node --login && wait_for 30 "the disk" scsi_disk iscsi disk 0 &&
		iscsiadm -m session -P 2 | grep 'DataDigest: CRC32C'
}
# 37 bytes are padded to 40.
padded() {
	local len
	sg_raw -o "$WORK/inquiry" -r 37 "$disk" 12 00 00 00 25 00 || return
	len=$(stat -c %s "$WORK/inquiry")
	[ "$len" -eq 37 ] || complain "$len bytes"
}

netem delay 1ms || skip_all "no netem in this kernel"
no_netem
mtu=$(cat /sys/class/net/lo/mtu)
check "tcmu-runner starts" runner_start || { plan; exit; }
if serve; then
	ok "a disk"
	check "a network that loses, delays and duplicates" lossy
	check "a network that is gone for a while" outage
	check "all of it was in place" in_place
	# Not by check: that would lose $disk.
	if login_with_digests >"$WORK/login" 2>&1; then
		ok "a session with digests"
		before=$(counter disk inplace_cmds)
		check "data with digests, and a bad network" lossy
		check "none of it was in place" none_in_place "$before"
		check "data of an odd length" padded
	else
		cat "$WORK/login" >&2
		not_ok "a session with digests"
	fi
else
	not_ok "a disk"
fi
no_netem 2>/dev/null
ip link set lo mtu "$mtu"
check "taken down" eval 'lun_remove disk && backstore_delete disk'
check "tcmu-runner ends" runner_stop
plan
