#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""faults.py LOG: prints the lines of a kernel log that must not be there. What they are is
said here only: scripts/lab asks it of a guest's whole log, tests/guest/tests of what came
while a test ran."""

import re
import sys

BAD = re.compile('|'.join((
    'WARNING:', 'BUG:', 'kernel BUG at', 'Oops', 'general protection', 'UBSAN', 'KASAN',
    'possible circular locking', 'possible recursive locking', 'inconsistent lock state',
    'suspicious RCU usage', 'lock held when returning', 'lockdep',
    'blocked for more than', 'hung task', 'hung_task', r'rcu.*(stall|detected expedited)',
    'soft lockup', 'hard LOCKUP',
    'Call Trace', 'Kernel panic', 'refcount_t:', 'list_(add|del) corruption')))
# Announcements of the same words at boot.
GOOD = re.compile('|'.join((
    'Lock dependency validator', 'lockdep_depth', 'MAX_LOCKDEP', 'RCU lockdep checking is enabled',
    'KernelAddressSanitizer initialized', r'[Cc]ommand line(:| parameters) ',
    'RCU CPU stall warnings timeout set to')))
# What a job asked the kernel to show (show_blocked() of tests/guest/tests) is between these.
RULER, RACE, OURS = '=' * 66, 'BUG: KCSAN: data-race', '[llbitmap]'
ACCESS = re.compile(r'\b(?:read-write|read|write)( \([a-z, ]+\))? to 0x')
# A task's flags: the scheduler reads them while memalloc_noio_save(), an inline of the kernel's, writes
# them in us.
FLAGS = 'kthread_is_per_cpu'
BLOCKED, END_OF_BLOCKED = 'lab: blocked tasks:', 'lab: end of blocked tasks'


def bad(line):
    return bool(BAD.search(line)) and not GOOD.search(line)


def without_blocked_tasks(lines):
    """What was asked for is no fault, if it came to its end."""
    shown, kept = False, []
    for line in lines:
        if not shown and line.endswith(BLOCKED):
            shown, kept = True, []
        if not shown:
            yield line
            continue
        kept.append(line)
        shown = not line.endswith(END_OF_BLOCKED)
    if shown:
        yield from kept


def is_our_race(report):
    """One in whose stacks we are not is not ours: md has races of its own. Nor is one of which our
    side is marked (READ_ONCE() and the like) and not reordered: the plain one is md's."""
    sides = []  # of each access: what KCSAN says of it, and whether we are in its stack
    for line in report:
        access = ACCESS.search(line)
        if access:
            sides.append([access[1], False])
        elif OURS in line and sides and RACE not in line:
            sides[-1][1] = True
    marked = [how == ' (marked)' for how, ours in sides if ours]
    return (FLAGS not in report[1] and any(OURS in line for line in report) and
            (len(sides) != 2 or len(marked) != 1 or not marked[0]))


def without_others_races(lines):
    """Reports of KCSAN are between two lines of "="."""
    report = None
    for line in lines:
        if report is None:
            if not line.endswith(RULER):
                yield line
                continue
            report = [line]
            continue
        report.append(line)
        if len(report) == 2 and RACE not in line or line.endswith(RULER):
            if len(report) == 2 or is_our_race(report):
                yield from report
            report = None
    yield from report or ()


def bad_lines(lines):
    """Those that must not be there."""
    return filter(bad, without_others_races(without_blocked_tasks(lines)))


def main():
    path, = sys.argv[1:]
    with open(path, encoding='utf-8', errors='replace', newline='\n') as file:
        lines = file.read().replace('\r', '').replace('\0', '').split('\n')
    sys.stdout.reconfigure(encoding='utf-8')
    for line in bad_lines(lines):
        print(line)


if __name__ == '__main__':
    main()
