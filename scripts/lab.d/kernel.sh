# shellcheck shell=bash
# Kernels beside those of the roots: any that the archive offers, by its release. It is
# asked with an APT of our own (this machine's is left as it is), and a kernel's packages
# are unpacked, not installed, into a folder of the cache:
#	files/		headers and modules, as in a root (no modules of sound, graphics, nets)
#	vmlinuz
#	modules.ext4	the modules, as a guest's last disk: lab.d/guest-job mounts it
# A kernel without headers or without modules has what there is.

kernel_suites='trixie trixie-backports forky sid experimental'
kernel_ask_min=720 # minutes that the archive's answer counts

# need_apt: $apt_dir, its lists not older than that; in its file offers a line
# "SUITE PACKAGE VERSION [NEEDS]" for each of the kernels' packages, suite by suite; NEEDS:
# the headers' other halves.
need_apt() {
	apt_dir=$cache/kernels/apt
	kernel_apt_asked || with_lock apt kernel_apt_update
}

kernel_apt_asked() {
	[[ -n $(find "$apt_dir/offers" -mmin -$kernel_ask_min 2>/dev/null) ]]
}

kernel_apt_update() {
	! kernel_apt_asked || return 0
	local uri suite
	uri=$(mirror)
	mkdir -p "$apt_dir/lists/partial" "$apt_dir/archives/partial"
	for suite in $kernel_suites; do
		echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
	done >"$apt_dir/sources"
	# Of Release files only the date is not checked, as in root.sh.
	cat >"$apt_dir/conf" <<-CONF
		Dir::State "$apt_dir";
		Dir::Cache "$apt_dir";
		Dir::Etc::sourcelist "$apt_dir/sources";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "root";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
	CONF
	step "kernels: asking the archive" "$apt_dir/log" kernel_offers
}

kernel_apt() { APT_CONFIG=$apt_dir/conf "$@"; }

kernel_offers() {
	local suite file
	kernel_apt apt-get update -o APT::Update::Error-Mode=any
	while IFS='|' read -r suite file; do
		kernel_apt /usr/lib/apt/apt-helper cat-file "$file" | awk -v suite="$suite" '
			/^Package: / { package = $2 }
			/^Version: / { version = $2 }
			/^Depends: / { depends = $0 }
			/^$/ && package ~ /^linux-(headers|image|base|binary|binary-unsigned|modules)-[0-9]/ {
				needs = ""
				while (package ~ /^linux-headers-/ &&
				       match(depends, /linux-(headers|kbuild)-[0-9][^ ,]*/)) {
					needs = needs " " substr(depends, RSTART, RLENGTH)
					depends = substr(depends, RSTART + RLENGTH)
				}
				print suite, package, version needs
			}
			/^$/ { depends = "" }'
	done < <(kernel_apt apt-get indextargets --format '$(RELEASE)|$(FILENAME)' \
		'Created-By: Packages') >"$apt_dir/offers.new"
	[[ -s $apt_dir/offers.new ]]
	mv "$apt_dir/offers.new" "$apt_dir/offers"
}

cmd_offers() {
	[[ $# -eq 0 ]] || usage_error "offers takes no argument"
	local apt_dir
	need_apt
	cat "$apt_dir/offers"
}

# kernel_packages RELEASE: NAME=VERSION of what makes that kernel: headers with what they
# need, modules, what is built in (base), image.
kernel_packages() {
	local release=$1 names name version needs
	names=$(awk -v release="$release" '
		$2 ~ /^linux-(headers|modules|base|binary|binary-unsigned|image)-/ {
			name = $2
			sub(/^linux-(headers|modules|base|binary-unsigned|binary|image)-/, "", name)
			if (name == release && !seen[$2]++) { $1 = ""; print }
		}' "$apt_dir/offers")
	while read -r name version needs; do
		case $name in
		linux-headers-*)
			# shellcheck disable=SC2086
			printf '%s\n' "$name=$version" $needs
			;;
		linux-modules-* | linux-base-* | "linux-binary-$release") echo "$name=$version" ;;
		# One that is not signed is as good; one with modules of their own is empty.
		linux-binary-unsigned-*)
			grep -q "^ *linux-binary-$release " <<<"$names" || echo "$name=$version"
			;;
		linux-image-*)
			grep -qE '^ *linux-(binary|modules)-' <<<"$names" || echo "$name=$version"
			;;
		esac
	done <<<"$names"
}

