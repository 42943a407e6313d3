# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Read after the suite's func.sh, for a run with lockless bitmaps: what only holds for an
# array whose first resync copies everything (T7), a wait that ends when it may (T8).
eval "suite_$(declare -f check)"
# shellcheck source=tests/mdadm/state.sh
. "$SUITE_DIR/state.sh"

# The suite compares members, but its tests go on if they differ (T9).
cmp() {
	command cmp "$@" || die "cmp $*: they differ"
}

check() {
	local status=$? n quiet=0 # of the command before, which one check looks at
	case $1 in
	resync | recovery)
		# T7. A recovery is wanted if a member in a slot is not in sync.
		for ((n = 0; n < 10; n++)); do
			if grep -sq "$1" /proc/mdstat; then
				return 0
			fi
			if [[ $(chunks_waiting) == 0 ]] && all_idle; then
				echo "T7" >>"$SUITE_NOTES"
				return 0
			fi
			sleep 0.2
		done
		suite_check "$@"
		;;
	wait)
		local min max
		min=$(</proc/sys/dev/raid/speed_limit_min)
		max=$(</proc/sys/dev/raid/speed_limit_max)
		echo 200000 >/proc/sys/dev/raid/speed_limit_max
		for ((n = 0; quiet < 8; n++)); do
			((n < 1500)) || die "not idle within 300 s"
			if all_idle; then
				quiet=$((quiet + 1))
			else
				quiet=0
			fi
			sleep 0.2
		done
		echo "$min" >/proc/sys/dev/raid/speed_limit_min
		echo "$max" >/proc/sys/dev/raid/speed_limit_max
		;;
	*)
		(exit "$status")
		suite_check "$@"
		;;
	esac
}
