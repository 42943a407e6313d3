# SPDX-License-Identifier: GPL-2.0
"""Ramdisks, the module, and arrays made with the real mdadm."""

import contextlib
import os
import time

from . import disk
from .sh import need, read, run, wait_until, write

JOB = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = os.path.join(JOB, 'llbitmap.ko')
# A job with this file (scripts/peer-report) runs against the in-tree driver: md itself,
# built with its own lockless bitmap.
INTREE = os.path.join(JOB, 'intree', 'md-mod.ko')
RAMDISKS, RAMDISK_MIB = 8, 128
os.environ['MDADM_NO_UDEV'] = '1'
os.environ['DM_DISABLE_UDEV'] = '1'


def in_tree():
    """Whether these tests look at the in-tree driver."""
    return os.path.exists(INTREE)


def loaded(name='llbitmap'):
    return os.path.exists(f'/sys/module/{name}')


def load():
    if in_tree() and not loaded('md_mod'):
        run('insmod', INTREE)
    # dm-delay and dm-flakey before llbitmap comes and goes, see ramdisks().
    for name in ('md_mod', 'raid1', 'raid10', 'raid456', 'dm_delay', 'dm_flakey'):
        if not loaded(name):
            run('modprobe', name)
    if not loaded() and not in_tree():
        run('insmod', MODULE)


def clean_up():
    """Stops every array and removes every mapped device and loop, the top ones first."""
    for _ in range(6):
        left = [name for name in os.listdir('/sys/block') if name.startswith(('md', 'dm-'))]
        if not left:
            break
        for name in sorted(left):
            if name.startswith('md'):
                run('mdadm', '--stop', f'/dev/{name}', ok=None)
        run('dmsetup', 'remove_all', ok=None)
    run('losetup', '-D', ok=None)
    need(not left, f'still there after the clean-up: {left}')


def unload():
    run('rmmod', 'llbitmap')


def ramdisks(count, mib=None):
    """Ramdisks, all zero: /dev/ram0 to count - 1. They are loaded once and then
    emptied: UML's KASAN takes a module at another's old address for a fault.
    With mib: no larger than that, as /dev/mapper/ramNUMBER."""
    if not loaded('brd'):
        run('modprobe', 'brd', f'rd_nr={RAMDISKS}', f'rd_size={RAMDISK_MIB * 1024}')
    need(count <= RAMDISKS, f'no {count} ramdisks')
    paths = [f'/dev/ram{number}' for number in range(count)]
    for path in paths:
        run('blkdiscard', '-f', path)
    if not mib:
        return paths
    for number, path in enumerate(paths):
        run('dmsetup', 'create', f'ram{number}', '--table', f'0 {mib * 2048} linear {path} 0')
    return [f'/dev/mapper/ram{number}' for number in range(count)]


class Array:
    """/dev/mdNUMBER over members (paths)."""

    def __init__(self, number, members):
        self.members = list(members)
        self.named(f'md{number}')

    def named(self, name):
        """Another name than it was made under."""
        self.name, self.path, self.sysfs = name, f'/dev/{name}', f'/sys/block/{name}/md'

    def create(self, level, *extra, members=None, bitmap='lockless'):
        members = self.members if members is None else members
        run('mdadm', '--create', self.path, '--run', f'--level={level}', f'-n{len(members)}',
            f'--bitmap={bitmap}', *extra, *members)
        self.wait_whole()
        if bitmap == 'lockless':
            self.quick()
        return self

    def assemble(self, *extra, members=None, readwrite=True):
        run('mdadm', '--assemble', self.path, *extra, *(members or self.members))
        if readwrite:
            self.readwrite()
        return self

    def readwrite(self):
        """Debian's md_mod starts an array auto-read-only: no resync until the
        first write, or this."""
        status, said = run('mdadm', '--readwrite', self.path, ok=None)
        need(not status or self.attribute('array_state') not in ('read-auto', 'readonly'), said)

    def stop(self):
        # A probe by somebody else may have it open for a moment.
        wait_until(f'{self.name} stops',
                   lambda: run('mdadm', '--stop', self.path, ok=None)[0] == 0, 20)

    def attribute(self, name):
        return read(f'{self.sysfs}/{name}')

    def set(self, name, value):
        write(f'{self.sysfs}/{name}', value)

    def quick(self):
        self.set('llbitmap/daemon_sleep', 1)
        self.set('llbitmap/barrier_idle', 1)

    def bits(self):
        """{name: count}, as the module tells it."""
        return {name: int(number) for name, number in (
            line.rsplit(' ', 1) for line in self.attribute('llbitmap/bits').splitlines())}

    def metadata(self):
        return {name: int(number) for name, number in (
            line.split() for line in self.attribute('llbitmap/metadata').splitlines())}

    def bytes(self):
        return int(read(f'/sys/block/{self.name}/size')) * 512

    def writes(self):
        """How many were acknowledged since it was started."""
        return int(read(f'/sys/block/{self.name}/stat').split()[4])

    def sync(self, action, limit_s=120):
        """Runs check or repair; returns mismatch_cnt."""
        self.set('sync_action', action)
        self.wait_idle(limit_s)
        return int(self.attribute('mismatch_cnt'))

    def idle(self):
        """No sync runs, and none is owed: on a whole read-write array no chunk waits
        for one (D10)."""
        if self.attribute('sync_action') != 'idle':
            return False
        owed = ('llbitmap' in self.attribute('bitmap_type').split('[')[1].split(']')[0] and
                self.missing() == 0 and
                self.attribute('array_state') in ('clean', 'active', 'active-idle', 'write-pending'))
        return not owed or not any(count for name, count in self.bits().items()
                                   if name.startswith(('need sync', 'syncing')))

    def wait_idle(self, limit_s=120):
        """Until that holds, also after md had time to start a sync that the user
        asked for."""
        quiet_since = None

        def settled():
            nonlocal quiet_since
            if not self.idle():
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            return quiet_since is not None and time.monotonic() - quiet_since > 0.5
        wait_until(f'{self.name}: sync_action idle and no chunk waits for a sync', settled, limit_s)

    def missing(self):
        """Slots without a member in sync. md's degraded may be too small (K23 in
        src/shim/README.md)."""
        filled = set()
        for name in os.listdir(self.sysfs):
            if name.startswith('dev-'):
                with contextlib.suppress(OSError):  # it leaves just now
                    if 'in_sync' in self.attribute(f'{name}/state'):
                        filled.add(self.attribute(f'{name}/slot'))
        return max(int(self.attribute('raid_disks').split()[0]) - len(filled - {'none'}),
                   int(self.attribute('degraded')))

    def wait_whole(self, limit_s=120):
        wait_until(f'{self.name}: no member is missing', lambda: self.missing() <= 0, limit_s)
        self.wait_idle(limit_s)

    def cells(self):
        """Each member's state bytes, read from the members."""
        return disk.cells(self.members)

    def wait_clean(self, limit_s=30, also=()):
        """Until no member has a byte other than Clean, Unwritten and these on disk;
        returns the seconds that took."""
        allowed = {disk.CLEAN, disk.UNWRITTEN, *also}
        return wait_until(f'{self.name}: all Clean on the members', lambda: all(
            set(one) <= allowed for one in self.cells()), limit_s, 0.2)

    def equal_over(self, chunks=None):
        """Over these chunks of the bitmap; over all that were ever written."""
        if chunks is None:
            chunks = disk.written(self.cells())
        bad = disk.unequal(self.members, chunks)
        need(not bad, f'{self.name}: {len(bad)} of {len(chunks)} chunks differ between '
                      f'the members, the first is {min(bad, default=None)}')
