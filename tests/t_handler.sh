#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the handlers zcfile and zcmem do besides reading and writing: the end of
# the file, no space, I/O errors, UNMAP, WRITE SAME, FUA, a disabled write
# cache, growing, locking, refused configurations, large commands, XCOPY,
# COMPARE AND WRITE; and that the daemon survives commands that time out and
# commands that lie.
. "$(dirname "$0")/lib.sh"

small=$WORK/small
null=/sys/kernel/config/nullb
trap 'umount -l "$small" 2>/dev/null' EXIT

# null_make NAME: a block device that can have bad blocks, in $null_dev
null_make() {
	mkdir "$null/$1" || return
	echo 512 >"$null/$1/blocksize"
	echo 16 >"$null/$1/size"
	echo 1 >"$null/$1/memory_backed"
	echo 1 >"$null/$1/power" || return
	[ -b "/dev/$1" ]
}

# at FIRST COUNT COMMAND...: dd's numbers, in blocks of 64 KiB
put() { dd if="$WORK/pattern" of="$disk" bs=64k seek="$1" count="$2" oflag=direct status=none; }
get() { dd if="$disk" bs=64k skip="$1" count="$2" iflag=direct status=none; }
is_pattern() { cmp <(head -c $(($2 << 16)) "$WORK/pattern") <(get "$1" "$2"); }
is_zero() { cmp -n $(($2 << 16)) /dev/zero <(get "$1" "$2"); }
blocks() { stat -c %b "$1"; }
# fails COMMAND...: and shows with what
fails() { ! "$@"; }
# fails_with REGEXP COMMAND...: it fails, and says that
fails_with() {
	local re=$1 out
	shift
	! out=$("$@" 2>&1) || complain "it succeeded: $out" || return
	grep -qiE "$re" <<<"$out" || complain "not '$re': $out"
}
# Not by check: that would lose $disk.
on() {
	if ! lun_disk loop "$1" || ! no_news "$disk"; then
		not_ok "$1: a disk"
	fi
}
daemon_lives() { runner_pid && sg_turs "$disk" && is_pattern 0 4; }

# Commands by sg, so that nobody tries again; 64 KiB is mapped.
# lba8 N: of blocks of 64 KiB, as words of a CDB
lba_bytes() { printf '%016x' $(($1 * 128)) | sed 's/../& /g'; }
# write64k N; read64k N
write64k() {
	# shellcheck disable=SC2046
	sg_raw -v -s 64k -i "$WORK/pattern" "$disk" 8a 00 $(lba_bytes "$1") 00 00 00 80 00 00
}
read64k() {
	# shellcheck disable=SC2046
	sg_raw -v -r 64k -o "$WORK/read" "$disk" 88 00 $(lba_bytes "$1") 00 00 00 80 00 00
}

# What zcfile serves has to be there.
make_files() {
	truncate -s 16M "$WORK"/{eof,grow,late,toosmall} &&
		truncate -s 32M "$WORK"/{data,big0,big1} "$small/full"
}
lines() {
	local zc=zero_copy=1,hw_max_sectors=8192
	cat <<-END
		eof zcfile 16M $WORK/eof $zc
		full zcfile 32M $small/full $zc
		nullr zcfile 16M /dev/nullr $zc
		nullw zcfile 16M /dev/nullw $zc
		data zcfile 32M $WORK/data $zc
		mem zcmem 32M x $zc
		grow zcfile 16M $WORK/grow $zc
		big0 zcfile 32M $WORK/big0 zero_copy=0,hw_max_sectors=16384,data_pages_per_blk=1
		big1 zcfile 32M $WORK/big1 zero_copy=1,hw_max_sectors=16384,data_pages_per_blk=1
	END
}

# --- the end of the file

test_eof() {
	on eof
	put 0 64
	truncate -s $((16 << 16)) "$WORK/eof"
	check "the file was cut: what is left is read" is_pattern 0 16
	check "the file was cut: what isn't is a MEDIUM ERROR" fails_with 'Medium Error' read64k 16
	truncate -s $(((15 << 16) + 4096)) "$WORK/eof"
	check "the file was cut: half of it isn't, either" fails_with 'Medium Error' read64k 15
	check "the file was cut: written behind its end" put 40 8
	check "the file was cut: and read" is_pattern 40 8
	check "the file was cut: zeroes before that" is_zero 16 24
}

