#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make the guest's disk: a small Debian, kept in the user's cache under the
# hash of what it is made from. Prints its path as the last line of output
# with --path.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

packages=(e2fsprogs fio iproute2 kmod procps sg3-utils strace util-linux
	dbus targetcli-fb python3-dbus tcmu-runner open-iscsi libiscsi-bin xfsprogs
	linux-perf stress-ng)
# The newest targetcli, for /opt/sid: it shares the guest's Python.
sid_packages=(python3-configshell-fb python3-rtslib-fb targetcli-fb)
lib=/usr/lib/x86_64-linux-gnu
# Also the GPU drivers that stress-ng is linked against: they are larger than
# all the rest.
excluded=("/usr/share/doc/*" "/usr/share/man/*" "/usr/share/locale/*"
	"$lib/libLLVM*" "$lib/libgallium*" "$lib/libz3*" "$lib/dri/*")
size=1100M

recipe=$(sha256sum <"$0" | cut -c 1-12)
image=$CACHE/guest/$recipe.ext4

if [ "${1:-}" = --path ]; then echo "$image"; exit 0; fi

lock "$CACHE/guest"
if sealed "$image"; then
	say "the guest image is in the cache"
	exit 0
fi
[ ! -e "$image" ] || say "the guest image in the cache is damaged, making it again"

need mmdebstrap
need_space "$CACHE/guest" 2500 "the guest image"
mirror=$(debian_mirror)
# Images of older recipes; another clone may still use a recent one.
find "$CACHE/guest" -name '*.ext4*' -mtime +30 -delete
work=$(mktemp -d)
trap 'as_root rm -rf "$work" "$image.tmp"' EXIT
chmod 755 "$work"

debian_download deb sid "$work/sid" "${sid_packages[@]}"
say "making the guest image: Debian $SUITE from $mirror"
as_root mmdebstrap --variant=minbase --include="${packages[*]}" \
	--setup-hook="mkdir -p \$1/usr/share/doc" "${excluded[@]/#/--dpkgopt=path-exclude=}" \
	"$SUITE" "$work/root" \
	"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main" \
	>"$CACHE/guest/log" 2>&1 || {
	tail -n 20 "$CACHE/guest/log" | sed 's/^/  /' >&2
	die "mmdebstrap failed (above: the end of $CACHE/guest/log); is $mirror reachable?"
}
for deb in "$work/sid/"*.deb; do
	as_root dpkg-deb -x "$deb" "$work/root/opt/sid" || die "$(basename "$deb") could not be unpacked"
done
as_root chroot "$work/root" python3 -m compileall -q /opt/sid || die "Python fails in the guest image"
cat >"$work/targetcli-sid" <<-'END'
	#!/bin/sh
	PYTHONPATH=/opt/sid/usr/lib/python3/dist-packages exec /opt/sid/usr/bin/targetcli "$@"
END
as_root install -m 755 "$work/targetcli-sid" "$work/root/usr/local/bin/targetcli-sid"
# The rest of the guest's init is in the project, so that changing it does not
# change the image.
cat >"$work/init" <<-'END'
	#!/bin/sh
	mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144 project /project &&
		exec /project/scripts/guest-init.sh
END
as_root install -m 755 "$work/init" "$work/root/sbin/guest-init"
as_root mkdir -p "$work/root/project" "$work/root/out"
rm -f "$image.tmp"
truncate -s "$size" "$image.tmp"
as_root mke2fs -q -t ext4 -O ^has_journal -m 0 -L guest -d "$work/root" "$image.tmp" ||
	die "mke2fs could not make the guest image"
mv "$image.tmp" "$image"
seal "$image"
say "the guest image is ready ($(du -h "$image" | cut -f 1))"
