#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Run tests/soak.sh in the guest: fio writes and verifies LUNs while faults are
# injected.
#   SOAK_SECONDS=n (make soak SECONDS=n): for how long (300)
#   SEED=n; KERNEL=plain|debug
# Needs the kernel, the guest image, tcmu-runner and rtslib (make soak sees to
# that).
. "$(dirname "$0")/lib.sh"

duration=${SOAK_SECONDS:-300}
[[ $duration =~ ^[1-9][0-9]*$ ]] || die "SECONDS=$duration is not a number of seconds"
[[ ${SEED:-} =~ ^(0|[1-9][0-9]{0,4})?$ ]] || die "SEED=$SEED: must be a number of up to 5 digits, without a 0 before it"
say "$duration s of I/O with faults, on the ${KERNEL:-plain} kernel"
"$TOP/scripts/vm.sh" -k "${KERNEL:-plain}" -c "${SMP:-2}" -t "${TIMEOUT:-$((duration * 2 + 1800))}" \
	"SOAK_SECONDS=$duration SEED=${SEED:-} TEST_TIMEOUT=$((duration * 2 + 1500)) /project/tests/run.sh soak"
