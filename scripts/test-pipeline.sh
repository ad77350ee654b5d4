#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What the scripts do with bad input, and that apply and unapply leave nothing
# behind; on small trees made for it, in a directory of its own. Part of
# make check. Needs the patched tree.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

need_tree "$SRC"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
real=$SRC
unset KDIR KERNEL KERNEL_TARBALL T CMD TIMEOUT MEM SMP DISK

# A project of its own: the real series, which the tests may change.
[ -d "$SRC/.applied-series" ] || die "the series is not applied to $SRC; run: make apply"
cp -r "$TOP/BASE" "$TOP/scripts" "$TOP/kconfig-fragments" "$SRC/.applied-series/"* "$work/"
scripts=$work/scripts
export BUILD=$work/build XDG_CACHE_HOME=$work/cache
# Nothing listens there.
export DEBIAN_MIRROR=http://127.0.0.1:9/debian
mapfile -t patches < <(TOP=$work series_patches)

# fails NAME PATTERN COMMAND...: with exit status 1 to 125, saying PATTERN
# in its last line.
fails() {
	local name=$1 pattern=$2 status=0
	shift 2
	"$@" >"$log" 2>&1 </dev/null || status=$?
	if [ $status = 0 ] || [ $status -gt 125 ] || ! tail -n 1 "$log" | grep -qE "$pattern"; then
		printf 'exit status %d, expected a last line with: %s\n' $status "$pattern" >>"$log"
		not_ok "$name" "$log"
	else
		ok "$name"
	fi
}
works() {
	local name=$1
	shift
	if "$@" >"$log" 2>&1 </dev/null; then ok "$name"; else not_ok "$name" "$log"; fi
}
nothing_in() {
	find "$2" -mindepth 1 ! -name .lock >"$log" 2>/dev/null || :
	result "$1" "$log"
}