# --- no space

test_full() {
	on full
	check "no space: what fits is written" put 0 32
	dd if=/dev/zero of="$small/other" bs=64k status=none 2>/dev/null
	check "no space: DATA PROTECT" \
		fails_with 'Data Protect' write64k 100
	check "no space: space allocation failed" fails_with 'Space allocation failed' write64k 100
	check "no space: for WRITE SAME, too" fails_with 'Data Protect' \
		sg_write_same --16 --lba=20000 --num=4096 --in="$WORK/block" --xferlen=512 "$disk"
	check "no space: what was written is intact" is_pattern 0 32
	check "no space: it may be written again" put 0 32
	rm "$small/other"
	check "space again: it is written" write64k 100
	check "space again: and read" is_pattern 100 1
}

# --- I/O errors

test_errors() {
	on nullr
	put 0 8
	sg_sync "$disk"
	# Not what the page cache has.
	echo +1024-1031 >"$null/nullr/badblocks"
	echo 3 >/proc/sys/vm/drop_caches
	check "bad block: a READ is a MEDIUM ERROR" fails_with 'Medium Error' read64k 8
	check "bad block: others are read" is_pattern 0 4
	check "bad block: an UNMAP of it fails" fails sg_unmap --lba=1024 --num=8 "$disk"
	check "bad block: a WRITE SAME that unmaps it fails" fails \
		sg_write_same --16 --unmap --lba=1024 --num=8 --xferlen=512 "$disk"
	echo -1024-1031 >"$null/nullr/badblocks"
	check "bad block, mended: it is read" read64k 8
	check "bad block, mended: it is unmapped" sg_unmap --lba=1024 --num=8 "$disk"

	on nullw
	echo +1024-1031 >"$null/nullw/badblocks"
	check "bad block: a WRITE is cached" write64k 8
	check "bad block: the flush fails" fails_with 'Medium Error|Hardware Error' sg_sync -v "$disk"
	echo -1024-1031 >"$null/nullw/badblocks"
	check "the next flush fails, too" fails_with 'Medium Error|Hardware Error' sg_sync -v "$disk"
	check "a WRITE with FUA fails, too" fails fua
	check "the log says so, once" eval "[ \$(grep -c 'could not be flushed' $RUNNER_LOG) = 1 ]"
}

# --- unmap, write same

