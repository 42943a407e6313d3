# shellcheck shell=bash
# The module of this tree, built inside a root, against that root's headers.

# sync_tree DEST: brings DEST up to date with the tree's sources, keeping times
# (make decides what to rebuild) and whatever DEST has beside them; a source
# that is gone from the tree since the last time goes from DEST too.
sync_tree() {
	local dest=$1 list=$1/.lab-sources
	mkdir -p "$dest"
	(
		cd "$repo"
		git -c safe.directory='*' ls-files -co --exclude-standard -- \
			Makefile Kbuild include src scripts |
			while IFS= read -r file; do
				[[ ! -e $file ]] || printf '%s\n' "$file"
			done | LC_ALL=C sort -u
	) >"$list.new"
	[[ -s $list.new ]] || die "no sources in $repo"
	if [[ -f $list ]]; then
		LC_ALL=C comm -23 "$list" "$list.new" |
			(cd "$dest" && xargs -r -d '\n' rm -f --)
	fi
	rsync -a --files-from="$list.new" "$repo/" "$dest/"
	mv "$list.new" "$list"
}

cmd_build() {
	local suite=forky release='' clang='' clang_dir dest root kver kernel_dir uml_vars args=()
	if [[ $# -gt 0 && $1 != -* ]]; then
		suite=$1
		shift
	fi
	if [[ ${1:-} == --kernel && $# -ge 2 ]]; then
		release=$2
		shift 2
	fi
	if [[ ${1:-} == --clang ]]; then
		[[ $suite != uml ]] || usage_error "build: --clang is not for uml"
		clang=clang
		shift
	fi
	if [[ $# -gt 0 ]]; then
		[[ $1 == -- ]] || usage_error "build: unexpected '$1'"
		shift
	fi
	cmd_packages
	dest=$repo/build/$suite${release:+"+$release"}${clang:+"+$clang"}
	local binds=(--bind "$dest:/llbitmap")
	if [[ $suite == uml ]]; then
		need_root_of forky
		need_uml
		binds+=(--bind "$uml/tree:$uml_tree")
		set_uml_vars
		args=("${uml_vars[@]}" KDIR="$uml_tree" MD_HEADERS="$uml_tree/drivers/md")
	else
		need_root_of "$suite"
		if is_debug_kernel "$release"; then
			need_debug_kernel "$release"
			args=(CC="$(kernel_cc)" MD_HEADERS="$debug_tree/drivers/md")
		elif [[ -n $release ]]; then
			need_kernel "$release"
		fi
		if [[ -n $release ]]; then
			kernel_binds
			kver=$release
		fi
		args+=(KVER="$kver")
		if [[ $clang ]]; then
			need_clang "$root"
			binds+=(--bind "$clang_dir:/clang")
			# Of the compiler, Kbuild takes these from the kernel's configuration, unasked. The last
			# one: where it may trace, a kernel that gcc built expects calls.
			args+=(CC=clang CONFIG_CC_IS_GCC= CONFIG_CC_IS_CLANG=y CONFIG_GCC_VERSION=0
				CONFIG_CC_IMPLICIT_FALLTHROUGH=-Wimplicit-fallthrough
				CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT= CONFIG_CC_HAS_UBSAN_BOUNDS_STRICT=
				CONFIG_UBSAN_BOUNDS_STRICT= CONFIG_FTRACE_MCOUNT_USE_CC=
				CONFIG_FTRACE_MCOUNT_USE_OBJTOOL=y CONFIG_HAVE_OBJTOOL_NOP_MCOUNT=)
		fi
	fi
	with_lock "build-${dest##*/}" build_tree "$@"
	[[ $suite != uml ]] || kver=$uml_kver
	# make puts what it makes under build/KVER of its tree.
	local ko=$dest/build/$kver/llbitmap.ko
	[[ -f $ko ]] || die "build $suite: make made no ${ko#"$repo/"}"
	printf '%s\n' "$ko"
}

build_tree() {
	sync_tree "$dest"
	in_root "$root" "${binds[@]}" -- \
		sh -ec '
			if [ -d /clang ]; then
				dpkg -i /clang/*.deb >/dev/null
				version=$(echo __clang_major__ __clang_minor__ __clang_patchlevel__ |
					clang -E -P -x c - | awk "{ print \$1 * 10000 + \$2 * 100 + \$3 }")
				[ "$version" ] || exit
				# What headers go by. With gcc'"'"'s __seg_gs clang forgets the segment of per-CPU data.
				{
					echo "#include <linux/kconfig.h>"
					for name in CC_IS_GCC CC_HAS_NAMED_AS USE_X86_SEG_SUPPORT; do
						echo "#undef CONFIG_$name"
					done
				} >/tmp/clang.h
				set -- CONFIG_CLANG_VERSION="$version" NOSTDINC_FLAGS="-nostdinc -include /tmp/clang.h" "$@"
			fi
			exec make -C /llbitmap "$@"
		' make -j"$(nproc)" "${args[@]}" "$@" >&2 ||
		die "build $suite: make failed"
}
