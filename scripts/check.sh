#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Check everything that needs no guest: our shell, the bad inputs, and the
# series: checkpatch, a build after every patch, that W=1, sparse, coccinelle and
# kernel-doc say nothing of the touched files that they did not say before, and
# that the modules link in mainline. Needs the patched tree (make check sees to
# that).
# All builds are in a copy of the tree below build/check. What was found is
# remembered in the user's cache, under a hash of all that it depends on.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

need_tree "$SRC"
lock "$BUILD/check"
. "$(dirname "$0")/series-tree.sh"
obj=$check/obj
known=$CACHE/check
mkdir -p "$known"
find "$known" -mtime +7 -delete

fragments=$check/fragments
merge_fragments tcmu-zero-copy guest modules check >"$fragments"
tools="$(gcc --version | head -n 1) $(sparse --version) $(spatch --version | head -n 1)"

mapfile -t doc_files < <(touched "$count" | grep '\.[ch]$')

# hash_of N [WHAT...]: of all that a result for WHAT after N patches depends on
hash_of() {
	local n=$1
	shift
	(cd "$now/patches" && cat "$TOP/scripts/check.sh" "$fragments" "${patches[@]:0:$n}" /dev/null &&
		echo "$base $tools $*") | sha256sum | cut -c 1-20
}
built_hash() { hash_of "$1" "${dirs[@]}"; }
# A file that a new patch touches is looked at before the series, too.
analysed_hash() { hash_of "$1" "${doc_files[@]}"; }

configure() {
	KSRC=$tree kmake "$obj" -s allnoconfig KCONFIG_ALLCONFIG="$fragments" >"$check/log" 2>&1 || {
		cat "$check/log" >&2
		die "the configuration could not be made after $at patches"
	}
}
make_here() { KSRC=$tree kmake "$obj" "$@"; }

# --- what the tools say of the touched files
normalised() {
	sed -n -E '/[Ww]arning|[Ee]rror|WARNING|ERROR|EXN|opportunity/s/:[0-9]/&/p' |
		sed -E -e "s,$tree/,,g" -e 's,(\.\./)+linux/,,g' -e 's/:[0-9]+(:[0-9]+)?(-[0-9]+)?/:/g' \
			-e 's/line(s?) [0-9]+(,[0-9]+)*/line\1/g' | sort
}

# The sparse of today's distributions does not know all that this kernel is
# written in. Some of it can be said otherwise; what it then still takes for
# an error is none, or gcc would say so too. Its warnings are what counts.
w1_and_sparse() {
	local file
	for file; do rm -f "$obj/${file%.c}.o"; done
	make_here -k W=1 C=2 CHECK='sparse -D__typeof_unqual__=__typeof__' "${@/%.c/.o}" >"$check/log" 2>&1 || :
	for file; do
		{ grep -q "CHECK  *$file\$" "$check/log" && [ -f "$obj/${file%.c}.o" ]; } ||
			die "W=1 C=2 did not get through $file, see $check/log"
	done
	grep -v 'error: ' "$check/log"
}

# As the tree's coccicheck does, which stops at the first script that needs an
# OCaml compiler; those two are left out.
coccicheck() {
	local script one
	# shellcheck disable=SC2016
	one='script=$1; shift
		out=$(spatch -D report --no-show-diff --very-quiet --cocci-file "$script" \
			$(sed -n "s,^// *Options: *,,p" "$script") \
			-I include -I arch/x86/include -I include/uapi "$@" 2>&1)
		printf "%s\n" "$out"'
	cd "$tree"
	grep -rL --include='*.cocci' 'script:ocaml' scripts/coccinelle | sort |
		while read -r script; do
			! grep -q '^virtual.*report' "$script" || echo "$script"
		done |
		xargs -P "$JOBS" -I @@ sh -c "$one" sh @@ "$@"
}

# analyse N: what they say after N patches, into $known/TOOL-HASH
analyse() {
	local h tool file code=() docs=()
	h=$(analysed_hash "$1")
	[ ! -e "$known/analysed-$h" ] || return 0
	go_to "$1"
	configure
	for file in "${c_files[@]}"; do [ ! -f "$tree/$file" ] || code+=("$file"); done
	for file in "${doc_files[@]}"; do [ ! -f "$tree/$file" ] || docs+=("$file"); done
	say "W=1, sparse, coccinelle and kernel-doc on the touched files, after $1 patches"
	w1_and_sparse "${code[@]}" | normalised >"$known/sparse-$h"
	(coccicheck "${code[@]}") | normalised >"$known/coccinelle-$h"
	{ (cd "$tree" && scripts/kernel-doc -Wall -none "${docs[@]}") 2>&1 || :; } | normalised >"$known/kernel-doc-$h"
	touch "$known/analysed-$h"
}

