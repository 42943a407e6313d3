#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""peer-report [FILTER]: the properties of tests/guest/properties, against the in-tree driver
of the same kernel (scripts/lab peer) and against ours, each in guests of its own. FILTER: a
regular expression for tests. A driver that takes the guest down with it has failed that
property; the others go on in a new guest. Writes build/peer/report.json, a list of
{property, test, intree, llbitmap, observed}, and report.md. Exit status 0: every row passes
for ours. The in-tree column is what was seen, whatever it is."""

import json
import pathlib
import re
import sys

import guests

OUT = guests.ROOT / 'build/peer'
DRIVERS = ('intree', 'llbitmap')


def properties():
    """The property of each test, in the file's order; "the same" is the last one's."""
    found, last = {}, ''
    for line in (guests.ROOT / 'tests/guest/properties').read_text(encoding='utf-8').splitlines():
        if not line or line.startswith('#'):
            continue
        test, text = line.split(': ', 1)
        if text.endswith(': the same'):
            text = text.split(':')[0] + ':' + last.split(':', 1)[1]
        else:
            last = text
        found[test] = text
    return found


def rows(texts, seen):
    """A row for each property that was looked at. seen: of each driver, results by test."""
    table = []
    for test, text in texts.items():
        row = {'property': text, 'test': test}
        row.update((driver, 'pass' if seen[driver][test].passed else 'fail') for driver in DRIVERS)
        row['observed'] = '; '.join(f'{driver}: {seen[driver][test].why}' for driver in DRIVERS
                                    if seen[driver][test].why)
        table.append(row)
    return table


def markdown(table, kernel):
    lines = [f'Kernel {kernel}: what was seen of each driver.', '',
             '| property | in-tree | llbitmap | observed |', '|---|---|---|---|']
    for row in table:
        short = row['observed'].replace('|', '/')
        lines.append(f'| {row["property"]} | {row["intree"]} | {row["llbitmap"]} | '
                     f'{short[:200]}{"…" if len(short) > 200 else ""} |')
    return '\n'.join(lines) + '\n'


def look(driver, tests, files):
    """Runs the tests against a driver; their results, and what was wrong with guests."""
    def say(result):
        print(f'{driver:9} {result.name:32} {"pass" if result.passed else "fail"} '
              f'{result.seconds:>6} s  {result.why}'.rstrip(), flush=True)
    job = OUT / f'job-{driver}'
    guests.job(job, files)
    return guests.run(tests, OUT / f'guest-{driver}',
                      ['--suite', 'forky', '--no-udev', '--job', str(job)], say,
                      guests=len(tests) + 1, needs_one=True)


def main():
    if len(sys.argv) > 2:
        sys.exit('usage: scripts/peer-report [FILTER]')
    wanted = re.compile(sys.argv[1] if sys.argv[1:] else '.')
    texts = {test: text for test, text in properties().items() if wanted.search(test)}
    if not texts:
        print(f"peer-report: no property's test matches '{sys.argv[1]}'", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        module = pathlib.Path(guests.module('forky', log=OUT / 'build.log'))
        # Whatever the in-tree driver's guests come to is in the tests' results.
        intree, _ = look('intree', list(texts), {'intree/md-mod.ko': guests.peer()})
        ours, bad = look('llbitmap', list(texts), {'llbitmap.ko': module})
    except guests.NotBuilt as why:
        sys.exit(f'peer-report: {why}')
    except guests.NotStarted as why:
        sys.exit(f'peer-report: the guest did not start: {why}')
    table = rows(texts, {'intree': intree, 'llbitmap': ours})
    (OUT / 'report.json').write_text(json.dumps(table, indent=1) + '\n', encoding='utf-8')
    (OUT / 'report.md').write_text(markdown(table, module.parent.name), encoding='utf-8')
    passes = {driver: sum(row[driver] == 'pass' for row in table) for driver in DRIVERS}
    print(f'{len(table)} properties: in-tree passes {passes["intree"]}, llbitmap '
          f'{passes["llbitmap"]}; see build/peer/report.md')
    if bad:
        print(f'peer-report: a guest with llbitmap did not end well: {"; ".join(bad)}', file=sys.stderr)
    return 0 if passes['llbitmap'] == len(table) and not bad else 1


if __name__ == '__main__':
    sys.exit(main())
