#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""names: "LANE FILE.NAME" for each lane that a test of tests/guest/test_*.py runs in, as its
@lanes says (tests/guest/llb/lanes.py). From the source: what a guest has is not here.
A test that names no lane, or one that there is not, would never run, and nobody would notice:
a line for each on stderr, and status 1."""

import ast
import pathlib
import sys

GUEST = pathlib.Path(__file__).resolve().parent.parent / 'guest'
sys.dont_write_bytecode = True
sys.path.insert(0, str(GUEST))
from llb.lanes import LANES  # noqa: E402  pylint: disable=wrong-import-position


def lanes_of(function):
    """What its decorator @lanes says."""
    return [word.value if isinstance(word, ast.Constant) else ast.unparse(word)
            for call in function.decorator_list
            if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'lanes'
            for word in call.args]


def tests(source):
    """(name, line, lanes) of each test in a file's source, in its order."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
            yield node.name.removeprefix('test_'), node.lineno, lanes_of(node)


def complaint(lanes):
    """Why a test with these lanes would not run, or nothing."""
    odd = [lane for lane in lanes if lane not in LANES]
    return f'no such lane: {odd[0]}' if odd else '' if lanes else 'runs in no lane'


def main():
    bad = False
    for path in sorted(GUEST.glob('test_*.py')):
        module = path.stem.removeprefix('test_')
        for name, line, lanes in tests(path.read_text(encoding='utf-8')):
            why = complaint(lanes)
            if why:
                print(f'tests/guest/{path.name}:{line}: test_{name}: {why}', file=sys.stderr)
                bad = True
            for lane in lanes:
                print(f'{lane} {module}.{name}')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
