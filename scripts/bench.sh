#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The benchmark: boots the bench kernel once for the clock and the kernel's
# counters, and once more with a plugin in qemu that counts what is executed;
# then makes tables and charts in build/bench/MODE.
#   bench.sh full|quick	MODE: all that docs/performance.md has, or some of it
#   bench.sh report MODE	the tables and charts again, from what was measured
#   bench.sh quote MODE		put them into docs/performance.md and docs/performance/
#   bench.sh cells MODE		what would be measured
# ROUNDS, LOAD_MS: how often, and for how long. CELLS: a regular expression for
# those to measure ("null 0 randread"). KERNEL: another kernel's build.
# Needs the bench kernel and the guest image (make bench sees to that).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

mode=${1:-full} what=measure
case $mode in
report | quote | cells) what=$mode mode=${2:-full} ;;
esac
case $mode in
# rounds, milliseconds of a run, of its warm-up, of a run that is counted
full) rounds=5 ms=350 warm=100 counted_ms=250 ;;
quick) rounds=3 ms=300 warm=80 counted_ms=200 ;;
*) die "$mode is neither full nor quick" ;;
esac
rounds=${ROUNDS:-$rounds} ms=${LOAD_MS:-$ms}
[[ $rounds$ms =~ ^[1-9][0-9]*$ ]] || die "ROUNDS and LOAD_MS are numbers"
out=$BUILD/bench/$mode
# Where the guest sees it, wherever BUILD is.
bin=$TOP/build/bench/bin
kernel=${KERNEL:-bench}

# --- what is measured
tcmu="loop:copy loop:mapped iscsi:copy iscsi:mapped iscsi:inplace"
all="loop:rd loop:copy loop:mapped iscsi:rd iscsi:copy iscsi:mapped iscsi:inplace
	ublk:copy ublk:u ublk:z ublk:auto_zc ublk:shmem_zc none:null_blk"

# cells CONTENDERS TARGET THREADS SIZES DEPTHS JOBS: one line each, the
# contenders of one after the other.
cells() {
	local rw bs qd jobs contender
	for rw in randread randwrite; do
		for bs in $4; do
			for qd in $5; do
				for jobs in $6; do
					for contender in $1; do
						echo "${contender/:/ } $2 $3 $rw $((bs * 1024)) $qd $jobs"
					done
				done
			done
		done
	done
}
# Every value of every dimension, not every combination: that would be 7800
# cells. One dimension moves at a time, from a depth of 8 and one job.
matrix() { whole_matrix | grep -E -e "${CELLS:-.}"; }
whole_matrix() {
	case $mode in
	quick)
		cells "$all" null 0 "4 64 1024" 8 1
		cells "$tcmu" touch 0 "4 64 1024" 8 1
		;;
	full)
		cells "$all" null 0 "4 16 64 256 1024" 8 1
		cells "$tcmu" touch 0 "4 16 64 256 1024" 8 1
		cells "$tcmu" ram 0 "4 16 64 256 1024" 8 1
		cells "$all" null 0 "4 64 1024" "1 32" 1
		cells "$all" null 0 "4 64 1024" 8 4
		cells "$all" null 2 "4 64 1024" 8 4
		cells "$tcmu" touch 2 "64 1024" 8 4
		cells "$tcmu" ram 2 "64 1024" 8 4
		;;
	esac
}
if [ "$what" = cells ]; then
	matrix
	exit
fi

# --- what is measured with
# ublk's server needs a liburing that is newer than Debian 12's: link with the
# one of the guest's Debian.
liburing() {
	local dir=$CACHE/liburing
	compgen -G "$dir/usr/lib/*/liburing.a" >/dev/null && return
	rm -rf "$dir"
	debian_download deb "$SUITE" "$dir" liburing-dev || exit
	dpkg-deb -x "$dir"/liburing-dev_*.deb "$dir" || die "liburing-dev could not be unpacked; run it again"
	rm "$dir"/liburing-dev_*.deb
}
build_programs() {
	local source=$SRC/tools/testing/selftests/ublk headers=$BUILD/usr/include file
	local sources=()
	need_tree "$SRC"
	mkdir -p "$bin"
	say "building load, tcmu_handler and kublk"
	gcc -O2 -Wall -o "$bin/load" "$TOP/bench/load.c" || die "load does not build"
	make -s -C "$TOP/selftests" OUT="$bin" TOOLS="$SRC/tools/testing/selftests" \
		KHDR_INCLUDES="-isystem $headers" "$bin/tcmu_handler" || die "the handler does not build"
	liburing
	for file in "$source"/*.c; do
		[ "${file##*/}" = metadata_size.c ] || sources+=("$file")
	done
	gcc -O2 -D_GNU_SOURCE -I"$CACHE/liburing/usr/include" -isystem "$headers" -o "$bin/kublk" \
		"${sources[@]}" "$CACHE/liburing/usr/lib/"*/liburing.a -lpthread -lm >"$bin/log" 2>&1 || {
		sed 's/^/  /' "$bin/log" >&2
		die "the tree's ublk server does not build (see above)"
	}
}

