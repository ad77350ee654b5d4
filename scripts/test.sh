#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Everything that is tested, with one line of totals at the end:
#   test.sh			make check, then the selftests on both kernels,
#				and the tests of the whole stack on the plain one
#   ALL=yes			... and on the debug one, which takes hours
#   KERNEL=plain|debug		... on that one only
#   T=name			that selftest only, or that test of the stack
#				(t_name), without make check; on the plain
#				kernel unless KERNEL says otherwise
#   MINUTES=n			no new test is started when these are over, the
#				rest is counted as skipped
# Needs the patched tree and the guest image (make test sees to that).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/results.sh"

test=${T:-}
[[ $test =~ ^[A-Za-z0-9_:.-]*$ ]] || die "T=$test is not the name of a test"
kernels=${KERNEL:-${test:+plain}}
case ${kernels:=both} in
plain | debug) ;;
both) kernels='plain debug' ;;
*) die "KERNEL=$kernels: must be plain, debug or both" ;;
esac
unset KERNEL

[[ ${MINUTES:=} =~ ^[0-9]*$ ]] || die "MINUTES=$MINUTES is not a number"

# What make has done for this, of all that takes time.
before=0
if [ "$(ps -o comm= -p $PPID)" = make ]; then
	before=$(($(ps -o etimes= -p $PPID)))
	lap "source, series, guest image, tcmu-runner" "$before"
fi
# Seconds that are left, for what may take a while after its last start.
left() { echo $((MINUTES * 60 - before - SECONDS - $1)); }
[ -n "$test" ] || stage check "$TOP/scripts/check.sh"

# The tests of the whole stack: tcmu-runner, targetcli, both fabrics.
case $test in '' | t_*) stack=yes ;; *) stack= ;; esac
if [ -n "$stack" ] && [ -x "$TOP/scripts/tcmu-runner.sh" ]; then
	"$TOP/scripts/tcmu-runner.sh" || not_ok "tcmu-runner does not build"
	"$TOP/scripts/rtslib-fb.sh" || not_ok "the patched rtslib is not there"
fi
[ -d "$BUILD/tcmu-runner/root" ] || stack=

# guest KERNEL SUITE FACTOR TEST: that test, or all of the suite
guest() {
	local limit cpus modules='' budget=''
	# One CPU is what TCG does far better than several.
	case $1 in
	plain) limit=1200 cpus=2 ;;
	debug) limit=2400 cpus=1 ;;
	esac
	# The plain kernel has the stack as modules; the selftests unload them.
	[ "$1 $2" != "plain selftests" ] || modules='lsmod | sed 1d | grep . && echo "not ok modules are left loaded" && s=1; '
	if [ -n "$MINUTES" ]; then
		budget=$(left 420)
		[ "$budget" -gt 60 ] || {
			echo "ok - $2 on the $1 kernel # SKIP no time left of $MINUTES minutes"
			echo "0 passed, 0 failed, 1 skipped"
			return
		}
		budget="BUDGET=$budget "
	fi
	"$TOP/scripts/vm.sh" -k "$1" -c "${SMP:-$cpus}" -t "${TIMEOUT:-$(($3 * limit))}" \
		"$budget/project/$2/run.sh $4; s=\$?; ${modules}exit \$s"
}

built=()
for kernel in $kernels; do
	printf '\n# the %s kernel\n' "$kernel"
	if [ "$kernel${MINUTES:+ limited}" = "debug limited" ] && [ "$(left 2400)" -lt 0 ]; then
		skip "all on the debug kernel" "no time left to build it, of $MINUTES minutes"
		continue
	fi
	if KERNEL=$kernel "$TOP/scripts/kernel.sh"; then
		built+=("$kernel")
	else
		not_ok "the $kernel kernel does not build"
	fi
	lap "building the $kernel kernel"
done

selftests=yes
case $test in
t_*)
	selftests=
	[ -n "$stack" ] || not_ok "there is no tcmu-runner to test"
	;;
*) (build_selftests) || { not_ok "the selftests do not build"; selftests=; } ;;
esac

# The debug kernel's selftests, with their one CPU, run beside the plain one's
# tests of the stack.
pid=
for kernel in "${built[@]}"; do
	[ -n "$selftests" ] || continue
	[ "$kernel$test" != plain ] || stage "the guest runner" "$TOP/scripts/test-vm.sh"
	if [ "${built[*]}" = 'plain debug' ] && [ "$kernel" = debug ]; then
		aside debug guest debug selftests 2 "$test"
		pid=yes
	else
		stage "selftests on the $kernel kernel" guest "$kernel" selftests 1 "$test"
	fi
done
for kernel in "${built[@]}"; do
	# Of the stack, what doesn't take an hour more than all the rest.
	some=$test
	[ "$kernel$test${ALL:-}" != debug ] || some=t_smoke
	[ -z "$pid" ] || [ "$kernel" = plain ] || {
		stage "selftests on the debug kernel, after the rest" joined debug
		beside "all of them, most of it beside the stack" "$(aside_took debug)"
	}
	[ -z "$stack" ] || stage "the stack on the $kernel kernel" guest "$kernel" tests 6 "$some"
done

if [ ${#failures[@]} -gt 0 ]; then
	printf '\n# failed:\n'
	printf '#   %s\n' "${failures[@]}"
fi
printf '\n# minutes:seconds\n'
laps
totals
