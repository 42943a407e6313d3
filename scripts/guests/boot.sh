#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Machines whose root file system and /srv are on raid1 arrays boot as machines do: their own
# kernel and initramfs, udev, systemd, fstab; with the packages of `make deb`, installed by apt.
#
#   scripts/guests/boot.sh MACHINE [STEP...]     forky-initramfs-tools, forky-dracut,
#                                                trixie-initramfs-tools, trixie-dracut
#
# Each step is a boot, or what is done to the disks between two; without STEP all, in this order.
# Those of one run go on where the last run ended. tests/guest/boot does the part inside.
#
#   make       the packages, and the machine (scripts/guests/machine.sh), if they changed (KEEP=1:
#              the packages that are there)
#   create     the arrays, in a guest of the lab: root with an internal bitmap, data lockless
#   converted  root becomes lockless while it is mounted and written to; the package cannot be removed
#   written    nothing is to be resynchronised; files are written to both, and the power goes
#   recovered  what is not Clean on the members now is resynchronised, and no more; no file is lost
#   upgraded   apt installs the next kernel, and with it the module and an initramfs (forky: that of
#              experimental; trixie: the newest of its backports, from the series before); the boots from here on are of it
#   degraded   a member of each is missing, and files are written to both
#   whole      they are back, and get what they missed
#   rescued    the initramfs lacks the module: its shell, and the way out of it by the guide
#              (not with dracut, whose shell is another)
#   offline    root's array gets another bitmap in the initramfs' shell, before it is mounted: the guide's
#              way for members with blocks of 4096 bytes (these have 512; not with dracut)
#   last       nothing is left to do
#
# After each orderly end the kernel and the initramfs of the next boot are taken from the
# machine's /boot, and members that should be the same are compared byte by byte. A power cut is
# the end of QEMU: what the machine flushed, or had a disk write at all, is there afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."

steps=(make create converted written recovered upgraded degraded whole rescued offline last)
machine=${1:-}
case $machine in
forky-initramfs-tools | forky-dracut) suite=forky root=forky newer=experimental older='' ;;
trixie-initramfs-tools | trixie-dracut) suite=trixie root=trixie-backports newer=trixie-backports older=older ;;
*)
	sed -n '3,8s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
