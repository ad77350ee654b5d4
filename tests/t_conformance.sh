#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Zero copy changes nothing that an initiator can see: libiscsi's conformance
# tests and the queries of sg3-utils have the same results with zero_copy=0 and
# with zero_copy=1. What fails in both is listed, and is not a failure here.
# With zero_copy=1 all that is a whole page is mapped, not only what is large.
. "$(dirname "$0")/lib.sh"

# Left out: Sanitize and MultipathIO, which skip all they have without more
# options and paths; iSCSISendTargets, which waits for time-outs and has no LUN;
# of those that differ only in the length of the CDB and take long, READ and
# VERIFY (12), WRITE (10), WRITE (12), WRITE SAME (10), WRITE AND VERIFY (12)
# and (16); and more on a slow kernel.
suites=(CompareAndWrite ExtendedCopy GetLBAStatus Inquiry Mandatory ModeSense6
	NoMedia OrWrite Prefetch10 Prefetch16 PreventAllow PrinReadKeys
	PrinServiceactionRange PrinReportCapabilities ProutRegister ProutReserve
	ProutClear ProutPreempt Read6 Read10 Read16 ReadCapacity10
	ReadCapacity16 ReadDefectData10 ReadDefectData12 ReadOnly
	ReceiveCopyResults ReportLUNs ReportSupportedOpcodes Reserve6
	StartStopUnit TestUnitReady Unmap Verify10 Verify16 WriteAtomic16)
[ "$slow" -gt 1 ] || suites+=(Write16 WriteSame16 WriteVerify10)
suites=("${suites[@]/#/SCSI.}" iSCSI.iSCSIcmdsn iSCSI.iSCSIdatasn
	iSCSI.iSCSIResiduals iSCSI.iSCSITMF iSCSI.iSCSINop iSCSI.iSCSICHAP)

# The disks over tcm_loop are left in $disks.
serve() {
	local zero_copy
	disks=()
	for zero_copy in 0 1; do
		# With names as similar as can be: several pages are made from them.
		echo "/backstores/user:zcfile create name=zc$zero_copy size=64M cfgstring=$WORK/zc$zero_copy control=zero_copy=$zero_copy,zero_copy_min_bytes=4096,hw_max_sectors=8192 wwn=27117ffc-626e-476b-ae92-ae5bc44c3de$zero_copy"
		say_iscsi zc$zero_copy user:zcfile/zc$zero_copy
		echo "/iscsi/$(iqn zc$zero_copy)/tpg1 set attribute authentication=0 demo_mode_write_protect=0 generate_node_acls=1 cache_dynamic_acls=1"
		say_loop zc$zero_copy user:zcfile/zc$zero_copy
	done >"$WORK/targetcli.in"
	truncate -s 64M "$WORK/zc0" "$WORK/zc1"
	tcli <"$WORK/targetcli.in" >"$WORK/targetcli.out" 2>&1
	for zero_copy in 0 1; do
		if ! wait_for 30 "a disk" scsi_disk loop zc$zero_copy 0 ||
			! [ -d "$target/iscsi/$(iqn zc$zero_copy)/tpgt_1/lun/lun_0" ]; then
			cat "$WORK/targetcli.out"
			return 1
		fi
		disks+=("$disk")
	done
}

# One line for each test: its name, and passed, FAILED (with the lines of its
# source that failed) or skipped, which is CUnit's passed with a remark.
results_of() {
	awk '
		function flush() {
			if (test != "")
				print suite "." test ": " (failed ? "FAILED" lines : skipped ? "skipped" : "passed")
			test = lines = ""; failed = skipped = 0
		}
		/^Suite: / { flush(); suite = $2 }
		/^ *Test: / { flush(); test = $2 }
		/\[SKIPPED\]/ { skipped = 1 }
		/FAILED$/ { failed = 1 }
		/^ *[0-9]+\. [a-z0-9_]+\.c:[0-9]+/ { sub(/^ *[0-9]+\. /, ""); lines = lines " " $1 }
		/^Run Summary/ { flush() }
		END { flush(); }' "$1"
}

# Whether a reservation is gone with its session is asked at once, and the target
# ends sessions in the background: these two pass and fail by chance.
by_chance='^Reserve6\.(ITNexusLoss|Logout):'

# one_suite ZERO_COPY SUITE: its results, as text
one_suite() {
	timeout $((120 * slow)) iscsi-test-cu --dataloss --verbose --test="$2" \
		"iscsi://$portal/$(iqn "zc$1")/0" >"$WORK/cu.out$1" 2>&1
	# 1: something failed
	[ $? -le 1 ] || echo "$2: did not get there"
	results_of "$WORK/cu.out$1" | grep -vE "$by_chance"
}
# conformance ZERO_COPY: results in $WORK/cu$1, a file for each suite
conformance() {
	local suite
	mkdir -p "$WORK/cu$1"
	for suite in "${suites[@]}"; do one_suite "$1" "$suite" >"$WORK/cu$1/$suite"; done
}
# Others may look too early at what the target does in the background, too: what
# differs is tried again.
once_more() {
	local suite
	for suite in "${suites[@]}"; do
		cmp -s "$WORK/cu0/$suite" "$WORK/cu1/$suite" && continue
		echo "# once more: $suite"
		diff "$WORK/cu0/$suite" "$WORK/cu1/$suite" | sed 's/^/# /'
		one_suite 0 "$suite" >"$WORK/cu0/$suite"
		one_suite 1 "$suite" >"$WORK/cu1/$suite"
	done
}

