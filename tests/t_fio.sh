#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# fio with checksums in what it writes: all I/O engines that initiators use, 4
# KiB to 1 MiB, depths up to 32, direct and buffered, on every handler, with
# zero copy and without. What is written over one fabric is verified over the
# other. Only handlers that ask for mapped commands get them. Handlers that have
# no disk of their own kind here (zoned, optical) are read and written by sg_dd.
# At last Debian's own handler binaries, which were built against another
# libtcmu, in the patched daemon.
. "$(dirname "$0")/lib.sh"

handlers=(zcfile zcmem file qcow)
mib=$((slow > 1 ? 1 : 2))
stock_handlers=/usr/lib/x86_64-linux-gnu/tcmu-runner

# jobs SEED DISK...: disjoint parts of each disk. Those that write over a part
# with the same seed write the same, so that --verify_only verifies it.
job() {
	echo "[$1-${disk#/dev/}]"
	shift
	printf '%s\n' "filename=$disk" "randseed=$seed" "offset=$at" "size=${mib}m" "$@"
	at=$((at + (mib << 20)))
}
jobs_of() {
	local seed=$1 disk at
	shift
	cat <<-END
		[global]
		direct=1
		thread=1
		group_reporting=1
		exitall_on_error=1
		verify=crc32c
		verify_fatal=1
		do_verify=1
		fallocate=none
	END
	for disk; do
		at=0
		job libaio ioengine=libaio rw=randwrite bsrange=4k-1m iodepth=32
		job io_uring ioengine=io_uring rw=randwrite bssplit=4k/20:64k/30:256k/30:1m/20 iodepth=16
		job sync ioengine=sync rw=write bs=1m
		job psync ioengine=psync rw=randwrite bs=64k
		job buffered ioengine=psync rw=randwrite bs=16k direct=0
		job deep ioengine=io_uring rw=randwrite bs=128k iodepth=32
	done
}
# Reads, by another engine and in another order, of what was written with one
# size; and reads and writes of a part that has none of it.
reads_of() {
	local disk at
	jobs_of 0
	for disk; do
		at=$((3 * mib << 20))
		seed=3 job randread ioengine=libaio rw=randread bs=64k iodepth=8
		at=$((5 * mib << 20))
		seed=4 job randread-deep ioengine=psync rw=randread bs=128k
		at=$((6 * mib << 20))
		seed=5 job mixed ioengine=libaio rw=randrw bs=128k iodepth=8
		seed=6 job mixed-small ioengine=io_uring rw=randrw bssplit=4k/50:512k/50 iodepth=4
	done
}
run_fio() {
	fio --eta=never --aux-path="$WORK" --output="$WORK/fio.out" "$@" && return
	grep -vE '^ +(lat|clat|slat|bw|iops|cpu|\||[0-9.]+th)' "$WORK/fio.out"
	return 1
}
fio_write() { jobs_of "$@" >"$WORK/fio.jobs" && run_fio "$WORK/fio.jobs"; }
fio_verify() { jobs_of "$@" >"$WORK/fio.jobs" && run_fio --verify_only "$WORK/fio.jobs"; }
fio_read() { reads_of "$@" >"$WORK/fio.jobs" && run_fio "$WORK/fio.jobs"; }

# Whatever is as large as zero_copy_min_bytes is mapped: all of it is whole
# pages here.
mapped() {
	counters "$1"
	[ "$(uncopied "$1" bytes)" -ge $((4 * mib << 20)) ] &&
		[ "$(counter "$1" missed_bytes)" -eq 0 ]
}
# In place, or copied: what a handler gets that hasn't asked libtcmu for more.
never_mapped() {
	counters "$1"
	[ "$(cat "$(backstore "$1")/action/map_commands")" -eq 0 ] &&
		[ "$(counter "$1" mapped_cmds)" -eq 0 ]
}
# As somebody would who knows better.
map() { echo 1 >"$(backstore "$1")/action/map_commands"; }
some_mapped() { [ "$(counter "$1" mapped_bytes)" -gt 0 ]; }
some_in_place() { [ "$(counter "$1" inplace_bytes)" -gt 0 ]; }
copied() {
	counters "$1"
	[ "$(uncopied "$1" bytes)" -eq 0 ] &&
		[ "$(counter "$1" copied_bytes)" -ge $((4 * mib << 20)) ]
}

# disks FABRIC NAME...: leaves them in $disks
disks() {
	local fabric=$1 name
	shift
	disks=()
	for name; do
		lun_disk "$fabric" "$name" || return
		disks+=("$disk")
	done
}

lines() {
	local handler zero_copy
	for handler in "${handlers[@]}"; do
		for zero_copy in 1 0; do
			case $handler in
			zcfile) truncate -s $((8 * mib))M "$WORK/zcfile$zero_copy" ;;
			qcow) qcow_create "$WORK/qcow$zero_copy" $((8 * mib)) ;;
			esac
			echo "$handler$zero_copy $handler $((8 * mib))M $WORK/$handler$zero_copy zero_copy=$zero_copy,hw_max_sectors=8192"
		done
	done
	echo "zbc1 zbc 128M model-HM/lba-512/zsize-16/conv-1@$WORK/zbc1 zero_copy=1,hw_max_sectors=8192"
	# Its blocks are not what the kernel takes for them unless it is told.
	echo "fbo1 fbo 16M $WORK/fbo1 zero_copy=1,hw_max_sectors=8192,hw_block_size=2048"
}

