# SPDX-License-Identifier: GPL-2.0
"""Members made with the device mapper whose bitmap area alone is slow, hangs, or refuses
writes, whose data comes late, which vanish, or which check that a buffer does not change under
I/O. Units are sectors unless a name says otherwise."""

import contextlib

from . import disk
from .array import RAMDISK_MIB, ramdisks
from .sh import Direct, run, wait_until

# mdadm's layout of 1.2 metadata: the bitmap is 8 sectors after md's superblock.
BITMAP, RESERVED = disk.MD_SUPER_SECTOR + 8, 256
SIZE = RAMDISK_MIB * 2048
DATA = BITMAP + RESERVED  # before the data of mdadm's layout
KEEP_MS = 1_800_000  # until let_go(), but a guest that fails must end some time


def table(*lines):
    path = '/tmp/table'
    with open(path, 'w', encoding='utf-8') as file:
        file.write('\n'.join(lines) + '\n')
    return path


def create(name, *lines):
    run('dmsetup', 'create', name, table(*lines))
    return f'/dev/mapper/{name}'


def load(name, *lines):
    """Another table; what is under way ends with the old one."""
    run('dmsetup', 'load', name, table(*lines))
    run('dmsetup', 'suspend', '--nolockfs', '--noflush', name)
    run('dmsetup', 'resume', name)


class Member:
    """A ramdisk behind a table of three parts: md's superblock, the bitmap, the data."""

    def __init__(self, number):
        self.name, self.lower = f'm{number}', f'/dev/ram{number}'
        self.path = create(self.name, *self.lines('linear'))

    def lines(self, kind):
        lower = self.lower
        if kind == 'gone':
            return (f'0 {SIZE} error',)
        bitmap = {
            'linear': f'linear {lower} {BITMAP}',
            'refuses': f'flakey {lower} {BITMAP} 0 3600 1 error_writes',
        }.get(kind)
        if kind.isdigit():
            bitmap = f'delay {lower} {BITMAP} 0 {lower} {BITMAP} {kind}'
        elif kind.startswith('hangs '):  # reads, writes, flushes: these pass
            bitmap = f'delay {lower} {BITMAP} 0 {lower} {BITMAP} {kind.split()[1]} {lower} {BITMAP} 0'
        return (f'0 {BITMAP} linear {lower} 0', f'{BITMAP} {RESERVED} {bitmap}',
                f'{DATA} {SIZE - DATA} linear {lower} {DATA}')

    def vanish(self):
        """Whatever is sent to it from now on fails."""
        load(self.name, *self.lines('gone'))

    def refuse(self):
        """Writes of the bitmap fail from now on; it can be read."""
        load(self.name, *self.lines('refuses'))

    def hang(self, ms=KEEP_MS):
        """It keeps writes of the bitmap for so long, or until heal(); flushes pass."""
        load(self.name, *self.lines(f'hangs {ms}'))

    def kept(self):
        """How many writes it keeps now."""
        for line in run('dmsetup', 'status', self.name).splitlines():
            if ' delay ' in line:
                return int(line.split()[4])
        return 0

    def delay(self, ms):
        """Writes of the bitmap take that long."""
        load(self.name, *self.lines(str(ms)))

    def heal(self):
        load(self.name, *self.lines('linear'))

    def attribute(self, array):
        """md's folder of this member in sysfs."""
        return f'{array.sysfs}/dev-{self.kernel_name()}'

    def kernel_name(self):
        return run('dmsetup', 'info', '-c', '--noheadings', '-o', 'blkdevname', self.name).strip()


class Late(Member):
    """A ramdisk that can keep writes of data (dm-delay; flushes, md's superblock and the
    bitmap pass); what it let go can fail below it."""

    def __init__(self, number):  # pylint: disable=super-init-not-called
        self.name, self.under, self.disk = f'm{number}', f'base{number}', f'/dev/ram{number}'
        self.lower = create(self.under, f'0 {SIZE} linear {self.disk} 0')
        self.path = create(self.name, *self.lines('linear'))

    def fail_data(self):
        """Writes of data fail from now on, those that it keeps when they are let go."""
        load(self.under, f'0 {DATA} linear {self.disk} 0',
                    f'{DATA} {SIZE - DATA} flakey {self.disk} {DATA} 0 3600 1 error_writes')

    def mend_data(self):
        load(self.under, f'0 {SIZE} linear {self.disk} 0')

    def lines(self, kind):
        if not kind.startswith('late '):
            return super().lines(kind)
        lower, ms = self.lower, kind.split()[1]
        return (f'0 {DATA} linear {lower} 0',
                f'{DATA} {SIZE - DATA} delay {lower} {DATA} 0 '
                f'{lower} {DATA} {ms} {lower} {DATA} 0')

    def keep(self, ms=KEEP_MS):
        load(self.name, *self.lines(f'late {ms}'))

    def let_go(self):
        """All at once, in the order in which they came."""
        self.heal()


class Sealed(Member):
    """A ramdisk under dm-integrity, which writes what it is given and its checksums past one
    another: a buffer that is changed while it is written leaves a sector that cannot be read.
    delay() makes that while long. The checksums are on another ramdisk."""

    SECTORS = 40 * 2048  # of the member; all of it is written once, so that all checksums fit
    CHECKSUMS = 4  # so many ramdisks further on

    def __init__(self, number):  # pylint: disable=super-init-not-called
        run('modprobe', 'dm_integrity')
        self.name, self.under, self.disk = f'm{number}', f'base{number}', f'/dev/ram{number}'
        self.lower = create(self.under, f'0 {SIZE} linear {self.disk} 0')
        self.path = create(self.name, f'0 {self.SECTORS} integrity {self.lower} 0 - D 2 '
                           f'internal_hash:crc32c meta_device:/dev/ram{number + self.CHECKSUMS}')
        with Direct(self.path, writable=True) as device:
            device.write(0, bytes(self.SECTORS * disk.SECTOR))

    def delay(self, ms):
        """Writes take that long, from when they were given away."""
        load(self.under, f'0 {SIZE} delay {self.disk} 0 0 {self.disk} 0 {ms} {self.disk} 0 0')

    def heal(self):
        load(self.under, f'0 {SIZE} linear {self.disk} 0')

    def mismatches(self):
        """How many sectors did not fit their checksum when they were read; all are, now."""
        with Direct(self.path) as device:
            device.read(0, device.bytes)
        return int(run('dmsetup', 'status', self.name).split()[3])


@contextlib.contextmanager
def keeping(late, ms=KEEP_MS):
    late.keep(ms)
    try:
        yield
    finally:
        late.let_go()


def members(count):
    ramdisks(count)
    return [Member(number) for number in range(count)]


def wait_faulty(array, count=1, limit_s=20):
    wait_until(f'{array.name}: degraded {count}',
               lambda: array.attribute('degraded') == str(count), limit_s)
