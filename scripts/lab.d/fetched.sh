# shellcheck shell=bash
# Programs of Debian that a root lacks, beside it: the roots stay what was measured. Fetched once
# for what is installed in the root, whose libraries they use.

cmd_fetch() {
	[[ $# == 2 && -f $2 ]] || usage_error "fetch takes a suite and a recipe"
	local root kver fetched recipe
	recipe=$(readlink -f "$2")
	need_root_of "$1"
	fetched=$cache/fetched/${recipe##*/}-$(cat "$root/var/lib/dpkg/status" "$recipe" "$lab_dir/fetch" |
		sha256sum | cut -c1-12)
	[[ -d $fetched ]] || with_lock "fetched-${fetched##*/}" fetch_make
	printf '%s\n' "$fetched"
}

fetch_make() {
	[[ ! -d $fetched ]] || return 0
	local tmp=$cache/fetched/.tmp-${fetched##*/}
	rm -rf --one-file-system -- "$tmp"
	mkdir -p "$tmp"
	cleanup_dirs+=("$tmp" "$tmp.log")
	step "${recipe##*/}: downloading" "$tmp.log" in_root "$root" --bind "$lab_dir:/lab" \
		--bind "${recipe%/*}:/recipe" --bind "$tmp:/new" -- /lab/fetch /new "/recipe/${recipe##*/}"
	mv -T "$tmp" "$fetched"
}
