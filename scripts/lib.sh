# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# What the scripts share: places, messages, locks, checked downloads.
# Sourced by every script here; BUILD, KDIR and the cache can be moved by the
# environment, nothing else has to be.

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$TOP/build}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tcmu-zero-copy
JOBS=${JOBS:-$(nproc)}
# base_value NAME: what BASE says
base_value() { sed -n "s/^$1=//p" "$TOP/BASE"; }
KVERSION=$(base_value VERSION)
[ -n "$KVERSION" ] || { echo "$TOP/BASE gives no VERSION" >&2; exit 1; }
# The guest's Debian; the kernel is in its backports.
# shellcheck disable=SC2034
SUITE=trixie

# Variables given to our make must not override those of the kernel's own.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

me=$(basename "$0" .sh)

say() { printf '%s: %s\n' "$me" "$*"; }
die() { printf '%s: %s\n' "$me" "$*" >&2; exit 1; }

# need COMMAND: for what "make deps" normally takes care of.
need() {
	command -v "$1" >/dev/null ||
		die "$1 is not installed or not in PATH; run: make deps"
}

# The tree that is patched and built: the user's or our own.
if [ -n "${KDIR:-}" ]; then
	[ -d "$KDIR" ] || die "KDIR=$KDIR is not a directory"
	KDIR=$(cd "$KDIR" && pwd)
	SRC=$KDIR
else
	SRC=$BUILD/linux
fi

# tree_version DIR: prints 7.3.4; fails if DIR holds no kernel source.
tree_version() {
	[ -f "$1/Kbuild" ] && [ -f "$1/Makefile" ] || return 1
	awk '$2 != "=" { next }
	     $1 == "VERSION" { v = $3 } $1 == "PATCHLEVEL" { p = $3 }
	     $1 == "SUBLEVEL" { s = $3 } $1 == "EXTRAVERSION" { e = $3; exit }
	     END { if (v == "" || p == "") exit 1
	           print v "." p (s != "" && s != "0" ? "." s : "") e }' "$1/Makefile"
}

need_tree() {
	tree_version "$1" >/dev/null ||
		die "$1 is not a kernel source tree (no Makefile with a version); give the top of one as KDIR"
}

is_series_version() { case $1 in "$KVERSION" | "$KVERSION".* | "$KVERSION"-*) ;; *) return 1 ;; esac; }

# need_space DIR MIB WHAT
need_space() {
	local have
	mkdir -p "$1" || die "cannot create $1"
	have=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
	[ "$have" -ge "$2" ] ||
		die "no room for $3: needs $2 MiB in $1, which has $have MiB free"
}

# One verb at a time in a build directory (or in the cache): lock DIR
lock() {
	mkdir -p "$1" || die "cannot create $1"
	exec 9>"$1/.lock" || die "cannot write in $1"
	flock -n 9 && return
	say "waiting for another one working in $1"
	flock 9
}

# Files in the cache carry their checksum beside them. One that was changed
# since it was last found good is read in full again.
seal() {
	(cd "$(dirname "$1")" && sha256sum "$(basename "$1")") >"$1.sha256"
	stat -c '%s %Y %i' "$1" >"$1.seen"
}
sealed() {
	[ -f "$1" ] && [ -f "$1.sha256" ] || return 1
	[ "$(stat -c '%s %Y %i' "$1")" = "$(cat "$1.seen" 2>/dev/null)" ] && return
	(cd "$(dirname "$1")" && sha256sum --quiet -c "$(basename "$1").sha256") \
		>/dev/null 2>&1 || return 1
	stat -c '%s %Y %i' "$1" >"$1.seen"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"
	elif command -v sudo >/dev/null; then sudo "$@"
	else die "needs root or sudo for: $*"; fi
}

