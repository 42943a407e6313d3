# shellcheck shell=bash
# The peer: the in-tree lockless bitmap of the same Debian kernel, for comparison.
# Debian's md is built without it, so md-mod is built again from the distribution's
# kernel source with it, as an external module against the stock headers. In the
# cache, never in the tree.

cmd_peer() {
	[[ $# -le 1 ]] || usage_error "peer takes one suite"
	local suite=${1:-forky} root kver peer hash
	need_root_of "$suite"
	hash=$({ declare -f peer_unpack peer_build; echo "$kver"; } | sha256sum)
	peer=$cache/peer/$kver-${hash:0:12}
	if [[ ! -f $peer/md-mod.ko ]]; then
		cmd_packages
		with_lock "peer-$suite" peer_make
	fi
	printf '%s\n' "$peer/md-mod.ko"
}

peer_make() {
	[[ -f $peer/md-mod.ko ]] && return
	local tmp=$cache/peer/.tmp-$suite-$$ log
	log=$tmp.log
	rm -rf --one-file-system -- "$cache/peer/.tmp-$suite"*
	mkdir -p "$tmp/tree" "$tmp/deb"
	cleanup_dirs+=("$tmp" "$log")
	step "peer: downloading the kernel source" "$log" uml_download
	step "peer: unpacking md" "$log" peer_unpack
	step "peer: building md-mod with its lockless bitmap" "$log" peer_build
	mkdir -p "$tmp/done"
	cp "$tmp/tree/md-mod.ko" "$tmp/done/"
	rm -rf "$peer"
	mv -T "$tmp/done" "$peer"
}

peer_unpack() {
	dpkg-deb --fsys-tarfile "$tmp"/deb/linux-source-*.deb |
		tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		xz -dc -T0 | tar -x -C "$tmp/tree" --strip-components=3 --wildcards \
			'linux-source-*/drivers/md/*.[ch]'
	rm -r "$tmp/deb"
	printf '%s\n' 'obj-m := md-mod.o' 'md-mod-y := md.o md-bitmap.o md-llbitmap.o' \
		'ccflags-y += -DCONFIG_MD_LLBITMAP=1' >"$tmp/tree/Kbuild"
}

peer_build() {
	in_root "$root" --bind "$tmp/tree:/peer" -- \
		make -C "/lib/modules/$kver/build" M=/peer -j"$(nproc)" modules
}
