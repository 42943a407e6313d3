#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# machine.sh initramfs-tools|dracut OUT PACKAGES OFFSET MIB SUITE [older]: run in the lab's root of a suite, under
# an overlay (scripts/guests/boot.sh). Makes of it a machine that boots by itself, as an
# administrator would: what makes its initramfs, its arrays in mdadm.conf and fstab, then the
# packages from the folder PACKAGES with apt. Leaves its root file system in OUT/member, OFFSET
# bytes from the beginning, where md has a member's data. The packages of SUITE's kernel, which
# is newer, lie in its /var/upgrade. older: since that is the root's own already, the machine
# begins with the last one of the series before.
#
# The machine does no more of the lab's than one unit: it takes its job from a disk of that name.
set -eu
maker=$1 out=$2 packages=$3 offset=$4 mib=$5 newer=$6 older=${7:-}
export DEBIAN_FRONTEND=noninteractive
V=$(ls /lib/modules)

apt-get update
case $maker in
initramfs-tools) apt-get install -y --no-install-recommends initramfs-tools busybox zstd systemd-sysv dbus ;;
dracut)
	apt-get install -y --no-install-recommends dracut busybox zstd systemd-sysv dbus
	mkdir -p /etc/dracut.conf.d
	echo hostonly=no >/etc/dracut.conf.d/lab.conf # this host is a chroot
	;;
esac
if [ "$older" ]; then
	echo "== the kernel before"
	old=$(apt-cache search --names-only "^linux-headers-[0-9][0-9.]*[+]${V#*+}\$" |
		sed 's/^linux-headers-\([^ ]*\) .*/\1/' | sort -V | sed "/^$(echo "$V" | grep -o '^[0-9]*\.[0-9]*')\./,\$d" | tail -n 1)
	[ "$old" ]
	apt-get install -y --no-install-recommends "linux-image-$old" "linux-headers-$old"
	dpkg-query -W -f '${Package}\n' "linux-*${V%-cloud-amd64}*" | xargs apt-get purge -y
	V=$old
	modprobe -S "$V" --show-depends raid1
	[ "$(ls /lib/modules)" = "$V" ]
fi

echo machine >/etc/hostname
echo 127.0.1.1 machine >>/etc/hosts
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
mkdir -p /srv
cat >/etc/fstab <<-END
	UUID=11111111-2222-4333-8444-000000000000 / ext4 errors=remount-ro 0 1
	UUID=11111111-2222-4333-8444-000000000001 /srv ext4 nofail 0 2
END
cat >/etc/mdadm/mdadm.conf <<-END
	HOMEHOST <system>
	MAILADDR root
	ARRAY /dev/md0 metadata=1.2 UUID=00000000:11111111:22222222:00000000
	ARRAY /dev/md1 metadata=1.2 UUID=00000000:11111111:22222222:00000001
END

# A machine that is emulated on a busy one takes its time.
mkdir -p /etc/systemd/system.conf.d
cat >/etc/systemd/system.conf.d/lab.conf <<-END
	[Manager]
	DefaultDeviceTimeoutSec=3600
	DefaultTimeoutStartSec=3600
	DefaultTimeoutStopSec=900
END
# What else the first boot would do, ldconfig for one.
touch /etc/.updated /var/.updated
# There is no network.
systemctl mask apt-daily.timer apt-daily-upgrade.timer

cat >/etc/systemd/system/lab-job.service <<-'END'
	[Unit]
	Description=the lab's job
	Requires=dev-disk-by\x2did-virtio\x2dlab\x2djob.device
	After=dev-disk-by\x2did-virtio\x2dlab\x2djob.device
	[Service]
	Type=exec
	StandardOutput=journal+console
	StandardError=journal+console
	ExecStart=/bin/sh -c 'mkdir -p /run/lab && mount -t tmpfs lab /run/lab && \
		tar -C /run/lab -xf /dev/disk/by-id/virtio-lab-job && exec bash /run/lab/lab/guest-job'
	[Install]
	WantedBy=multi-user.target
END
systemctl enable lab-job.service

echo "== its initramfs before the packages are there"
case $maker in
initramfs-tools) update-initramfs -c -k "$V" ;;
dracut) dracut --force "/boot/initrd.img-$V" "$V" ;;
esac

echo "== the packages"
apt-get install -y --no-install-recommends "$packages"/*.deb
dkms status
modprobe -S "$V" --show-depends raid1 | grep -q updates/dkms/llbitmap.ko

echo "== the kernel of $newer, for later"
sed -n "s/^\(deb [^ ]* \)[^ ]* main$/\1$newer main/p" /etc/apt/sources.list | sort -u \
	>/etc/apt/sources.list.d/newer.list
apt-get update
apt-get clean
apt-get install -y --no-install-recommends --download-only -t "$newer" \
	linux-image-cloud-amd64 linux-headers-cloud-amd64
mkdir /var/upgrade
mv /var/cache/apt/archives/*.deb /var/upgrade/
rm /etc/apt/sources.list.d/newer.list
# Both are what the newer kernel brings, and not names without it.
ls /var/upgrade/linux-image-[0-9]*.deb /var/upgrade/linux-headers-[0-9]*-cloud-*.deb

echo "== its root file system"
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/*.log
mkdir -p /mnt
mount --bind / /mnt
rm -f "$out/member"
mke2fs -q -t ext4 -U 11111111-2222-4333-8444-000000000000 -E "offset=$offset" -d /mnt "$out/member" "${mib}M"
umount /mnt
echo "== made"