# need_kernel RELEASE: makes it if it is not there; its folder in $kernel_dir.
need_kernel() {
	local release=$1 packages hash apt_dir
	[[ $release =~ ^[0-9][0-9a-z.+~-]*$ ]] || usage_error "'$release' is no kernel's release"
	need_apt
	packages=$(kernel_packages "$release")
	[[ $packages ]] || die "no kernel $release is offered (scripts/lab offers)"
	hash=$({ declare -f kernel_unpack kernel_image; echo "$packages"; } | sha256sum)
	kernel_dir=$cache/kernels/$release-${hash:0:12}
	[[ -d $kernel_dir ]] || with_lock "kernel-$release" kernel_make
}

cmd_kernel() {
	[[ $# -eq 1 ]] || usage_error "kernel takes a release"
	local kernel_dir
	need_kernel "$1"
	printf '%s\n' "$kernel_dir"
}

kernel_make() {
	[[ ! -d $kernel_dir ]] || return 0
	need_root "unpacking a kernel"
	rm -rf --one-file-system -- "$cache/kernels/.tmp-$release"-*
	local tmp=$cache/kernels/.tmp-$release-$$ log
	log=$tmp.log
	mkdir -p "$tmp"
	cleanup_dirs+=("$tmp" "$log")
	step "kernel $release: downloading" "$log" kernel_download
	step "kernel $release: unpacking" "$log" kernel_unpack
	step "kernel $release: its modules' disk" "$log" kernel_image
	mv -T "$tmp" "$kernel_dir"
}

# The functions below run as steps: set -e ends them at the first failure.

kernel_download() {
	mkdir "$tmp/deb"
	cd "$tmp/deb"
	# shellcheck disable=SC2086
	kernel_apt apt-get download $packages
}

kernel_unpack() {
	local deb lib skip=()
	for lib in drivers/{accel,gpu,hwmon,iio,infiniband,input,media,net,platform,staging,thunderbolt,usb,video} \
		net sound samples; do
		skip+=(--exclude="./usr/lib/modules/*/kernel/$lib/*")
	done
	mkdir -p "$tmp/files/usr/lib/modules/$release"
	ln -s usr/lib "$tmp/files/lib"
	for deb in "$tmp"/deb/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x --keep-directory-symlink -C "$tmp/files" --exclude='./usr/share' "${skip[@]}"
	done
	rm -r "$tmp/deb"
	local found
	for found in "$tmp/files/usr/lib/modules/$release"/vmlinuz{,.unsigned} \
		"$tmp/files/boot/vmlinuz-$release"; do
		[[ -e $tmp/vmlinuz || ! -f $found ]] || cp "$found" "$tmp/vmlinuz"
	done
	[[ ! -d $tmp/files/usr/lib/modules/$release/kernel ]] ||
		depmod -b "$tmp/files" "$release"
}

kernel_image() {
	local modules=$tmp/files/usr/lib/modules/$release size_mib
	[[ -d $modules/kernel ]] || return 0
	mkdir "$tmp/modules"
	cp -a "$modules/kernel" "$modules"/modules.* "$tmp/modules/"
	size_mib=$(du -sm --apparent-size "$tmp/modules" | cut -f1)
	mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$tmp/modules" "$tmp/modules.ext4" \
		"$((size_mib * 13 / 10 + 16))M"
	rm -r "$tmp/modules"
}

# kernel_cc: the compiler of the root's stock kernel.
kernel_cc() {
	sed -nE 's/^CC = .*(gcc-[0-9]+).*/\1/p' "$root"/usr/src/linux-headers-*/.kernelvariables | sort -u
}

# kernel_binds: into the array binds, what of $kernel_dir a root must show.
kernel_binds() {
	local path
	binds+=(--bind "$kernel_dir/files/usr/lib/modules/$release:/usr/lib/modules/$release")
	for path in "$kernel_dir"/files/usr/src/* "$kernel_dir"/files/usr/lib/linux-kbuild-*; do
		[[ ! -e $path ]] || binds+=(--bind "$path:${path#"$kernel_dir/files"}")
	done
}
