#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Other machines: build the touched directories, with W=1, for each machine
# below, at the end of each set and of the series, with the target stack built
# in, as modules, and with TCM_USER2 off. A warning that the tree has without
# the series is none of ours. A table at the end. Needs the patched tree (make
# arch sees to that); installs the cross compilers that are missing.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/sets.sh"

# name, ARCH, the compiler's prefix (- is this machine's), its package
machines='
arm64 arm64 aarch64-linux-gnu- gcc-aarch64-linux-gnu
i386 i386 - -
s390 s390 s390x-linux-gnu- gcc-s390x-linux-gnu
arm arm arm-linux-gnueabihf- gcc-arm-linux-gnueabihf
'
known=$(awk 'NF { printf " %s", $1 }' <<<"$machines")
for machine in ${MACHINES:=$known}; do
	[[ "$known " == *" $machine "* ]] || die "MACHINES=$MACHINES: $machine is not one of:$known"
done

need_tree "$SRC"
lock "$BUILD/check"
. "$(dirname "$0")/series-tree.sh"
[ "$count" -gt 0 ] || die "the series is empty"
start=$SECONDS
log=$check/arch.log

# field MACHINE N
field() { awk -v name="$1" -v n="$2" '$1 == name { print $n }' <<<"$machines"; }

packages=()
for machine in $MACHINES; do
	cross=$(field "$machine" 3)
	[ "$cross" = - ] || command -v "${cross}gcc" >/dev/null || packages+=("$(field "$machine" 4)")
done
if [ ${#packages[@]} -gt 0 ]; then
	say "installing ${packages[*]}"
	(install_packages "${packages[@]}") >"$log" 2>&1 ||
		die "apt-get could not install ${packages[*]}, see $log; MACHINES='i386' needs none of them"
fi

# make_for MACHINE VARIANT TARGETS...: each variant has an object tree of its
# own, in which only what a set changes is built again. W=1 would also run
# kernel-doc. That is switched off here: its output is the same for each
# machine, and make check runs it.
make_for() {
	local machine=$1 variant=$2 cross cc=gcc
	shift 2
	cross=$(field "$machine" 3)
	[ "$cross" != - ] || cross=
	cc=${cross}gcc
	! command -v ccache >/dev/null || cc="ccache $cc"
	KSRC=$tree kmake "$check/obj-$machine-$variant" ARCH="$(field "$machine" 2)" CROSS_COMPILE="$cross" CC="$cc" \
		KERNELDOC=/dev/null "$@"
}

# configure MACHINE built-in|modules|off
configure() {
	local parts="tcmu-zero-copy guest builtin" want=y got
	case $2 in
	modules) parts+=" modules" want=m ;;
	off) want= ;;
	esac
	# shellcheck disable=SC2086
	merge_fragments $parts >"$check/arch-fragments"
	[ "$2" != off ] || sed -i 's/^CONFIG_TCM_USER2=.*/# CONFIG_TCM_USER2 is not set/' "$check/arch-fragments"
	make_for "$1" "$2" -s allnoconfig KCONFIG_ALLCONFIG="$check/arch-fragments" >"$log" 2>&1 || {
		cat "$log" >&2
		die "the configuration for $1 could not be made"
	}
	got=$(sed -n 's/^CONFIG_TCM_USER2=//p' "$check/obj-$1-$2/.config")
	[ "$got" = "$want" ] || die "the configuration for $1 has TCM_USER2=${got:-n} instead of ${want:-n}"
}

# What the compiler says of the touched files, without line numbers.
warnings() {
	sed -E -n -e "s,^($tree/|(\.\./)+linux/),," \
		-e 's/^([^ :]+):[0-9]+(:[0-9]+)?: (warning: .*)/\1: \3/p' "$log" | sort -u
}

# build MACHINE VARIANT FILE DIR...: adds its warnings to FILE, fails if it does
# not build
build() {
	local machine=$1 variant=$2 file=$3
	shift 3
	configure "$machine" "$variant"
	make_for "$machine" "$variant" -k W=1 "$@" >"$log" 2>&1 || return 1
	warnings >>"$file"
}

# bits, byte order, special PTEs: what the configuration of MACHINE says
facts() {
	local config=$check/obj-$1-built-in/.config
	grep -q '^CONFIG_64BIT=y' "$config" && printf '64 ' || printf '32 '
	grep -q '^CONFIG_CPU_BIG_ENDIAN=y' "$config" && printf 'big ' || printf 'little '
	grep -q '^CONFIG_ARCH_HAS_PTE_SPECIAL=y' "$config" && printf 'yes' || printf 'no'
}

results=$check/arch-results
: >"$results"
rm -rf "$check"/obj-*
for machine in $MACHINES; do : >"$check/arch-warnings-$machine"; done
while read -r n name; do
	go_to "$n"
	mapfile -t built < <(touched "$n" | grep '\.c$' | directories)
	for machine in $MACHINES; do
		for variant in built-in modules off; do
			: >"$check/arch-now"
			said=$SECONDS
			if build "$machine" "$variant" "$check/arch-now" "${built[@]}"; then
				# Told apart from what the tree has by itself further down.
				sort -u "$check/arch-now" | sed "s,^,$name $variant ," >>"$check/arch-warnings-$machine"
				echo "$name $machine $variant builds $(facts "$machine")" >>"$results"
			else
				grep -E -A 6 'error|Error' "$log" | head -n 40 | sed 's/^/  /'
				cp "$log" "$check/arch-failed-$machine-$name-$variant.log"
				echo "$name $machine $variant fails $(facts "$machine")" >>"$results"
			fi
			say "$machine, $name, $variant: $((SECONDS - said)) s"
		done
	done
done < <(set_ends)

# Only now is it known whether the tree without the series is needed. Its
# variants warn of much the same, so mostly one of them tells.
for machine in $MACHINES; do
	[ -s "$check/arch-warnings-$machine" ] || continue
	[ "$at" = 0 ] || at=-1
	go_to 0
	rm -rf "$check/obj-$machine"-*
	: >"$check/arch-before"
	for variant in modules built-in off; do
		said=$SECONDS
		build "$machine" "$variant" "$check/arch-before" "${dirs[@]}" ||
			die "the tree does not build for $machine without the series, see $log"
		say "$machine, without the series, $variant: $((SECONDS - said)) s"
		awk 'NR == FNR { before[$0]; next }
			{ w = $0; sub(/^[^ ]* [^ ]* /, "", w) } !(w in before)' \
			"$check/arch-before" "$check/arch-warnings-$machine" >"$check/arch-new"
		[ -s "$check/arch-new" ] || break
	done
	cp "$check/arch-new" "$check/arch-warnings-$machine"
	while read -r name variant warning; do
		say "$machine, $name, $variant: $warning"
		sed -i "s/^$name $machine $variant builds/$name $machine $variant warns/" "$results"
	done <"$check/arch-new"
done
tree_done

printf '\n# %s; W=1, warnings that the series does not bring left out; %d s\n' \
	"$base" $((SECONDS - start))
{
	echo "up to set|machine|bits|bytes|pte_special|built in|modules|off"
	awk '{ key = $1 "|" $2 "|" $5 "|" $6 "|" $7 }
		!(key in at) { order[++n] = key; at[key] }
		{ r[key, $3] = $4 }
		END { for (i = 1; i <= n; i++) print order[i] "|" r[order[i], "built-in"] "|" r[order[i], "modules"] "|" r[order[i], "off"] }' "$results"
} | column -t -s '|'
! grep -qE ' (fails|warns) ' "$results"
