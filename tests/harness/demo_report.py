#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""demo_report.py OUT LEVEL...: whether a guest of scripts/demo, whose /out is OUT, did all of
it: it said "ok" to every step of every level, and its report agrees. A line says what is not so."""

import json
import pathlib
import re
import sys

# What the guest must say, for each level.
STEPS = ('load_module', 'create', 'write', 'idle', 'cut', 'assemble', 'resync', 'members_equal',
         'acknowledged', 'check', 'damage', 'repair', 'rmmod_in_use', 'stop_and_unload',
         'load_again')
NUMBERS = ('chunks', 'dirty_at_cut', 'resynced', 'mismatch_cnt', 'verify_errors', 'seconds')


def number(facts, name):
    value = facts.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def wrong(level, facts, log):
    """What is not as it has to be with a level, or nothing. facts: of the report; log: what
    the job said."""
    for step in STEPS:
        if not re.search(f'^ok: {re.escape(level)}: {step}: .', log, re.MULTILINE):
            return f'{level}: no word of the step {step}'
    if facts is None:
        return f'{level} is not in the report'
    for name in NUMBERS:
        if number(facts, name) is None:
            return f'{level}: the report has no {name}'
    if not facts['dirty_at_cut'] or facts['dirty_at_cut'] != facts['resynced'] or \
            facts['mismatch_cnt'] or facts['verify_errors']:
        return f'{level}: the report tells of a failure: {facts}'
    return ''


def judge(out, levels):
    """What is not as it has to be, or nothing."""
    try:
        report = json.loads((out / 'report.json').read_text(encoding='utf-8'))
        log = (out / 'job.log').read_text(encoding='utf-8', errors='replace')
    except (OSError, ValueError) as odd:
        return f'the guest left no report: {odd}'
    if report.get('ok') is not True:
        return 'the report does not say ok'
    facts = {one.get('level'): one for one in report.get('levels', ())}
    return next(filter(None, (wrong(level, facts.get(level), log) for level in levels)), '')


def main():
    out, *levels = sys.argv[1:]
    why = judge(pathlib.Path(out), levels) if levels else 'no level is named'
    if why:
        sys.exit(f'demo: {why}')


if __name__ == '__main__':
    main()
