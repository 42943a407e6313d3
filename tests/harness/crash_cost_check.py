#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""crash_cost_check.py COST.JSON SECONDS: what a guest of scripts/guests/crash-cost-check.sh saw
beside what build/crash-cost/crash-cost predicts. Exit status 1: they are further apart than
25 %, or the guest was too slow to compare."""

import json
import re
import subprocess
import sys

UNITS = {'B': 1, 'KB': 1e3, 'MB': 1e6, 'GB': 1e9, 'TB': 1e12}


def number(value, unit):
    return float(value) * UNITS[unit]


def predicted(load, tracker, seconds):
    """(mean, most) bytes."""
    said = subprocess.run(['build/crash-cost/crash-cost', '--size', '16TB', '--load', load,
                           '--tracker', tracker, '--seconds', seconds],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    words = re.search(r'mean +([\d.]+) (\w+) +max +([\d.]+) (\w+)', said).groups()
    return number(*words[:2]), number(*words[2:])


def main():
    path, seconds = sys.argv[1:]
    far = False
    with open(path, encoding='utf-8') as file:
        lines = json.load(file)
    for seen in lines:
        mean, most = predicted(seen['load'], seen['tracker'], seconds)
        off = seen['mean'] / mean - 1
        wanted = 50 * seen['seconds'] if seen['load'] == 'a50' else 10000
        slow = seen['writes'] < 0.85 * wanted or seen['instants'] < 10
        far |= abs(off) > 0.25 or slow
        print(f'{seen["load"]:8} {seen["tracker"]:9} predicted mean {mean / 1e9:9.2f} GB, max '
              f'{most / 1e9:9.2f}; seen mean {seen["mean"] / 1e9:9.2f} GB ({off:+.0%}), max '
              f'{seen["max"] / 1e9:9.2f}; {seen["writes"]} writes, chunks of {seen["chunk"] >> 20} MiB' +
              (f'; TOO SLOW to compare: of {wanted:.0f} writes, {seen["instants"]} instants'
               if slow else ''))
    return 1 if far else 0


if __name__ == '__main__':
    sys.exit(main())
