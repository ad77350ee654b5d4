#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# ext4 and XFS on a LUN with zero copy, one over tcm_loop and one
# over iSCSI: fio verifies what it wrote to one file in every way at once, a file
# is what a model of it in memory is (as in fsx), stress-ng exercises the file
# system, and then the file system is clean, a tree of files that was
# there before is what it was, and fstrim gives space back.
. "$(dirname "$0")/lib.sh"

mnt=$WORK/mnt
image=$WORK/image
# XFS wants 300 MiB.
size=320M
# of fio's regions
mib=$((slow > 1 ? 3 : 6))
mkdir "$mnt"

# One file, a region for each job: pages of the page cache next to direct I/O.
# That of mmap is the first, as that engine maps the wrong place otherwise.
fio_jobs() {
	cat <<-END
		[global]
		filename=$mnt/fio
		size=${mib}m
		rw=randwrite
		bsrange=4k-512k
		verify=crc32c
		verify_fatal=1
		randrepeat=1
		verify_state_save=0
		[mmap]
		offset=0
		ioengine=mmap
		bsrange=4k-64k
		[buffered]
		offset=${mib}m
		ioengine=psync
		fsync=16
		[direct]
		offset=$((2 * mib))m
		ioengine=libaio
		direct=1
		bsrange=64k-1m
		iodepth=8
		[uring]
		offset=$((3 * mib))m
		ioengine=io_uring
		direct=1
		bsrange=4k-256k
		iodepth=8
		[sync]
		offset=$((4 * mib))m
		ioengine=psync
		sync=1
	END
}
fio_writes() {
	# All of it is there before: the region of a job must not end the file.
	dd if=/dev/zero of="$mnt/fio" bs=1M count=$((5 * mib)) status=none &&
		fio_jobs | timeout 300 fio --output="$WORK/fio.out" -
}
# By another process, from the LUN.
fio_reads() {
	sync && echo 3 >/proc/sys/vm/drop_caches &&
		fio_jobs | timeout 300 fio --output="$WORK/fio.out" --verify_only -
}

# What fsx does: operations at random on one file, and on a copy in memory; any
# read must give what the copy has. SEED OPERATIONS
fsx() {
	timeout 300 python3 - "$mnt/fsx" "$@" <<-'END'
		import ctypes, mmap, os, random, sys
		path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		rnd, libc = random.Random(seed), ctypes.CDLL(None, use_errno=True)
		largest, page, log = 2 << 20, 4096, []
		fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
		direct = os.open(path, os.O_RDWR | os.O_DIRECT)
		buffer = mmap.mmap(-1, largest)
		want = bytearray()

		def compare(offset, have, by):
		    if have != want[offset:offset + len(have)]:
		        at = next(i for i, b in enumerate(have) if b != want[offset + i])
		        print(f"{by} at {offset}: wrong from {offset + at}, of {len(want)}")
		        sys.exit("\n".join(log[-20:]))

		def grow(end):
		    want.extend(bytes(max(0, end - len(want))))

		def a_range(unit=1):
		    length = rnd.choice((page, 1 << 16, 1 << 19))
		    length = rnd.randrange(unit, length + 1) // unit * unit
		    return rnd.randrange(0, largest - length) // unit * unit, length

		def a_range_inside():
		    offset = rnd.randrange(len(want))
		    return offset, rnd.randrange(1, min(len(want) - offset, 1 << 19) + 1)

		def write():
		    offset, length = a_range()
		    data = rnd.randbytes(length)
		    grow(offset + length)
		    want[offset:offset + length] = data
		    assert os.pwrite(fd, data, offset) == length
		    return offset, length

		def direct_write():
		    offset, length = a_range(page)
		    buffer[:length] = rnd.randbytes(length)
		    grow(offset + length)
		    want[offset:offset + length] = buffer[:length]
		    assert os.pwrite(direct, memoryview(buffer)[:length], offset) == length
		    return offset, length

		def read():
		    offset, length = a_range()
		    compare(offset, os.pread(fd, length, offset), "read")
		    return offset, length

		def direct_read():
		    offset, length = a_range(page)
		    got = os.preadv(direct, [memoryview(buffer)[:length]], offset)
		    compare(offset, buffer[:got], "direct read")
		    return offset, length

		def map_write():
		    if not want: return
		    offset, length = a_range_inside()
		    data = rnd.randbytes(length)
		    with mmap.mmap(fd, len(want)) as m: m[offset:offset + length] = data
		    want[offset:offset + length] = data
		    return offset, length

		def map_read():
		    if not want: return
		    offset, length = a_range_inside()
		    with mmap.mmap(fd, len(want)) as m: have = m[offset:offset + length]
		    compare(offset, have, "read of memory")
		    return offset, length

		def truncate():
		    size = rnd.randrange(largest)
		    os.ftruncate(fd, size)
		    del want[size:]
		    grow(size)
		    return size

		def punch():
		    if not want: return
		    offset, length = a_range_inside()
		    mode = rnd.choice((0x03, 0x11))     # PUNCH_HOLE, ZERO_RANGE; KEEP_SIZE
		    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
		        sys.exit(os.strerror(ctypes.get_errno()))
		    want[offset:offset + length] = bytes(length)
		    return mode, offset, length

		def sync():
		    os.fdatasync(fd)
		    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

		operations = (write, direct_write, direct_write, read, direct_read, direct_read,
		              map_write, map_read, truncate, punch, sync)
		for i in range(count):
		    operation = rnd.choice(operations)
		    log.append(f"{operation.__name__} {operation()}")
		sync()
		compare(0, os.pread(fd, largest, 0), "read of all")
		assert os.fstat(fd).st_size == len(want)
	END
}