# What the modules of the touched directories take from elsewhere.
imports() {
	local order
	for order in "${dirs[@]/%/modules.order}"; do
		[ ! -f "$obj/$order" ] || sed "s,^,$obj/," "$obj/$order"
	done | xargs -r nm -A | awk '
		$(NF - 1) == "U" { used[$NF] }
		$(NF - 1) ~ /^[A-TV-Z]$/ { own[$NF] }
		END { for (name in used) if (!(name in own)) print name }' | sort
}

build_prefixes() {
	local i h name
	for ((i = 0; i <= count; i++)); do
		name="the touched directories build, without a warning, after ${patches[$((i - 1))]:-no patch}"
		[ $i -gt 0 ] || name="the touched directories build unpatched"
		h=$(built_hash $i)
		if [ ! -e "$known/built-$h" ]; then
			go_to $i
			configure
			if ! make_here "${dirs[@]}" >"$check/log" 2>&1; then
				grep -E -A 6 'error|Error|warning:' "$check/log" >"$check/details" || cp "$check/log" "$check/details"
			elif [ $i = 0 ]; then
				: >"$check/details"
			else
				grep -A 6 'warning:' "$check/log" >"$check/details" || :
			fi
			if [ -s "$check/details" ]; then
				not_ok "$name" "$check/details"
				continue
			fi
			imports >"$known/imports-$h"
			touch "$known/built-$h"
		fi
		ok "$name"
	done
}

shells() {
	local file
	find "$TOP" -path "$TOP/build" -prune -o -path "$TOP/.git" -prune -o -type f -print |
		while read -r file; do
			case $(head -c 64 "$file" | head -n 1 | tr -d '\0') in
			'#!'*[/\ ]bash* | '#!'*[/\ ]sh* | '# shellcheck shell='*) echo "$file" ;;
			esac
		done
}

# --- all of it, the quick ones first
printf '# our shell\n'
while read -r file; do
	shellcheck -x "$file" >"$check/details" 2>&1 || :
	result "shellcheck ${file#"$TOP/"}" "$check/details"
done < <(shells)
lap "our shell"

(cd "$TOP" && git ls-files -- '*.sh' '*.[ch]' '*.config' Makefile '*/Makefile' .ci/run selftests/config scripts |
	while read -r file; do
		[ ! -f "$file" ] || head -n 4 "$file" | grep -q SPDX-License-Identifier || echo "$file has no SPDX line"
	done) >"$check/details"
result "every script and C file says its licence" "$check/details"

# These two start many small processes one after the other; the builds below
# leave them time for that.
aside queue "$TOP/scripts/test-queue.sh"
aside inputs "$TOP/scripts/test-pipeline.sh"
stage "checkpatch" "$TOP/scripts/checkpatch-wrapper.sh"

stage "tcmu-runner's series, patch by patch" "$TOP/scripts/tcmu-runner.sh" prefixes

if [ "$count" -gt 0 ]; then
	printf '\n# the series, patch by patch\n'
	# In the order of the patches: every file is compiled as rarely as possible.
	analyse 0
	lap "W=1, sparse, coccinelle and kernel-doc, before the series"
	build_prefixes
	lap "the series, patch by patch"
	analyse "$count"
	lap "W=1, sparse, coccinelle and kernel-doc, after the series"
	before=$(built_hash 0) after=$(built_hash "$count")
	# The tree's own modules take only what mainline exports; of what ours take
	# besides, each is either exported by the series or was looked up.
	comm -13 "$known/imports-$before" "$known/imports-$after" | while read -r symbol; do
		grep -qE "^\+EXPORT_SYMBOL(_GPL)?\($symbol\)" "${patches[@]/#/$now/patches/}" ||
			grep -q "^${symbol}[[:space:]]" "$TOP/scripts/mainline-exports" ||
			echo "$symbol: look up whether mainline exports it, then add it to scripts/mainline-exports"
	done >"$check/details"
	result "imports: every new one is known to be exported by mainline" "$check/details"
	before=$(analysed_hash 0) after=$(analysed_hash "$count")
	for tool in sparse coccinelle kernel-doc; do
		# A file that is new may say nothing at all; comm keeps that simple.
		comm -13 "$known/$tool-$before" "$known/$tool-$after" >"$check/details"
		name=$tool
		[ $tool != sparse ] || name="W=1 and sparse"
		result "$name: nothing new on the touched files" "$check/details"
	done
	tree_done
fi

stage "modules" "$TOP/scripts/modules.sh"
lap "the modules' link, and the plain kernel if it was not there"

for key in queue inputs; do
	stage "$key" joined $key
	beside "all of $key, most of it beside the builds" "$(aside_took $key)"
done

printf '\n# minutes:seconds of check\n'
laps
if [ ${#failures[@]} -gt 0 ]; then
	printf '# failed: %s\n' "${failures[@]}"
fi
totals
