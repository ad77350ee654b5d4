# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the tests and demos of the whole stack share: tcmu-runner, targetcli,
# tcm_loop, the iSCSI target and open-iscsi. Sourced in the guest, as root.
# Every wait is bounded and says what did not happen.
#
# Results, as TAP; a script that does not end with plan counts as failed:
#   ok NAME; not_ok NAME; skip NAME REASON
#   check NAME COMMAND...        ok if the command succeeds, else its output
#   skip_all REASON              before any result: and exit
#   plan                         at the end
# Daemons:
#   start_dbus
#   runner_start [stock] [ARGS]  the tcmu-runner of RUNNER_ROOT, or Debian's;
#                                its log is $RUNNER_LOG
#   runner_spawn [stock] [ARGS]  the same, and does not wait for it
#   runner_stop; runner_kill     SIGTERM, SIGKILL, until it is gone
#   runner_pid                   prints it, fails if it is not running
#   start_iscsid
# LUNs; SIZE as targetcli takes it, TARGETCLI=targetcli-sid for the newest:
#   qcow_create FILE MIB         an empty qcow2 image, on ext4 or XFS
#   backstore_create NAME SUBTYPE SIZE CFG [CONTROL]
#                                CONTROL: zero_copy=1,hw_max_sectors=8192
#   backstore_delete NAME
#   attrib NAME FILE             a file of its attrib/ in configfs
#   counter NAME COUNTER         one of tcmu's: mapped_bytes, say
#   counters NAME                all of them, as lines
#   uncopied NAME bytes|cmds     what was mapped (tcm_loop) or in place (iSCSI)
#   loop_lun NAME; iscsi_lun NAME   export it; they leave /dev/sdX in $disk
#   luns_create FABRICS          many by one run of targetcli: stdin has lines of
#                                NAME SUBTYPE SIZE CFG CONTROL; FABRICS is one
#                                word, "loop iscsi" gives each LUN two disks
#   lun_disk FABRIC NAME         leaves the disk of one of these in $disk
#   lun_sg FABRIC NAME           the same with its /dev/sgX, in $sg
#   scsi_disk FABRIC TARGET N    leaves the disk of any target's LUN N in $disk
#   say_loop, say_iscsi TARGET BACKSTORE...   a target, as lines for tcli
#   iscsi_login TARGET
#   no_news DEVICE               has had its unit attentions: for sg_* commands
#   iscsi_logout NAME
#   lun_remove NAME              undoes loop_lun and iscsi_lun
#   cleanup                      undoes everything; run.sh calls it, too
# Helpers:
#   wait_for SECONDS WHAT COMMAND...   SECONDS are for the plain kernel
#   goes_on DISK...              each completes I/O that it had not before
#   loads_end NAME...            tells them to end, and waits
#   $slow                        1, or 5 on a debug kernel: divide sizes by it;
#                                commands have that much more time
#   $WORK                        a directory for files, emptied by cleanup

export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RUNNER_ROOT=${RUNNER_ROOT:-$(cd "$here/.." && pwd)/build/tcmu-runner/root}
TARGETCLI=${TARGETCLI:-targetcli}
# Not a tmpfs: the qcow handler needs FALLOC_FL_ZERO_RANGE.
WORK=/var/tmp/tcmu-tests
RUNNER_LOG=/var/log/tcmu-runner.log
pid_file=/run/tcmu-tests.pid
target=/sys/kernel/config/target
netlink=/sys/module/target_core_user/parameters
initiator=$(sed -n 's/^InitiatorName=//p' /etc/iscsi/initiatorname.iscsi 2>/dev/null)
portal=127.0.0.1:3260
results=0 failures=0 disk='' lun='' sg='' slow=1
# shellcheck disable=SC2034
[ ! -e /sys/kernel/debug/kmemleak ] || slow=5
mkdir -p "$WORK"

complain() {
	echo "$*" >&2
	return 1
}