shift
maker=${machine#*-}
if [[ $maker == dracut ]]; then
	steps=("${steps[@]/rescued/}")
	steps=("${steps[@]/offline/}")
fi
# shellcheck disable=SC2206 # without the empty one
steps=(${steps[*]})
(($#)) || set -- "${steps[@]}"

out=$PWD/build/boot/$machine
disks=$out/disks
offset=$((16 << 20)) # before a member's data
root_mib=2400 data_mib=160
limit_s=3600 # of a step
append='root=UUID=11111111-2222-4333-8444-000000000000 ro udev.event_timeout=3600 systemd.show_status=false systemd.log_level=notice'
# An initramfs of dracut that is not for this host only is told to look for arrays.
[[ $maker != dracut ]] || append+=' rd.auto=1 rd.timeout=0'
mkdir -p "$disks"

failed() {
	echo "boot: $machine: $step: $*, see build/boot/$machine/$step"
	exit 1
}

step_make() {
	local key
	[[ -n ${KEEP:-} && -n $(ls build/deb/"$suite"/*.deb 2>/dev/null) ]] || scripts/packaging/build "$suite"
	key=$({
		scripts/lab root "$root"
		cat scripts/guests/machine.sh build/deb/"$suite"/*.deb
		echo "$offset $root_mib $newer $older"
	} | sha256sum)
	[[ ! -f $out/member || $(cat "$out/key" 2>/dev/null) != "$key" ]] || return 0
	rm -f "$out/key"
	scripts/lab chroot "$root" --bind "$out:/made" --bind "$PWD/build/deb/$suite:/packages" \
		--bind "$PWD/scripts/guests:/guests" -- \
		/guests/machine.sh "$maker" /made /packages "$offset" "$root_mib" "$newer" $older >"$out/make.log" 2>&1 ||
		failed "$(tail -n 5 "$out/make.log")"
	[[ $(tail -n 1 "$out/make.log") == '== made' ]] || failed 'no word of success'
	echo "$key" >"$out/key"
}

# with_job: the job's folder, in $out/job.
with_job() {
	local ko
	ko=$(scripts/lab build "$root")
	rm -rf "$out/job"
	cp -a tests/guest "$out/job"
	cp "${ko##*$'\n'}" "$out/job/llbitmap.ko"
}

step_create() {
	local disk
	for disk in root-a root-b; do
		rm -f "$disks/$disk"
		cp --sparse=always "$out/member" "$disks/$disk"
		# md leaves what does not fill a chunk.
		truncate -s "$((root_mib + (offset >> 20) + 1))M" "$disks/$disk"
	done
	for disk in data-a data-b; do
		rm -f "$disks/$disk"
		truncate -s "${data_mib}M" "$disks/$disk"
	done
	with_job
	guest_word --no-udev --timeout 600 -- boot create "$offset" || failed 'no arrays'
	take_boot
}

# guest_word OPTIONS... -- ARGS...: a guest with both members of each array, or those in
# $present; true if it ended well and its job said so.
guest_word() {
	local disk args=()
	for disk in ${present:-root-a root-b data-a data-b}; do
		args+=(--disk "$disks/$disk")
	done
	scripts/lab guest --suite "$root" "${args[@]}" --job "$out/job" --out "$out/$step" "$@" || return
	[[ ${cut:-} ]] || grep -qxF -e "$step: done" "$out/$step/job.log"
}

# boot ARGS...: the machine, from what is in its /boot. (Its job is not the tree's module: that
# of the packages is what counts.)
boot() {
	rm -f "$out/job/llbitmap.ko"
	guest_word --machine "$out/boot" --timeout "$limit_s" --append "$append${more:-}" "${options[@]}" \
		-- boot "$step" "$@" || failed 'failed'
}

# take_boot: vmlinuz and initrd of the newest kernel in the machine's /boot, which was left in an
# orderly way.
take_boot() {
	local file="$disks/root-a?offset=$offset" kver
	kver=$(debugfs -R 'ls -p /boot' "$file" 2>/dev/null | sed -n 's,^/[^/]*/[^/]*/[^/]*/[^/]*/vmlinuz-\([^/]*\)/.*,\1,p' |
		sort -V | tail -n 1)
	[[ $kver ]] || failed 'no kernel in /boot'
	rm -rf "${out:?}/boot"
	mkdir "$out/boot"
	debugfs -R "dump /boot/vmlinuz-$kver $out/boot/vmlinuz" "$file" 2>/dev/null
	debugfs -R "dump /boot/initrd.img-$kver $out/boot/initrd" "$file" 2>/dev/null
	[[ -s $out/boot/vmlinuz && -s $out/boot/initrd ]] || failed "no files of $kver in /boot"
}

# same: both members of each array have the same data. (Unwritten parts are zero on both.)
same() {
	local array
	for array in root data; do
		cmp -i "$offset" "$disks/$array-a" "$disks/$array-b" >&2 || failed "$array: the members differ"
	done
}

# at_console APPEND: a boot with what stdin types at its console, ended in an orderly way.
at_console() {
	rm -f "$out/console"
	options=(--console "$out/console")
	scripts/lab.d/console "$out/console" "$out/$step/kernel.log" >"$out/console.log" 2>&1 <&0 &
	local typist=$!
	more=$1 boot
	wait $typist || failed "at the console: $(tail -n 1 "$out/console.log")"
	take_boot
	same
}

step_converted() {
	with_job
	boot
	take_boot
	same
}

acked() { sed -n "s/^acknowledged $1 //p" "$out/written/job.log"; }

step_written() {
	options=(--cut cut)
	cut=1 boot
	[[ $(acked root) -gt 0 && $(acked data) -gt 0 ]] || failed 'nothing was acknowledged'
}

step_recovered() {
	local array left=()
	for array in root data; do
		left+=("$(tests/guest/boot dirty "$disks/$array-a" "$disks/$array-b")") || failed "$array: no bitmap"
	done
	boot "${left[@]}" "$(acked root)" "$(acked data)"
	take_boot
	same
}

# Before it and after it all is as it should be: it is ended in an orderly way.
step_upgraded() {
	boot
	take_boot
	same
}

step_degraded() {
	present='root-a data-a' boot
	take_boot
}

step_whole() {
	boot
	take_boot
	same
}

# Its name in the initramfs is changed where it stands; what loads it is all there.
step_rescued() {
	LC_ALL=C sed -i 's,updates/dkms/llbitmap\.ko\.xz,updates/dkms/llbitmap.ko.no,g' "$out/boot/initrd"
	grep -qaF updates/dkms/llbitmap.ko.no "$out/boot/initrd" || failed 'the module was not found in the initramfs'
	at_console ' panic=' <<-'END'
		expect (initramfs)
		type cat /proc/mdstat
		expect md0 : inactive
		expect (initramfs)
		type modprobe llbitmap; [ -d /sys/module/llbitmap ] || echo no"" module
		expect no module
		expect (initramfs)
		type mdadm --stop /dev/md0
		expect mdadm: stopped /dev/md0
		expect (initramfs)
		type llbitmap convert --to none /dev/vdb /dev/vdc
		expect (initramfs)
		type mdadm --assemble /dev/md0 /dev/vdb /dev/vdc
		expect mdadm: /dev/md0 has been started with 2 drives
		expect (initramfs)
		type mdadm --stop /dev/md1
		expect mdadm: stopped /dev/md1
		expect (initramfs)
		type exit
	END
}

step_offline() {
	at_console ' panic= break=mount' <<-'END'
		expect (initramfs)
		type mdadm --stop /dev/md0
		expect mdadm: stopped /dev/md0
		expect (initramfs)
		type llbitmap convert --to internal /dev/vdb /dev/vdc
		expect -> internal
		expect (initramfs)
		type llbitmap convert --to lockless /dev/vdb /dev/vdc
		expect -> lockless
		expect (initramfs)
		type mdadm --assemble /dev/md0 /dev/vdb /dev/vdc
		expect mdadm: /dev/md0 has been started with 2 drives
		expect (initramfs)
		type exit
	END
}

step_last() {
	boot
	same
}

for step; do
	[[ " ${steps[*]} " == *" $step "* ]] || {
		echo "boot: no step '$step' (${steps[*]})" >&2
		exit 2
	}
done
for step; do
	options=()
	rm -rf "${out:?}/$step"
	"step_$step"
	echo "boot: $machine: $step: passed"
done
