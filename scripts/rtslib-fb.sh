#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Make rtslib with its series, out of trixie's package and of sid's, for the
# guest: build/rtslib-fb/trixie and build/rtslib-fb/sid, each a PYTHONPATH.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

package=python3-rtslib-fb
downloads=$CACHE/rtslib-fb
patches=$TOP/rtslib-fb
work=$BUILD/rtslib-fb
stamp=$work/built-from
# a suite and the series for what it has
wanted="$SUITE series-2.1
sid series"

# What the result is made of.
recipe=$(cat "$0" "$patches/series"* "$patches/patches/"*.patch "$patches/patches/"*/*.patch |
	sha256sum | cut -c 1-20)

lock "$BUILD"
if [ "$(cat "$stamp" 2>/dev/null)" = "$recipe" ]; then
	say "$work is up to date"
	exit 0
fi
for tool in quilt dpkg-deb; do need $tool; done

# download SUITE: leaves the path of its package in $deb
download() {
	for deb in "$downloads/$1/"*.deb; do
		[ ! -e "$deb" ] || { say "using $(basename "$deb")"; return; }
	done
	need_space "$downloads" 10 "the download"
	debian_download deb "$1" "$downloads/$1" "$package" || exit
	deb=$(echo "$downloads/$1/"*.deb)
}

# make_root SUITE SERIES
make_root() {
	local root=$work/$1
	dpkg-deb -x "$deb" "$work/unpacked" || {
		rm -f "$deb"
		die "$(basename "$deb") could not be unpacked, and was removed; run it again"
	}
	mv "$work/unpacked/usr/lib/python3/dist-packages" "$root"
	rm -rf "$work/unpacked"
	# In the source of 2.1 this is a symlink, of which the package has a copy.
	if [ -d "$root/rtslib_fb" ]; then
		rm -rf "$root/rtslib_fb"
		ln -s rtslib "$root/rtslib_fb"
	fi
	(cd "$root" && QUILT_PC=.pc QUILT_PATCHES=$patches/patches QUILT_SERIES=$patches/$2 \
		quilt --quiltrc /dev/null push -a) >"$work/log" 2>&1 || {
		tail -n 8 "$work/log" | sed 's/^/  /' >&2
		die "rtslib-fb/$2 does not fit $(basename "$deb") (see above)"
	}
}

rm -rf "$work"
mkdir -p "$work"
while read -r suite series; do
	download "$suite"
	make_root "$suite" "$series"
done <<<"$wanted"
echo "$recipe" >"$stamp"
say "$work is ready"
