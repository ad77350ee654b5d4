#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Run the series' KUnit tests by the kernel's own kunit.py: for x86_64, arm64,
# and arm64 with pages of 64K.
#   kunit.sh [x86_64|arm64|arm64-64k]...
. "$(dirname "$0")/lib.sh"

config=mm/tests/mkspecial.kunitconfig
limit=${TIMEOUT:-1800}
flavours=("$@")
[ $# -gt 0 ] || flavours=(x86_64 arm64 arm64-64k)
for flavour in "${flavours[@]}"; do
	case $flavour in x86_64 | arm64 | arm64-64k) ;;
	*) die "unknown: $flavour; give any of: x86_64 arm64 arm64-64k" ;; esac
done

need_tree "$SRC"
[ -f "$SRC/$config" ] || die "$SRC has no $config; run: make apply"
need python3

packages=()
for flavour in "${flavours[@]}"; do
	case $flavour in
	x86_64) wanted='qemu-system-x86_64 qemu-system-x86' ;;
	*) wanted='aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu qemu-system-aarch64 qemu-system-arm' ;;
	esac
	# shellcheck disable=SC2086
	set -- $wanted
	while [ $# -gt 0 ]; do
		command -v "$1" >/dev/null || packages+=("$2")
		shift 2
	done
done
if [ ${#packages[@]} -gt 0 ]; then
	mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
	install_packages "${packages[@]}"
fi

lock "$BUILD"
failed=
table=
for flavour in "${flavours[@]}"; do
	log=$BUILD/kunit/$flavour.log
	mkdir -p "$BUILD/kunit/$flavour" || die "cannot create $BUILD/kunit"
	options=(--kunitconfig="$config" --build_dir="$BUILD/kunit/$flavour" --jobs="$JOBS")
	case $flavour in
	x86_64) options+=(--arch=x86_64) cc=gcc ;;
	*) options+=(--arch=arm64 --cross_compile=aarch64-linux-gnu-) cc=aarch64-linux-gnu-gcc ;;
	esac
	! use_ccache || options+=(--make_options="CC=ccache $cc")
	[ "$flavour" != arm64-64k ] || options+=(--kconfig_add CONFIG_ARM64_64K_PAGES=y)

	say "$flavour: building and running (the log is $log)"
	status=passed
	# kunit.py knows the kernel tree as its working directory only.
	(cd "$SRC" && env -u KDIR -u T -u CMD ./tools/testing/kunit/kunit.py run \
		"${options[@]}" --qemu_args='-smp 2' --timeout="$limit") 2>&1 |
		tee "$log" | grep -E --line-buffered '^\[[0-9:]+\]|error:|warning:' ||
		status=FAILED
	# The last line of kunit.py's summary counts; a pass needs one.
	summary=$(sed -n 's/^\[[0-9:]*\] Testing complete\. *//p' "$log" | tail -n 1)
	[ -n "$summary" ] || status=FAILED
	[ $status = passed ] || failed=yes
	table+=$(printf '%-10s %-6s %s' "$flavour" "$status" "${summary:-did not run; see $log}")$'\n'
done

printf '\n%-10s %-6s %s\n%s' kernel result tests "$table"
[ -z "$failed" ] || die "see build/kunit/*.log"
