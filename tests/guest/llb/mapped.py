# SPDX-License-Identifier: GPL-2.0
"""Members made with the device mapper whose bitmap area alone is slow, or refuses
writes. Units are sectors unless a name says otherwise."""

from . import disk
from .array import RAMDISK_MIB, ramdisks
from .sh import run, wait_until

# mdadm's layout of 1.2 metadata: the bitmap is 8 sectors after md's superblock.
BITMAP, RESERVED = disk.MD_SUPER_SECTOR + 8, 256
SIZE = RAMDISK_MIB * 2048


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
        lower, end = self.lower, BITMAP + RESERVED
        middle = {
            'linear': f'linear {lower} {BITMAP}',
            'refuses': f'flakey {lower} {BITMAP} 0 3600 1 error_writes',
        }.get(kind) or f'delay {lower} {BITMAP} 0 {lower} {BITMAP} {kind}'
        return (f'0 {BITMAP} linear {lower} 0', f'{BITMAP} {RESERVED} {middle}',
                f'{end} {SIZE - end} linear {lower} {end}')

    def refuse(self):
        """Writes of the bitmap fail from now on; it can be read."""
        load(self.name, *self.lines('refuses'))

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


def members(count):
    ramdisks(count)
    return [Member(number) for number in range(count)]


def wait_faulty(array, count=1, limit_s=20):
    wait_until(f'{array.name}: degraded {count}',
               lambda: array.attribute('degraded') == str(count), limit_s)