count() { cat "$WORK/cu$1"/* | grep -c ": $2"; }
same_results() { diff -r "$WORK/cu0" "$WORK/cu1"; }
some_passed() { [ "$(count "$1" passed)" -ge 60 ] && ! grep -r 'did not get there' "$WORK/cu$1"; }
mapped() { [ "$(uncopied "$1" cmds)" -ge 100 ]; }

# Everything that can be asked. What is returned goes through a filter, for
# names that can't be the same.
asked() {
	local disk=$1 page
	for page in 00 80 83 86 87 b0 b1 b2 b3 c0; do
		echo "sg_inq --raw --page=0x$page $disk"
	done
	cat <<-END
		sg_inq --raw $disk
		sg_vpd --all $disk
		sg_readcap $disk
		sg_readcap --long --raw $disk
		sg_modes --all --raw $disk
		sg_modes --six --all $disk
		sg_modes --all --control=1 $disk
		sg_luns $disk
		sg_luns --select=2 $disk
		sg_turs $disk
		sg_requests $disk
		sg_sync $disk
		sg_sync --16 --lba=8 --count=8 $disk
		sg_verify --lba=0 --count=64 $disk
		sg_verify --16 --lba=0 --count=64 $disk
		sg_verify --lba=131072 --count=1 $disk
		sg_opcodes $disk
		sg_opcodes --opcode=0x28 $disk
		sg_get_lba_status --lba=0 $disk
		sg_get_lba_status --lba=131071 $disk
		sg_logs --all $disk
		sg_persist --in --read-keys $disk
		sg_persist --in --report-capabilities $disk
		sg_rtpg --decode $disk
		sg_referrals $disk
		sg_senddiag --test $disk
		sg_start --start $disk
		sg_prevent --allow $disk
		sg_ident $disk
		sg_copy_results --params $disk
		sg_read_long --lba=0 $disk
		sg_raw -r 64k $disk 28 00 00 00 00 00 00 00 80 00
		sg_raw -r 64k $disk 28 00 00 01 ff f0 00 00 80 00
		sg_raw -r 4k $disk 28 00 00 00 00 00 00 00 80 00
		sg_raw -r 64k $disk 28 00 00 00 00 00 00 00 08 00
		sg_raw -r 512 $disk 0f 00 00 00 00 00
		sg_raw $disk c0 00 00 00 00 00 00 00 00 00
	END
}
queries() {
	local line
	no_news "$1" || return
	while read -r line; do
		echo "--- $line"
		# shellcheck disable=SC2086
		timeout $((30 * slow)) $line </dev/null 2>&1 | sed -E 's/c3de[01]/c3deN/g; s/zc[01]/zcN/g' |
			if [[ $line = *--raw* ]]; then od -A d -t x1z; else cat; fi
		echo "exit status ${PIPESTATUS[0]}"
	done < <(asked "$1") | sed "s,$1,DISK,"
}
# QUEUE ALGORITHM MODIFIER 1, in byte 3 of the page; a header comes before it.
may_reorder() { [ "$(sg_modes --dbd --page=0xa --raw "$1" | od -An -t x1 -j 11 -N 1)" = " 10" ]; }
same_answers() { diff "$WORK/answers0" "$WORK/answers1"; }
# Nearly all of them are understood, or this would compare refusals.
some_answers() {
	cat "$WORK/answers1"
	[ "$(grep -c 'exit status 0' "$WORK/answers1")" -ge 20 ]
}

check "tcmu-runner starts" runner_start || { plan; exit; }
# Where the target keeps reservations that outlive it.
mkdir -p /etc/rtslib-fb-target/pr
# Not by check: that would lose the disks.
serve || { not_ok "the same LUN twice"; plan; exit; }
ok "the same LUN twice"

queries "${disks[0]}" >"$WORK/answers0"
queries "${disks[1]}" >"$WORK/answers1"
check "sg3-utils: answers" some_answers
check "sg3-utils: the same answers" same_answers
check "control mode page: commands may be reordered" may_reorder "${disks[1]}"

conformance 0 &
conformance 1
wait
once_more
for zero_copy in 0 1; do
	echo "# iscsi-test-cu, zero_copy=$zero_copy: $(count $zero_copy passed) passed, $(count $zero_copy FAILED) failed, $(count $zero_copy skipped) skipped"
	check "iscsi-test-cu, zero_copy=$zero_copy: it runs, and much passes" some_passed $zero_copy
done
check "iscsi-test-cu: the same results" same_results
# Names only: many fail in many lines.
echo "# failed with both: $(cat "$WORK"/cu0/* | sed -n 's/: FAILED.*//p' | tr '\n' ' ')"
check "iscsi-test-cu: mapped with zero_copy=1" mapped zc1
check "tcmu-runner is still there" runner_pid
plan
