#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""mdadm_report.py OUT BAD-GUESTS TEST...: one report of all guests of scripts/mdadm-suite:
OUT/report-*.json become OUT/report.json. A test without a result failed. Exit status 0: some
passed, none failed, and no guest ended badly."""

import collections
import json
import pathlib
import sys


def merged(out, asked):
    found = {}
    for path in out.glob('report-*.json'):
        found.update((line['test'], line) for line in json.loads(path.read_text(encoding='utf-8')))
    return [found.get(test, {'test': test, 'result': 'fail', 'reason': 'no result'})
            for test in asked]


def main():
    out, bad_guests, asked = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    report = merged(out, asked)
    (out / 'report.json').write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    for line in report:
        if line['result'] == 'fail':
            print(f'failed: {line["test"]}: {line["reason"]}')
    if bad_guests:
        print(f'failed: {bad_guests} guests did not end in an orderly way with a clean kernel log')
    count = collections.Counter(line['result'] for line in report)
    print(', '.join(f'{number} {result}' for result, number in sorted(count.items())) +
          '; report in build/mdadm-suite/report.json')
    return 1 if bad_guests or count['fail'] or not count['pass'] else 0


if __name__ == '__main__':
    sys.exit(main())