# The plugin for whichever version of the API this qemu has: leaves it in
# $plugin, or nothing and why in $no_plugin.
build_plugin() {
	local version
	plugin='' no_plugin=''
	for version in 1 2 3; do
		gcc -O2 -Wall -shared -fPIC -DQEMU_PLUGIN_VERSION=$version \
			-o "$bin/tcg-count.so" "$TOP/bench/tcg-count.c" || die "the plugin does not build"
		# It stops at once: there is no kernel, and no machine runs.
		timeout 5 qemu-system-x86_64 -accel tcg -nodefaults -display none -S -monitor stdio \
			-plugin "$bin/tcg-count.so,out=/dev/null" <<<quit >"$bin/log" 2>&1 && {
			plugin=$bin/tcg-count.so
			return
		}
		no_plugin=${no_plugin:-$(grep -v '^QEMU\|^(qemu)' "$bin/log" | head -n 1)}
	done
}

# The routines of the kernel that copy, as arguments for the plugin.
copy_routines() {
	sort "$BUILD/kernel-$kernel/System.map" | awk '
		first != "" && $1 != first { printf ",copy=%s-%s", first, $1; first = "" }
		$2 ~ /[tT]/ && $3 ~ /^(__memcpy|memcpy_orig|__memmove|rep_movs_alternative|__copy_user_nocache|copy_page|copy_page_regs|csum_partial_copy_generic|copy_mc_fragile)$/ { first = $1 }'
}

# measure NAME ROUNDS MS: leaves NAME.tsv and NAME.info in $out
measure() {
	local line command
	command="LOAD_MS=$3 WARM_MS=$warm bench/guest.sh /project/build/bench/bin $2 <<'END'
$(matrix)
END"
	: >"$out/$1.tsv"
	: >"$out/$1.info"
	"$TOP/scripts/vm.sh" -k "$kernel" -t "${TIMEOUT:-5400}" -m "${MEM:-4096}" "$command" |
		while IFS= read -r line; do
			case $line in
			'@raw '*) echo "${line#@raw }" >>"$out/$1.tsv" ;;
			'@info '*) echo "${line#@info }" >>"$out/$1.info" ;;
			*) echo "$line" ;;
			esac
		done || die "the guest did not get through (see above)"
}

host_info() { sed 's/^/    /' "$out/host.info" && echo; }
report() {
	local chart
	[ -s "$out/clock.tsv" ] || die "nothing was measured yet; run: make bench${mode/full/}"
	rm -rf "$out/charts"
	mkdir -p "$out/charts"
	awk -f "$TOP/bench/report.awk" -v charts="$out/charts" -v short="$out/awk.md" \
		"$out/counts.tsv" "$out/clock.tsv" >"$out/awk-tables.md" || die "no report"
	{ host_info && cat "$out/awk-tables.md"; } >"$out/tables.md"
	{ echo "What was measured, and on what:" && echo && host_info && cat "$out/awk.md"; } >"$out/short.md"
	rm "$out/awk.md" "$out/awk-tables.md"
	for chart in "$out/charts/"*.dat; do
		[ -e "$chart" ] || continue
		gnuplot -e "data='$chart'; name='${chart%.dat}'" "$TOP/bench/chart.gnuplot" || die "gnuplot failed"
	done
}

# Between the marks in docs/performance.md, and the charts beside it.
quote() {
	local doc=$TOP/docs/performance.md
	mkdir -p "$TOP/docs/performance"
	cp "$out/charts/"*.png "$TOP/docs/performance/"
	cp "$out/tables.md" "$TOP/docs/performance/"
	awk -v tables="$out/short.md" '
		/<!-- end of make bench -->/ { skip = 0 }
		!skip
		/<!-- make bench -->/ { skip = 1; while ((getline line < tables) > 0) print line }' "$doc" >"$doc.tmp"
	mv "$doc.tmp" "$doc"
}

case $what in
report) report ;;
quote) quote ;;
measure)
	need gnuplot
	start=$SECONDS
	lock "$BUILD/bench"
	build_programs
	build_plugin
	mkdir -p "$out"
	rm -f "$out/"*.tsv "$out/"*.info
	{
		echo "command: scripts/bench.sh $mode; ROUNDS=$rounds LOAD_MS=$ms"
		qemu-system-x86_64 --version | head -n 1
		grep -m 1 'model name' /proc/cpuinfo
		echo "$(nproc) CPUs, load average before: $(cut -d ' ' -f 1 /proc/loadavg)"
	} >"$out/host.info"
	say "the clock and the kernel's counters"
	measure clock "$rounds" "$ms"
	: >"$out/counts.tsv"
	if [ -n "$plugin" ]; then
		say "instructions and bytes, by a plugin in qemu"
		PLUGIN="$plugin,out=$out/plugin$(copy_routines)" measure counted 1 "$counted_ms"
		# The plugin has a line for each of the guest's.
		[ "$(wc -l <"$out/plugin")" = $(($(wc -l <"$out/counted.tsv") - 1)) ] ||
			die "the plugin's counts and the guest's runs don't match"
		{ printf 'k_insns\tu_insns\tk_copied\tu_copied\n' && cat "$out/plugin"; } |
			paste "$out/counted.tsv" - >"$out/counts.tsv"
	else
		say "no instruction counts: $no_plugin"
	fi
	report
	cat "$out/short.md"
	say "done in $((SECONDS - start)) s; all tables and charts are in $out"
	;;
esac
