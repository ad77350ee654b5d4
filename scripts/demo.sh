#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Serve LUNs with tcmu-runner over tcm_loop and iSCSI, with zero copy off and
# on, copy part of the kernel tree to each and back, and compare. The guest's
# part of this is scripts/demo-guest.sh. Needs the kernel, the guest image
# and tcmu-runner (make demo sees to that).
#   demo.sh --how-long		says how long make demo will take
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" = --how-long ]; then
	# As measured on two CPUs without KVM, on a fast and on a slow day.
	run="2 to 5 minutes"
	if [ -f "$BUILD/kernel-plain/arch/x86/boot/bzImage" ] && [ -f "$("$TOP/scripts/image.sh" --path)" ] &&
		[ -d "$BUILD/tcmu-runner/root" ]; then
		say "this takes $run on two CPUs"
	else
		say "this takes 10 to 25 minutes on two CPUs the first time, for downloads, a kernel and a guest, and $run later"
	fi
	exit
fi

# Some 180 MiB: the code that is patched, more like it, and large files.
parts="mm drivers/target fs drivers/gpu/drm/amd/include/asic_reg/nbio"
data=$BUILD/demo/data-$(tree_version "$SRC")-$(cksum <<<"$parts" | cut -d ' ' -f 1).ext4

if ! [ -f "$data" ]; then
	say "making a file system of the files to copy"
	need_space "$BUILD" 1000 "the demo's files"
	work=$BUILD/demo/work
	trap 'rm -rf "$work"' EXIT
	rm -rf "$BUILD/demo"
	mkdir -p "$work/root"
	for part in $parts; do
		# A tree that lacks one still gives a demo.
		[ ! -d "$SRC/$part" ] || (cd "$SRC" && cp -r --parents "$part" "$work/root")
	done
	size=$(du -sm "$work/root" | cut -f 1)
	truncate -s $((size + size / 8 + 16))M "$work/data"
	mke2fs -q -t ext4 -m 0 -O ^has_journal -d "$work/root" "$work/data"
	mv "$work/data" "$data"
fi

say "starting the guest"
start=$SECONDS
"$TOP/scripts/vm.sh" -k plain -t "${TIMEOUT:-900}" -d "$data" /project/scripts/demo-guest.sh
say "done in $((SECONDS - start)) s"
