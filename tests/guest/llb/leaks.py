# SPDX-License-Identifier: GPL-2.0
"""What the module lost, on a kernel with kmemleak (the rt lane): objects of the slab, of vmalloc and
of per-CPU memory; kmemleak knows nothing of whole pages, which the bitmap's blocks are written from."""

import os
import re
import time

from .sh import need, read, write

KMEMLEAK = '/sys/kernel/debug/kmemleak'
MIN_AGE_S = 5.5  # kmemleak says nothing of what is younger than 5 s
# Allocated for us: a frame with our name, or, since it was unloaded, without any.
OURS = re.compile(r'\[llbitmap\]|^\s+0x[0-9a-f]{16}$', re.MULTILINE)


def is_lane(release):
    """Debian's own kernels for real time have no kmemleak; the lab's (debug.sh) end with a hash."""
    return bool(re.search('-rt-[0-9a-f]{8}$', release))


LANE = is_lane(os.uname().release)


def ours(text):
    """The objects in kmemleak's report that were allocated for us, in one line; or None."""
    entries = [entry for entry in text.split('unreferenced object')[1:] if OURS.search(entry)]
    return ' || '.join('leaked: ' + ' | '.join(line.strip() for line in entry.splitlines())
                       for entry in entries) or None


def found():
    """What kmemleak reports now. What was told once is not told again."""
    if not LANE:
        return None
    need(os.path.exists(KMEMLEAK), 'this kernel has no kmemleak, or debugfs is not mounted')
    try:
        # What changed between two looks is not lost yet, so that the second one tells.
        write(KMEMLEAK, 'scan')
        time.sleep(MIN_AGE_S)
        write(KMEMLEAK, 'scan')
        text = read(KMEMLEAK)
        write(KMEMLEAK, 'clear')
    except OSError as error:
        return f'kmemleak gave up: {error}'
    return ours(text)
