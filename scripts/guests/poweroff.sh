#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An orderly poweroff, and a reboot, of mounted arrays that were just written leave no chunk
# to resynchronise (tests/guest/power): two guests each, on one disk that outlives the first.
#
#   scripts/guests/poweroff.sh [poweroff|reboot]     both, if none is named
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${*-} in
'') hows=(poweroff reboot) ;;
poweroff | reboot) hows=("$1") ;;
*)
	echo 'usage: scripts/guests/poweroff.sh [poweroff|reboot]' >&2
	exit 2
	;;
esac

out=$PWD/build/poweroff-test
disk_mib=1024
died_without_a_word=122 # a guest that rebooted: QEMU ends then

mkdir -p "$out"
ko=$(scripts/lab build forky)
rm -rf "$out/job"
cp -a tests/guest "$out/job"
cp "${ko##*$'\n'}" "$out/job/llbitmap.ko"

guest() { # TAG ARGS...
	local tag=$1
	shift
	scripts/lab guest --no-udev --timeout 240 --disk "$out/disk" --job "$out/job" \
		--out "$out/$tag" -- power "$@"
}

for how in "${hows[@]}"; do
	rm -f "$out/disk"
	truncate -s "${disk_mib}M" "$out/disk"
	rc=0
	guest "$how-write" write "$how" || rc=$?
	wanted=0
	[[ $how == poweroff ]] || wanted=$died_without_a_word
	if ((rc != wanted)) || ! grep -q "reboot: \(Restarting system\|Power down\)" "$out/$how-write/kernel.log"; then
		echo "poweroff: $how: the first guest did not end by it (status $rc)"
		exit 1
	fi
	guest "$how-check" check || {
		echo "poweroff: $how: failed, see build/poweroff-test/$how-check/job.log"
		exit 1
	}
	grep -c 'written chunks to resynchronise' "$out/$how-check/job.log" | grep -qx 4 || {
		echo "poweroff: $how: not all arrays were checked"
		exit 1
	}
	echo "poweroff: $how: passed"
	rm -f "$out/disk"
done
