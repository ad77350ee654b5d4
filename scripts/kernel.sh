#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Build the kernel for the guest: KERNEL=plain (default), debug, bench or
# coverage, out of the patched tree into build/kernel-$KERNEL, its modules into
# modules/ there. Also the uapi headers: build/usr. The plain kernel has the
# target stack as modules, as distributions do; the others have it built in.
. "$(dirname "$0")/lib.sh"

flavour=${KERNEL:-plain}
case $flavour in
plain) parts="tcmu-zero-copy guest modules" room=1200 ;;
debug) parts="tcmu-zero-copy guest builtin debug" room=2500 ;;
bench) parts="tcmu-zero-copy guest builtin bench" room=1200 ;;
coverage) parts="tcmu-zero-copy guest builtin coverage" room=1200 ;;
*) die "KERNEL=$flavour: must be plain, debug, bench or coverage" ;;
esac
obj=$BUILD/kernel-$flavour
log=$obj/build.log

need_tree "$SRC"
case $TOP$SRC in *[:\ ]*) die "the kernel cannot be built below a directory with a space or colon in its name" ;; esac
if [ -e "$SRC/.config" ] || [ -d "$SRC/include/config" ]; then
	die "$SRC was built in place, so it cannot be built elsewhere; use a clean checkout (git worktree add) as KDIR"
fi
# Of the coverage kernel, the files that the series touches are counted: kbuild
# takes a variable for each name. It is for one directory only, as others have
# files of the same name (mm/memory.c, arch/x86/boot/memory.c).
variables=()
if [ "$flavour" = coverage ]; then
	mapfile -t variables < <(touched_files | awk -F / '/\.c$/ {
			name = $NF; sub(/c$/, "o", name)
			# An object that the Makefile gives another name
			if (name == "target_core_user.o") name = "target_core_user_main.o"
			dir = $0; sub("/[^/]*$", "", dir)
			dirs[name] = dirs[name] " " dir }
		END { for (name in dirs) printf "GCOV_PROFILE_%s=$(if $(filter%s,$(obj)),y)\n", name, dirs[name] }' | sort)
fi
lock "$BUILD"
[ -e "$obj/vmlinux" ] || need_space "$BUILD" "$room" "the $flavour kernel"
mkdir -p "$obj"

fragments=$obj/fragments
# shellcheck disable=SC2086
merge_fragments $parts >"$fragments"
kmake "$obj" -s allnoconfig KCONFIG_ALLCONFIG="$fragments" >"$log" 2>&1 || {
	cat "$log" >&2
	die "the configuration could not be made (see above)"
}

# A symbol that was renamed, or whose dependencies changed, is dropped without
# a word.
lost=$(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$fragments" | while read -r line; do
	case $line in
	CONFIG_*) grep -qxF "$line" "$obj/.config" ;;
	*) ! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$obj/.config" ;;
	esac || printf '  %s\n' "$line"
done)
[ -z "$lost" ] || {
	printf '%s\n' "$lost" >&2
	die "these lines of kconfig-fragments/ did not take effect in Linux $(tree_version "$SRC")"
}

# Warnings and errors pass; of the rest, a line every ten seconds.
progress() {
	local line n=0 last=$SECONDS start=$SECONDS
	while IFS= read -r line; do
		case $line in
		'  '[A-Z]*' '*)
			case $line in '  CC '* | '  AS '*) n=$((n + 1)) ;; esac
			[ $((SECONDS - last)) -ge 10 ] || continue
			last=$SECONDS
			say "$n objects, $((last - start)) s (${line##* })"
			;;
		make:* | make\[*\]:\ [ELN]* | Kernel:* | '') ;;
		*) printf '%s\n' "$line" ;;
		esac
	done
	[ $n = 0 ] || say "$n objects built in $((SECONDS - start)) s"
}

say "building the $flavour kernel, Linux $(tree_version "$SRC"), on $JOBS CPUs"
kmake "$obj" ${variables[@]+"${variables[@]}"} bzImage modules 2>&1 | tee "$log" | progress ||
	die "the build failed (see above and $log)"
kmake "$obj" -s headers_install INSTALL_HDR_PATH="$BUILD/usr" >>"$log" 2>&1 ||
	die "installing the headers failed, see $log"
# Anew: a module that is no longer built must not stay.
rm -rf "$obj/modules"
kmake "$obj" -s modules_install INSTALL_MOD_PATH="$obj/modules" INSTALL_MOD_STRIP=1 >>"$log" 2>&1 ||
	die "installing the modules failed, see $log"
say "$obj/arch/x86/boot/bzImage is up to date"
