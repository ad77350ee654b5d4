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

# The archive this machine already uses, not its security mirror.
debian_mirror() {
	local uri
	if [ -n "${DEBIAN_MIRROR:-}" ]; then echo "$DEBIAN_MIRROR"; return; fi
	command -v apt-get >/dev/null ||
		die "no apt here to take a Debian mirror from; set DEBIAN_MIRROR"
	# Without package lists apt cannot say whose an archive is: go by its name.
	# shellcheck disable=SC2016
	uri=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $2 == "main" && !/security/ { print $3; exit }')
	# shellcheck disable=SC2016
	[ -n "$uri" ] || uri=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' |
		awk '/main/ && /debian/ && !/security/ { print $NF; exit }')
	[ -n "$uri" ] ||
		die "this machine's apt knows no Debian archive; set DEBIAN_MIRROR"
	echo "$uri"
}

# private_apt SUITE [TYPE]: has apt use a state of our own, with the index of
# that suite alone, so that neither the system's sources nor its lists change.
# TYPE is deb or deb-src. Fails, with apt's complaints shown, if there is no
# index to be had. In a subshell if something else needs the system's apt.
private_apt() {
	local suite=$1 type=${2:-deb} mirror state
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	state=$CACHE/apt/$suite-$type
	[ -f "$keyring" ] || die "$keyring is missing; run: make deps"
	mirror=$(debian_mirror) || exit
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial" || die "cannot create $state"
	echo "$type [signed-by=$keyring] $mirror $suite main" >"$state/sources.list"
	cat >"$state/apt.conf" <<-END
		Dir::State::Lists "$state/lists";
		Dir::Cache "$state/cache";
		Dir::Etc::sourcelist "$state/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Acquire::Languages "none";
		Acquire::Retries "2";
		APT::Sandbox::User "";
		APT::Update::Error-Mode "any";
	END
	export APT_CONFIG=$state/apt.conf
	apt-get update -q >"$state/log" 2>&1 && return
	sed -n 's/^[EW]: */  /p' "$state/log" >&2
	return 1
}

# kmake FLAVOUR TARGETS...: the kernel's make for one of our object trees.
# Paths below BUILD are made relative for ccache, and what differs from one
# build to the next is pinned, so that another clone finds everything there.
kmake() {
	local obj=$1 cc=gcc
	shift
	export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1
	export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
	export KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_USER=u KBUILD_BUILD_HOST=h
	command -v ccache >/dev/null && cc='ccache gcc'
	env -u KDIR -u T -u CMD make -C "${KSRC:-$SRC}" O="$obj" CC="$cc" HOSTCC="$cc" \
		LOCALVERSION= -j"$JOBS" "$@"
}

# The series as text: what an object tree or a check depends on.
# Its sections each start with "# set: NAME" and say "# to:", "# needs:" and
# "# state:" of that set of patches.
series_patches() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' "$TOP/series" | awk 'NF { print $1 }'; }

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
