#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# For dracut: wherever its mdraid module goes, llbitmap goes. An initramfs that
# assembles no array needs none. This comes last (99), when that is decided.

check() {
	dracut_module_included mdraid || return 255
}

depends() {
	echo mdraid
}

installkernel() {
	# shellcheck disable=SC2154
	/usr/lib/llbitmap/boot image "$kernel" || return 1 # dracut stops, and the old one stays
	# Also in a hostonly initramfs that is made before the module was ever loaded.
	hostonly='' instmods llbitmap
}

install() {
	inst_rules 63-llbitmap.rules
	if [[ -x ${dracutsysrootdir-}/usr/lib/llbitmap/llbitmap ]]; then
		inst /usr/lib/llbitmap/llbitmap /sbin/llbitmap
	fi
}
