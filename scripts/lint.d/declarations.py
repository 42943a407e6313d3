#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Functions of src and include that are used nowhere, not in tests either: whose name stands
only where they are declared and defined."""

import collections
import pathlib
import re
import sys

FUNCTION = re.compile(r'^[ \t]*(?!return|else|case|using|typedef|goto|#)(?:[\w:<>,]+[ \t*&]+)+(\w+)'
                      r'\(([^;{}()]*(?:\([^()]*\)[^;{}()]*)*)\)[\w \t:]*(;|\{|$)', re.MULTILINE)
BUILT = re.compile(r'main|\w+_(show|store)')  # named by no call: main(), and what a macro pastes together


def bare(text):
    """Without comments and strings; its lines are where they were."""
    text = re.sub(r'/\*.*?\*/|//[^\n]*', lambda found: '\n' * found[0].count('\n'), text, flags=re.DOTALL)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


def files(*folders):
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob('*')):
            if path.suffix in ('.c', '.h', '.cpp', '.hpp'):
                yield path, bare(path.read_text(encoding='utf-8'))


def dead(own, others):
    """(path, line, name) of each."""
    count = collections.Counter()
    for text in [*own.values(), *others]:
        count.update(re.findall(r'\w+', text))
    for path, text in own.items():
        for found in FUNCTION.finditer(text):
            if path.suffix in ('.c', '.cpp') and found[0][0] in ' \t':
                continue  # a variable of a function
            places = 2 if found[3] == ';' else 1  # a declaration has its definition elsewhere
            if count[found[1]] <= places and not BUILT.fullmatch(found[1]):
                yield path, text[:found.start()].count('\n') + 1, found[1]


def main():
    bad = False
    for path, line, name in dead(dict(files('src', 'include')), [text for _, text in files('tests')]):
        print(f'{path}:{line}: {name} is used nowhere')
        bad = True
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
