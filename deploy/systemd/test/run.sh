#!/bin/bash
# Boots Debian with systemd as PID 1 in QEMU and runs inside.sh in it. That script installs the package, starts it,
# shows its status, restarts it under load, stops it, hangs it until the watchdog kills it, and purges it. All output is
# shown.
#
#	deploy/systemd/test/run.sh bin/wsecho_1.2.3_amd64.deb
#
# The guest is the same Debian release as this machine, from the mirror that apt uses here, with the release's own
# kernel. Its whole file system is the initramfs: no disk, no boot loader, no network except loopback. It is built once
# and kept in bin/systemd-test. KVM=1 uses hardware virtualisation, which does not work on every machine that has
# /dev/kvm; without it the run takes about two minutes.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
package=$(realpath "$1")
keep=$here/../../../bin/systemd-test
limit=${LIMIT:-300} # seconds, for the whole run in the guest

for program in debootstrap qemu-system-x86_64 cpio apt-get dpkg-deb; do
	command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "debootstrap needs root" >&2; exit 1; }

mkdir -p "$keep"
cd "$keep"

if [ ! -e root.cpio ]; then
	# shellcheck disable=SC2016
	read -r mirror codename < <(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 'Component: main' | grep -vE -- '-(updates|security|backports)' | head -n 1)
	rm -rf root
	debootstrap --variant=minbase --include=systemd-sysv "$codename" root "$mirror"
	rm -rf root/var/cache/apt/* root/var/lib/apt/lists/* root/usr/share/{locale,doc,man,zoneinfo}
	(cd root && find . | cpio --quiet -o -H newc) >root.cpio.new
	mv root.cpio.new root.cpio
	rm -rf root
fi
if [ ! -e vmlinuz ]; then
	kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
	apt-get download -q "$kernel"
	dpkg-deb --fsys-tarfile "$kernel"_*.deb | tar -x -O --wildcards './boot/vmlinuz-*' >vmlinuz.new
	mv vmlinuz.new vmlinuz
	rm "$kernel"_*.deb
fi

# The kernel accepts concatenated archives: the files added for the test are a second one.
rm -rf added
mkdir -p added/wsecho-test added/etc/systemd/system
ln -s /lib/systemd/systemd added/init
cp "$package" added/wsecho-test/wsecho.deb
cp "$here/inside.sh" added/wsecho-test/
cp "$here/wsecho-test.service" added/etc/systemd/system/
(cd added && find . | cpio --quiet -o -H newc) | cat root.cpio - >initramfs

# mitigations=off turns off page table isolation: without virtualisation, every switch between user space and the kernel
# would otherwise flush QEMU's translation cache. The guest has one CPU, since two would wait for each other on a busy
# host.
masks=
for unit in udevd udevd-kernel.socket udevd-control.socket udev-trigger hwdb-update modules-load random-seed sysusers update-utmp tmpfiles-setup-dev; do
	case $unit in *.socket) ;; *) unit=$unit.service ;; esac
	masks="$masks systemd.mask=systemd-$unit" # not needed here; they would take half of the time
done
accel=tcg
[ "${KVM:-}" != 1 ] || accel=kvm
status=0
timeout "$limit" qemu-system-x86_64 -accel "$accel" -cpu Nehalem -smp 1 -m 1024 -nographic -no-reboot \
	-kernel vmlinuz -initrd initramfs \
	-append "console=ttyS0 quiet panic=-1 mitigations=off systemd.unit=wsecho-test.service systemd.show_status=false$masks" \
	</dev/null | sed -u 's/\r//g' | tee console.log || status=$?
rm -rf added initramfs
[ $status = 0 ] || { echo "QEMU exited with status $status (124: timed out after $limit seconds)" >&2; exit 1; }
grep -q '^wsecho-test: PASS$' console.log
