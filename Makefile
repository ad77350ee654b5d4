# SPDX-License-Identifier: GPL-2.0
# The verbs of the project; each does what is missing before it. The work is
# in scripts/.

MAKEFLAGS += --no-print-directory --no-builtin-rules
S := scripts

.PHONY: help deps fetch apply unapply branch refresh mbox kernel tcmu-runner rtslib-fb image vm \
	shell check kunit test soak demo demo-takes bench bench-quick arch compat coverage \
	clean distclean

help:
	@sed -n 's/^#: //p' Makefile

#: make deps                 install what is missing on this machine
#: make fetch                the kernel source into build/linux
#: make apply, make unapply  the series on it, or off it
#: make kernel               the patched kernel for the guest
#: make branch               the series as a git branch (BRANCH=name ON=commit)
#: make refresh              the commits of that branch back into patches/
#: make mbox SET=name SENDER='Name <mail>'   a set as mails
#: make tcmu-runner          the patched tcmu-runner, into build/tcmu-runner/root
#: make rtslib-fb            the patched rtslib, into build/rtslib-fb
#: make image                the guest's disk
#: make vm CMD='...'         run a command in the guest
#: make shell                a prompt in the guest
#: make check                the patches and scripts alone, without a guest
#: make kunit                the KUnit tests, for x86_64, arm64, arm64 64K
#: make test                 check, then the tests on both kernels (ALL=yes: all)
#: make test MINUTES=n       what can't start in n minutes is skipped by name
#: make test T=name          one selftest, or t_name: one of the whole stack
#: make soak SECONDS=n SEED=n   I/O on six disks, verified, with faults
#: make demo                 files through a LUN, copied and with zero copy
#: make bench                tcmu, ublk and the ceilings compared, in 40 minutes
#: make bench-quick          less of it, in 6
#: make arch                 the touched directories, built for other machines
#: make compat               which kernel trees the series fits, a table
#: make coverage             the lines of the series that no selftest ran
#: make clean, distclean     remove build/; and the cache with downloads
#:
#: KDIR=dir                  your own kernel tree instead of build/linux
#: KERNEL_TARBALL=file       a kernel tarball instead of a download
#: KERNEL=plain|debug        which kernel the guest runs (test: also both)
#: MACHINES='arm64 s390'     arch: these only
#: SUITES='sid trixie'       compat: the trees of these Debian suites
#: TIMEOUT=s MEM=MiB SMP=n   the guest's time limit, memory, CPUs
#: DISK=file                 a second disk for the guest, read-only

deps:
	@$S/deps.sh

fetch: deps
	@$S/fetch.sh

apply: fetch
	@$S/apply.sh apply

unapply:
	@$S/apply.sh unapply

branch: fetch
	@$S/branch.sh

refresh: deps
	@$S/refresh.sh

mbox: fetch
	@$S/mbox.sh

kernel: apply
	@$S/kernel.sh

tcmu-runner: deps
	@$S/tcmu-runner.sh

rtslib-fb: deps
	@$S/rtslib-fb.sh

image: deps
	@$S/image.sh

vm: kernel image tcmu-runner rtslib-fb
	@$S/vm.sh -- "$$CMD"

shell: kernel image tcmu-runner rtslib-fb
	@$S/vm.sh -i

check: apply
	@$S/check.sh

kunit: apply
	@$S/kunit.sh

test: apply image tcmu-runner rtslib-fb
	@$S/test.sh

soak: kernel image tcmu-runner rtslib-fb
	@env -u SECONDS SOAK_SECONDS="$(SECONDS)" $S/soak.sh

demo: demo-takes kernel image tcmu-runner
	@$S/demo.sh

demo-takes:
	@$S/demo.sh --how-long

bench: apply image
	@KERNEL=bench $S/kernel.sh
	@$S/bench.sh full

bench-quick: apply image
	@KERNEL=bench $S/kernel.sh
	@$S/bench.sh quick

arch: apply
	@$S/arch.sh

# It takes no tree but those that it compares, or KDIR.
compat: deps image
	@$S/compat.sh

coverage: apply image
	@$S/coverage.sh

clean:
	rm -rf build

distclean: clean
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/tcmu-zero-copy"
