# shellcheck shell=bash
# User-mode Linux: built once from Debian's kernel source, of the version of
# forky's stock kernel, in forky's root (the compiler of that kernel). A
# directory of the cache holds
#	linux     the kernel, static: runs on the host
#	modules/  its modules
#	tree/     what external modules are built against, with md's sources
#	kver      its release

# Where the tree is seen inside the root, when it is built and later.
uml_tree=/usr/src/linux-uml

# Options of uml.config that may be lost to dependencies without harm.
uml_optional='LKDTM|WQ_WATCHDOG|BLK_DEV_NULL_BLK_FAULT_INJECTION|NULL_CHAN'
uml_optional+='|DEBUG_OBJECTS_PERCPU_COUNTER|KASAN_OUTLINE'

# need_uml: makes it if needed; sets $uml and $uml_kver.
need_uml() {
	local root kver hash
	need_root_of forky
	hash=$({ cat "$lab_dir/uml.config"; declare -f uml_quicken uml_configure uml_install; echo "$kver"; } |
		sha256sum)
	uml=$cache/uml/${kver%%[-+]*}-${hash:0:12}
	if [[ ! -d $uml ]]; then
		cmd_packages
		with_lock uml uml_make
	fi
	uml_kver=$(<"$uml/kver")
}

cmd_uml() {
	[[ $# -eq 0 ]] || usage_error "uml takes no argument"
	need_uml
	printf '%s\n' "$uml"
}

uml_make() {
	[[ -d $uml ]] && return
	need_root "building the UML kernel"
	rm -rf --one-file-system -- "$cache/uml/.tmp"*
	local tmp=$cache/uml/.tmp-$$ log
	log=$tmp.log
	mkdir -p "$tmp/tree" "$tmp/deb"
	cleanup_dirs+=("$tmp" "$log")
	step "uml: downloading the kernel source" "$log" uml_download
	step "uml: unpacking" "$log" uml_unpack \
		gpu net media staging infiniband usb iio accel video pinctrl clk
	step "uml: changing how it walks a stack" "$log" uml_quicken
	step "uml: configuring" "$log" uml_configure
	step "uml: building the kernel (minutes)" "$log" \
		uml_run_make -j"$(nproc)" all
	step "uml: installing" "$log" uml_install
	mv -T "$tmp" "$uml"
}

# set_uml_vars: make's variables for this kernel, in $uml_vars: the compiler is that
# of the root's stock kernel.
set_uml_vars() {
	local cc
	cc=$(kernel_cc)
	uml_vars=(ARCH=um CC="$cc" HOSTCC="$cc")
}

uml_run_make() {
	local uml_vars
	set_uml_vars
	in_root "$root" --bind "$tmp/tree:$uml_tree" -- \
		make -C "$uml_tree" "${uml_vars[@]}" "$@"
}

# The functions below run as steps: set -e ends them at the first failure.

uml_download() {
	local version
	version=$(cut -d. -f1,2 <<<"$kver")
	# shellcheck disable=SC2016
	in_root "$root" --bind "$tmp/deb:/deb" -- sh -ec '
		apt-get update
		cd /deb
		apt-get -o APT::Sandbox::User=root download "linux-source-$1"' - "$version"
}

# uml_unpack FOLDER...: Kconfig reads all of the tree's Kconfig files, the build few of its sources:
# what is not unpacked of these folders of drivers.
uml_unpack() {
	local dir
	local args=(--exclude='*/Documentation/*.[rtyjps]*' --exclude='*/tools/testing/*'
		--exclude='*/tools/perf/*')
	for dir; do
		args+=(--exclude="*/drivers/$dir/*/*.[ch]")
	done
	for dir in alpha arc arm arm64 csky hexagon loongarch m68k microblaze mips \
		nios2 openrisc parisc powerpc riscv s390 sh sparc xtensa; do
		args+=(--exclude="*/arch/$dir/*.[chSs]" --exclude="*/arch/$dir/*.dts*")
	done
	dpkg-deb --fsys-tarfile "$tmp"/deb/linux-source-*.deb |
		tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
		xz -dc -T0 | tar -x -C "$tmp/tree" --strip-components=1 "${args[@]}"
	rm -r "$tmp/deb"
}

# KASAN saves the stack at each allocation, and here that is a look at each of the stack's words:
# is it an address of code? For one that is not, RCU is entered to ask the modules, and with
# lockdep in a kernel of several CPUs that is some system calls. Where these take a microsecond a
# boot took minutes, nearly all of it in rt_sigprocmask(). What cannot be code is not asked about.
uml_quicken() {
	local file=$tmp/tree/arch/um/kernel/stacktrace.c
	sed -i -e 's|^#include <asm/stacktrace.h>|#include <linux/mm.h>\n#include <asm/sections.h>\n&|' \
		-e 's|if (__kernel_text_address(addr))|if (((addr >= (unsigned long)_stext \&\& addr < (unsigned long)_end) \|\|\n\t\t     is_vmalloc_addr((void *)addr)) \&\& __kernel_text_address(addr))|' "$file"
	grep -c 'is_vmalloc_addr((void \*)addr)) && __kernel_text_address(addr)) {' "$file"
}

uml_configure() {
	uml_run_make x86_64_defconfig
	cat "$lab_dir/uml.config" >>"$tmp/tree/.config"
	uml_run_make olddefconfig
	local line bad=0
	while read -r line; do
		if grep -qxF -e "$line" "$tmp/tree/.config"; then
			continue
		fi
		if [[ $line == '# '* ]] &&
			! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$tmp/tree/.config"; then
			continue
		fi
		echo "uml.config: not taken over: $line"
		[[ $line =~ ^CONFIG_($uml_optional)= ]] || bad=1
	done < <(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$lab_dir/uml.config")
	return $bad
}

uml_install() {
	uml_run_make modules_install INSTALL_MOD_PATH="$uml_tree/inst"
	local tree=$tmp/tree release
	release=$(<"$tree/include/config/kernel.release")
	rm -f "$tree/inst/lib/modules/$release"/{build,source}
	mv "$tree/inst/lib/modules/$release" "$tmp/modules"
	rm -r "$tree/inst"
	cp "$tree/linux" "$tmp/linux"
	printf '%s\n' "$release" >"$tmp/kver"
	# External modules need headers, makefiles, scripts, md's sources.
	find "$tree" \( -path "$tree/scripts" -o -path "$tree/drivers/md" \
		-o -path "$tree/arch/um" -o -path "$tree/arch/x86" -o -path "$tree/tools" \) \
		-prune -o -type f \( -name '*.[coSa]' -o -name '*.ko' -o -name '*.cmd' \
		-o -name '*.mod' -o -name '*.mod.c' -o -name '*.dts*' -o -name '*.rs' \) \
		! -name bounds.c -print0 | xargs -0 rm -f --
	rm -f "$tree"/{linux,vmlinux,vmlinux.o,vmlinux.unstripped}
	find "$tree" -type d -empty -delete
}

# start_uml: the kernel as a process of the host. Its consoles write to pipes,
# so two cats end with it, and read from a pipe in which nothing comes: with
# plain files or /dev/null for either end, epoll fails inside the guest's
# interrupt code, and strerror() sleeps there under a spinlock. UML makes a
# session of its own, out of reach of a kill of our process group: the death
# signal ties it to the shell in between, and that to us.
start_uml() {
	label="$suite/uml"
	mkdir "$tmp/uml"
	mkfifo "$tmp/uml/silence"
	# shellcheck disable=SC2016,SC2086
	background setpriv --pdeathsig KILL bash -c '
		ulimit -c 0
		exec 3> >(exec cat >>"$1")
		log=$!
		exec 4> >(exec cat >>"$2")
		job=$!
		exec 5<>"$3" 6<>"$3"
		shift 3
		setpriv --pdeathsig KILL "$@"
		exec 3>&- 4>&-
		wait $log $job' uml "$out/kernel.log" "$out/job.log" \
		"$tmp/uml/silence" "$uml/linux" "mem=$mem" "ncpus=$cpus" seccomp=on noreboot \
		"uml_dir=$tmp/uml/" "initrd=$tmp/initrd" con=null con0=fd:5,fd:3 \
		ssl=null ssl0=fd:6,fd:4 console=tty0 $kernel_args $append \
		"llb.hostfs=$root" "llb.run=$tmp/channels" "llb.modules=$uml/modules" \
		</dev/null >"$tmp/stderr" 2>&1
}
