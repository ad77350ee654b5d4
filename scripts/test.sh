#!/usr/bin/env bash
# Everything that is tested, with one line of totals at the end:
#   test.sh			make check, then the selftests on both kernels,
#				and the tests of the whole stack on the plain one
#   ALL=yes			... and on the debug one, which takes hours
#   KERNEL=plain|debug		... on that one only
#   T=name			that selftest only, or that test of the stack
#				(t_name), without make check; on the plain
#				kernel unless KERNEL says otherwise
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

start=$SECONDS
[ -n "$test" ] || stage check "$TOP/scripts/check.sh"

# The tests of the whole stack: tcmu-runner, targetcli, both fabrics.
case $test in '' | t_*) stack=yes ;; *) stack= ;; esac
if [ -n "$stack" ] && [ -x "$TOP/scripts/tcmu-runner.sh" ]; then
	"$TOP/scripts/tcmu-runner.sh" || not_ok "tcmu-runner does not build"
	"$TOP/scripts/rtslib-fb.sh" || not_ok "the patched rtslib is not there"
fi
[ -d "$BUILD/tcmu-runner/root" ] || stack=

selftests() {
	(build_selftests) || { not_ok "the selftests do not build"; return; }
	[ "$kernel$test" != plain ] || stage "the guest runner" "$TOP/scripts/test-vm.sh"
	stage "selftests on the $kernel kernel" \
		"$TOP/scripts/vm.sh" -k "$kernel" -c "${SMP:-$cpus}" -t "${TIMEOUT:-$limit}" \
		"/project/selftests/run.sh $test"
}

for kernel in $kernels; do
	printf '\n# the %s kernel\n' "$kernel"
	if ! KERNEL=$kernel "$TOP/scripts/kernel.sh"; then
		not_ok "the $kernel kernel does not build"
		continue
	fi
	# The debug kernel has one CPU, which TCG does far better than several,
	# and of the stack what doesn't take an hour more than all the rest.
	case $kernel in
	plain) limit=1200 cpus=2 some= ;;
	debug) limit=2400 cpus=1 some=t_smoke ;;
	esac
	[ -z "${ALL:-}$test" ] || some=$test
	if [[ $test == t_* ]]; then
		[ -n "$stack" ] || not_ok "there is no tcmu-runner to test"
	else
		selftests
	fi
	[ -z "$stack" ] || stage "the stack on the $kernel kernel" \
		"$TOP/scripts/vm.sh" -k "$kernel" -c "${SMP:-$cpus}" -t "${TIMEOUT:-$((6 * limit))}" \
		"/project/tcmu-runner/tests/run.sh $some"
done

if [ ${#failures[@]} -gt 0 ]; then
	printf '\n# failed:\n'
	printf '#   %s\n' "${failures[@]}"
fi
printf '\n# %d min %d s\n' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60))
totals
