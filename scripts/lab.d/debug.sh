# shellcheck shell=bash
# Kernels for QEMU with debugging that neither Debian's nor UML have: built once from Debian's
# kernel source, of the version of forky's stock kernel, in forky's root. What each has, says
# debug-NAME.config, beside debug.config. In the cache each looks like one of the archive
# (kernel.sh), with the tree for external modules, and md's headers in it, in files/usr/src/debug.

debug_tree=/usr/src/debug

is_debug_kernel() { [[ -f $lab_dir/debug-$1.config ]]; }

# need_debug_kernel NAME: makes it if needed; its folder in $kernel_dir, its release in $release.
need_debug_kernel() {
	local debug=$1 root kver hash version
	need_root_of forky
	[[ $suite == forky ]] || usage_error "the kernel $debug is forky's"
	version=${kver%%[-+]*}
	hash=$({
		debug_config "$debug"
		declare -f debug_make debug_narrow debug_build debug_install uml_unpack kernel_image
		echo "$kver"
	} | sha256sum)
	release=$version-$debug-${hash:0:8} # so that nothing of another configuration is built for it
	kernel_dir=$cache/debug/$release
	if [[ ! -d $kernel_dir ]]; then
		cmd_packages
		with_lock "debug-$debug" debug_make
	fi
}

cmd_debug() {
	[[ $# -eq 1 ]] && is_debug_kernel "$1" || usage_error "debug takes kcsan or rt"
	local kernel_dir release suite=forky
	need_debug_kernel "$1"
	printf '%s\n' "$kernel_dir"
}

# debug_config NAME: what is added to the architecture's own configuration for guests of KVM. md
# and what it is tested with are as in UML.
debug_config() {
	sed -n '/^CONFIG_MD=/,/^$/{/FAULT_INJECTION/!p}' "$lab_dir/uml.config"
	cat "$lab_dir/debug.config" "$lab_dir/debug-$1.config"
}

debug_make() {
	[[ ! -d $kernel_dir ]] || return 0
	need_root "building a kernel"
	rm -rf --one-file-system -- "$cache/debug/.tmp-$debug"*
	local tmp=$cache/debug/.tmp-$debug log cc source
	log=$tmp.log
	mkdir -p "$tmp/tree" "$tmp/deb" "$tmp/files/usr/src/debug" "$tmp/files/usr/lib"
	cleanup_dirs+=("$tmp" "$log")
	step "$release: downloading the kernel source" "$log" uml_download
	source=$(dpkg-deb -f "$tmp"/deb/linux-source-*.deb Version)
	[[ ${source%%-*} == "$version" ]] ||
		die "the archive has the source of $source, the root the kernel $kver: scripts/lab clean forky"
	step "$release: unpacking" "$log" uml_unpack gpu media staging infiniband iio accel
	step "$release: what KCSAN looks at" "$log" debug_narrow
	debug_config "$debug" >"$tmp/tree/fragment"
	echo "CONFIG_LOCALVERSION=\"${release#"$version"}\"" >>"$tmp/tree/fragment"
	cc=$(kernel_cc)
	step "$release: building (a quarter of an hour and more)" "$log" debug_build
	step "$release: installing" "$log" debug_install
	step "$release: its modules' disk" "$log" kernel_image
	rm -r "$tmp/tree"
	mv -T "$tmp" "$kernel_dir"
}

# The functions below run as steps: set -e ends them at the first failure.

# KCSAN waits at one access in some thousand. Were all of the kernel instrumented, nearly all of
# these would be its idle loop's and its timers'. So only md and external modules are; elsewhere
# only what orders memory is told, or it would be missed.
debug_narrow() {
	# shellcheck disable=SC2016
	sed -i 's|^\t\$(CFLAGS_KCSAN))$|\t$(if $(KBUILD_EXTMOD)$(filter drivers/md,$(obj)),$(CFLAGS_KCSAN),-D__KCSAN_INSTRUMENT_BARRIERS__))|' \
		"$tmp/tree/scripts/Makefile.lib"
	grep -c 'filter drivers/md' "$tmp/tree/scripts/Makefile.lib"
}

debug_build() {
	# shellcheck disable=SC2016
	in_root "$root" --bind "$tmp/tree:$debug_tree" --bind "$tmp/files:/files" -- sh -ec '
		cd "$1"
		set -- -s CC="$2" HOSTCC="$2" LOCALVERSION=
		make "$@" x86_64_defconfig kvm_guest.config
		scripts/kconfig/merge_config.sh -m .config fragment
		make "$@" olddefconfig
		lost=$(grep -E "^CONFIG_|^# CONFIG_.* is not set" fragment | while read -r line; do
			case $line in
			"# "*) option=${line#"# "} && grep -q "^${option%% *}=" .config || continue ;;
			*) ! grep -qxF -e "$line" .config || continue ;;
			esac
			echo "not taken over: $line"
		done)
		[ ! "$lost" ] || { echo "$lost"; exit 1; }
		make "$@" -j"$(nproc)" bzImage modules
		make "$@" modules_install INSTALL_MOD_PATH=/files/usr
		make "$@" run-command KBUILD_RUN_COMMAND="scripts/package/install-extmod-build /files$PWD"
		cp arch/x86/boot/bzImage /files/vmlinuz
		make "$@" kernelrelease >/files/release
	' sh "$debug_tree" "$cc"
}

debug_install() {
	[[ $(<"$tmp/files/release") == "$release" ]] || {
		echo "it calls itself $(<"$tmp/files/release")"
		return 1
	}
	local modules=$tmp/files/usr/lib/modules/$release
	mv "$tmp/files/vmlinuz" "$tmp/"
	rm "$tmp/files/release"
	ln -sfn "$debug_tree" "$modules/build"
	ln -s usr/lib "$tmp/files/lib"
	mkdir -p "$tmp/files$debug_tree/drivers/md"
	cp "$tmp/tree/drivers/md"/*.h "$tmp/files$debug_tree/drivers/md/"
	depmod -b "$tmp/files" "$release"
}
