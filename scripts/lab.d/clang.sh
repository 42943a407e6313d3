# shellcheck shell=bash
# Debian's clang for a root, beside it: the roots have what Debian builds its kernels with,
# gcc. Its packages are fetched once for a root, and installed in the overlay of each build.

# need_clang ROOT: its packages, in $clang_dir; the folder's name says root and version.
need_clang() {
	local clang_base=$cache/clang/${1##*/}
	clang_find || with_lock "clang-${clang_base##*/}" clang_make "$1"
}

clang_find() {
	clang_dir=$(find "$cache/clang" -maxdepth 1 -name "${clang_base##*/}+*" -print -quit 2>/dev/null)
	[[ $clang_dir ]]
}

clang_make() {
	! clang_find || return 0
	rm -rf --one-file-system -- "$cache/clang/.tmp-${clang_base##*/}"-*
	local tmp=$cache/clang/.tmp-${clang_base##*/}-$$ version
	mkdir -p "$tmp/partial"
	cleanup_dirs+=("$tmp" "$tmp.log")
	step "clang for ${clang_base##*/}: downloading" "$tmp.log" clang_download "$1"
	version=$(cd "$tmp" && echo clang-[0-9]*_*.deb)
	version=${version#*_}
	rm -rf "$tmp/partial" "$tmp/lock"
	clang_dir=$clang_base+${version%_*}
	mv -T "$tmp" "$clang_dir"
}

clang_download() {
	in_root "$1" --bind "$tmp:/clang" -- sh -ec '
		apt-get update -o APT::Update::Error-Mode=any
		apt-get install -y --no-install-recommends --download-only \
			-o Dir::Cache::Archives=/clang -o APT::Keep-Downloaded-Packages=true clang'
}

cmd_clang() {
	[[ $# -le 1 ]] || usage_error "clang takes one suite"
	local root kver clang_dir
	need_root_of "${1:-forky}"
	need_clang "$root"
	printf '%s\n' "$clang_dir"
}