# test_zeroes NAME [FILE]
test_zeroes() {
	local before file=${2:-}
	on "$1"
	put 0 64
	sync
	[ -z "$file" ] || before=$(blocks "$file")
	check "$1: UNMAP" sg_unmap --lba=2048 --num=2048 "$disk"
	check "$1: UNMAP reads zeroes" is_zero 16 16
	check "$1: UNMAP leaves its neighbours" eval 'is_pattern_at 0 16 && is_pattern_at 32 32'
	if [ -n "$file" ]; then
		check "$1: UNMAP gives the space back" eval "[ \$(blocks $file) -le $((before - 2000)) ]"
	fi
	put 0 64
	check "$1: blkdiscard" blkdiscard --offset $((32 << 16)) --length $((16 << 16)) "$disk"
	check "$1: blkdiscard reads zeroes" is_zero 32 16
	if [ -n "$file" ]; then
		check "$1: blkdiscard gives the space back" eval "[ \$(blocks $file) -le $((before - 2000)) ]"
	fi
	put 0 64
	# More than IOV_MAX blocks, and not a multiple of it
	check "$1: WRITE SAME of zeroes" sg_write_same --16 --lba=1 --num=3001 --xferlen=512 "$disk"
	check "$1: it wrote them, and no more" same_with "1 3001 zero"
	check "$1: WRITE SAME of a pattern" sg_write_same --16 --lba=7 --num=2500 --in="$WORK/block" --xferlen=512 "$disk"
	check "$1: it wrote them, and no more" same_with "1 3001 zero" "7 2500 block"
	check "$1: WRITE SAME that unmaps" sg_write_same --16 --unmap --lba=3000 --num=2000 --xferlen=512 "$disk"
	check "$1: it wrote them, and no more" same_with "1 3001 zero" "7 2500 block" "3000 2000 zero"
	check "$1: WRITE SAME of a pattern, with the UNMAP bit" sg_write_same --16 --unmap --lba=6000 --num=1100 --in="$WORK/block" --xferlen=512 "$disk"
	check "$1: it wrote them, and no more" same_with "1 3001 zero" "7 2500 block" "3000 2000 zero" "6000 1100 block"
	# A list of 8 bytes that says it has four descriptors
	printf '\0\106\0\100\0\0\0\0' >"$WORK/list"
	put 0 64
	check "$1: UNMAP of descriptors that weren't sent" sg_raw -s 8 -i "$WORK/list" "$disk" 42 00 00 00 00 00 00 00 08 00
	check "$1: unmaps nothing" same_with
	check "$1: COMPARE AND WRITE" compare_and_write 0
	check "$1: it wrote" same_with "8 1 block"
	check "$1: COMPARE AND WRITE, miscompare" eval 'compare_and_write 0; [ $? = 14 ]'
	check "$1: it did not write" same_with "8 1 block"
	put 0 64
	lun_sg loop "$1" || not_ok "$1: an sg device"
	check "$1: XCOPY to itself" sg_xcopy if="$sg" of="$sg" bs=512 skip=0 seek=7000 count=1000 id_usage=disable list_id=0
	check "$1: it copied" same_with "7000 1000 start"
}
is_pattern_at() { cmp <(dd if="$WORK/pattern" bs=64k skip="$1" count="$2" status=none) <(get "$1" "$2"); }
# The first 4 MiB are the pattern, but for "LBA COUNT zero|block|start".
same_with() {
	local part lba count what
	head -c 4M "$WORK/pattern" >"$WORK/expected"
	for part; do
		read -r lba count what <<<"$part"
		case $what in
		zero) cat /dev/zero ;;
		block) cat "$WORK/blocks" ;;
		start) cat "$WORK/pattern" ;;
		esac | head -c $((count * 512)) |
			dd of="$WORK/expected" bs=512 seek="$lba" conv=notrunc iflag=fullblock status=none
	done
	cmp "$WORK/expected" <(get 0 64)
}
# Block 8: from what the pattern has there to $WORK/block
compare_and_write() {
	{ dd if="$WORK/pattern" bs=512 skip=8 count=1 status=none; cat "$WORK/block"; } >"$WORK/caw"
	sg_compare_and_write --in="$WORK/caw" --lba=8 --num=1 --xferlen=1024 "$disk"
}

# --- what is stable when it is acknowledged

tracing() { [ "$(awk '/^TracerPid/ { print $2 }' "/proc/$1/status")" -ne 0 ]; }
all_traced() {
	local task
	for task in "/proc/$1/task"/*; do
		tracing "$1/task/${task##*/}" || return
	done
}
# traced COMMAND...: with the daemon's writes and flushes in $WORK/trace
traced() {
	local pid tracer status=0
	pid=$(runner_pid) || return
	strace -f -qq -o "$WORK/trace" -e trace=pwritev,fdatasync -p "$pid" 2>"$WORK/strace.out" &
	tracer=$!
	wait_for 30 "strace" all_traced "$pid" && "$@" || status=1
	kill $tracer
	wait $tracer 2>/dev/null
	cat "$WORK/trace"
	return $status
}
synced() { traced "$@" && grep -A 9 pwritev "$WORK/trace" | grep -q fdatasync; }
not_synced() { traced "$@" && grep -q pwritev "$WORK/trace" && ! grep -q fdatasync "$WORK/trace"; }
fua() { sg_raw -s 64k -i "$WORK/pattern" "$disk" 8a 08 00 00 00 00 00 00 00 00 00 00 00 80 00 00; }
write_cache() { echo "$1" >"$(backstore data)/attrib/emulate_write_cache"; }

# The caching page: bit 2 of its third byte, behind the header of four
wce() {
	sg_raw -r 64 -b -o "$WORK/mode" "$disk" 1a 08 08 00 40 00 &&
		[ $(($(od -A n -j 6 -N 1 -t u1 "$WORK/mode") >> 2 & 1)) = "$1" ]
}
test_sync() {
	on data
	check "a WRITE is not synced" not_synced write64k 0
	check "a WRITE with FUA is" synced fua
	check "the write cache is on" wce 1
	check "it can be switched off" write_cache 0
	check "and is" wce 0
	check "then each WRITE is synced" synced write64k 0
	check "it can be switched on" write_cache 1
	check "then a WRITE is not" not_synced write64k 0
}

