#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Files on stdin, one a line: each label that is used is defined once (scripts/lint)."""

import re
import sys

LABEL = r"(?<![\w-])[BDKMOPTW](?:[12]\d|[1-9])(?!\w)"
defined, used, bad = {}, {}, 0
for path in sys.stdin.read().splitlines():
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except ValueError:  # no text
        continue
    for number, line in enumerate(lines, 1):
        if path.endswith("README.md"):
            for label in re.findall(r"(?:\*\*|^\| )(%s)" % LABEL, line):
                defined.setdefault(label, []).append(f"{path}:{number}")
        for label in re.findall(LABEL, line):
            used.setdefault(label, f"{path}:{number}")
for label in sorted(used):
    places = defined.get(label, [])
    if not places:
        print(f"{used[label]}: {label} is defined in no README")
    elif len(places) > 1:
        print(f"{places[1]}: {label} is defined in {places[0]} already")
    bad |= len(places) != 1
sys.exit(bad)