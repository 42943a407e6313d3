# SPDX-License-Identifier: GPL-2.0
"""Two drivers of one on-disk format in one guest: ours beside the stock md, and the
in-tree one inside an md of its own (the peer). Only one md can be loaded at a time."""

import os

from .array import JOB, clean_up, load, loaded
from .sh import need, run, wait_until

PEER = os.path.join(JOB, 'peer', 'md-mod.ko')
MODULES = ('llbitmap', 'raid456', 'raid10', 'raid1', 'raid0', 'md_mod')
PERSONALITIES = ('raid1', 'raid10', 'raid456')


def use(driver):
    """'ours' or 'peer'; all arrays are stopped before."""
    for name in MODULES:
        # A stopped array lets go of md a moment later.
        wait_until(f'{name} is unloaded', lambda: not loaded(name) or
                   run('rmmod', name, ok=None)[0] == 0, 20)
    if driver == 'ours':
        load()
        need(loaded(), 'llbitmap is not loaded')
        return
    # Debian's own is loaded with start_ro=1 (its modprobe.d): wait for --readwrite.
    run('insmod', PEER, 'start_ro=1')
    for name in PERSONALITIES:
        run('modprobe', name)
    need(loaded('md_mod') and not loaded(), 'the peer is not alone')


class Drivers:
    """with Drivers() as use: use('peer') ...; ours again at the end, whatever happens."""

    def __enter__(self):
        need(os.path.exists(PEER), 'the job has no peer/md-mod.ko')
        return use

    def __exit__(self, kind, *_):
        clean_up()
        use('ours')