# --- growing

grow() {
	echo $((32 << 20)) >"$(backstore grow)/attrib/dev_size" || return
	echo 1 >"/sys/block/${disk#/dev/}/device/rescan"
	[ "$(blockdev --getsize64 "$disk")" = $((32 << 20)) ]
}
test_grow() {
	on grow
	put 0 256
	check "it grows" grow
	check "its file, too" eval "[ \$(stat -c %s $WORK/grow) = $((32 << 20)) ]"
	check "behind the old end: zeroes" is_zero 256 256
	check "behind the old end: written" put 384 64
	check "behind the old end: read" is_pattern 384 64
	check "before it: as it was" is_pattern 0 256
}

# --- what is refused

test_refused() {
	local name
	mkdir "$WORK/dir"
	tcli >"$WORK/refused" 2>&1 <<-END
		/backstores/user:zcfile create name=lock size=16M cfgstring=$WORK/data
		/backstores/user:zcfile create name=relative size=16M cfgstring=relative/path
		/backstores/user:zcfile create name=dir size=16M cfgstring=$WORK/dir
		/backstores/user:zcfile create name=nodir size=16M cfgstring=$WORK/nodir/file
		/backstores/user:zcfile create name=chardev size=16M cfgstring=/dev/null
		/backstores/user:zcfile create name=inuse size=16M cfgstring=/dev/nullr
		/backstores/user:zcfile create name=toosmall size=32M cfgstring=$WORK/toosmall
		/backstores/user:zcfile create name=option size=16M cfgstring=$WORK/toosmall;unknown=1
	END
	sed 's/^/# /' "$WORK/refused"
	check "refused: a relative path" grep 'an absolute path is needed' "$WORK/refused"
	check "refused: a directory" grep "$WORK/dir is neither a file nor a block device" "$WORK/refused"
	check "refused: a directory that isn't there" grep "$WORK/nodir/file: No such file or directory" "$WORK/refused"
	check "refused: a character device" grep "/dev/null is neither a file nor a block device" "$WORK/refused"
	check "refused: an unknown option" grep 'unknown option: unknown=1' "$WORK/refused"
	check "refused: a file in use, says the log" grep "$WORK/data is locked" "$RUNNER_LOG"
	check "refused: a block device in use, says the log" grep "/dev/nullr is in use" "$RUNNER_LOG"
	check "refused: a file that is too small, says the log" grep "truncate -s 33554432 $WORK/toosmall" "$RUNNER_LOG"
	for name in lock relative dir nodir chardev inuse toosmall option; do
		check "refused: nothing is left of $name" fails backstore $name
	done
	on data
	check "and the LUN that has the file works" write64k 0
}

# --- large commands

# One command of 8 MiB, if the disk takes it; what the daemon gets
large() {
	echo 8192 >"/sys/block/${disk#/dev/}/queue/max_sectors_kb" || return
	dd if="$WORK/pattern" of="$disk" bs=8M count=2 oflag=direct status=none &&
		dd if="$disk" of="$WORK/read" bs=8M count=2 iflag=direct status=none &&
		cmp -n $((16 << 20)) "$WORK/pattern" "$WORK/read"
}
large_uncopied() {
	counters big1
	[ "$(uncopied big1 bytes)" -ge $((32 << 20)) ] && [ "$(counter big1 missed_bytes)" -eq 0 ]
}
# 8 MiB among small ones, so that the data area is in pieces
pieces() {
	fio --eta=never --output="$WORK/fio.out" --filename="$disk" --direct=1 --thread --ioengine=libaio --verify=crc32c --verify_fatal=1 \
		--name=large --rw=write --bs=8m --iodepth=2 --size=16m --verify_async=0 \
		--name=small --rw=randwrite --bs=4k --iodepth=32 --offset=16m --size=$((4 / slow + 1))m && return
	cat "$WORK/fio.out"
	return 1
}
test_large() {
	local name
	for name in big0 big1; do
		lun_disk iscsi $name || { not_ok "$name: a disk"; continue; }
		check "$name: commands of 8 MiB" large
		check "$name: commands of 8 MiB, between small ones" pieces
	done
	check "big1: nothing large was copied" large_uncopied
}

