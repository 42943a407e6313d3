# shellcheck shell=bash
# Roots are made with mmdebstrap under a temporary name: each is complete or absent.

# make_root NAME DIR [SET_UP] <RECIPE: the root DIR, unless it is there. RECIPE has mmdebstrap's
# arguments, one per line, with @TARGET@ and @MIRROR@ for what is known here only, so that the
# same recipe has the same name everywhere. SET_UP is called with the unpacked root. The lock
# root-NAME is held.
make_root() {
	local name=$1 dir=$2 set_up=${3:-} tmp args=() line uri
	[[ ! -d $dir ]] || return 0
	need_root "making a root"
	# We hold the lock: whatever is under a temporary name is of the dead. The dot ends the
	# name, of which another may be the beginning (arm64, arm64-16k).
	rm -rf --one-file-system -- "$cache/roots/.tmp-$name."*
	tmp=$cache/roots/.tmp-$name.$$
	mkdir -p "$cache/roots"
	cleanup_dirs+=("$tmp" "$tmp.log")
	uri=$(mirror)
	while IFS= read -r line; do
		line=${line//@TARGET@/$tmp}
		args+=("${line//@MIRROR@/$uri}")
	done
	# INITRD=No: the guests have an initramfs of their own.
	step "root $name: installing packages" "$tmp.log" env INITRD=No mmdebstrap "${args[@]}"
	[[ -z $set_up ]] || step "root $name: setting it up" "$tmp.log" "$set_up" "$tmp"
	mv -T "$tmp" "$dir"
}
