#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Put a kernel source tree of the series' version into build/linux, as a git
# checkout. From the distribution's archive (BASE says which package), or from
# KERNEL_TARBALL=file.
# With KDIR=tree there is nothing to fetch.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

package=$(base_value PACKAGE)
suite=$(base_value PACKAGE_SUITE)
downloads=$CACHE/linux

if [ -n "${KDIR:-}" ]; then
	need_tree "$KDIR"
	say "using Linux $(tree_version "$KDIR") in $KDIR"
	exit 0
fi

source_name=${KERNEL_TARBALL:-$package}
# Ends the script if the tree is there.
look() {
	local have
	[ -e "$SRC/.git/unpacked-from" ] || return 0
	have=$(cat "$SRC/.git/unpacked-from")
	[ -z "${KERNEL_TARBALL:-}" ] || [ "$have" = "$KERNEL_TARBALL" ] ||
		die "$SRC holds Linux $(tree_version "$SRC") from $have; run make clean first"
	say "$(git -C "$SRC" log -1 --format=%s) is in $SRC"
	exit 0
}
# A build is not waited for.
look
lock "$BUILD"
look

work=$BUILD/linux.unpacking
trap 'rm -rf "$work"' EXIT
rm -rf "$work" "$SRC"

# Leaves the package's path in $deb.
download() {
	for deb in "$downloads/$package"_*.deb; do
		if sealed "$deb"; then say "using $deb"; return; fi
		[ ! -e "$deb" ] || say "$(basename "$deb") in the cache is damaged, fetching it again"
		rm -f "$deb" "$deb".*
	done
	need_space "$downloads" 400 "the download"
	HINT="give KERNEL_TARBALL=linux-$KVERSION.tar.xz or KDIR=tree" \
		debian_download deb "$suite" "$downloads" "$package" || exit
	deb=$(echo "$downloads/$package"_*.deb)
	seal "$deb"
}

# A full disk has tar complain of every single file.
unpack() { tar -x --strip-components=1 -C "$work" "$@" 2>&1 | tail -n 2 >&2; }

need_space "$BUILD" 3500 "the kernel source"
if [ -n "${KERNEL_TARBALL:-}" ]; then
	[ -f "$KERNEL_TARBALL" ] || die "KERNEL_TARBALL=$KERNEL_TARBALL: no such file"
	say "unpacking $KERNEL_TARBALL"
	mkdir "$work"
	unpack -af "$KERNEL_TARBALL" ||
		die "$KERNEL_TARBALL could not be unpacked (is it a complete kernel tarball? is there room in $BUILD?)"
else
	download
	say "unpacking $(basename "$deb")"
	mkdir "$work"
	dpkg-deb --fsys-tarfile "$deb" |
		tar -xO "./usr/src/$package.tar.xz" | unpack -J ||
		die "$deb could not be unpacked (is there room in $BUILD?)"
fi

version=$(tree_version "$work") || die "$source_name holds no kernel source"
is_series_version "$version" ||
	die "$source_name holds Linux $version; the series is for $KVERSION.x"

# The tree is called what it is: a distribution's is not the release.
if [ -n "${KERNEL_TARBALL:-}" ]; then
	what="Linux $version, from $(basename "$KERNEL_TARBALL")"
	tag=tarball/$version
	from=$KERNEL_TARBALL
else
	revision=$(dpkg-deb -f "$deb" Version)
	what="$package $revision (Debian's, with its patches)"
	# As in DEP-14: what a git tag can't have is written otherwise.
	tag=debian/$(tr ':~' '%_' <<<"$revision")
	from="$package $revision"
	[ "$revision" = "$(base_value PACKAGE_VERSION)" ] ||
		say "note: this is $revision; the results in docs/ are of $(base_value PACKAGE_VERSION)"
fi
say "making a git checkout of $what"
cd "$work"
git init -q
# The same commit id wherever the same tree is unpacked.
export GIT_AUTHOR_NAME=fetch GIT_AUTHOR_EMAIL=fetch@localhost
GIT_AUTHOR_DATE="@$(stat -c %Y Makefile) +0000"
export GIT_AUTHOR_DATE GIT_COMMITTER_NAME=fetch GIT_COMMITTER_EMAIL=fetch@localhost
export GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
# Everything, the archive's own .gitignore notwithstanding; straight into one
# pack, which is several times as fast as a file per object.
git -c core.bigFileThreshold=1 -c core.compression=1 -c gc.auto=0 add -A -f
git -c gc.auto=0 commit -q -m "$what"
git tag "$tag"
echo "$from" >.git/unpacked-from
cd "$TOP"
mv "$work" "$SRC"
say "$what is in $SRC"
