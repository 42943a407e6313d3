# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# What the arrays with lockless bitmaps are at, for check.sh, mdadm and examine.

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

# A whole array has chunks to synchronise, or is at it.
sync_due() {
	local file array
	for file in /sys/block/md*/md/llbitmap/bits; do
		array=${file%/llbitmap/*}
		[[ -e $file && $(<"$array/degraded") == 0 ]] || continue
		[[ $(<"$array/sync_action") == resync ]] ||
			grep -qE '^(need sync|syncing).* [1-9]' "$file" || continue
		return 0
	done
	return 1
}
