# shellcheck shell=bash
# Guests of other architectures, with the kernels that scripts/arch builds the module for: a
# root of each, unpacked only, since none of its programs runs here. What Debian's packages do
# when they are set up, and a guest needs, is done by hand.

foreign_kernels=(arm64 arm64-16k ppc64le s390x)

is_foreign_kernel() { [[ " ${foreign_kernels[*]} " == *" $1 "* ]]; }

# Essential packages, which are no dependencies of any, and what a root's guests use of the rest.
foreign_packages=base-files,base-passwd,bash,bsdutils,coreutils,dash,debianutils,diffutils,findutils
foreign_packages+=,grep,gzip,hostname,libc-bin,mawk,mount,sed,tar,util-linux,mdadm,fio,kmod,dmsetup
foreign_packages+=,e2fsprogs,iproute2,procps,python3,xz-utils,busybox-static

# use_foreign KERNEL: its architecture in $debian, QEMU in $foreign, the host packages for that in
# $host_packages.
use_foreign() {
	case $1 in
	# Its authentication of pointers, as the architecture has it, is slow to emulate.
	arm64*)
		debian=arm64 serial=ttyAMA0 bus=pci
		foreign=(qemu-system-aarch64 -machine virt -cpu "max,pauth-impdef=on")
		host_packages+=(qemu-system-arm)
		;;
	ppc64le)
		debian=ppc64el serial=hvc0 bus=pci
		foreign=(qemu-system-ppc64 -machine pseries)
		host_packages+=(qemu-system-ppc)
		;;
	s390x)
		debian=s390x serial=ttysclp0 bus=ccw
		foreign=(qemu-system-s390x -machine s390-ccw-virtio -cpu max)
		host_packages+=(qemu-system-misc)
		;;
	esac
}

foreign_recipe() { # KVER
	# As in root.sh: of Release files only the date is not checked.
	cat <<-RECIPE
	--variant=extract
	--format=directory
	--architectures=$debian
	--aptopt=Acquire::Check-Valid-Until "false"
	--aptopt=Acquire::Languages "none"
	--include=$foreign_packages,linux-image-$1
	forky
	@TARGET@
	deb @MIRROR@ forky main
	RECIPE
}

# need_foreign KERNEL: the root of that kernel in $root, its release in $kver; in $foreign,
# $serial and $bus how it is run.
need_foreign() {
	local debian
	[[ $suite == forky ]] || usage_error "the kernel $1 is forky's"
	use_foreign "$1"
	cmd_packages
	read -r kver _ <"$("$lab_dir/../arch" root)/etc/arch-$1" || die "scripts/arch has no kernel $1"
	root=$cache/roots/guest-$1-$({
		foreign_recipe "$kver"
		declare -f foreign_set_up
	} | sha256sum | head -c 12)
	[[ -d $root ]] || with_lock "root-guest-$1" make_root "guest-$1" "$root" foreign_set_up \
		< <(foreign_recipe "$kver")
}

# foreign_set_up ROOT
foreign_set_up() {
	local tmp=$1
	cp "$tmp/usr/share/base-passwd/passwd.master" "$tmp/etc/passwd"
	cp "$tmp/usr/share/base-passwd/group.master" "$tmp/etc/group"
	ln -s mawk "$tmp/usr/bin/awk"
	rm -rf "$tmp"/usr/share/{doc,info,locale,man} "$tmp"/usr/lib/modules/*/kernel/{sound,drivers/{gpu,media,net}}
	cp "$tmp/usr/lib/modules/$kver"/vmlinu[xz] "$tmp/boot/vmlinuz-$kver"
	depmod -b "$tmp" "$kver"
}
