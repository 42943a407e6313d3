#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What make crash-cost predicts, checked once in a real guest: two minutes of 50 random writes
# per second, and of bursts, on 16 TB raid1 (sparse members), with this bitmap, the classic one
# and, with --peer, the in-tree driver; dirty chunks are read from the members. Prints both, and
# fails if they are further apart than 25 %.  scripts/guests/crash-cost-check.sh [--peer] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."

trackers=(llbitmap classic) seconds=120
[[ ${1:-} != --peer ]] || { trackers+=(intree) && shift; }
seconds=${1:-$seconds}

out=build/crash-cost-check
mkdir -p "$out"
rm -rf "$out/job" "$out/cost.json"
make -s -C tests/crash-cost BUILD="$PWD/build/crash-cost" all
module=$(scripts/lab build forky)
cp -a tests/guest "$out/job"
cp "${module##*$'\n'}" "$out/job/llbitmap.ko"
if [[ " ${trackers[*]} " == *' intree '* ]]; then
	mkdir "$out/job/peer"
	cp "$(scripts/lab peer forky)" "$out/job/peer/md-mod.ko"
fi
jobs=()
for tracker in "${trackers[@]}"; do
	jobs+=("$tracker:a50" "$tracker:g_burst")
done
scripts/lab guest --no-udev --job "$out/job" --out "$out/guest" \
	--timeout $((300 + 3 * seconds)) -- cost --seconds "$seconds" "${jobs[@]}"
cp "$out/guest/cost.json" "$out/cost.json"
tests/harness/crash_cost_check.py "$out/cost.json" "$seconds"
