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
python3 - "$out/cost.json" "$seconds" <<'PYTHON'
import json
import re
import subprocess
import sys

UNITS = {'B': 1, 'KB': 1e3, 'MB': 1e6, 'GB': 1e9, 'TB': 1e12}


def number(words):
    return float(words[0]) * UNITS[words[1]]


far = False
for seen in json.load(open(sys.argv[1], encoding='utf-8')):
    said = subprocess.run(['build/crash-cost/crash-cost', '--size', '16TB', '--load', seen['load'],
                           '--tracker', seen['tracker'], '--seconds', sys.argv[2]],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    words = re.search(r'mean +([\d.]+) (\w+) +max +([\d.]+) (\w+)', said).groups()
    mean, most = number(words[:2]), number(words[2:])
    off = seen['mean'] / mean - 1
    wanted = 50 * seen['seconds'] if seen['load'] == 'a50' else 10000
    slow = seen['writes'] < 0.85 * wanted or seen['instants'] < 10
    far |= abs(off) > 0.25 or slow
    print(f'{seen["load"]:8} {seen["tracker"]:9} predicted mean {mean / 1e9:9.2f} GB, max '
          f'{most / 1e9:9.2f}; seen mean {seen["mean"] / 1e9:9.2f} GB ({off:+.0%}), max '
          f'{seen["max"] / 1e9:9.2f}; {seen["writes"]} writes, chunks of {seen["chunk"] >> 20} MiB' +
          (f'; TOO SLOW to compare: of {wanted:.0f} writes, {seen["instants"]} instants' if slow else ''))
sys.exit(1 if far else 0)
PYTHON
