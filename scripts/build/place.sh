#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Puts the module, and what loads it at boot, into a system; takes both away.
#
#   place install KVER MODULE [ROOT]
#   place remove KVER [ROOT]
#
# An array with a lockless bitmap stays inactive if the module is not there when
# the array is assembled, and nothing in md asks for it. So modprobe is told to
# load it with md, udev to load it for each member that turns up, and the
# initramfs to carry it. With ROOT (a mounted system or a package's folder) the
# initramfs is left to whoever runs there.
#
# Not the kernel's modules_install: without the distribution's signing key and
# System.map it prints errors that are none.
set -eu

usage() {
	sed -n '5,6s/^# *//p' "$0" >&2
	exit 2
}

say() {
	echo "llbitmap: $*"
}

action=${1:-} kver=${2:-}
case $action,$# in
install,[34]) module=$3 root=${4:-} ;;
remove,[23]) module='' root=${3:-} ;;
*) usage ;;
esac

lib=$root/lib/modules/$kver
ours=updates/llbitmap.ko
boot_files=${0%/*}/../packaging
hooks=etc/initramfs-tools/hooks

# A signature is the end of the file: strip would cut it off.
signed() {
	tail -c 28 "$1" | grep -q '^~Module signature appended~$'
}

place_module() {
	mkdir -p "$lib/updates"
	rm -f "$lib/$ours"*
	cp "$module" "$lib/$ours"
	signed "$lib/$ours" || strip --strip-debug "$lib/$ours"
	chmod 644 "$lib/$ours"
}

# llbitmap-dkms brings the same, the hook elsewhere; they are its own to take away.
packaged() {
	[ -e "$root/usr/share/initramfs-tools/hooks/llbitmap" ]
}

place_boot_files() {
	# Where an earlier version put what is said to dracut now by a module of its own.
	rm -f "$root/etc/dracut.conf.d/llbitmap.conf"
	if packaged; then
		say "what loads it at boot is llbitmap-dkms's: if that is removed, make install has to be run again"
	else
		"$boot_files/place-boot" "$root" $hooks
	fi
}

# They serve every kernel: kept while one still has the module.
remove_boot_files() {
	if ! packaged && ! ls "$root"/lib/modules/*/updates/llbitmap.ko* >/dev/null 2>&1; then
		"$boot_files/place-boot" --remove "$root" $hooks
		rm -f "$root/etc/dracut.conf.d/llbitmap.conf"
	fi
}

# Of two modules of one name modprobe knows the one that depmod chose: by the
# search order in depmod.d, and within updates/ by no rule to rely on. So ask.
say_which_wins() {
	others=$(cd "$lib" && find . -name 'llbitmap.ko*' ! -path "./$ours" | sed 's|^\./||')
	[ -n "$others" ] || return 0
	wins=$(sed -n 's|^\(\(.*/\)\{0,1\}llbitmap\.ko[^:/]*\):.*|\1|p' "$lib/modules.dep")
	if [ "$wins" = "$ours" ]; then
		say "$lib has another: $others; modprobe takes $ours, which was just installed"
	else
		say "$lib has another: $others; modprobe takes $wins and NOT $ours," \
			"which was just installed: remove one of them (dkms remove llbitmap/VERSION --all; make uninstall)"
	fi >&2
}

rebuild_initramfs() {
	if [ -n "$root" ]; then
		say "to have it at boot, run in $root: depmod $kver; update-initramfs -u -k $kver"
	else
		"$boot_files/boot/boot" initramfs "$kver"
	fi
}

case $action in
install)
	place_module
	place_boot_files
	;;
remove)
	rm -f "$lib/$ours"*
	remove_boot_files
	;;
esac

# A package's folder has no kernel of its own to run depmod for.
if [ -f "$lib/modules.builtin" ]; then
	depmod -b "$root/" "$kver"
	[ "$action" = remove ] || say_which_wins
fi
rebuild_initramfs
