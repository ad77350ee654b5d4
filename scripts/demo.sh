#!/usr/bin/env bash
# Serve a disk from user space, with zero copy off and on, copy part of the
# kernel tree to it and back, and compare. The guest's part of this is
# selftests/demo-guest.sh. Needs the kernel and the guest image (make demo
# sees to that).
. "$(dirname "$0")/lib.sh"

# Some 300 MiB: the code that is patched, more like it, and large files.
parts="mm drivers/target fs net kernel drivers/gpu/drm/amd/include/asic_reg/nbio"
data=$BUILD/demo/data-$(tree_version "$SRC").ext4

build_selftests
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
"$TOP/scripts/vm.sh" -k plain -t "${TIMEOUT:-900}" -d "$data" /project/selftests/demo-guest.sh
say "done in $((SECONDS - start)) s"
