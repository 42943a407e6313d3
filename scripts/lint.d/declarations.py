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
PASTED = re.compile(r'## ?(_\w+)')  # the end of a name that a macro makes


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
    ends = tuple({end for text in own.values() for end in PASTED.findall(text)} | {'_show', '_store'})
    for path, text in own.items():
        for found in FUNCTION.finditer(text):
            if path.suffix in ('.c', '.cpp') and found[0][0] in ' \t':
                continue  # a variable of a function
            places = 2 if found[3] == ';' else 1  # a declaration has its definition elsewhere
            name = found[1]
            if count[name] <= places and not (name == 'main' or name.isupper() or name.endswith(ends)):
                yield path, text[:found.start()].count('\n') + 1, name


def main():
    bad = False
    for path, line, name in dead(dict(files('src', 'include')), [text for _, text in files('tests')]):
        print(f'{path}:{line}: {name} is used nowhere')
        bad = True
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
