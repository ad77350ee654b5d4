#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Boot the kernel in qemu and run a command in the guest, as root.
#   vm.sh [-k KERNEL] [-t seconds] [-m MiB] [-c cpus] [-d disk] command
#   vm.sh -i ...			a shell instead
# Options default to KERNEL, TIMEOUT, MEM, SMP and DISK. The guest sees the
# project at /project (read-only), the run's directory at /out, and the disk,
# if one is given, read-only as /dev/vdb. PLUGIN=file,arguments is for TCG.
# The command's output is ours; the exit status is the command's, or 124 when
# the time limit was reached, or 125 when the guest died or the kernel
# complained: the kernel's console is then shown, and kept in the run's
# directory, build/vm/RUN/console.log. KEEP=dir gets what the command left in
# /out/keep.
. "$(dirname "$0")/lib.sh"

kernel=${KERNEL:-plain} limit=${TIMEOUT:-600} mem=${MEM:-3072} cpus=${SMP:-2}
disk=${DISK:-} interactive=
usage='usage: vm.sh [-k plain|debug|bench|coverage] [-t seconds] [-m MiB] [-c cpus] [-d disk] [-i | command]'
while getopts k:t:m:c:d:i option; do
	case $option in
	k) kernel=$OPTARG ;;
	t) limit=$OPTARG ;;
	m) mem=$OPTARG ;;
	c) cpus=$OPTARG ;;
	d) disk=$OPTARG ;;
	i) interactive=yes ;;
	*) die "$usage" ;;
	esac
done
shift $((OPTIND - 1))

for number in "$limit" "$mem" "$cpus"; do
	[[ $number =~ ^[1-9][0-9]*$ ]] || die "'$number' is not a number; $usage"
done
case $kernel in
plain | debug | bench | coverage) ;;
*) die "KERNEL=$kernel: must be plain, debug, bench or coverage" ;;
esac
[ -n "$interactive" ] || [ -n "$*" ] || die "no command; say: make vm CMD='uname -a'"
[ -z "$disk" ] || [ -r "$disk" ] || die "DISK=$disk: no such file"
bzimage=$BUILD/kernel-$kernel/arch/x86/boot/bzImage
[ -f "$bzimage" ] || die "there is no $kernel kernel yet; run: make kernel KERNEL=$kernel"
image=$("$TOP/scripts/image.sh" --path)
[ -f "$image" ] || die "there is no guest image yet; run: make image"
qemu="qemu-system-x86_64"
need $qemu

# That /dev/kvm opens does not mean that a guest runs: boot one that has no
# root, which panics and so ends, and remember the answer for this boot of the
# machine. ACCEL=kvm or tcg overrides it.
accelerator() {
	local key known=$CACHE/accelerator
	if [ -n "${ACCEL:-}" ]; then echo "$ACCEL"; return; fi
	if [ ! -w /dev/kvm ]; then echo tcg; return; fi
	key="$(cat /proc/sys/kernel/random/boot_id) $($qemu --version | head -n 1)"
	if ! [ "$(head -n 1 "$known" 2>/dev/null)" = "$key" ]; then
		say "trying whether KVM works here (10 s)" >&2
		local answer=tcg
		if timeout -k 1 10 $qemu -accel kvm -cpu host -m 512 -nodefaults -display none \
			-no-reboot -serial stdio -kernel "$bzimage" \
			-append "console=ttyS0 panic=-1" </dev/null 2>/dev/null |
			grep -q 'Kernel panic'; then answer=kvm; fi
		printf '%s\n' "$key" "$answer" >"$known"
	fi
	tail -n 1 "$known"
}

accel=$(accelerator)
[ -z "${PLUGIN:-}" ] || accel=tcg
case $accel in
kvm) accel_args=(-accel kvm -cpu host) ;;
# TCG is far slower at rep movs than at an ordinary loop of moves; without
# these two flags the kernel's copies are loops, as quick as other code. While
# identify_cpu() reads the flags anew, KASAN takes an interrupt's accesses for
# wild ones on a CPU with la57.
tcg) accel_args=(-accel 'tcg,thread=multi' -cpu 'max,-erms,-fsrm,-la57') ;;
*) die "ACCEL=$accel: must be kvm or tcg" ;;
esac

runs=$BUILD/vm
mkdir -p "$runs" || die "cannot create $runs"
# Keep the logs of the last runs only.
find "$runs" -mindepth 1 -maxdepth 1 -type d -mmin +60 -printf '%T@ %p\n' | sort -rn |
	sed '1,8d; s/^[^ ]* //' | while read -r old; do rm -rf "$old"; done
