# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Read after the suite's func.sh, for a run with lockless bitmaps: what only holds for an
# array whose first resync copies everything (T7), a wait that ends when it may (T8).
eval "suite_$(declare -f check)"

# Chunks that wait for a sync, over all arrays; "none" if no array has a lockless bitmap.
chunks_waiting() {
	cat /sys/block/md*/md/llbitmap/bits 2>/dev/null |
		awk '/^(need sync|syncing)/ { n += $NF } END { print NR ? n + 0 : "none" }'
}

all_idle() {
	local file array
	for file in /sys/block/md*/md/sync_action; do
		[[ -e $file ]] || continue
		array=${file%/*}
		[[ $(<"$file") == idle ]] || return 1
		# On a whole array that may be written, what waits will be done.
		[[ $(<"$array/degraded") != 0 || $(<"$array/array_state") == read* ]] ||
			! grep -qE '^(need sync|syncing).* [1-9]' "$array/llbitmap/bits" 2>/dev/null ||
			return 1
	done
}

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
