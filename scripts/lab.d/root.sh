# shellcheck shell=bash
# Debian roots with stock kernels, named by their recipe.

check_suite() {
	case $1 in
	forky | trixie-backports | experimental) ;;
	*) usage_error "unknown suite '$1' (forky, trixie-backports, experimental)" ;;
	esac
}

# What every root has. Nothing is pinned but suite and flavour; the kernel, its
# headers with their compiler, and g++ of the same version are added by a hook.
# flex to libelf-dev are for building the UML kernel.
root_packages=mdadm,fio,kmod,udev,make,bpftool,dmsetup,e2fsprogs,iproute2,xz-utils,zstd,python3,procps,util-linux,flex,bison,bc,libelf-dev

# root_recipe SUITE: for make_root.
root_recipe() {
	# Mirrors that are snapshots serve Release files past their Valid-Until.
	# Only the date is not checked: signatures are.
	cat <<-RECIPE
	--variant=minbase
	--format=directory
	--aptopt=Acquire::Check-Valid-Until "false"
	--aptopt=Acquire::Languages "none"
	--dpkgopt=path-exclude=/usr/share/man/*
	--dpkgopt=path-exclude=/usr/share/locale/*
	--dpkgopt=path-exclude=/usr/share/doc/*
	--dpkgopt=path-exclude=/usr/share/info/*
	--include=$root_packages
	--setup-hook=$lab_dir/root-hook setup $1 "\$1"
	--customize-hook=$lab_dir/root-hook customize $1 "\$1"
	RECIPE
	case $1 in
	forky)
		printf '%s\n' forky @TARGET@ 'deb @MIRROR@ forky main'
		;;
	trixie-backports)
		# mdadm is taken from forky (see pins-trixie-backports).
		printf '%s\n' trixie @TARGET@ \
			'deb @MIRROR@ trixie main' \
			'deb @MIRROR@ trixie-backports main' \
			'deb @MIRROR@ forky main'
		;;
	experimental)
		# The next kernel release on forky's userland.
		printf '%s\n' forky @TARGET@ \
			'deb @MIRROR@ forky main' \
			'deb @MIRROR@ experimental main'
		;;
	esac
}

# root_dir SUITE: where that root is or will be.
root_dir() {
	local hash
	hash=$({
		root_recipe "$1" | grep -v -e -hook=
		cat "$lab_dir/root-hook"
		[[ ! -f $lab_dir/pins-$1 ]] || cat "$lab_dir/pins-$1"
	} | sha256sum)
	printf '%s\n' "$cache/roots/$1-${hash:0:12}"
}

# need_root_of SUITE: makes the root if needed; path in $root, kernel in $kver.
need_root_of() {
	check_suite "$1"
	root=$(root_dir "$1")
	if [[ ! -d $root ]]; then
		cmd_packages
		with_lock "root-$1" make_root "$1" "$root" < <(root_recipe "$1")
	fi
	kver=$(cd "$root/usr/lib/modules" && ls -d -- *)
	[[ $kver != *$'\n'* ]] || die "root $1 has several kernels"
}

cmd_root() {
	[[ $# -le 1 ]] || usage_error "root takes one suite"
	local root kver
	need_root_of "${1:-forky}"
	printf '%s\n' "$root"
}

cmd_kver() {
	[[ $# -le 1 ]] || usage_error "kver takes one suite"
	local root kver
	if [[ ${1:-} == uml ]]; then
		need_uml
		printf '%s\n' "$uml_kver"
		return
	fi
	need_root_of "${1:-forky}"
	printf '%s\n' "$kver"
}

# root_image SUITE: the ext4 image of $root, made once; path in $image.
root_image() {
	image=$root.ext4
	[[ -f $image ]] || with_lock "image-$1" root_image_make "$1"
}

root_image_make() {
	[[ -f $image ]] && return
	local tmp=$cache/roots/.tmp-image-$1-$$ size_mib
	rm -f -- "$cache/roots/.tmp-image-$1"-*
	cleanup_dirs+=("$tmp" "$tmp.log")
	size_mib=$(du -sm --apparent-size "$root" | cut -f1)
	step "root $1: making the disk image" "$tmp.log" \
		mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$tmp" \
		"$((size_mib * 13 / 10 + 64))M"
	mv -T "$tmp" "$image"
}
