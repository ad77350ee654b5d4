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
. "$(dirname "$0")/lib.sh"

node=/backstores/user:qcow
control=zero_copy=1,zero_copy_min_bytes=16384,hw_max_sectors=8192,max_data_area_mb=64

create() { backstore_create disk qcow 64M "$WORK/image" "$control"; }
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
	! grep -q 'zc_\|zero_copy_min' <<<"$out" || return
	if grep -q 'Cannot set attribute zero_copy:' <<<"$out"; then
		is zero_copy=0
	else
		is zero_copy=1
	fi
}
add_to_control() { sed -i 's/"control": "/&zero_copy=1,/' "$1"; }
restore_fully() {
	local out
	out=$(tcli restoreconfig "$1" 2>&1)
	echo "$out"
	! grep -q 'zc_\|zero_copy' <<<"$out"
}
saved_values() {
	grep '"z' "$1"
	grep -q '"zero_copy": 1' "$1" && grep -q '"zero_copy_min_bytes": 32768' "$1" &&
		! grep -q '"zc_' "$1"
}
clear_all() { tcli clearconfig confirm=True && nothing_left; }

qcow_create "$WORK/image" 64
check "tcmu-runner starts" runner_start stock || { plan; exit; }

for TARGETCLI in targetcli targetcli-sid; do
	t=$TARGETCLI
	check "$t: create" create || continue
	check "$t: configfs has what was asked for" \
		is zero_copy=1 zero_copy_min_bytes=16384 max_data_area_mb=64
	check "$t: ls" prints ' disk ' tcli "$node" ls
	check "$t: info" prints 'hw_max_sectors: 8192' tcli "$node/disk" info
	check "$t: get attribute" prints '^zero_copy=1' tcli "$node/disk" get attribute zero_copy
	check "$t: get attribute of a counter" \
		prints '^zc_mapped_bytes=0.*ro' tcli "$node/disk" get attribute zc_mapped_bytes
	check "$t: set attribute" tcli "$node/disk" set attribute zero_copy_min_bytes=32768
	check "$t: the threshold has changed" is zero_copy_min_bytes=32768
	check "$t: a wrong threshold is refused" \
		refused Invalid tcli "$node/disk" set attribute zero_copy_min_bytes=-1
	check "$t: a counter can't be set" \
		refused read-only tcli "$node/disk" set attribute zc_mapped_bytes=1
	check "$t: the threshold is what it was" is zero_copy_min_bytes=32768
	check "$t: saveconfig" tcli saveconfig "$WORK/$t.json"
	check "$t: the switch and the threshold are saved, the counters are not" \
		saved_values "$WORK/$t.json"
	check "$t: clearconfig" clear_all
	check "$t: zero_copy=2" wrong zero_copy=2
	check "$t: zero_copy=banana" wrong zero_copy=banana
	check "$t: zero_copy_min_bytes=-1" wrong zero_copy_min_bytes=-1
	check "$t: nothing is listed" ls_is_empty
done

for saved in targetcli targetcli-sid; do
	case $saved in targetcli) TARGETCLI=targetcli-sid ;; *) TARGETCLI=targetcli ;; esac
	t="$TARGETCLI, of what $saved saved"
	check "$t: restoreconfig" restore "$WORK/$saved.json"
	check "$t: the threshold is back" is zero_copy_min_bytes=32768 max_data_area_mb=64
	check "$t: clearconfig" clear_all
	add_to_control "$WORK/$saved.json"
	for TARGETCLI in targetcli targetcli-sid; do
		t="$TARGETCLI, of what $saved saved, with zero_copy in control"
		check "$t: restoreconfig" restore_fully "$WORK/$saved.json"
		check "$t: zero copy and the threshold are back" \
			is zero_copy=1 zero_copy_min_bytes=32768 max_data_area_mb=64
		check "$t: clearconfig" clear_all
	done
done
check "tcmu-runner ends" runner_stop
plan
