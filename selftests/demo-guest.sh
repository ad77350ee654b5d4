#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The guest's part of the demonstration: a file system on a tcmu disk, real
# files copied to it, read back and compared; with zero copy off, then on.
# SRC_DEV is a disk with an ext4 file system that holds the files.

set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
SRC_DEV=${SRC_DEV:-/dev/vdb}
SIZE=${SIZE:-768M}
work=$(mktemp -d)
handler=
failed=0

if [ -z "${BIN:-}" ]; then
	for BIN in "$here" "$here/../build/selftests"; do
		[ -x "$BIN/tcmu_handler" ] && break
	done
fi

die() {
	echo "demo: $*" >&2
	[ -f "$work/err" ] && cat "$work/err" >&2
	exit 1
}

stop_handler() {
	[ -n "$handler" ] || return 0
	kill "$handler" 2>/dev/null
	wait "$handler"
	local rc=$?
	handler=
	return $rc
}

clean_up() {
	umount "$work/lun" 2>/dev/null
	stop_handler
	umount "$work/src" 2>/dev/null
	rm -rf "$work"
}
trap clean_up EXIT

# BLAKE2b: cryptographic, and the least work for an emulated CPU.
checksums() {
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 b2sum)
}

now() {
	date +%s%N
}

seconds() {
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", (b - a) / 1e9 }'
}

mount_src() {
	src=/src
	if ! mountpoint -q /src; then
		src=$work/src
		mkdir -p "$src"
		mount -o ro "$SRC_DEV" "$src" || die "can't mount $SRC_DEV"
	fi
}

# value NAME: from the handler's list of counters
value() {
	sed -n "s/^$1=//p" "$work/out"
}

mib() {
	awk -v v="$1" 'BEGIN { printf "%.0f", v / 1048576 }'
}

one_run() {
	local zc=$1 disk t0 t1 t2 rc cmds total part

	"$BIN/tcmu_handler" --cleanup --name demo
	"$BIN/tcmu_handler" --name demo --target ram --size "$SIZE" \
		--zero-copy "$zc" >"$work/out" 2>"$work/err" &
	handler=$!
	for _ in $(seq 300); do
		grep -q ^ready "$work/out" && break
		kill -0 $handler 2>/dev/null || die "the handler gave up"
		sleep 0.1
	done
	disk=$(awk '/^ready/ { print $2 }' "$work/out")
	[ -b "$disk" ] || die "no disk"

	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$disk" ||
		die "mkfs failed"
	mkdir -p "$work/lun"
	mount "$disk" "$work/lun" || die "can't mount the disk"
	echo 3 >/proc/sys/vm/drop_caches
	t0=$(now)
	cp -a "$src/." "$work/lun/" || die "copying failed"
	sync
	t1=$(now)
	echo 3 >/proc/sys/vm/drop_caches
	t2=$(now)
	checksums "$work/lun" >"$work/lun.sum"
	read_s=$(seconds "$t2" "$(now)")
	write_s=$(seconds "$t0" "$t1")
	umount "$work/lun" || die "can't unmount"
	stop_handler
	rc=$?
	[ $rc -eq 0 ] || die "the handler failed ($rc)"

	cmds=$(($(value zc_mapped_cmds) + $(value zc_copied_cmds)))
	printf '%-10s %9d %11s %11s %8d %8d %8s %8s\n' "$zc" $cmds \
		"$(mib "$(value zc_mapped_bytes)")" \
		"$(mib "$(value zc_copied_bytes)")" "$(value zc_faults)" \
		"$(value zc_unmaps)" "$write_s" "$read_s" >>"$work/table"

	if ! cmp -s "$work/src.sum" "$work/lun.sum"; then
		echo "demo: zero_copy=$zc: checksums differ:" >&2
		diff "$work/src.sum" "$work/lun.sum" | head >&2
		failed=1
	fi
	if [ "$zc" -eq 0 ]; then
		copied_off=$(value zc_copied_bytes)
		[ "$(value zc_mapped_bytes)" -eq 0 ] || failed=1
		return
	fi
	# Of the commands at or above the threshold.
	part=$(value zc_mapped_bytes)
	total=$((part + $(value zc_missed_bytes)))
	[ $total -gt 0 ] || die "no command reached the threshold"
	percent=$(awk -v a="$part" -v b=$total 'BEGIN { printf "%.1f", 100 * a / b }')
	copied_on=$(value zc_copied_bytes)
	reasons="$(value zc_fallback_small) below zero_copy_min_bytes, $(value zc_fallback_layout) with partial pages, $(value zc_fallback_page) with pages that can't be mapped, $(value zc_fallback_space) for lack of room"
	awk -v a="$part" -v b=$total 'BEGIN { exit !(a >= 0.9 * b) }' || {
		echo "demo: only $percent % of the bytes at or above the threshold were mapped" >&2
		failed=1
	}
}

[ -x "$BIN/tcmu_handler" ] || die "no programs in $BIN"
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
mount_src
files=$(find "$src" -type f | wc -l)
size=$(du -sm "$src" | cut -f 1)
echo "Kernel $(uname -r), $files files, $size MiB. Checksums of the originals ..."
checksums "$src" >"$work/src.sum"
[ -s "$work/src.sum" ] || die "no files on $SRC_DEV"

printf '%-10s %9s %11s %11s %8s %8s %8s %8s\n' zero_copy commands \
	"MiB mapped" "MiB copied" faults flushes "write s" "verify s" >"$work/table"
for zc in 0 1; do
	echo "zero_copy=$zc: copy, sync, drop caches, read and compare ..."
	one_run $zc
done
echo
cat "$work/table"
echo
[ $failed -eq 0 ] || die "failed"
echo "Buffers copied with zero_copy=1: $reasons."
echo "All $files files came back with the checksums they had. With zero_copy=1 the kernel copied $(mib "$copied_on") MiB instead of $(mib "$copied_off"): $percent % of the bytes in commands of zero_copy_min_bytes or more reached the handler as the initiator's own pages."