# small_tree DIR VERSION PATCHLEVEL: the files that the series touches, as
# they are before it, in a git checkout.
small_tree() {
	local file i
	mkdir -p "$1"
	printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = 9\nEXTRAVERSION =\n' "$2" "$3" >"$1/Makefile"
	touch "$1/Kbuild"
	cat "${patches[@]/#/$work/patches/}" /dev/null |
		sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' | sort -u |
		(cd "$real" && xargs -r cp --parents -t "$1")
	for ((i = ${#patches[@]} - 1; i >= 0; i--)); do
		patch -s -R -f -p1 -d "$1" <"$work/patches/${patches[$i]}"
	done
	git -C "$1" init -q
	git -C "$1" add -A -f
	git -C "$1" -c user.name=t -c user.email=t@localhost commit -q -m tree
}
# Ignored files too: the kernel's .gitignore hides a good part of what could
# be left.
pristine() {
	git -C "$2" status --porcelain --ignored >"$log"
	result "$1" "$log"
}
with() { KDIR=$1 "$scripts/apply.sh" "$2"; }

printf '# apply and unapply\n'
tree=$work/tree
small_tree "$tree" 7 3
works "apply works on a tree of the user's" with "$tree" apply
cp -r "$tree" "$work/applied"
works "apply again does nothing" with "$tree" apply
works "... really nothing" diff -r "$tree" "$work/applied"
works "unapply works" with "$tree" unapply
pristine "unapply leaves the tree as it was" "$tree"
works "unapply again does nothing" with "$tree" unapply

ln -s "$work/patches" "$work/series" "$tree/"
works "plain quilt applies the series" sh -c "cd '$tree' && quilt push -a && quilt pop -a"
fails "apply leaves a quilt series of the user's alone" 'has a quilt series' with "$tree" apply
rm -rf "$tree/patches" "$tree/series" "$tree/.pc"

if [ ${#patches[@]} -gt 1 ]; then
	first=${patches[0]}
	file=$(sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "$work/patches/$first" | head -n 1)
	small_tree "$work/old" 6 12
	tac "$work/old/$file" >"$work/file"
	cp "$work/file" "$work/old/$file"
	git -C "$work/old" -c user.name=t -c user.email=t@localhost commit -q -a -m old
	fails "a v6.12 tree: which patch, which file, which versions" \
		"$first does not fit $file: .* is Linux 6\.12\.9, the series is for 7\.3" with "$work/old" apply
	pristine "... and nothing left behind" "$work/old"

	last=$(for p in "${patches[@]}"; do grep -l '^+++ b/.*\.c' "$work/patches/$p" || :; done | tail -n 1)
	file=$(sed -n 's,^+++ b/\([^[:space:]]*\.c\).*,\1,p' "$last" | head -n 1)
	with "$tree" apply >/dev/null
	sed -i '$a /* mine */' "$tree/$file"
	works "a change of the user's outside of the series..." grep -q mine "$tree/$file"
	fails "... is not thrown away by unapply" 'were changed' with "$tree" unapply
	works "... but kept" grep -q mine "$tree/$file"
	sed -i '$d' "$tree/$file"
	works "undone, unapply works" with "$tree" unapply
	pristine "... and leaves the tree as it was" "$tree"

	with "$tree" apply >/dev/null
	touch -d 2020-01-01 "$tree/$file"
	printf 'from the header of a mail\n' | cat - "$work/patches/$first" >"$work/file"
	cp "$work/file" "$work/patches/$first"
	works "a patch that has changed is applied anew" with "$tree" apply
	works "... and what came out the same keeps its time" \
		[ "$(stat -c %y "$tree/$file" | cut -c 1-4)" = 2020 ]
	grep -v "^$first" "$work/series" >"$work/file"
	cp "$work/file" "$work/series"
	with "$tree" apply >/dev/null 2>&1 || :
	KDIR=$tree "$scripts/apply.sh" unapply >/dev/null
	pristine "a series that no longer fits leaves nothing behind" "$tree"
	echo no-such.patch >>"$work/series"
	fails "a series with a patch that is not there" 'no-such.patch, which is not in' with "$tree" apply
	pristine "... and nothing left behind" "$tree"
fi

printf '# bad inputs\n'
mkdir "$work/empty"
fails "KDIR that is no kernel tree" 'not a kernel source tree' env KDIR="$work/empty" "$scripts/fetch.sh"
fails "KDIR that is not there" 'is not a directory' env KDIR="$work/no" "$scripts/apply.sh" apply
nothing_in "... and nothing put there" "$work/empty"
fails "KERNEL_TARBALL that is not there" 'no such file' env KERNEL_TARBALL="$work/no.tar" "$scripts/fetch.sh"
head -c 100000 /dev/urandom >"$work/noise.tar.xz"
fails "KERNEL_TARBALL that is no tarball" 'could not be unpacked' \
	env KERNEL_TARBALL="$work/noise.tar.xz" "$scripts/fetch.sh"
mkdir "$work/linux-6.12" && cp "$work/old/Makefile" "$work/old/Kbuild" "$work/linux-6.12"
tar -c -C "$work" -f "$work/old.tar" linux-6.12
fails "KERNEL_TARBALL of another version" 'holds Linux 6.12.9; the series is for 7.3.x' \
	env KERNEL_TARBALL="$work/old.tar" "$scripts/fetch.sh"
tar -c -J -C "$work" -f "$work/tree.tar.xz" --exclude=.git tree
head -c 20000 "$work/tree.tar.xz" >"$work/short.tar.xz"
fails "KERNEL_TARBALL that is cut off" 'could not be unpacked' \
	env KERNEL_TARBALL="$work/short.tar.xz" "$scripts/fetch.sh"
fails "a disk that fills up while unpacking" 'could not be unpacked' \
	sh -c "ulimit -f 20; KERNEL_TARBALL='$work/tree.tar.xz' '$scripts/fetch.sh'"
fails "no network" 'cannot reach http://127.0.0.1:9' "$scripts/fetch.sh"
mkdir -p "$XDG_CACHE_HOME/tcmu-zero-copy/linux"
deb=$XDG_CACHE_HOME/tcmu-zero-copy/linux/linux-source-7.3_7.3.9_all.deb
echo good >"$deb"
(cd "${deb%/*}" && sha256sum "${deb##*/}") >"$deb.sha256"
echo bad >"$deb"
fails "a damaged download is not used, but fetched again" 'cannot reach' "$scripts/fetch.sh"
works "... and is gone" [ ! -e "$deb" ]
mkdir -p "$work/repo/dists/trixie-backports"
echo 'Suite: trixie-backports' >"$work/repo/dists/trixie-backports/Release"
fails "an archive that is not signed" 'cannot reach' env DEBIAN_MIRROR="file:$work/repo" "$scripts/fetch.sh"
fails "no network for the guest image" 'cannot reach .* for .*targetcli-fb of sid' "$scripts/image.sh"
works "... leaves no half an image" sh -c "! ls '$XDG_CACHE_HOME/tcmu-zero-copy/guest/'*.ext4*"
mkdir "$work/bin"
printf '#!/bin/sh\necho\necho x 100 90 10\n' >"$work/bin/df"
chmod +x "$work/bin/df"
fails "a full disk" 'no room for the kernel source: needs .* MiB in .*, which has 10 MiB free' \
	env PATH="$work/bin:$PATH" KERNEL_TARBALL="$work/tree.tar.xz" "$scripts/fetch.sh"
nothing_in "none of these left anything in build/" "$BUILD"
works "a good KERNEL_TARBALL" env KERNEL_TARBALL="$work/tree.tar.xz" "$scripts/fetch.sh"
works "... becomes a git checkout" git -C "$BUILD/linux" rev-parse tarball/7.3.9

# Everything but qemu and apt-get
for dir in ${PATH//:/ }; do
	[ ! -d "$dir" ] || find "$dir" -maxdepth 1 -xtype f -perm -1 ! -name 'qemu-system*' ! -name apt-get
done | while read -r command; do
	[ -e "$work/bin/${command##*/}" ] || ln -s "$command" "$work/bin/"
done
rm "$work/bin/df"
fails "qemu is missing, and there is no apt" 'please install these .*qemu-system-x86' \
	env PATH="$work/bin" "$scripts/deps.sh"
mkdir -p "$BUILD/kernel-plain/arch/x86/boot"
fails "no kernel yet" 'run: make kernel' "$scripts/vm.sh" true
touch "$BUILD/kernel-plain/arch/x86/boot/bzImage"
fails "no image yet" 'run: make image' "$scripts/vm.sh" true
touch "$("$scripts/image.sh" --path)"
fails "the guest without qemu" 'qemu-system-x86_64 is not installed' env PATH="$work/bin" "$scripts/vm.sh" true
fails "no CMD" "make vm CMD=" "$scripts/vm.sh" ""
fails "TIMEOUT=soon" "'soon' is not a number" env TIMEOUT=soon "$scripts/vm.sh" true
fails "KERNEL=fast" 'must be plain, debug, bench or coverage' env KERNEL=fast "$scripts/kernel.sh"
fails "DISK=no" 'DISK=.*no such file' env DISK="$work/no" "$scripts/vm.sh" true
fails "MACHINES with one that we don't know" 'vax is not one of: arm64' env MACHINES='i386 vax' "$scripts/arch.sh"
fails "SUITES with what is no name" 'must be names' env SUITES='sid; x' "$scripts/compat.sh"
sed -i '/^no-such/d' "$work/series"
fails "compat with no network" 'no kernel source could be had from: sid' env SUITES=sid "$scripts/compat.sh"
fails "compat of what is no kernel tree" 'not a kernel source tree' env KDIR="$work/empty" "$scripts/compat.sh"
fails "coverage without the series" 'is not applied to' env KDIR="$tree" "$scripts/coverage.sh"
fails "T with what is no name" 'not the name of a test' env T='x; y' "$scripts/test.sh"

totals