# --- hostile, and late

test_hostile() {
	local args
	on "$1"
	put 0 16
	check "$1: a vendor specific command is refused" fails_with 'Invalid command operation code' \
		timeout 20 sg_raw "$disk" c0 00 00 00 00 00 00 00 00 00
	# Their results are the kernel's and the daemon's choice.
	while read -r args; do
		# shellcheck disable=SC2086
		timeout 60 sg_raw -o /dev/null -i "$WORK/pattern" ${args%%:*} "$disk" ${args##*:}
	done <<-END >"$WORK/hostile" 2>&1
		-s 64k: 12 00 00 ff ff 00
		-s 64k: 28 00 00 00 00 00 00 00 80 00
		-s 64k: 88 00 00 00 00 00 00 00 00 00 00 00 00 80 00 00
		-s 64k: 5a 00 3f 00 00 00 00 ff ff 00
		-s 64k: 9e 10 00 00 00 00 00 00 00 00 00 01 00 00 00 00
		-s 4k: 2a 00 00 00 10 00 00 00 80 00
		-s 64k: 2a 00 00 00 10 00 00 00 08 00
		-r 64k: 2a 00 00 00 10 00 00 00 80 00
		-r 64k: 28 00 00 00 00 00 00 00 08 00
		-r 64k: 28 00 00 00 00 00 00 ff ff 00
		-r 64k: 55 00 00 00 00 00 00 ff ff 00
		-r 64k: 42 00 00 00 00 00 00 ff ff 00
		-r 64k: 93 00 00 00 00 00 00 00 10 00 00 00 00 80 00 00
		-r 64k: 89 00 00 00 00 00 00 00 10 00 00 00 00 01 00 00
	END
	check "$1: commands whose data has the wrong direction or length: the daemon lives" daemon_lives
}

test_late() {
	local reader writer
	# It can't be set any more when a LUN is made of it.
	if ! backstore_create late zcfile 16M "$WORK/late" >/dev/null ||
		! echo $((3 * slow)) >"$(backstore late)/attrib/cmd_time_out" ||
		! loop_lun late || ! no_news "$disk"; then
		not_ok "late: a disk"
		return
	fi
	put 0 64
	kill -STOP "$(runner_pid)"
	read64k 8 >"$WORK/late.read" 2>&1 &
	reader=$!
	write64k 16 >"$WORK/late.write" 2>&1 &
	writer=$!
	wait_for 60 "the READ ends" gone $reader && wait_for 60 "the WRITE ends" gone $writer
	check "late: both end while the daemon is stopped" eval "gone $reader && gone $writer"
	wait $reader && not_ok "late: the READ failed"
	wait $writer && not_ok "late: the WRITE failed"
	kill -CONT "$(runner_pid)"
	check "late: then it goes on" write64k 20
	check "late: with what is right" is_pattern 0 16
	check "late: written and read" eval 'put 0 64 && is_pattern 0 64'
	check "late: it found the data of both where it was" \
		test "$(cat "$(backstore late)/statistics/tcmu/kept_cmds")" -ge 2
}

dd if=/dev/urandom of="$WORK/pattern" bs=1M count=16 status=none
head -c 512 /dev/urandom >"$WORK/block"
for ((i = 0; i < 4096; i++)); do echo "$WORK/block"; done | xargs cat >"$WORK/blocks"
mkdir -p "$small"
mount -t tmpfs -o size=8m tmpfs "$small"
check "block devices that can have bad blocks" eval "null_make nullr && null_make nullw"
check "tcmu-runner starts" runner_start || { plan; exit; }
check "files" make_files
check "LUNs" luns_create "loop iscsi" < <(lines) || { plan; exit; }
test_eof
test_full
test_errors
test_zeroes data "$WORK/data"
test_zeroes mem
test_sync
test_grow
test_refused
test_large
test_hostile data
test_hostile big0
test_late
check "tcmu-runner ends" runner_stop
plan