# One handler, both its LUNs.
test_handler() {
	local loop iscsi

	disks loop "$1"{1,0} || { not_ok "$1: disks over tcm_loop"; return; }
	loop=("${disks[@]}")
	disks iscsi "$1"{1,0} || { not_ok "$1: disks over iSCSI"; return; }
	iscsi=("${disks[@]}")
	check "$1: writes over tcm_loop" fio_write 1 "${loop[@]}"
	check "$1: they verify over iSCSI" fio_verify 1 "${iscsi[@]}"
	check "$1: writes over iSCSI" fio_write 2 "${iscsi[@]}"
	check "$1: they verify over tcm_loop" fio_verify 2 "${loop[@]}"
	if [[ $1 = zc* ]]; then
		check "$1: random reads of what was written, mixed reads and writes" fio_read "${iscsi[@]}"
		check "$1: not copied with zero_copy=1" mapped "$1"1
		check "$1: over tcm_loop it was mapped" some_mapped "$1"1
	else
		check "$1: in place over iSCSI with zero_copy=1" some_in_place "$1"1
		check "$1: never mapped, as it hasn't asked" never_mapped "$1"1
		check "$1: somebody allows it" map "$1"1
		check "$1: random reads of what was written, mixed reads and writes" fio_read "${loop[@]}"
		check "$1: mapped now" some_mapped "$1"1
	fi
	check "$1: copied with zero_copy=0" copied "$1"0
}

# The data as whoever else opens the file sees it, as far as all of it was
# written.
same_as_file() {
	cmp -n $((6 * mib << 20)) "$WORK/$1" <(dd if="$disk" bs=1M count=$((6 * mib)) iflag=direct status=none)
}

# sg_copies BLOCKSIZE FIRST COUNT: write there by sg, read back and compare
sg_copies() {
	sg_dd if="$WORK/pattern" of="$sg" bs="$1" seek="$2" count="$3" bpt="$3" &&
		sg_dd if="$sg" of="$WORK/read" bs="$1" skip="$2" count="$3" bpt="$3" &&
		cmp -n $(($1 * $3)) "$WORK/pattern" "$WORK/read"
}

# The length of the list, of 64 bytes for each
has_zones() {
	sg_rep_zones "$sg"
	[ "$(sg_rep_zones --raw "$sg" | od -A n -N 4 -t u4 --endian=big)" -eq $(($1 * 64)) ]
}

test_zbc() {
	local seq=$((16 << 11))

	{ lun_sg "$1" zbc1 && no_news "$sg"; } || { not_ok "zbc: a device"; return; }
	check "zbc: 8 zones" has_zones 8
	check "zbc: a sequential zone is written and read" sg_copies 512 $seq 1024
	check "zbc: and not at random" eval "! sg_copies 512 $((seq + 2048)) 128"
	check "zbc: until its write pointer is reset" sg_reset_wp --zone=$seq "$sg"
	check "zbc: and it is written again" sg_copies 512 $seq 512
	check "zbc: $2" "$3" zbc1
}
test_fbo() {
	{ lun_sg "$1" fbo1 && no_news "$sg"; } || { not_ok "fbo: a device"; return; }
	check "fbo: written and read" sg_copies 2048 512 256
	check "fbo: never mapped, as it hasn't asked" never_mapped fbo1
}

registered() {
	local subtype
	cat "$RUNNER_LOG"
	for subtype; do
		grep -q "Handler $subtype is registered" "$RUNNER_LOG" || return
	done
	! grep -qE 'Could not open handler|dlsym failure|init failed' "$RUNNER_LOG"
}

make_pattern() { dd if=/dev/urandom of="$WORK/pattern" bs=1M count=1 status=none; }
make_pattern
check "tcmu-runner starts" runner_start || { plan; exit; }
check "its handlers are there" registered file fbo zbc qcow zcfile zcmem
check "LUNs, each over both fabrics" luns_create "loop iscsi" < <(lines) || { plan; exit; }
for handler in "${handlers[@]}"; do
	test_handler "$handler"
done
for handler in zcfile file; do
	for zero_copy in 1 0; do
		lun_disk loop $handler$zero_copy
		check "$handler, zero_copy=$zero_copy: the file has what the disk has" \
			same_as_file $handler$zero_copy
	done
done
map zbc1
test_zbc loop "mapped, as somebody allows it" some_mapped
test_fbo loop
check "all is taken down" cleanup

check "tcmu-runner with Debian's handlers starts" runner_start --handler-path=$stock_handlers
check "Debian's handlers are there, rbd too" registered fbo zbc qcow rbd
handlers=(qcow)
make_pattern
check "LUNs on Debian's handlers" luns_create "loop iscsi" < <(lines) || { plan; exit; }
test_handler qcow
test_zbc iscsi "never mapped, as it hasn't asked" never_mapped
test_fbo iscsi
plan
