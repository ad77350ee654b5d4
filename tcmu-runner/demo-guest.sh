#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of the demonstration: file systems on LUNs of tcmu-runner's
# zcfile handler, over tcm_loop and over iSCSI, each without and with zero copy.
# Real files are copied to each, read back and compared.
# SRC_DEV is a disk with an ext4 file system that holds the files.
. "$(dirname "$0")/tests/lib.sh"

set -u
SRC_DEV=${SRC_DEV:-/dev/vdb}
SIZE=${SIZE:-768M}
src=$WORK/src lun=$WORK/lun
row='%-9s %9s %9s %11s %9s %11s %7s %8s %8s %9s\n'
failed=0

die() {
	echo "demo: $*" >&2
	tail -n 20 "$WORK/targetcli.out" "$WORK/iscsiadm.out" "$RUNNER_LOG" 2>/dev/null
	exit 1
}
fail() {
	echo "demo: $*" >&2
	failed=1
}

clean_up() {
	local status=$?
	umount "$lun" "$src" 2>/dev/null
	cleanup || status=1
	exit $status
}

# BLAKE2b: cryptographic, and the least work for an emulated CPU.
checksums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 b2sum); }
now() { date +%s%N; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'; }
mib() { awk -v v="$1" 'BEGIN { printf "%.0f", v / 1048576 }'; }

# Everything at once: starting targetcli takes seconds.
configure() {
	local zc name
	echo "set global auto_add_default_portal=false auto_save_on_exit=false"
	for zc in 0 1; do
		for name in tcm_loop$zc iscsi$zc; do
			echo "/backstores/user:zcfile create name=$name size=$SIZE cfgstring=$WORK/$name control=zero_copy=$zc,hw_max_sectors=8192"
		done
		name=tcm_loop$zc
		echo "/loopback create $(naa $name)"
		echo "/loopback/$(naa $name)/luns create /backstores/user:zcfile/$name"
		name=iscsi$zc
		echo "/iscsi create $(iqn $name)"
		echo "/iscsi/$(iqn $name)/tpg1/portals create ${portal%:*} ${portal#*:}"
		echo "/iscsi/$(iqn $name)/tpg1/luns create /backstores/user:zcfile/$name"
		echo "/iscsi/$(iqn $name)/tpg1/acls create $initiator"
	done
}

log_in() {
	start_iscsid && iscsiadm -m discovery -t sendtargets -p "$portal" &&
		iscsiadm -m node --login
}

# Leaves the LUN's device in $disk.
wait_for_disk() {
	case $1 in
	tcm_loop) wait_for 30 "a disk over tcm_loop" find_disk "/sys/class/scsi_device/$(
		cat "$target/loopback/$(naa "$1$2")/tpgt_1/address"):0/device/block/*" ;;
	iscsi) wait_for 30 "a disk over iSCSI" iscsi_session_disk "$(iqn "$1$2")" ;;
	esac
}

one_row() {
	local fabric=$1 zc=$2 name=$1$2 t0 t1 t2 t3 mapped in_place missed file
	local -A count=()

	wait_for_disk "$fabric" "$zc" || die "no disk for $name"
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$disk" || die "mkfs failed"
	mount "$disk" "$lun" || die "can't mount the disk"
	echo 3 >/proc/sys/vm/drop_caches
	t0=$(now)
	cp -a "$src/." "$lun/" || die "copying failed"
	sync
	t1=$(now)
	echo 3 >/proc/sys/vm/drop_caches
	t2=$(now)
	checksums "$lun" >"$WORK/lun.sum"
	t3=$(now)
	umount "$lun" || die "can't unmount"

	for file in "$(backstore "$name")"/attrib/zc_*; do
		count[${file##*/zc_}]=$(cat "$file")
	done
	mapped=${count[mapped_bytes]} in_place=${count[inplace_bytes]:-0} missed=${count[missed_bytes]}
	# shellcheck disable=SC2059
	printf "$row" "$fabric" "$zc" $((count[mapped_cmds] + ${count[inplace_cmds]:-0} + count[copied_cmds])) \
		"$(mib "$mapped")" "$(mib "$in_place")" "$(mib "${count[copied_bytes]}")" "${count[faults]}" \
		"${count[unmaps]}" "$(seconds "$t0" "$t1")" "$(seconds "$t2" "$t3")" >>"$WORK/table"

	if ! cmp -s "$WORK/src.sum" "$WORK/lun.sum"; then
		fail "$fabric, zero_copy=$zc: checksums differ:"
		diff "$WORK/src.sum" "$WORK/lun.sum" | head >&2
	fi
	# Gives the space back.
	blkdiscard -fq "$disk" || fail "$fabric, zero_copy=$zc: can't discard the disk"

	# A network fabric's data can be in the data area from the start.
	mapped=$((mapped + in_place))
	if [ "$zc" = 0 ]; then
		copied_off=${count[copied_bytes]}
		[ "$mapped" -eq 0 ] || fail "$fabric: $mapped bytes were not copied with zero_copy=0"
		return
	fi
	[ "$mapped" -gt 0 ] || { fail "$fabric: everything was copied with zero_copy=1"; return; }
	# Of the commands at or above the threshold, and all in place.
	percent=$(awk -v a="$mapped" -v b="$missed" 'BEGIN { printf "%.1f", 100 * a / (a + b) }')
	[ $((mapped * 10)) -ge $(((mapped + missed) * 9)) ] ||
		fail "$fabric: only $percent % of the bytes at or above the threshold were mapped or in place"
	cat >>"$WORK/summary" <<-END
		$fabric: the kernel copied $(mib "${count[copied_bytes]}") MiB instead of $(mib "$copied_off"); $percent % of the data that could be
		  mapped (commands of $(attrib "$name" zero_copy_min_bytes) bytes or more) or in place was. Copied: ${count[fallback_small]} smaller,
		  ${count[fallback_cdb]} not of a READ or WRITE, ${count[fallback_layout]} with partial pages, ${count[fallback_page]} with pages that can't be
		  mapped, ${count[fallback_space]} for lack of room.
	END
}

trap clean_up EXIT
mkdir -p "$src" "$lun"
mount -o ro "$SRC_DEV" "$src" || die "can't mount $SRC_DEV"
files=$(find "$src" -type f | wc -l)
echo "Kernel $(uname -r), $files files, $(du -sm "$src" | cut -f 1) MiB. Checksums of the originals ..."
checksums "$src" >"$WORK/src.sum"
[ -s "$WORK/src.sum" ] || die "no files on $SRC_DEV"

echo "tcmu-runner, its handler zcfile, and four LUNs ..."
# shellcheck disable=SC2119
runner_start || die "no tcmu-runner"
truncate -s "$SIZE" "$WORK"/{tcm_loop,iscsi}{0,1}
configure >"$WORK/commands"
tcli <"$WORK/commands" >"$WORK/targetcli.out" 2>&1
log_in >"$WORK/iscsiadm.out" 2>&1 || die "can't log in"

# shellcheck disable=SC2059
printf "$row" fabric zero_copy commands "MiB mapped" "in place" "MiB copied" faults flushes \
	"write s" "verify s" >"$WORK/table"
for fabric in tcm_loop iscsi; do
	for zc in 0 1; do
		echo "$fabric, zero_copy=$zc: copy, sync, drop caches, read and compare ..."
		one_row $fabric $zc
	done
done
echo
cat "$WORK/table"
echo
[ $failed -eq 0 ] || die "failed"
echo "All $files files came back four times with the checksums they had. With zero_copy=1,"
cat "$WORK/summary"
