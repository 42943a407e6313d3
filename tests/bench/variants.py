# SPDX-License-Identifier: GPL-2.0
"""The variants, and the modules each needs. The in-tree driver is inside its own
md_mod and takes llbitmap's ID there, so that changing to it and back takes md and
its levels out of the kernel."""

import os

from llb.array import Array, loaded
from llb.sh import need, run, wait_until, write_at

HERE = os.path.dirname(os.path.abspath(__file__))
LEVELS = ('raid1', 'raid10', 'raid456')
MEMBERS = {'raid1': 2, 'raid10': 4, 'raid5': 3}
MIB = 1 << 20

# name: (whose md_mod, the module beside it, mdadm's --bitmap)
VARIANTS = {
    'none': ('stock', None, 'none'),
    'none-again': ('stock', None, 'none'), # how far apart are two measurements of the same?
    'classic': ('stock', None, 'internal'),
    'intree': ('peer', None, 'lockless'),
    'llbitmap': ('stock', 'llbitmap', 'lockless'),
    'nothing': ('stock', 'nothing', 'lockless'),
}
ALL = ('none', 'classic', 'intree', 'llbitmap')
LOCKLESS = ('intree', 'llbitmap')
loaded_md = None


def rmmod(name):
    """A stopped array may hold its modules for a moment."""
    if loaded(name):
        wait_until(f'rmmod {name}', lambda: run('rmmod', name, ok=None)[0] == 0, 20)


def use(variant):
    global loaded_md
    md, beside, _ = VARIANTS[variant]
    for name in ('llbitmap', 'nothing'):
        if name != beside:
            rmmod(name)
    if md != loaded_md:
        for name in (*LEVELS, 'raid0', 'linear', 'md_mod'):
            rmmod(name)
        if md == 'peer':
            run('insmod', f'{HERE}/peer-md-mod.ko')
        for name in ('md_mod', *LEVELS):
            run('modprobe', name)
        loaded_md = md
    if beside and not loaded(beside):
        run('insmod', f'{HERE}/{beside}.ko')


def in_turn(count, variants):
    """(round, variant), the variants of a round one after the other, in another order
    each time; those of one md_mod together, since changing it takes seconds."""
    stock = [name for name in variants if VARIANTS[name][0] == 'stock']
    peer = [name for name in variants if VARIANTS[name][0] == 'peer']
    for number in range(count):
        at = number % len(stock)
        turned = stock[at:] + stock[:at]
        for name in (turned + peer if number % 2 == 0 else peer + turned):
            yield number, name


def forget(paths):
    """No array's superblock or bitmap is left; a ramdisk's pages stay allocated."""
    for path in paths:
        write_at(path, 0, bytes(4 * MIB))


class Measured(Array):
    """An array with one of the variants."""

    def __init__(self, variant, level, members, number=0):
        super().__init__(number, members)
        self.variant, self.level = variant, level

    def make(self, *extra, fresh=False, modules=None):
        """fresh: the initial sync is md's business. It may be running then. modules: of
        which variant, if not of this one."""
        use(modules or self.variant)
        forget(self.members)
        run('mdadm', '--create', self.path, '--run', f'--level={self.level}',
            f'-n{len(self.members)}', f'--bitmap={VARIANTS[self.variant][2]}',
            *(() if fresh else ('--assume-clean',)), *extra, *self.members)
        kind = self.attribute('bitmap_type').split('[')[1].split(']')[0]
        need(kind == {'none': 'none', 'internal': 'bitmap', 'lockless': 'llbitmap'}[
            VARIANTS[self.variant][2]], f'{self.variant}: md says its bitmap is {kind}')
        return self

    def sleep(self, seconds):
        """Between two passes of the bitmap's daemon."""
        if self.variant == 'classic':
            self.set('bitmap/time_base', seconds)
        elif self.variant in LOCKLESS:
            self.set('llbitmap/daemon_sleep', seconds)
            self.set('llbitmap/barrier_idle', seconds)