stress() {
	local n=$((60 / slow)) out
	out=$(timeout 300 stress-ng --verify --temp-path "$mnt" --no-rand-seed \
		--aio 1 --aio-ops $n \
		--aiol 1 --aiol-ops $((n / 5)) \
		--copy-file 1 --copy-file-bytes 128M --copy-file-ops 2 \
		--dentry 1 --dentry-ops $n \
		--dir 1 --dir-ops $n \
		--fiemap 1 --fiemap-bytes 4M --fiemap-ops 2 \
		--filerace 1 --filerace-ops 1 \
		--hdd 1 --hdd-bytes 8M --hdd-opts direct,dsync --hdd-ops $((n / 5)) \
		--iomix 1 --iomix-bytes 4M --iomix-ops $n \
		--metamix 1 --metamix-ops 1 \
		--msync 1 --msync-bytes 4M --msync-ops $((n / 2)) \
		--readahead 1 --readahead-bytes 8M --readahead-ops $n \
		--rename 1 --rename-ops $n \
		--revio 1 --revio-bytes 4M --revio-ops $n \
		--seek 1 --seek-size 8M --seek-punch --seek-ops $n \
		--sendfile 1 --sendfile-ops $((n / 10)) \
		--splice 1 --splice-ops $((n / 10)) 2>&1)
	local status=$?
	echo "$out"
	[ $status -eq 0 ] && [[ $out == *"skipped: 0"*"passed: 17"*"failed: 0"* ]]
}

make_tree() {
	mkdir "$mnt/tree" && cp -r "${tree[@]}" "$mnt/tree/" &&
		dd if=/dev/urandom of="$mnt/tree/large" bs=1M count=$((20 / slow)) status=none &&
		(cd "$mnt/tree" && find . -type f -print0 | sort -z | xargs -0 b2sum >"$WORK/sums") &&
		[ "$(wc -l <"$WORK/sums")" -gt 20 ]
}
compare_tree() {
	sync && echo 3 >/proc/sys/vm/drop_caches &&
		(cd "$mnt/tree" && b2sum --quiet -c "$WORK/sums")
}

make_fs() {
	case $1 in
	# Of itself it would have blocks of 1 KiB on a disk of this size.
	ext4) mkfs.ext4 -q -b 4096 "$disk" ;;
	xfs) mkfs.xfs -q "$disk" ;;
	esac && mount "$disk" "$mnt"
}
clean() {
	umount "$mnt" || return
	case $1 in
	ext4) e2fsck -fn "$disk" ;;
	xfs) xfs_repair -n "$disk" ;;
	esac && mount "$disk" "$mnt"
}

blocks() { stat -c %b "$image"; }
fill() {
	rm -f "$mnt/fio"
	dd if=/dev/zero of="$mnt/junk" bs=1M count=64 conv=fsync status=none
}
# Most of 64 MiB; the rest is for what file systems write at the same time. XFS
# frees what was removed in the background.
shrunk() {
	fstrim -v "$mnt" && echo "blocks of the image: $1, then $(blocks)" &&
		[ $(($1 - $(blocks))) -ge $((48 << 11)) ]
}
shrinks() {
	local before
	before=$(blocks)
	rm "$mnt/junk" && sync -f "$mnt" && wait_for 30 "the image shrinks" shrunk "$before"
}

mapped() {
	counters fs
	[ "$(uncopied fs bytes)" -ge $(((60 << 20) / slow)) ]
}

unserve() { lun_remove fs && backstore_delete fs && rm "$image"; }

one() {
	local name="$1 over $2" seed

	# Not by check: that would lose $disk in a subshell.
	if ! truncate -s $size "$image" || ! backstore_create fs zcfile $size "$image" || ! "$2_lun" fs; then
		not_ok "$name: a disk"
		return
	fi
	check "$name: made" make_fs "$1" || return
	check "$name: a tree of files" make_tree
	check "$name: fio writes in many ways and verifies" fio_writes
	check "$name: fio verifies again, from the disk" fio_reads
	seed=$RANDOM
	check "$name: what fsx does, seed $seed" fsx "$seed" $((600 / slow))
	check "$name: stress-ng" stress
	check "$name: clean" clean "$1"
	check "$name: the tree is what it was" compare_tree
	check "$name: space is used" fill
	check "$name: fstrim gives it back" shrinks
	check "$name: still clean" clean "$1"
	check "$name: the tree is still what it was" compare_tree
	check "$name: data was not copied" mapped
	check "$name: unmounted" umount "$mnt"
	check "$name: taken down" unserve
}

tree=(/etc /usr/lib/python3/dist-packages)
check "tcmu-runner starts" runner_start || { plan; exit; }
one ext4 loop
one xfs iscsi
check "tcmu-runner ends" runner_stop
plan