run=$(mktemp -d "$runs/$kernel-$(date +%H%M%S)-XXX") || die "cannot write in $runs"
mkdir "$run/out"
console=$run/console.log
# For the guest's /lib/modules.
[ ! -d "$BUILD/kernel-$kernel/modules/lib/modules" ] ||
	cp -r "$BUILD/kernel-$kernel/modules/lib/modules" "$run/out/modules"

args=("${accel_args[@]}" -nodefaults -no-user-config -display none -no-reboot
	# Each CPU in a socket of its own: without ACPI the kernel finds no others.
	-m "$mem" -smp "$cpus,sockets=$cpus" -kernel "$bzimage"
	-append "root=/dev/vda rw init=/sbin/guest-init console=ttyS0 panic=-1 oops=panic no_timer_check watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60"
	-drive "file=$image,if=virtio,format=raw,snapshot=on"
	-virtfs "local,path=$TOP,mount_tag=project,security_model=none,readonly=on,multidevs=remap"
	-virtfs "local,path=$run/out,mount_tag=out,security_model=none"
	-device virtio-rng-pci
	-serial "file:$console"
	-device virtio-serial)
[ -z "${PLUGIN:-}" ] || args+=(-plugin "$PLUGIN")
[ -z "$disk" ] || args+=(-drive "file=$disk,if=virtio,format=raw,readonly=on")
# Where snapshot=on puts what the guest writes.
export TMPDIR=$run

if [ -n "$interactive" ]; then
	say "exit leaves the guest, Ctrl-a x kills it" >&2
	stty size >"$run/out/size" 2>/dev/null || echo 24 80 >"$run/out/size"
	$qemu "${args[@]}" -chardev stdio,id=out,mux=on,signal=off -mon out \
		-device virtconsole,chardev=out
	exit
fi

printf '%s\n' "$*" >"$run/out/cmd"
echo "$limit" >"$run/out/limit"

# qemu ends with us whatever happens, and in bounded time: the guest's own
# limit comes first, this one is for a guest that is stuck.
mkfifo "$run/stream"
cat "$run/stream" &
reader=$!
setpriv --pdeathsig TERM timeout -k 5 $((limit + 120)) $qemu "${args[@]}" \
	-chardev "file,id=out,path=$run/stream" -device virtserialport,chardev=out,name=out \
	</dev/null >"$run/qemu.log" 2>&1 &
machine=$!
trap 'kill $machine 2>/dev/null || :; wait' EXIT
trap 'exit 130' INT TERM
qemu_status=0
wait $machine || qemu_status=$?
wait $reader || :
trap - EXIT
[ -z "${KEEP:-}" ] || [ ! -d "$run/out/keep" ] || cp -r "$run/out/keep/." "$KEEP/"

complaints=$TOP/selftests/complaints
bad=
if grep -qE -f "$complaints" "$console"; then
	bad="the kernel complained"
	# A splat is many lines: show some around the first, then where others are.
	awk -v re="$(paste -sd "|" "$complaints")" '
		{ sub(/\r$/, ""); line[NR] = $0 }
		$0 ~ re { if (!first) first = NR; else if (NR > first + 60 && n++ < 5) more = more "  line " NR ": " $0 "\n" }
		END { for (i = (first > 5 ? first - 5 : 1); i <= first + 60 && i <= NR; i++) print "  " line[i]
		      if (more) printf "  and further on:\n%s", more }' "$console" >&2
elif [ -s "$run/out/kmemleak" ]; then
	bad="kmemleak found memory leaks"
	head -n 60 "$run/out/kmemleak" | sed 's/^/  /' >&2
# Bits that test code, staging and modules of no tree set are no complaint.
elif tainted=$(cat "$run/out/tainted" 2>/dev/null) && [ $((tainted & ~(1 << 10 | 1 << 12 | 1 << 13 | 1 << 18))) -ne 0 ]; then
	bad="the kernel is tainted ($tainted)"
fi

if [ ! -e "$run/out/status" ]; then
	if [ -z "$bad" ]; then
		tail -n 15 "$console" | sed 's/^/  /' >&2
		sed 's/^/  /' "$run/qemu.log" >&2
	fi
	case $qemu_status in
	124 | 137) die "the guest hung, it was stopped after $((limit + 120)) s; its console: $console" ;;
	esac
	printf '%s: the guest died before the command ended%s; its console: %s\n' \
		"$me" "${bad:+, $bad}" "$console" >&2
	exit 125
fi
status=$(cat "$run/out/status")
if [ "$status" = 124 ] || [ "$status" = 137 ]; then
	say "the command did not end within $limit s; who was blocked is in $console" >&2
	exit 124
fi
if [ -n "$bad" ]; then
	say "$bad (the command's exit status was $status); the console: $console" >&2
	exit 125
fi
exit "$status"
