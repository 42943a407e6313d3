#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Text that stands twice: RUN and more lines of code in a row, in two places, that are the same
but for indentation; whole sentences of prose that are. Braces, comments, includes, usings,
imports and decorators do not count.

  repeated.py <LIST OF FILES
"""

import re
import sys

RUN = 8  # lines of code
SENTENCE = 90  # characters of prose
CODE = re.compile(r'\.(c|h|cpp|hpp|py|sh|zsh|mk)$|(^|/)(Makefile|Kbuild)$|^scripts/[^.]*$|^tests/[^.]*$')
PROSE = re.compile(r'\.(md|scd)$')
TRIVIAL = re.compile(r'[\s{}()\[\];,]*$|#\s*include|using |@|from .* import|import |(//|#|\*|/\*)|#|pass$|return$|'
                     r'(else|fi|done|esac|endif|break;?|continue;?|try|finally)\b.{0,2}$')
# One interface, each time over something else, by design.
INTERFACES = ({'src/base/atomic.hpp', 'tests/model/model_atomic.hpp', 'tests/unit/logged_atomic.hpp'},)


def lines_of(name):
    try:
        with open(name, encoding='utf-8') as file:
            return file.read().split('\n')
    except UnicodeDecodeError:
        return []  # a picture


def code_runs(names):
    """[(text, [(name, line)])] of what stands in several places; the longest once."""
    places, after = {}, {}
    for name in names:
        told = [(number, ' '.join(line.split())) for number, line in enumerate(lines_of(name), 1)
                if not TRIVIAL.match(line.strip())]
        for at in range(len(told) - RUN + 1):
            text = '\n'.join(line for _, line in told[at:at + RUN])
            places.setdefault(text, []).append((name, told[at][0]))
            after[name, told[at][0]] = told[at - 1][0] if at else None
    twice = {text: found for text, found in places.items() if len(found) > 1}
    starts = {place for found in twice.values() for place in found}
    for text, found in twice.items():
        if all((name, after[name, line]) in starts for name, line in found):
            continue  # goes on from the line before
        if any({name for name, _ in found} <= files for files in INTERFACES):
            continue
        yield text, found


def sentences(names):
    places = {}
    for name in names:
        text = '\n'.join(lines_of(name))
        text = re.sub(r'```.*?```', '', text, flags=re.S)
        for part in re.split(r'(?<=[.:;])\s+|\n\s*\n|\s*\|\s*|\n\* ', text):
            part = ' '.join(part.split())
            if len(part) >= SENTENCE:
                places.setdefault(part, []).append((name, text[:text.find(part[:20])].count('\n') + 1))
    return [(text, found) for text, found in places.items() if len(found) > 1]


def main():
    names = [name.removeprefix('./') for name in sys.stdin.read().split('\n')]
    found = [*code_runs([name for name in names if CODE.search(name)]),
             *sentences([name for name in names if PROSE.search(name)])]
    for text, where in found:
        places = ' and '.join(f'{name}:{line}' for name, line in where)
        print(f'{places}: the same text: {text.split(chr(10))[0][:60]}')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
