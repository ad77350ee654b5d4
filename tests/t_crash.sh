#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The daemon is killed under a file system, several times: writing goes on with
# the next daemon, and nothing is lost. Then the power goes: the disk is a
# null_blk with a write cache that is lost with the power, the daemon is killed
# and takes its page cache along, and what is left is mounted.
# Every record that was acknowledged, by fsync() or a write with O_DSYNC, is
# there, and the file system is clean after its journal was replayed. At last
# the same with flushes that do nothing, to see that records can be lost here.
. "$(dirname "$0")/lib.sh"

mnt=$WORK/mnt
copy=$WORK/copy
nullb=/sys/kernel/config/nullb/crash
device=/dev/crash
acks=/dev/shm/tcmu-acks
# XFS wants 300 MiB.
mib=320
mkdir -p "$mnt" "$copy" "$acks"

# writers check|write DIR ACKS: records of a size and content that follow from
# their number, in slots that are used again. A number gets into the log, which
# is on a tmpfs, when the record is on the disk.
writers() {
	cat >"$WORK/writers.py" <<-'END'
		import mmap, os, random, sys
		mode, directory, acks = sys.argv[1:]
		slots, slot_size = 24, 256 << 10

		def record(name, number):
		    rnd = random.Random(f"{name} {number}")
		    size = rnd.choice((4096, 65536, slot_size))
		    return b"%-20d" % number + rnd.randbytes(size - 20)

		def buffered(name):
		    fd = os.open(name, os.O_RDWR | os.O_CREAT)
		    return lambda data, at: (os.pwrite(fd, data, at), os.fsync(fd))

		def dsync(name):
		    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_DSYNC)
		    return lambda data, at: os.pwrite(fd, data, at)

		def direct(name):
		    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
		    buffer = mmap.mmap(-1, slot_size)
		    def write(data, at):
		        buffer[:len(data)] = data
		        os.pwrite(fd, memoryview(buffer)[:len(data)], at)
		        os.fdatasync(fd)
		    return write

		def mapped(name):
		    fd = os.open(name, os.O_RDWR | os.O_CREAT)
		    os.ftruncate(fd, slots * slot_size)
		    memory = mmap.mmap(fd, slots * slot_size)
		    def write(data, at):
		        memory[at:at + len(data)] = data
		        memory.flush(at, slot_size)
		    return write

		# A file for each record, which takes the place of a former one.
		def renamed(name):
		    os.makedirs(name, exist_ok=True)
		    top = os.open(name, os.O_RDONLY)
		    def write(data, at):
		        with open(f"{name}/new", "wb") as f:
		            f.write(data)
		            f.flush()
		            os.fsync(f.fileno())
		        os.rename(f"{name}/new", f"{name}/{at}")
		        os.fsync(top)
		    return write

		def write(name, opener):
		    put = opener(f"{directory}/{name}")
		    log = os.open(f"{acks}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
		    number = 0
		    while not os.path.exists(f"{acks}/stop"):
		        put(record(name, number), number % slots * slot_size)
		        os.pwrite(log, b"%-20d" % number, 0)
		        number += 1

		def check(name):
		    last = int(open(f"{acks}/{name}").read())
		    bad = []
		    for number in range(max(0, last - slots + 1), last + 1):
		        # Being written over when it ended.
		        if number + slots == last + 1: continue
		        at, want = number % slots * slot_size, record(name, number)
		        path = f"{directory}/{name}"
		        try:
		            if os.path.isdir(path): have = open(f"{path}/{at}", "rb").read()
		            else: have = os.pread(os.open(path, os.O_RDONLY), len(want), at)
		        except OSError as error:
		            have = b""
		        if have != want: bad.append(number)
		    print(f"{name}: last acknowledged {last}, lost or wrong: {bad or 'none'}")
		    return bad

		openers = (buffered, dsync, direct, mapped, renamed)
		if mode == "check":
		    sys.exit(any([check(opener.__name__) for opener in openers]))
		children = []
		for opener in openers:
		    if not os.fork():
		        write(opener.__name__, opener)
		        os._exit(0)
		sys.exit(any([os.wait()[1] for opener in openers]))
	END
	python3 "$WORK/writers.py" "$@"
}

# acknowledged: by all of them, one number each
acknowledged() {
	local log
	for log in buffered dsync direct mapped renamed; do
		echo $(($(cat "$acks/$log" 2>/dev/null || echo -1)))
	done
}
enough() {
	local number i=0
	for number in $(acknowledged); do
		[ "$number" -ge $((${1:-0} + before[i])) ] || return
		i=$((i + 1))
	done
}
# Every writer gets on by some records.
gets_on() {
	local before
	mapfile -t before < <(acknowledged)
	wait_for 120 "$1 more records of each writer" enough "$1"
}

