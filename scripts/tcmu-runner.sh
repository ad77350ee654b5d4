#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build tcmu-runner with its series, out of the source in the distribution's
# archive, into build/tcmu-runner/root: an install tree, to be copied over /.
#   tcmu-runner.sh		build it, unless that was done already
#   tcmu-runner.sh prefixes	see that every prefix of the series builds
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"
. "$(dirname "$0")/results.sh"

version=1.5.4
package=tcmu
downloads=$CACHE/tcmu
series=$TOP/tcmu-runner
work=$BUILD/tcmu-runner
stamp=$work/built-from

mode=${1:-build}
case $mode in build | prefixes) ;; *) die "usage: tcmu-runner.sh [prefixes]" ;; esac

# What the result is made of.
recipe=$(cat "$0" "$series/series" "$series/patches/"*.patch | sha256sum | cut -c 1-20)
known=$CACHE/check/tcmu-runner-$recipe

lock "$BUILD"
if [ "$mode" = build ] && [ "$(cat "$stamp" 2>/dev/null)" = "$recipe" ]; then
	say "$work/root is up to date"
	exit 0
fi
if [ "$mode" = prefixes ] && [ -e "$known" ]; then
	ok "every prefix builds (known from before)"
	totals
	exit
fi
for tool in quilt cmake dpkg-source gdbus-codegen; do need $tool; done

# Leaves the path of the source package's description in $dsc.
download() {
	for dsc in "$downloads/${package}_$version"-*.dsc; do
		[ ! -e "$dsc" ] || { say "using $(basename "$dsc")"; return; }
	done
	need_space "$downloads" 10 "the download"
	HINT="the series is for that version" \
		debian_download deb-src "$SUITE" "$downloads" "$package=$version-" || exit
	dsc=$(echo "$downloads/${package}_$version"-*.dsc)
}

# unpack DIR: the source with Debian's patches and ours linked, none applied
unpack() {
	rm -rf "$1"
	mkdir -p "$(dirname "$1")"
	dpkg-source --no-check -x "$dsc" "$1" >"$work/log" 2>&1 || {
		tail -n 5 "$work/log" | sed 's/^/  /' >&2
		rm -f "$dsc"
		die "$(basename "$dsc") could not be unpacked, and was removed; run it again"
	}
	# Debian's patches are part of the source for ours.
	rm -rf "$1/.pc"
	ln -s "$series/patches" "$1/patches"
	ln -s "$series/series" "$1/series"
}

push() {
	(cd "$1" && shift && QUILT_PC=.pc QUILT_PATCHES=patches QUILT_SERIES=series \
		quilt --quiltrc /dev/null push "$@") >"$work/log" 2>&1 || {
		tail -n 8 "$work/log" | sed 's/^/  /' >&2
		die "the series does not fit $(basename "$dsc") (see above)"
	}
}

configure() {
	local ccache=()
	! command -v ccache >/dev/null || ccache=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
	cmake -S "$1" -B "$2" "${ccache[@]}" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O2 -g" \
		-DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR="lib/$(gcc -print-multiarch)" \
		-Dwith-glfs=false -Dwith-rbd=false -Dwith-tcmalloc=false -DSUPPORT_SYSTEMD=ON >"$work/log" 2>&1 || {
		tail -n 15 "$work/log" | sed 's/^/  /' >&2
		die "cmake failed for tcmu-runner (see above)"
	}
}
compile() {
	CCACHE_DIR=$CACHE/ccache make -s -C "$1" -j"$JOBS" >"$work/log" 2>&1 || {
		grep -vE '^\[' "$work/log" | tail -n 30 | sed 's/^/  /' >&2
		die "tcmu-runner does not build${2:+ $2} (see above)"
	}
}

mkdir -p "$work"
download
if [ "$mode" = prefixes ]; then
	source=$work/prefixes
	trap 'rm -rf "$source"' EXIT
	unpack "$source"
	configure "$source" "$source/build"
	compile "$source/build" "without the series"
	ok "builds without the series"
	while read -r patch; do
		push "$source" "$patch"
		compile "$source/build" "up to $patch"
		ok "builds up to $patch"
	done < <(sed -e 's/#.*//' "$series/series" | awk 'NF { print $1 }')
	mkdir -p "$CACHE/check"
	touch "$known"
	totals
	exit
fi

say "building tcmu-runner $version with $(grep -c '^[^#]' "$series/series") patches"
rm -rf "$work/root" "$stamp"
unpack "$work/source"
push "$work/source" -a
configure "$work/source" "$work/build"
compile "$work/build"
DESTDIR=$work/root make -s -C "$work/build" install >"$work/log" 2>&1 || {
	tail -n 15 "$work/log" | sed 's/^/  /' >&2
	die "tcmu-runner could not be installed into $work/root (see above)"
}
# An example, which the tests use; it is built but not installed.
install -m 644 "$work/build/handler_file.so" "$work/root/usr/lib/$(gcc -print-multiarch)/tcmu-runner/"
echo "$recipe" >"$stamp"
say "$work/root is ready"
