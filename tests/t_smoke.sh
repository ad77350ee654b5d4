#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Both fabrics, with Debian's tcmu-runner and its qcow handler, unmodified:
# what is written by large direct I/O comes back, and the counters say that it
# was mapped or in place with zero_copy=1, and copied with zero_copy=0.
. "$(dirname "$0")/lib.sh"

mib=16
bytes=$((mib << 20))

writes() { dd if="$WORK/pattern" of="$disk" bs=1M oflag=direct; }
reads_back() {
	dd if="$disk" of="$WORK/read" bs=1M count=$mib iflag=direct && cmp "$WORK/pattern" "$WORK/read"
}
# That of tcm_loop is mapped, that of iSCSI in place. A command of less than a
# MiB was split on the way.
not_copied() {
	local how=mapped
	[ "$1" = loop ] || how=inplace
	counters disk
	[ "$(counter disk ${how}_bytes)" -ge $((2 * bytes)) ] &&
		[ "$(counter disk ${how}_cmds)" -lt $((4 * mib)) ]
}
copied() {
	counters disk
	[ "$(counter disk mapped_bytes)" -eq 0 ] && [ "$(counter disk inplace_bytes)" -eq 0 ]
}

serve() {
	qcow_create "$WORK/image" 64 &&
		backstore_create disk qcow 64M "$WORK/image" "zero_copy=$1,hw_max_sectors=8192" &&
		"$2_lun" disk
}

unserve() { lun_remove disk && backstore_delete disk; }

dd if=/dev/urandom of="$WORK/pattern" bs=1M count=$mib status=none
check "tcmu-runner starts" runner_start stock || { plan; exit; }
for fabric in loop iscsi; do
	for zero_copy in 1 0; do
		name="$fabric, zero_copy=$zero_copy"
		# Not by check: that would lose $disk in a subshell.
		if serve $zero_copy $fabric; then
			ok "$name: a disk"
			check "$name: write" writes
			check "$name: read and compare" reads_back
			if [ $zero_copy = 1 ]; then
				check "$name: not copied" not_copied "$fabric"
			else
				check "$name: copied" copied
			fi
		else
			not_ok "$name: a disk"
		fi
		check "$name: taken down" unserve
	done
done
check "tcmu-runner ends" runner_stop
plan
