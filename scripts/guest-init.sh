#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The guest's first process: sets the system up, runs what vm.sh left in
# /out/cmd (or a shell, if it left nothing), writes the exit status to
# /out/status and turns the machine off.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=${TERM:-linux}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /tmp /run; do mount -t tmpfs tmpfs $dir; done
mount -t configfs configfs /sys/kernel/config
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out /out
ln -sfn /proc/self/fd /dev/fd
hostname guest
ip link set lo up

# What the daemons of the target stack expect of a system that has booted; none
# is started here.
mkdir -p /run/dbus /run/lock/iscsi /etc/iscsi /etc/target /var/target /mnt
# Whoever looks for tcmu-runner on the bus would start Debian's by this file.
rm -f /usr/share/dbus-1/system-services/org.kernel.TCMUService1.service
tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
# The kernel's modules, and what it has built in, for modprobe.
if [ -d /out/modules ]; then
	mkdir -p /lib/modules
	mount --bind /out/modules /lib/modules
fi
echo InitiatorName=iqn.2026-01.org.example:guest >/etc/iscsi/initiatorname.iscsi

cd /project || exit

off() {
	sync
	# Ends qemu, which was told not to reboot; needs no ACPI in the kernel.
	echo b >/proc/sysrq-trigger
	sleep 60
}

if [ ! -e /out/cmd ]; then
	read -r rows columns </out/size
	stty -F /dev/hvc0 rows "$rows" columns "$columns"
	setsid -c bash -i <>/dev/hvc0 >&0 2>&1
	off
fi

# The command has a port of its own: the console is the kernel's.
for port in /sys/class/virtio-ports/*; do
	[ "$(cat "$port/name")" = out ] && out=/dev/${port##*/}
done

timeout -k 10 "$(cat /out/limit)" bash /out/cmd </dev/null >"${out:-/dev/console}" 2>&1
status=$?
# Who is stuck, for the console log.
[ $status -ne 124 ] && [ $status -ne 137 ] || echo w >/proc/sysrq-trigger

if [ -w /sys/kernel/debug/kmemleak ]; then
	# It reports nothing younger than five seconds, and what two scans
	# agree on.
	sleep 5
	echo scan >/sys/kernel/debug/kmemleak
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak >/out/kmemleak
fi
cat /proc/sys/kernel/tainted >/out/tainted
echo $status >/out/status
off
