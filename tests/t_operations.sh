#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# docs/operations.md, word by word: all its sh blocks are run in one shell, in
# order. The first command that fails is named, with its line in the guide.
# After each section, what it claims is looked at. GUIDE=FILE is another one.
. "$(dirname "$0")/lib.sh"

guide=${GUIDE:-$here/../docs/operations.md}
mounted=/mnt/disk0

# --- in the guide's shell ------------------------------------------------

# True if the guide's disk is mounted, over iSCSI.
over_iscsi() {
	local source
	source=$(findmnt -no SOURCE $mounted) && [[ $(readlink -f "/sys/block/${source#/dev/}") == */session* ]]
}

attrib_is() { in_range "$1" "$(attrib disk0 "$1")" "$2"; }
# counter_is NAME LOW HIGH
counter_is() { in_range "$1" "$(counter disk0 "$1")" "$2" "$3"; }
in_range() {
	if [ -z "$2" ] || [ "$2" -lt "$3" ] || [ "$2" -gt "${4:-$3}" ]; then
		complain "$1 is $2, should be $3${4:+ to $4}"
	fi
}
# By sums of what can be in place, too. The file was written, and read twice.
not_copied() { in_range "not copied" "$(uncopied disk0 bytes)" $((3 * 60 << 20)) $((1 << 40)); }
# Other tests have theirs.
mark="t_operations $$"
echo "$mark" >/dev/kmsg
io_errors() { dmesg | sed "1,/$mark/d" | grep -c 'I/O error'; }
nothing_left() {
	local left
	left=$(objects; findmnt -no TARGET $mounted; ls -d /srv/disk0.img $mounted /tmp/file.sum \
		/tmp/tcmu.data /etc/rtslib-fb-target/saveconfig.json /sys/class/iscsi_session/session* \
		/var/lib/iscsi/nodes/* /var/lib/iscsi/send_targets/* 2>/dev/null)
	[ -z "$left" ] || complain "left: $left" || return
	# They were told to end, and that takes a moment.
	wait_for 30 "the daemons end" eval '! pidof iscsid tcmu-runner'
}

claims() {
	local most=$((60 << 20)) all=$((1 << 40))	# of a file of 64 MiB
	case $1 in
	"What you need") cmp "/proc/$(pidof tcmu-runner)/exe" "$RUNNER_ROOT/usr/bin/tcmu-runner" ;;
	"Create a backstore") attrib_is zero_copy 1 && attrib_is hw_max_sectors 8192 ;;
	"Over tcm_loop"*) counter_is mapped_bytes $most $all ;;
	"Over iSCSI") over_iscsi && not_copied ;;
	"Save and restore") over_iscsi && attrib_is zero_copy 1 && attrib_is hw_max_sectors 8192 &&
		grep -q 'write back' /sys/class/scsi_disk/*/cache_type ;;
	"Knobs") attrib_is zero_copy_min_bytes 131072 && attrib_is qfull_time_out 60 ;;
	"See what happens") counter_is mapped_bytes $((2 * most)) $all ;;
	"When the handler dies") over_iscsi && [ "$(stat -c %s $mounted/during)" = $((64 << 20)) ] &&
		[ "$(io_errors)" = 0 ] ;;
	"Grow a LUN") [ "$(df --output=size -BM $mounted | tail -n 1 | tr -dc 0-9)" -ge 900 ] ;;
	"Back to stock") over_iscsi && attrib_is zero_copy 0 && counter_is copied_bytes $most $all ;;
	"Remove it") nothing_left ;;
	*) complain "what this section claims isn't looked at" ;;
	esac
}

# Fences become these, on the same lines, so that LINENO is the guide's.
section=
next_section() {
	[ -z "$section" ] || [ "$section" = "$1" ] || {
		claims "$section" || { trap - ERR; say "not_ok what \"$section\" claims"; exit 1; }
		say "ok what \"$section\" claims"
	}
	section=$1
}
block_start() {
	next_section "$2"
	echo "--- $2, line $1"
}
block_end() { say "ok line $1, $section"; }
say() { echo "$*" >&3; }
command_failed() {
	trap - ERR
	say "not_ok $guide, line $1: $2"
	exit 1
}

# --- outside of it ---------------------------------------------------------

write_script() {
	# shellcheck disable=SC2016
	echo 'set -eE; trap '\''command_failed $LINENO "$BASH_COMMAND"'\'' ERR'
	awk 'NR == 1 { next }
	     /^## / { section = substr($0, 4) }
	     !inside && /^```/ { inside = 1; ours = $0 == "```sh"
	                         print ours ? sprintf("block_start %d \"%s\"", NR + 1, section) : ""; start = NR + 1; next }
	     inside && /^```$/ { print ours ? "block_end " start : ""; inside = 0; next }
	     { print inside && ours ? $0 : "" }
	     END { print "next_section end" }' "$guide"
}

# The guide installs the patched tcmu-runner over Debian's, which other tests
# want: it is put aside.
put_aside() {
	(cd "$RUNNER_ROOT" && find . ! -type d) >"$WORK/installed" || return
	(cd / && while read -r file; do [ ! -e "$file" ] || echo "$file"; done) <"$WORK/installed" >"$WORK/debian" &&
		tar -C / -cf "$WORK/debian.tar" -T "$WORK/debian"
}
put_back() {
	pkill -x -KILL tcmu-runner
	(cd / && xargs -d '\n' rm -f) <"$WORK/installed"
	tar -C / -xf "$WORK/debian.tar" && ldconfig
}

# As in a guest that has just been started.
pkill -x dbus-daemon
wait_for 20 "the system bus ends" eval '! pidof dbus-daemon >/dev/null' || exit
rm -f /run/dbus/pid
write_script >"$WORK/script"
put_aside || exit
trap put_back EXIT

export guide mounted target WORK RUNNER_ROOT mark slow
for name in over_iscsi attrib_is counter_is in_range not_copied io_errors nothing_left claims next_section block_start block_end \
	say command_failed attrib counter uncopied backstore objects complain wait_for; do
	export -f "${name?}"
done
section='' bash "$WORK/script" >"$WORK/guide.out" 2>&1 3>"$WORK/results" </dev/null
status=$?

while read -r verdict name; do
	$verdict "$name"
done <"$WORK/results"
if [ $status -ne 0 ]; then
	grep -q ^not_ok "$WORK/results" || not_ok "exit status $status"
	tail -n 40 "$WORK/guide.out" | sed 's/^/# /'
fi
# For the one who brings the guide up to date.
[ ! -d /out ] || cp "$WORK/guide.out" /out/operations.out
plan
