#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""guest-mutants [MUTANT...]: can the guest tests fail? Builds the module with a deliberate
break for each line of tests/guest/mutants and runs the line's tests: all of them must fail.
What is broken is the last commit, by its list; the tests are those of the working tree."""

import collections
import shutil
import subprocess
import sys

import guests

OUT = guests.ROOT / 'build/guest-mutants'
TREE = OUT / 'tree'  # one for all: a mutant builds only what it changes

Line = collections.namedtuple('Line', 'folder mutant passes kernel tests')


def read_line(text):
    """[+]MUTANT[@KERNEL] TEST...; None where there is none."""
    words = text.split()
    if len(words) < 2 or words[0].startswith('#'):
        return None
    name = words[0].removeprefix('+')
    mutant, _, kernel = name.partition('@')
    return Line(name, mutant, words[0].startswith('+'), kernel or 'stock', words[1:])


def one(line):
    """Runs it; returns how many tests did as wanted, and which did not."""
    folder = OUT / line.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(['git', '-C', TREE, 'checkout', '-q', '--', '.'], check=True)
    subprocess.run([TREE / 'scripts/mutants', '--apply', line.mutant, TREE], check=True)
    build = {'stock': ['forky'], 'uml': ['uml']}.get(line.kernel, ['forky', '--kernel', line.kernel])
    try:
        module = guests.module(*build, log=folder / 'build.log', tree=TREE)
    except guests.NotBuilt:
        sys.exit(f'guest-mutants: {line.mutant} does not build, see {folder}/build.log')
    guests.job(folder / 'job', {'llbitmap.ko': module})
    results, bad = guests.run(line.tests, folder / 'guest',
                              ['--suite', 'forky', '--kernel', line.kernel, '--no-udev', '--append',
                               'slub_debug=FZPU', '--job', str(folder / 'job')])
    missed, right_ones = [], 0
    if line.passes and bad:
        print(f'NOT SO      {line.mutant}: a guest did not end well: {"; ".join(bad)}', flush=True)
        missed.append(f'{line.mutant}/guest')
    for name in line.tests:
        result = results.get(name)
        right = result is not None and result.passed == line.passes
        why = result.why if result else 'no result'
        print(f'{"as wanted" if right else "NOT SO":11} {line.mutant:20} {name:28} {why[:140]}'.rstrip(),
              flush=True)
        right_ones += right
        missed += [] if right else [f'{line.mutant}/{name}']
    return right_ones, missed


def main():
    listing = (guests.ROOT / 'tests/guest/mutants').read_text(encoding='utf-8').splitlines()
    lines = [line for line in map(read_line, listing)
             if line and (not sys.argv[1:] or line.mutant in sys.argv[1:])]
    shutil.rmtree(TREE, ignore_errors=True)
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run(['git', 'clone', '-q', guests.ROOT, TREE], check=True)
    caught, missed = 0, []
    for line in lines:
        right, wrong = one(line)
        caught += right
        missed += wrong
    print(f'{caught} as wanted, {len(missed)} not')
    return 0 if caught and not missed else 1


if __name__ == '__main__':
    sys.exit(main())
