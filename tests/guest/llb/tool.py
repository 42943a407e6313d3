# SPDX-License-Identifier: GPL-2.0
"""The llbitmap tool in a guest, and the writes of a conversion one by one."""

import json
import os

from .sh import need, run, write_at

TOOL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'llbitmap')
DONE, DAMAGED, USAGE, UNREADABLE, REFUSED = range(5)


def tool(*args, status=DONE):
    """Runs it; returns what it said."""
    found, said = run(TOOL, *args, ok=None)
    need(found == status, f'llbitmap {" ".join(args)}: status {found}, not {status}: {said.strip()}')
    return said


def examine(path, status=DONE):
    return json.loads(tool('examine', '--json', path, status=status))['members'][0]


def convert(to, members, *options):
    return tool('convert', '--to', to, *options, *members).strip()


def planned(to, members, *options):
    """All writes of a conversion in their order: [(phase, path, offset, data)]."""
    return writes_of('convert', '--to', to, *options, *members)


def writes_of(*args):
    plan = json.loads(tool(*args, '--dry-run', '--json'))
    return [(number, write['device'], write['offset'], bytes.fromhex(write['hex']))
            for number, phase in enumerate(plan['phases']) for write in phase['writes']]


def apply(writes):
    for _, path, offset, data in writes:
        write_at(path, offset, data)
