#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of the demonstration: file systems on LUNs of tcmu-runner's
# zcfile handler, over tcm_loop and over iSCSI, without zero copy, with pages
# mapped, and, where a fabric has no memory of its own, with data in place.
# Real files are copied to each, read back and compared.
# SRC_DEV is a disk with an ext4 file system that holds the files.
. "$(dirname "$0")/../tests/lib.sh"

set -u
SRC_DEV=${SRC_DEV:-/dev/vdb}
SIZE=${SIZE:-768M}
src=$WORK/src lun=$WORK/lun
row='%-9s %-9s %9s %11s %9s %11s %7s %8s %8s %9s\n'
# shellcheck disable=SC2054 # the commas are part of the values
declare -A control=([off]=zero_copy=0 [mapped]=zero_copy=1,zero_copy_in_place=0 [inplace]=zero_copy=1)
declare -A fabrics=([loop]=tcm_loop [iscsi]=iSCSI)
runs=(loop-off loop-mapped iscsi-off iscsi-mapped iscsi-inplace)
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
	local name
	for name in "${runs[@]}"; do
		echo "/backstores/user:zcfile create name=$name size=$SIZE cfgstring=$WORK/$name control=${control[${name#*-}]},hw_max_sectors=8192"
		"say_${name%-*}" "$name" "user:zcfile/$name"
	done
}

one_row() {
	local name=$1 fabric=${fabrics[${1%-*}]} how=${1#*-} t0 t1 t2 t3 mapped in_place uncopied missed which what ptes
	local -A count=()

	[ "${name%-*}" = loop ] || iscsi_login "$name" || die "can't log in to $name"
	wait_for 30 "a disk for $name" scsi_disk "${name%-*}" "$name" 0 || die "no disk for $name"
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

	for which in {mapped,inplace,copied}_{cmds,bytes} missed_bytes faults unmaps pages \
		fallback_{small,cdb,layout,page,space}; do
		count[$which]=$(counter "$name" "$which")
	done
	mapped=${count[mapped_bytes]} in_place=${count[inplace_bytes]} missed=${count[missed_bytes]}
	# shellcheck disable=SC2059
	printf "$row" "$fabric" "$how" $((count[mapped_cmds] + count[inplace_cmds] + count[copied_cmds])) \
		"$(mib "$mapped")" "$(mib "$in_place")" "$(mib "${count[copied_bytes]}")" "${count[faults]}" \
		"${count[unmaps]}" "$(seconds "$t0" "$t1")" "$(seconds "$t2" "$t3")" >>"$WORK/table"

	if ! cmp -s "$WORK/src.sum" "$WORK/lun.sum"; then
		fail "$name: checksums differ:"
		diff "$WORK/src.sum" "$WORK/lun.sum" | head >&2
	fi
	# Gives the space back.
	blkdiscard -fq "$disk" || fail "$name: can't discard the disk"

	case $how in
	off)
		copied_off=${count[copied_bytes]}
		[ $((mapped + in_place)) -eq 0 ] || fail "$name: $((mapped + in_place)) bytes were not copied"
		return
		;;
	mapped) uncopied=$mapped ;;
	inplace) uncopied=$in_place ;;
	esac
	[ "$uncopied" -gt 0 ] || { fail "$name: everything was copied"; return; }
	what="commands of $(attrib "$name" zero_copy_min_bytes) bytes or more" ptes=${count[pages]}
	[ "$how" = mapped ] || what="commands of any size"
	# Of the commands at or above the threshold, and all that are in place.
	percent=$(awk -v a="$uncopied" -v b="$missed" 'BEGIN { printf "%.1f", 100 * a / (a + b) }')
	[ $((uncopied * 10)) -ge $(((uncopied + missed) * 9)) ] ||
		fail "$name: only $percent % of the bytes at or above the threshold were not copied"
	cat >>"$WORK/summary" <<-END
		$fabric, $how: the kernel copied $(mib "${count[copied_bytes]}") MiB instead of $(mib "$copied_off"), with $ptes PTEs set;
		  $percent % of what can be lent was ($what). Copied: ${count[fallback_small]} smaller,
		  ${count[fallback_cdb]} not a READ or WRITE, ${count[fallback_layout]} with partial pages, ${count[fallback_page]} with pages that
		  can't be mapped, ${count[fallback_space]} for lack of room.
	END
}

trap clean_up EXIT
mkdir -p "$src" "$lun"
mount -o ro "$SRC_DEV" "$src" || die "can't mount $SRC_DEV"
files=$(find "$src" -type f | wc -l)
echo "Kernel $(uname -r), $files files, $(du -sm "$src" | cut -f 1) MiB. Checksums of the originals ..."
checksums "$src" >"$WORK/src.sum"
[ -s "$WORK/src.sum" ] || die "no files on $SRC_DEV"

echo "tcmu-runner, its handler zcfile, and ${#runs[@]} LUNs ..."
# shellcheck disable=SC2119
runner_start || die "no tcmu-runner"
(cd "$WORK" && truncate -s "$SIZE" "${runs[@]}")
configure >"$WORK/commands"
tcli <"$WORK/commands" >"$WORK/targetcli.out" 2>&1

# shellcheck disable=SC2059
printf "$row" fabric "zero copy" commands "MiB mapped" "in place" "MiB copied" faults flushes \
	"write s" "verify s" >"$WORK/table"
for run in "${runs[@]}"; do
	echo "${fabrics[${run%-*}]}, zero copy ${run#*-}: copy, sync, drop caches, read and compare ..."
	one_row "$run"
done
echo
cat "$WORK/table"
echo
[ $failed -eq 0 ] || die "failed"
echo "All $files files came back ${#runs[@]} times with the checksums they had."
cat "$WORK/summary"