start_writers() {
	rm -f "$acks"/*
	rm -f "$WORK/writers.status"
	{
		writers write "$mnt" "$acks" >"$WORK/writers.out" 2>&1
		echo $? >"$WORK/writers.status"
	} &
}
# Not by wait: check makes us a subshell, whose children they are not.
writers_end() { wait_for 120 "the writers end" test -s "$WORK/writers.status"; }
stop_writers() {
	touch "$acks/stop"
	writers_end || return
	[ "$(cat "$WORK/writers.status")" -eq 0 ] || complain "$(tail -n 5 "$WORK/writers.out")"
}

# What was not flushed is gone when it is off.
power() {
	echo "$1" >"$nullb/power" || return
	[ "$1" = 0 ] || wait_for 10 "the null_blk" test -b "$device"
}
make_disk() {
	mkdir "$nullb" &&
		echo $mib >"$nullb/size" &&
		echo 1 >"$nullb/memory_backed" &&
		echo 1 >"$nullb/discard" &&
		echo $mib >"$nullb/cache_size" &&
		power 1
}
remove_disk() { power 0 && rmdir "$nullb"; }
[ ! -d "$nullb" ] || remove_disk

# A null_blk caches only what is written to pages that it did not have before, so
# don't have everything zeroed, which is what discarding comes to.
make_fs() {
	case $1 in
	ext4) mkfs.ext4 -q -b 4096 -E nodiscard,lazy_journal_init=1,lazy_itable_init=1 "$disk" ;;
	xfs) mkfs.xfs -q -K "$disk" ;;
	esac && mount "$disk" "$mnt"
}
clean() {
	case $1 in
	ext4) e2fsck -fn "$disk" ;;
	xfs) xfs_repair -n "$disk" ;;
	esac
}

# shellcheck disable=SC2119
killed_once() { runner_kill && runner_start && gets_on 3; }
killed() {
	local round
	for round in 1 2; do
		killed_once || complain "round $round" || return
	done
}

complete() {
	stop_writers || return
	echo 3 >/proc/sys/vm/drop_caches
	writers check "$mnt" "$acks"
}

# The file system must not write any more, not even when there is a daemon.
crash() {
	runner_kill && power 0 && power 1 || return
	give_up_io
	xfs_io -x -c shutdown "$mnt"
	writers_end && umount "$mnt"
}
# shellcheck disable=SC2119
boot() {
	runner_start && echo running >"/sys/block/${disk#/dev/}/device/state"
}
writers_failed() {
	[ "$(grep -c Error "$WORK/writers.out")" -ge 5 ] || complain "$(cat "$WORK/writers.out")"
}

flushes_do_nothing() {
	local pid
	pid=$(runner_pid) || return
	strace -f -qq -o /dev/null -p "$pid" -e trace=fdatasync,fsync \
		-e inject=fdatasync,fsync:retval=0 >"$WORK/strace.out" 2>&1 &
	wait_for 30 "strace has all threads" all_traced "$pid" || complain "$(cat "$WORK/strace.out")"
}
all_traced() { ! grep -q '^TracerPid:[[:space:]]0$' "/proc/$1"/task/*/status; }

unserve() { lun_remove crash && backstore_delete crash && remove_disk; }
serve() {
	# Not by check: that would lose $disk in a subshell.
	if backstore_create crash zcfile ${mib}M "$device" && "$2_lun" crash; then
		ok "$1: a disk"
	else
		not_ok "$1: a disk"
		return 1
	fi
}

# one FS FABRIC [CONTROL]
one() {
	local name="$1 over $2${3:+, without flushes}"

	check "$name: a disk with a volatile cache" make_disk || return
	serve "$name" "$2" || return
	check "$name: made" make_fs "$1" || return
	[ -z "${3:-}" ] || check "$name: flushes do nothing" flushes_do_nothing || return
	start_writers
	check "$name: records are written" gets_on 3
	if [ -z "${3:-}" ]; then
		check "$name: and still after the daemon was killed" killed
		check "$name: no record is lost" complete
		check "$name: data was not copied" test "$(uncopied crash bytes)" -gt 0
		start_writers
		check "$name: records are written again" gets_on 3
	fi
	check "$name: the power goes" crash
	check "$name: the writers had errors" writers_failed
	check "$name: it comes back" boot || return
	if [ -z "${3:-}" ]; then
		check "$name, after the crash: mounted" mount "$disk" "$mnt"
		check "$name, after the crash: what was acknowledged is there" writers check "$mnt" "$acks"
		check "$name, after the crash: unmounted" umount "$mnt"
		check "$name, after the crash: clean" clean "$1"
	else
		check "$name, after the crash: records are lost" lost
	fi
	check "$name, after the crash: taken down" unserve
}
lost() {
	if mount "$disk" "$mnt"; then
		writers check "$mnt" "$acks"
		local status=$?
		umount "$mnt" && [ $status -ne 0 ]
	fi
}

check "tcmu-runner starts" runner_start || { plan; exit; }
one ext4 loop
one xfs iscsi
one ext4 loop control
check "tcmu-runner ends" runner_stop
rm -rf "$acks"
plan
