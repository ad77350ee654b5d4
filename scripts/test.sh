#!/usr/bin/env bash
# Everything that is tested, with one line of totals at the end:
#   test.sh			make check, then the selftests on both kernels
#   KERNEL=plain|debug		... on that one only
#   T=name			that selftest only, without make check; on the
#				plain kernel unless KERNEL says otherwise
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
for kernel in $kernels; do
	printf '\n# the %s kernel\n' "$kernel"
	if ! KERNEL=$kernel "$TOP/scripts/kernel.sh"; then
		not_ok "the $kernel kernel does not build"
		continue
	fi
	(build_selftests) || { not_ok "the selftests do not build"; continue; }
	[ "$kernel$test" != plain ] || stage "the guest runner" "$TOP/scripts/test-vm.sh"
	case $kernel in plain) limit=1200 ;; debug) limit=2400 ;; esac
	stage "selftests on the $kernel kernel" \
		"$TOP/scripts/vm.sh" -k "$kernel" -t "${TIMEOUT:-$limit}" \
		"/project/selftests/run.sh $test"
done

if [ ${#failures[@]} -gt 0 ]; then
	printf '\n# failed:\n'
	printf '#   %s\n' "${failures[@]}"
fi
printf '\n# %d min %d s\n' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60))
totals
