#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""fs-suite [--list] [FILTER]: stress-ng's stressors of files and I/O, and dbench, on ext4 and xfs
over lockless raid1, raid10 and raid5, in guests with Debian's kernel, and the same without a
bitmap (tests/fs). FILTER: a regular expression for names as --list prints them. Prints what each
file system came to, and in the end a table; writes build/fs-suite/report.json, a list of {fs,
level, stressor, llbitmap, none}, and report.md. Exit status 0: nothing failed that passes without
a bitmap, and all that has to hold afterwards held."""

import json
import pathlib
import re
import shutil
import sys

import guests

OUT = guests.ROOT / 'build/fs-suite'
HERE = guests.ROOT / 'tests/fs'
KINDS, LEVELS = ('ext4', 'xfs'), ('raid1', 'raid10', 'raid5')


def stressors():
    lines = (HERE / 'stressors').read_text(encoding='utf-8').splitlines()
    return [line.split()[2] for line in lines if not line.startswith('#')]


def everything():
    return [f'{kind}/{level}/{name}' for kind in KINDS for level in LEVELS for name in stressors()]


def tests(wanted):
    """The tests of test_fs.py that these are of."""
    return list(dict.fromkeys('fs.' + '_'.join(name.split('/')[:2]) for name in wanted))


def rows(logs):
    """What the guests' jobs said, by fs/level/stressor."""
    found = {}
    for log in logs:
        for line in log.read_text(encoding='utf-8', errors='replace').splitlines():
            if line.startswith('ROW {'):
                row = json.loads(line[4:])
                found['{fs}/{level}/{stressor}'.format(**row)] = row
    return found


def report(wanted, found):
    """A row for all that was wanted."""
    table = []
    for name in wanted:
        kind, level, stressor = name.split('/')
        table.append(found.get(name) or {'fs': kind, 'level': level, 'stressor': stressor,
                                         'llbitmap': 'fail: no result', 'none': 'fail: no result'})
    return table


def markdown(table, versions):
    """With the bitmap / without, for each stressor and array."""
    columns = list(dict.fromkeys((row['fs'], row['level']) for row in table))
    cells = {(row['stressor'], row['fs'], row['level']):
             ' / '.join(row[which].split(':')[0] for which in ('llbitmap', 'none')) for row in table}
    lines = [f'With the bitmap / without. {versions}.', '',
             '| stressor | ' + ' | '.join(' '.join(column) for column in columns) + ' |',
             '|---' * (len(columns) + 1) + '|']
    for stressor in dict.fromkeys(row['stressor'] for row in table):
        lines.append(f'| {stressor} | ' + ' | '.join(
            cells.get((stressor, *column), '') for column in columns) + ' |')
    lines += ['', *sorted({f'* {row["stressor"]}, {row["fs"]} {row["level"]}: {which}: {row[which]}'
                           for row in table for which in ('llbitmap', 'none') if row[which] != 'pass'})]
    return '\n'.join(lines) + '\n'


def say(result):
    print(f'{result.name[3:].replace("_", " "):12} {"sound" if result.passed else "FAIL"} '
          f'{result.seconds:>6} s  {result.why}'.rstrip(), flush=True)


def main():
    arguments = sys.argv[1:]
    listing = arguments[:1] == ['--list']
    arguments = arguments[1:] if listing else arguments
    if len(arguments) > 1 or arguments[:1] and arguments[0].startswith('-'):
        sys.exit('usage: scripts/fs-suite [--list] [FILTER]')
    pattern = re.compile(arguments[0] if arguments else '')
    wanted = [name for name in everything() if pattern.search(name)]
    if not wanted:
        print(f"fs-suite: nothing matches '{arguments[0]}'", file=sys.stderr)
        return 2
    if listing:
        print('\n'.join(wanted))
        return 0
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    (OUT / 'wanted').write_text('\n'.join(wanted) + '\n', encoding='utf-8')
    try:
        folder = pathlib.Path(guests.last_line('scripts/lab', 'fetch', 'forky', str(HERE / 'stressing')))
        files = {name: HERE / name for name in ('test_fs.py', 'stressors')}
        files |= {f'tools/{path.name}': path for path in folder.rglob('*') if path.is_file()}
        files |= {'wanted': OUT / 'wanted', 'llbitmap.ko': guests.module('forky', log=OUT / 'build.log')}
    except guests.NotBuilt as why:
        sys.exit(f'fs-suite: {why}')
    guests.job(OUT / 'job', files)
    results, bad = guests.run(tests(wanted), OUT / 'guest', [
        '--suite', 'forky', '--no-udev', '--mem', '4G', '--job', str(OUT / 'job')], say)
    table = report(wanted, rows(OUT.glob('guest*/job.log')))
    versions = ', '.join((folder / 'versions').read_text(encoding='utf-8').splitlines()[:3])
    (OUT / 'report.json').write_text(json.dumps(table, indent=1) + '\n', encoding='utf-8')
    (OUT / 'report.md').write_text(markdown(table, versions), encoding='utf-8')
    print((OUT / 'report.md').read_text(encoding='utf-8') + 'See build/fs-suite/report.md.')
    if bad:
        print(f'fs-suite: a guest did not end well: {"; ".join(bad)}', file=sys.stderr)
    return 0 if not bad and all(result.passed for result in results.values()) and \
        not any('no result' in row['llbitmap'] for row in table) else 1


if __name__ == '__main__':
    sys.exit(main())
