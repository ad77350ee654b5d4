#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Install what the other verbs need. Does nothing when all of it is there.
. "$(dirname "$0")/lib.sh"

# what is looked for (a command, or a file where there is none): its package
wanted='
gcc gcc
make make
ld binutils
/usr/include/stdio.h libc6-dev
flex flex
bison bison
bc bc
/usr/include/libelf.h libelf-dev
/usr/include/openssl/opensslv.h libssl-dev
cpio cpio
kmod kmod
rsync rsync
perl perl
python3 python3
git git
b4 b4
quilt quilt
patch patch
xz xz-utils
ccache ccache
sparse sparse
spatch coccinelle
shellcheck shellcheck
qemu-system-x86_64 qemu-system-x86
/usr/include/iscsi/iscsi.h libiscsi-dev
cmake cmake
dpkg-source dpkg-dev
pkg-config pkg-config
gdbus-codegen libglib2.0-dev-bin
/usr/include/glib-2.0/glib.h libglib2.0-dev
/usr/include/libnl3/netlink/netlink.h libnl-3-dev
/usr/include/libnl3/netlink/genl/genl.h libnl-genl-3-dev
/usr/include/libkmod.h libkmod-dev
/usr/include/zlib.h zlib1g-dev
gnuplot gnuplot-nox
/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf fonts-dejavu-core
mmdebstrap mmdebstrap
mke2fs e2fsprogs
flock util-linux
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
'

missing() {
	local what package
	while read -r what package; do
		case $what in
		'') ;;
		/*) [ -e "$what" ] || echo "$package" ;;
		# e2fsprogs and kmod live in sbin, which a user's PATH may lack
		*) PATH=$PATH:/usr/sbin:/sbin command -v "$what" >/dev/null || echo "$package" ;;
		esac
	done <<<"$wanted" | sort -u
}

mapfile -t packages < <(missing)
[ ${#packages[@]} -gt 0 ] || exit 0

install_packages "${packages[@]}"

mapfile -t packages < <(missing)
[ ${#packages[@]} = 0 ] ||
	die "installed, but still not found (is PATH complete?): ${packages[*]}"