# merge_fragments NAME...: one configuration of these kconfig-fragments/; of a
# symbol that several set, what the last one says.
merge_fragments() {
	set -- "${@/#/$TOP/kconfig-fragments/}"
	cat "${@/%/.config}" | awk '
		/^CONFIG_/ { split($0, a, "="); name = a[1] }
		/^# CONFIG_.* is not set/ { name = $2 }
		/^(CONFIG_|# CONFIG_.* is not set)/ { if (!(name in line)) order[++n] = name; line[name] = $0 }
		END { for (i = 1; i <= n; i++) print line[order[i]] }'
}

# install_packages PACKAGE...: Debian's, for what a verb needs.
install_packages() {
	local install=(as_root env DEBIAN_FRONTEND=noninteractive
		apt-get install -y -q --no-install-recommends)
	command -v apt-get >/dev/null ||
		die "please install these (Debian's names; no apt-get here): $*"
	say "installing $*"
	# Package lists may be absent or too old to download from.
	"${install[@]}" "$@" || { as_root apt-get update -q && "${install[@]}" "$@"; } ||
		die "apt-get could not install: $*"
}

# Paths below BUILD are made relative for ccache, and what differs from one
# build to the next is pinned, so that another clone finds everything there.
use_ccache() {
	export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1
	export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
	export KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_USER=u KBUILD_BUILD_HOST=h
	command -v ccache >/dev/null
}

# kmake FLAVOUR TARGETS...: the kernel's make for one of our object trees.
kmake() {
	local obj=$1 cc=gcc
	shift
	use_ccache && cc='ccache gcc'
	# Not a wrapper (pyenv's takes half a second): W=1 runs it for each file.
	[ -n "${kernel_python:-}" ] || kernel_python=$(python3 -c 'import sys; print(sys.executable)') ||
		kernel_python=python3
	env -u KDIR -u T -u CMD make -C "${KSRC:-$SRC}" O="$obj" CC="$cc" HOSTCC="$cc" \
		PYTHON3="${kernel_python:-python3}" LOCALVERSION= -j"$JOBS" "$@"
}

# The series as text: what an object tree or a check depends on.
# Its sections each start with "# set: NAME" and say "# to:", "# needs:" and
# "# state:" of that set of patches.
series_patches() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' "$TOP/series" | awk 'NF { print $1 }'; }

# The files that patches touch; the patches are standard input.
files_of_patches() { sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' | sort -u; }
touched_files() { (cd "$TOP/patches" && series_patches | xargs -r cat) | files_of_patches; }

# The directories of these files (standard input), without those inside of
# another, which builds them.
directories() {
	sed -n 's,/[^/]*$,/,p' | sort -u |
		awk '{ if (last == "" || index($0, last) != 1) { print; last = $0 } }'
}

series_sets() { sed -n 's/^# set: *//p' "$TOP/series"; }
# set_field SET to|needs|state
set_field() {
	awk -v set="$1" -v key="# $2:" '/^# set:/ { on = $3 == set }
		on && index($0, key) == 1 { sub(/^# [a-z]+: */, ""); print }' "$TOP/series"
}
set_needs() { set_field "$1" needs | tr ' ' '\n' | sed -e '/^-*$/d'; }
set_patches() {
	awk -v set="$1" '/^# set:/ { on = $3 == set }
		on && !/^#/ && NF { print $1 }' "$TOP/series"
}

# series_faults: a line for everything in series and covers/ that is wrong.
series_faults() {
	local set need patch known=' '
	awk '/^# set:/ { in_set = 1 } !/^#/ && NF && !in_set { print "series: " $1 " is in no set" }' "$TOP/series"
	series_patches | sort | uniq -d | sed 's/.*/series: & is named twice/'
	series_sets | sort | uniq -d | sed 's/.*/series: set & is there twice/'
	series_patches | while read -r patch; do
		[ -f "$TOP/patches/$patch" ] || echo "series: $patch is not in patches/"
	done
	(cd "$TOP/patches" && find . -type f) | sed 's,^\./,,' | sort |
		comm -23 - <(series_patches | sort) | sed 's/.*/patches\/&: series does not name it/'
	for set in $(series_sets); do
		[ -s "$TOP/covers/$set.txt" ] || echo "covers/$set.txt: missing, the cover letter of set $set"
		[ -n "$(set_field "$set" to)" ] || echo "series: set $set has no \"# to:\" line"
		[ -n "$(set_field "$set" state)" ] || echo "series: set $set has no \"# state:\" line"
		[ -n "$(set_field "$set" needs)" ] || echo "series: set $set has no \"# needs:\" line (- for none)"
		for need in $(set_needs "$set"); do
			[[ $known == *" $need "* ]] || echo "series: set $set needs $need, which is no set before it"
		done
		known+="$set "
	done
}

# The selftests' programs, built here: the guest has no compiler.
build_selftests() {
	need_tree "$SRC"
	say "building the selftests"
	make -s -C "$TOP/selftests" OUT="$BUILD/selftests" \
		TOOLS="$SRC/tools/testing/selftests" KHDR_INCLUDES="-isystem $BUILD/usr/include" ||
		die "the selftests do not build (see above)"
}