ok() { echo "ok $((results += 1)) $1"; }
not_ok() {
	failures=$((failures + 1))
	echo "not ok $((results += 1)) $1"
}
skip() { echo "ok $((results += 1)) $1 # SKIP $2"; }

check() {
	local name=$1 out status=0
	shift
	out=$("$@" 2>&1) || status=$?
	if [ $status -eq 0 ]; then
		ok "$name"
	else
		not_ok "$name"
		printf '%s\n' "exit status $status of: $*" "$out" | head -n 60 | sed 's/^/# /'
	fi
	return $status
}

skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

plan() {
	echo "1..$results"
	[ $failures -eq 0 ]
}

wait_for() {
	local end=$((SECONDS + $1 * slow)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $end ] || complain "$what: not within the time" || return
		sleep 0.1
	done
}

# gone PID: a zombie is gone, too.
gone() { ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# ios DISK: how many reads and writes it has completed.
ios() { awk '{ print $1 + $5 }' "/sys/block/${1#/dev/}/stat"; }
more_ios() { [ "$(ios "$1")" -gt "$2" ]; }
goes_on() {
	local disk before=()
	for disk; do before+=("$(ios "$disk")"); done
	for disk; do
		# More than is in any queue here: not only what was completed
		# already.
		wait_for 60 "I/O goes on on $disk" more_ios "$disk" $((before[0] + 40)) || return
		before=("${before[@]:1}")
	done
}

# Loads run in the background until there is $WORK/stop, and then leave their
# exit status in $WORK/status-NAME.
loads_end() {
	local name
	touch "$WORK/stop"
	for name; do
		wait_for 150 "fio on $name ends" test -s "$WORK/status-$name" || return
	done
}

start_dbus() {
	pgrep -x dbus-daemon >/dev/null || {
		rm -f /run/dbus/pid
		dbus-daemon --system --fork || return
	}
	wait_for 20 "the system bus" test -S /run/dbus/system_bus_socket
}

owns_bus_name() {
	dbus-send --system --print-reply=literal --dest=org.freedesktop.DBus / \
		org.freedesktop.DBus.NameHasOwner string:org.kernel.TCMUService1 2>/dev/null |
		grep -q true
}

runner_pid() {
	local pid
	pid=$(cat $pid_file 2>/dev/null) && ! gone "$pid" && echo "$pid"
}

# True also when there is nothing to wait for any more.
runner_settled() { gone "$1" || owns_bus_name; }

# RUNNER_PREFIX=(COMMAND ARGS...) is put before it; it must exec.
RUNNER_PREFIX=()
runner_spawn() {
	local lib=$RUNNER_ROOT/usr/lib/x86_64-linux-gnu
	local command=(env "LD_LIBRARY_PATH=$lib" "$RUNNER_ROOT/usr/bin/tcmu-runner"
		"--handler-path=$lib/tcmu-runner")

	if [ "${1:-}" = stock ]; then
		command=(/usr/bin/tcmu-runner)
		shift
	fi
	start_dbus || return
	! runner_pid >/dev/null || complain "tcmu-runner is running already" || return
	# One that was killed may still be on the bus.
	# shellcheck disable=SC2016
	wait_for 20 "the former tcmu-runner leaves the bus" eval '! owns_bus_name' || return
	rm -f "$RUNNER_LOG"
	setsid "${RUNNER_PREFIX[@]}" "${command[@]}" "$@" </dev/null >"$WORK/runner.out" 2>&1 &
	disown $!
	echo $! >$pid_file
}

runner_start() {
	local pid
	runner_spawn "$@" || return
	pid=$(cat $pid_file)
	wait_for 60 "tcmu-runner is on the bus" runner_settled "$pid" &&
		! gone "$pid" && return
	tail -n 20 "$WORK/runner.out" "$RUNNER_LOG" >&2
	complain "tcmu-runner did not start"
}

# runner_signal SIGNAL SECONDS
runner_signal() {
	local pid
	pid=$(runner_pid) || { rm -f $pid_file; return 0; }
	kill -CONT "$pid"
	kill "-$1" "$pid"
	wait_for "$2" "tcmu-runner ends after SIG$1" gone "$pid" || return
	rm -f $pid_file
}
runner_stop() { runner_signal TERM 30; }
runner_kill() { runner_signal KILL 60; }

qcow_create() {
	python3 - "$1" "$2" <<-'END'
		import struct, sys
		path, size = sys.argv[1], int(sys.argv[2]) << 20
		cluster = 1 << 16
		l1_entries = -(-size // (cluster * cluster // 8))
		with open(path, "wb") as f:
		    # header, refcount table, refcount block, L1 table: a cluster each
		    f.write(struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, size,
		                        0, l1_entries, 3 * cluster, cluster, 1, 0, 0))
		    f.seek(cluster)
		    f.write(struct.pack(">Q", 2 * cluster))
		    f.seek(2 * cluster)
		    f.write(struct.pack(">4H", 1, 1, 1, 1))
		    f.truncate(4 * cluster)
	END
}

# Commands as arguments give an exit status; several, from stdin, save time.
tcli() { timeout -k 5 $((120 * slow)) "$TARGETCLI" "$@"; }

# The configfs directory of a backstore.
backstore() {
	local dir
	for dir in "$target"/core/user_*/"$1"; do
		[ -d "$dir" ] && echo "$dir" && return
	done
	complain "there is no backstore $1"
}

backstore_create() {
	tcli "/backstores/user:$2" create "name=$1" "size=$3" "cfgstring=$4" \
		"control=${5:-zero_copy=1,hw_max_sectors=8192}" && backstore "$1" >/dev/null &&
		{ [ $slow = 1 ] || echo $((30 * slow)) >"$(backstore "$1")/attrib/cmd_time_out"; }
}
backstore_delete() {
	local dir
	dir=$(backstore "$1") || return
	# Not by the node of its subtype, which is there only while tcmu-runner is.
	tcli "/backstores/user:$(subtype "$dir")" delete "$1" || return
	[ ! -d "$dir" ] || complain "the backstore $1 is still there"
}
subtype() { sed -n 's,.*Config: \([^ /]*\)/.*,\1,p' "$1/info"; }

attrib() {
	local dir
	dir=$(backstore "$1") && cat "$dir/attrib/$2"
}
counter() {
	local dir
	dir=$(backstore "$1") && cat "$dir/statistics/tcmu/$2"
}
counters() {
	local dir
	dir=$(backstore "$1") && (cd "$dir/statistics/tcmu" && grep . ./*)
}
uncopied() { echo $(($(counter "$1" "mapped_$2") + $(counter "$1" "inplace_$2"))); }

# Names of a LUN's targets, made from the backstore's.
naa() { echo "naa.5001405$(printf %s "$1" | md5sum | cut -c 1-9)"; }
iqn() { echo "iqn.2026-01.org.example:$1"; }

# scsi_lun FABRIC TARGET N: leaves the directory of the target's LUN N, as the
# initiator has it in /sys/class/scsi_device, in $lun.
scsi_lun() {
	local session
	lun=
	case $1 in
	loop) lun=/sys/class/scsi_device/$(cat "$target/loopback/$(naa "$2")/tpgt_1/address"):$3 ;;
	iscsi)
		for session in /sys/class/iscsi_session/session*; do
			[ "$(cat "$session/targetname" 2>/dev/null)" = "$(iqn "$2")" ] || continue
			lun=$(echo "$session"/device/target*/*:"$3"/scsi_device/*)
		done
		;;
	esac
	[ -d "$lun" ]
}
# The same; leaves its block device in $disk.
scsi_disk() {
	local found
	scsi_lun "$@" || return
	found=("$lun/device/block/"*)
	[ -d "${found[0]}" ] || return
	disk=/dev/${found[0]##*/}
	[ -b "$disk" ] && [ "$(cat "${found[0]}/size")" -gt 0 ] || return
	[ $slow = 1 ] || echo $((30 * slow)) >"${found[0]}/device/timeout"
}

# say_loop TARGET BACKSTORE..., say_iscsi TARGET BACKSTORE...: what targetcli is
# told to make a target of these, LUNs 0, 1 and so on. For iSCSI with the
# authentication that targetcli chooses: an ACL for our initiator.
say_loop() {
	local wwn
	wwn=$(naa "$1")
	shift
	echo "/loopback create $wwn"
	printf "/loopback/$wwn/luns create /backstores/%s\n" "$@"
}
say_iscsi() {
	local iqn
	iqn=$(iqn "$1")
	shift
	echo "set global auto_add_default_portal=false auto_add_mapped_luns=true"
	echo "/iscsi create $iqn"
	echo "/iscsi/$iqn/tpg1/portals create ${portal%:*} ${portal#*:}"
	printf "/iscsi/$iqn/tpg1/luns create /backstores/%s\n" "$@"
	echo "/iscsi/$iqn/tpg1/acls create $initiator"
}

start_iscsid() {
	# As the unit does that starts it on a system that has booted.
	pgrep -x iscsid >/dev/null || { modprobe iscsi_tcp && iscsid; } || return
	wait_for 20 "iscsid answers" grep -q ISCSIADM_ABSTRACT_NAMESPACE /proc/net/unix
}

# iscsi_login TARGET
iscsi_login() {
	start_iscsid && { iscsiadm -m discovery -t sendtargets -p "$portal" &&
		iscsiadm -m node -T "$(iqn "$1")" -p "$portal" --login; } >"$WORK/iscsiadm.out" 2>&1 && return
	cat "$WORK/iscsiadm.out" >&2
	return 1
}

# The path of a backstore for targetcli.
store() { echo "user:$(subtype "$(backstore "$1")")/$1"; }

loop_lun() {
	say_loop "$1" "$(store "$1")" | tcli >"$WORK/targetcli.out" 2>&1
	wait_for 30 "a disk for $1 over tcm_loop" scsi_disk loop "$1" 0 && return
	cat "$WORK/targetcli.out" >&2
	return 1
}
iscsi_lun() {
	say_iscsi "$1" "$(store "$1")" | tcli >"$WORK/targetcli.out" 2>&1
	iscsi_login "$1" && wait_for 30 "a disk for $1 over iSCSI" scsi_disk iscsi "$1" 0 && return
	cat "$WORK/targetcli.out" >&2
	return 1
}

iscsi_logout() {
	iscsiadm -m node -T "$(iqn "$1")" --logout >"$WORK/iscsiadm.out" 2>&1 &&
		iscsiadm -m node -T "$(iqn "$1")" -o delete && return
	cat "$WORK/iscsiadm.out" >&2
	return 1
}

lun_remove() {
	local wwn iqn
	wwn=$(naa "$1") iqn=$(iqn "$1")
	if [ -d "$target/iscsi/$iqn" ]; then
		iscsi_logout "$1" || return
		tcli /iscsi delete "$iqn" || return
	fi
	if [ -d "$target/loopback/$wwn" ]; then
		tcli /loopback delete "$wwn" || return
	fi
}

reset_rings() {
	local file
	for file in "$target"/core/user_*/*/action/reset_ring; do
		[ ! -e "$file" ] || echo 2 >"$file"
	done
}

# Nobody will complete what a dead daemon was given, nor what still comes.
give_up_io() {
	local file
	for file in /sys/block/sd*/device/state; do
		[ ! -e "$file" ] || echo offline >"$file"
	done
	reset_rings
	# Nor will it answer the kernel. Resetting needs netlink to be blocked.
	echo 1 >$netlink/block_netlink
	echo 1 >$netlink/reset_netlink
	echo 0 >$netlink/block_netlink
}

# All are LUNs of the same two targets, in the order of the list.
luns_create() {
	local fabric name subtype size cfg control rest n=0 stores=()
	cat >"$WORK/luns"
	{
		while read -r name subtype size cfg control; do
			stores+=("user:$subtype/$name")
			echo "/backstores/user:$subtype create name=$name size=$size cfgstring=$cfg control=$control"
			[ $slow = 1 ] || echo "/backstores/user:$subtype/$name set attribute cmd_time_out=$((30 * slow))"
		done <"$WORK/luns"
		for fabric in $1; do "say_$fabric" luns "${stores[@]}"; done
	} | tcli >"$WORK/targetcli.out" 2>&1
	while read -r name rest; do
		backstore "$name" >/dev/null || n=1
	done <"$WORK/luns"
	[[ $1 != *iscsi* ]] || iscsi_login luns || n=1
	[ $n = 0 ] || cat "$WORK/targetcli.out" >&2
	return $n
}

# its_lun COMMAND FABRIC NAME: with the number that it has in the list
its_lun() {
	local n
	n=$(grep -n "^$3 " "$WORK/luns") || return
	"$1" "$2" luns $((${n%%:*} - 1))
}
lun_disk() { wait_for 30 "a disk for $2 over $1" its_lun scsi_disk "$1" "$2"; }
lun_sg_is_there() {
	its_lun scsi_lun "$1" "$2" || return
	sg=$(echo "$lun"/device/scsi_generic/*)
	sg=/dev/${sg##*/}
	[ -c "$sg" ]
}
lun_sg() { wait_for 30 "an sg device for $2 over $1" lun_sg_is_there "$1" "$2"; }

no_news() { wait_for 20 "$1 is ready" eval "sg_raw $1 00 00 00 00 00 00 >/dev/null 2>&1"; }

no_sessions() { [ -z "$(ls /sys/class/iscsi_session 2>/dev/null)" ]; }
objects() { ls -d $target/core/user_*/*/ $target/loopback/naa* $target/iscsi/iqn* 2>/dev/null; }

cleanup() {
	local mount pid resetter='' status=0
	if pid=$(runner_pid); then
		kill -CONT "$pid"
	else
		give_up_io
		# What taking down sends, a cache flush say, would wait, too.
		while sleep 1; do reset_rings; done &
		resetter=$!
	fi
	awk '$1 ~ "^/dev/(sd|loop)" { print $2 }' /proc/mounts | tac | while read -r mount; do
		timeout 30 umount "$mount" || umount -l "$mount"
	done
	losetup -D
	if ! no_sessions; then
		timeout 60 iscsiadm -m node --logoutall=all >/dev/null 2>&1
		wait_for 30 "the iSCSI sessions end" no_sessions || status=1
	fi
	if pgrep -x iscsid >/dev/null; then
		timeout 10 iscsiadm -m node -o delete >/dev/null 2>&1
		timeout 10 iscsiadm -k 0
		wait_for 10 "iscsid ends" eval '! pgrep -x iscsid >/dev/null' || status=1
	fi
	if [ -n "$(objects)" ]; then
		start_dbus
		tcli clearconfig confirm=True >"$WORK/clearconfig.out" 2>&1
		if [ -n "$(objects)" ]; then
			cat "$WORK/clearconfig.out" >&2
			complain "left in configfs: $(objects | tr '\n' ' ')" || status=1
		fi
	fi
	[ -z "$resetter" ] || kill $resetter
	runner_stop || runner_kill || status=1
	# What was written to a disk that was gone is a file where the next one
	# should be.
	find /dev -maxdepth 1 -name 'sd*' -type f -delete
	# targetcli keeps what "set global" changed.
	rm -rf "$WORK" ~/.targetcli
	mkdir -p "$WORK"
	return $status
}

# A test that has a function of the same name finds out. One has a tcli of its
# own on purpose.
mapfile -t functions < <(declare -F | cut -d ' ' -f 3 | grep -vx tcli)
readonly -f "${functions[@]}"
