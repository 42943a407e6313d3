# shellcheck shell=bash
# Commands inside a root. The root is the lower layer of an overlay in a mount
# namespace of its own: the cached root is never changed, nothing leaks.

# in_root ROOT [--bind HOST:GUEST]... -- CMD...
in_root() {
	need_root "a chroot"
	mkdir -p "$cache/mnt"
	unshare --mount --propagation private -- \
		"$lab_dir/chroot-inside" "$cache/mnt" "$@"
}

cmd_chroot() {
	[[ $# -ge 1 ]] || usage_error "chroot takes a suite"
	local suite=$1 binds=() root kver
	shift
	while [[ $# -gt 0 && $1 != -- ]]; do
		[[ $1 == --bind && ${2:-} == ?*:/* ]] ||
			usage_error "chroot: '$1' is not --bind HOSTDIR:GUESTDIR"
		[[ -e ${2%%:*} ]] || usage_error "chroot: no such directory: ${2%%:*}"
		binds+=(--bind "$2")
		shift 2
	done
	[[ ${1:-} == -- && $# -ge 2 ]] || usage_error "chroot: no command after --"
	need_root_of "$suite"
	in_root "$root" "${binds[@]}" "$@"
}
