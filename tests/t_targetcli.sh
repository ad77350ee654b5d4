#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# targetcli as Debian ships it, trixie's and sid's: zero copy can be set up,
# looked at, changed and saved, a wrong value is refused with a message and
# leaves nothing behind, and either restores what the other saved. rtslib does
# not save zero_copy among what it passes to control, only as an attribute,
# which it writes when the device is enabled already: restoreconfig then says
# that zero_copy could not be set, and the device copies. With zero_copy=1 added
# to "control" in the saved file it is back.
# With the series of rtslib-fb/ (make rtslib-fb) it is in the saved file, as is
# cmd_ring_size_mb: both versions restore it, from what either has saved, also
# an unmodified one; a backstore without zero copy stays one.
. "$(dirname "$0")/lib.sh"

node=/backstores/user:qcow
control=zero_copy=1,zero_copy_min_bytes=16384,hw_max_sectors=8192,max_data_area_mb=64,cmd_ring_size_mb=4
rtslib=${RTSLIB_ROOT:-$(cd "$here/.." && pwd)/build/rtslib-fb}
session=

# One targetcli for many commands, as starting it takes seconds. An error is
# what it writes to stderr.
session_start() {
	coproc CLI { exec "$TARGETCLI" 2>>"$WORK/errors"; }
	exec 5>&"${CLI[1]}" 6<&"${CLI[0]}"
	session=$CLI_PID
	tcli version >"$WORK/version" 2>&1
}
session_end() {
	echo exit >&5
	timeout 60 cat <&6 >/dev/null
	exec 5>&- 6<&-
	wait "$session" 2>/dev/null
	session=
}
tcli() {
	local line
	if [ -z "$session" ]; then
		timeout -k 5 120 "$TARGETCLI" "$@"
		return
	fi
	if [ $# = 0 ]; then
		while read -r line; do tcli "$line"; done
		return
	fi
	: >"$WORK/errors"
	# pwd says when the output of the command has ended.
	printf '%s\npwd\n' "$*" >&5
	while IFS= read -r -t 120 -u 6 line; do
		while [[ $line = '/> '* ]]; do line=${line#/> }; done
		if [ "$line" = / ]; then
			cat "$WORK/errors" >&2
			[ ! -s "$WORK/errors" ]
			return
		fi
		echo "$line"
	done
	cat "$WORK/errors" >&2
	complain "targetcli does not answer"
}

create() { backstore_create disk qcow 64M "$WORK/image" "$control"; }
# is FILE=VALUE...: of disk
is() {
	local file
	for file; do
		[ "$(attrib disk "${file%=*}")" = "${file#*=}" ] ||
			complain "${file%=*} is $(attrib disk "${file%=*}"), not ${file#*=}" || return
	done
}
# prints PATTERN COMMAND...: and succeeds
prints() {
	local out
	out=$("${@:2}" 2>&1) && echo "$out" && grep -qE -- "$1" <<<"$out"
}
# refused PATTERN COMMAND...: with a line that has PATTERN, not a traceback
refused() {
	local out
	if out=$("${@:2}" 2>&1); then complain "succeeded: $out" || return; fi
	echo "$out"
	grep -qE -- "$1" <<<"$out" && ! grep -q Traceback <<<"$out"
}
nothing_left() {
	local left
	left=$(objects)
	[ -z "$left" ] || complain "in configfs: $left"
}
ls_is_empty() { prints 'Storage Objects: 0' tcli "$node" ls; }
wrong() {
	refused failed tcli "$node" create name=bad size=64M "cfgstring=$WORK/image" "control=$1" &&
		nothing_left
}
# dev_config, dev_size and emulate_write_cache give errors without zero copy,
# too: no handler of tcmu-runner's takes them while the device is enabled.
restore() {
	local out
	out=$(tcli restoreconfig "$1" 2>&1)
	echo "$out"
	! grep -q 'zero_copy_min' <<<"$out" || return
	if grep -q 'Cannot set attribute zero_copy:' <<<"$out"; then
		is zero_copy=0
	else
		is zero_copy=1
	fi
}
restore_fully() {
	local out
	out=$(tcli restoreconfig "$1" 2>&1)
	echo "$out"
	! grep -q 'zero_copy\|cmd_ring' <<<"$out"
}
saved_values() {
	grep '"z' "$1"
	grep -q '"zero_copy": 1' "$1" && grep -q '"zero_copy_min_bytes": 32768' "$1" &&
		! grep -q '"mapped_' "$1"
}
clear_all() { tcli clearconfig confirm=True && nothing_left; }

# restores SAVED: with an unmodified rtslib, what an unmodified rtslib saved
restores() {
	local with_control=$WORK/$1-with-control.json t
	t="$TARGETCLI, of what $1 saved"
	check "$t: restoreconfig" restore "$WORK/$1.json"
	check "$t: the threshold is back" is zero_copy_min_bytes=32768 max_data_area_mb=64
	check "$t: clearconfig" clear_all
	sed 's/"control": "/&zero_copy=1,/' "$WORK/$1.json" >"$with_control"
	t="$TARGETCLI, of what $1 saved, with zero_copy in control"
	check "$t: restoreconfig" restore_fully "$with_control"
	check "$t: zero copy and the threshold are back" \
		is zero_copy=1 zero_copy_min_bytes=32768 max_data_area_mb=64
	check "$t: clearconfig" clear_all
}

# Two backstores, of which one is as if there were no zero copy, and a LUN.
create_all() {
	create && backstore_create plain qcow 8M "$WORK/plain" hw_max_sectors=8192 &&
		loop_lun disk && dd if="$WORK/data" of="$disk" bs=1M oflag=direct status=none
}
# The values of "control": those of disk, those of plain.
saved_control() {
	local values
	values=$(sed -n 's/.*"control": "\(.*\)".*/,\1,/p' "$1")
	echo "$values"
	[ "$(wc -l <<<"$values")" = 2 ] && [ "$(grep -c zero_copy <<<"$values")" = 1 ] &&
		grep ',zero_copy=1,' <<<"$values" | grep -q ',cmd_ring_size_mb=4,' &&
		grep -v zero_copy <<<"$values" | grep -q ',cmd_ring_size_mb=8,'
}
reads_in_place() {
	wait_for 30 "the disk is back" scsi_disk loop disk 0 || return
	dd if="$disk" bs=1M count=1 iflag=direct status=none | cmp - "$WORK/data" || return
	[ "$(counter disk mapped_bytes)" -ge 1048576 ] ||
		complain "$(counter disk mapped_bytes) bytes were mapped"
}
plain_is_plain() {
	[ "$(attrib plain zero_copy) $(attrib plain cmd_ring_size_mb)" = "0 8" ]
}
# restores_all SAVED: what a patched rtslib saved
restores_all() {
	local t="${TARGETCLI##*/}, of what $1 saved"
	check "$t: restoreconfig" restore_fully "$WORK/$1.json"
	check "$t: zero copy, the threshold and the ring's size are back" \
		is zero_copy=1 zero_copy_min_bytes=16384 max_data_area_mb=64 cmd_ring_size_mb=4
	check "$t: data is read in place" reads_in_place
	check "$t: the other backstore has no zero copy" plain_is_plain
	check "$t: clearconfig" clear_all
}
# patched NAME PYTHONPATH COMMAND
patched() {
	printf '#!/bin/sh\nPYTHONPATH=%s exec %s "$@"\n' "$2" "$3" >"$WORK/$1"
	chmod +x "$WORK/$1"
}

qcow_create "$WORK/image" 64
qcow_create "$WORK/plain" 8
head -c 1M /dev/urandom >"$WORK/data"
check "tcmu-runner starts" runner_start stock || { plan; exit; }

for TARGETCLI in targetcli targetcli-sid; do
	t=$TARGETCLI
	check "$t: create" create || continue
	session_start
	check "$t: configfs has what was asked for" \
		is zero_copy=1 zero_copy_min_bytes=16384 max_data_area_mb=64 cmd_ring_size_mb=4
	check "$t: ls" prints ' disk ' tcli "$node" ls
	check "$t: info" prints 'hw_max_sectors: 8192' tcli "$node/disk" info
	check "$t: get attribute" prints '^zero_copy=1' tcli "$node/disk" get attribute zero_copy
	check "$t: a counter is no attribute" \
		refused "No parameter" tcli "$node/disk" get attribute mapped_bytes
	check "$t: set attribute" tcli "$node/disk" set attribute zero_copy_min_bytes=32768
	check "$t: the threshold has changed" is zero_copy_min_bytes=32768
	check "$t: a wrong threshold is refused" \
		refused Invalid tcli "$node/disk" set attribute zero_copy_min_bytes=-1
	check "$t: the threshold is what it was" is zero_copy_min_bytes=32768
	check "$t: saveconfig" tcli saveconfig "$WORK/$t.json"
	check "$t: the switch and the threshold are saved, the counters are not" \
		saved_values "$WORK/$t.json"
	check "$t: clearconfig" clear_all
	check "$t: zero_copy=banana" wrong zero_copy=banana
	check "$t: zero_copy_min_bytes=-1" wrong zero_copy_min_bytes=-1
	check "$t: nothing is listed" ls_is_empty
	[ $TARGETCLI = targetcli ] || restores targetcli
	session_end
	# By itself, to see the exit status.
	check "$t: zero_copy=2" wrong zero_copy=2
done

patched trixie-patched "$rtslib/trixie" targetcli
sid=/opt/sid/usr
patched sid-patched "$rtslib/sid:$sid/lib/python3/dist-packages" $sid/bin/targetcli
if check "the patched rtslib is there (make rtslib-fb)" test -d "$rtslib/sid" -a -d "$rtslib/trixie"; then
	for t in trixie-patched sid-patched; do
		TARGETCLI=$WORK/$t
		session_start
		check "$t: create" create_all
		check "$t: saveconfig" tcli saveconfig "$WORK/$t.json"
		check "$t: zero copy and the ring's size are saved" saved_control "$WORK/$t.json"
		check "$t: clearconfig" clear_all
		restores_all $t
		[ ${TARGETCLI##*/} = trixie-patched ] || restores_all trixie-patched
		session_end
	done
fi

TARGETCLI=targetcli
session_start
restores targetcli-sid
# The series changes what is saved, not how it is restored: this is both's.
[ ! -e "$WORK/sid-patched.json" ] || restores_all sid-patched
session_end
check "tcmu-runner ends" runner_stop
plan
