# shellcheck shell=bash
# Messages, the cache, background steps that end with us, host packages.

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/llbitmap

host_packages=(mmdebstrap debian-archive-keyring qemu-system-x86 e2fsprogs
	busybox-static cpio rsync kmod xz-utils zstd util-linux python3-minimal)

say() { printf '%s\n' "$*" >&2; }

die() {
	say "lab: $*"
	exit 1
}

usage_error() {
	say "lab: $*"
	exit 2
}

need_root() {
	[[ $EUID -eq 0 ]] || die "$1 needs root"
}

# Things to undo however we end: process groups, then temporary directories.
cleanup_groups=()
cleanup_dirs=()

cleanup() {
	local it
	for it in "${cleanup_groups[@]}"; do
		kill -TERM -- "-$it" 2>/dev/null || true
	done
	for it in "${cleanup_groups[@]}"; do
		wait "$it" 2>/dev/null || true
	done
	for it in "${cleanup_dirs[@]}"; do
		rm -rf --one-file-system -- "$it"
	done
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# background CMD...: starts CMD in a process group of its own, pid in $started.
background() {
	set -m
	"$@" &
	started=$!
	set +m
	cleanup_groups+=("$started")
}

# finished PID: PID has ended and was waited for; forget it.
finished() {
	local it keep=()
	for it in "${cleanup_groups[@]}"; do
		[[ $it == "$1" ]] || keep+=("$it")
	done
	cleanup_groups=("${keep[@]}")
}

# step WHAT LOG CMD...: runs CMD with its output added to LOG and says how long
# it takes; if it fails, shows the end of LOG and dies.
step() {
	local what=$1 log=$2 t0=$SECONDS rc=0 next=30
	shift 2
	say "$what ..."
	background "$@" </dev/null >>"$log" 2>&1
	local pid=$started
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.1
		if ((SECONDS - t0 >= next)); then
			say "$what ... $next s"
			next=$((next + 30))
		fi
	done
	wait "$pid" || rc=$?
	finished "$pid"
	if ((rc)); then
		tail -n 25 "$log" >&2
		die "$what: failed with status $rc after $((SECONDS - t0)) s"
	fi
	say "$what: $((SECONDS - t0)) s"
}

# with_lock NAME CMD...: one process at a time makes the cached thing NAME.
with_lock() {
	local name=$1 fd
	shift
	mkdir -p "$cache"
	exec {fd}>"$cache/.lock-$name"
	if ! flock -n "$fd"; then
		say "$name: another run is making it, waiting ..."
		flock "$fd"
	fi
	"$@"
	exec {fd}>&-
}

cmd_packages() {
	local missing=() name status
	declare -A have=()
	while read -r name status; do
		have[$name]=$status
	done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' \
		"${host_packages[@]}" 2>/dev/null || true)
	for name in "${host_packages[@]}"; do
		[[ ${have[$name]:-} == installed ]] || missing+=("$name")
	done
	((${#missing[@]})) || return 0
	local line="apt-get install --no-install-recommends ${missing[*]}"
	[[ $EUID -eq 0 ]] || die "host packages are missing; run: $line"
	mkdir -p "$cache"
	step "packages: ${missing[*]}" "$cache/packages.log" install_packages "${missing[@]}"
}

install_packages() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get install -y --no-install-recommends "$@" && return
	apt-get update
	apt-get install -y --no-install-recommends "$@"
}

# mirror: the Debian archive that this host's own APT uses.
mirror() {
	local uri origin label
	if [[ -n ${LAB_MIRROR:-} ]]; then
		printf '%s\n' "$LAB_MIRROR"
		return
	fi
	while IFS='|' read -r uri origin label; do
		# Origin and label are known only after an "apt-get update".
		if [[ $origin/$label == Debian/Debian ||
			(-z $origin && $uri == */debian/) ]]; then
			printf '%s\n' "$uri"
			return
		fi
	done < <(apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)|$(LABEL)' \
		'Created-By: Packages')
	die "no Debian mirror in this host's APT sources; set LAB_MIRROR"
}

cmd_clean() {
	[[ $# -eq 1 ]] || usage_error "clean takes a suite, uml, debug, kernels, clang, fetched, arch or all"
	case $1 in
	all) rm -rf --one-file-system -- "$cache" ;;
	uml | debug | kernels | clang | fetched) rm -rf --one-file-system -- "${cache:?}/$1" ;;
	arch) rm -rf --one-file-system -- "$cache/roots"/{arch,guest}-* ;;
	forky | trixie-backports | experimental)
		rm -rf --one-file-system -- "$cache/roots/$1"-* ;;
	*) usage_error "clean: unknown suite '$1'" ;;
	esac
}
