# SPDX-License-Identifier: GPL-2.0
"""Disks whose sectors go bad, that check what they are given, lie about discards, or have other
blocks: scsi_debug, null_blk with bad blocks, dm-dust. Nothing is left of them behind a `with`.
Units are sectors unless a name says otherwise."""

import glob
import os

from . import disk
from .array import loaded
from .sh import need, read, read_at, run, wait_until, write, write_at

PSEUDO = '/sys/bus/pseudo'
PARAMETERS = '/sys/module/scsi_debug/parameters'
NULLB = '/sys/kernel/config/nullb'
MEDIUM_ERRORS = 2  # in scsi_debug's opts
DUST = 4096  # bytes of a block of dm-dust


def bitmap_area(path):
    """(first, last) of what a member keeps before its data, without md's superblock."""
    sup = disk.supers([path])[0]
    return sup.bitmap // disk.SECTOR, sup.data_offset - 1


def data_area(path, start_mib, mib):
    """(first, last) of that part of a member's data."""
    start = disk.supers([path])[0].data_offset + start_mib * 2048
    return start, start + mib * 2048 - 1


class Scsi:
    """So many disks of scsi_debug, each with content of its own: paths. All of them have the
    medium errors: what else an array needs are other disks."""

    def __init__(self, count, mib=128, **options):
        self.count, self.paths = count, []
        self.options = dict(dev_size_mb=mib, per_host_store=1, add_host=count, delay=0, **options)

    def __enter__(self):
        unloaded('scsi_debug')
        run('modprobe', 'sd_mod')
        run('modprobe', 'scsi_debug', *(f'{name}={value}' for name, value in self.options.items()))
        wait_until('all disks of scsi_debug are there', lambda: len(self.found()) == self.count)
        self.paths = self.found()
        return self

    def __exit__(self, *_):
        unloaded('scsi_debug')

    @staticmethod
    def found():
        names = glob.glob(f'{PSEUDO}/devices/adapter*/host*/target*/*/block/*')
        paths = [f'/dev/{os.path.basename(name)}' for name in sorted(names)]
        return [path for path in paths if os.path.exists(path)]

    @staticmethod
    def fail_reads(first, last):
        """Reads of these sectors fail; writes succeed, and heal nothing."""
        write(f'{PARAMETERS}/medium_error_start', first)
        write(f'{PARAMETERS}/medium_error_count', last - first + 1)
        write(f'{PSEUDO}/drivers/scsi_debug/opts', MEDIUM_ERRORS)

    @staticmethod
    def heal():
        write(f'{PSEUDO}/drivers/scsi_debug/opts', 0)


class Nulls:
    """So many disks of null_blk that keep what is written, and can have bad blocks, each its
    own: paths. Options are attributes of a device of null_blk. Without `with`, make() and drop()
    do the same, except that the arrays are not stopped."""

    def __init__(self, count, mib=128, **options):
        self.count, self.paths, self.folders = count, [], []
        self.options = dict(size=mib, memory_backed=1, **options)

    def make(self):
        if not loaded('null_blk'):
            run('modprobe', 'null_blk', 'nr_devices=0')
        if not os.path.isdir(NULLB):
            run('mount', '-t', 'configfs', 'configfs', '/sys/kernel/config')
        for number in range(self.count):
            folder = f'{NULLB}/lab{number}'
            os.mkdir(folder)
            self.folders.append(folder)
            for name, value in (*self.options.items(), ('power', 1)):
                write(f'{folder}/{name}', value)
            # Newer kernels name the disk like its folder.
            names = f'lab{number}', f'nullb{read(folder + "/index")}'
            self.paths.append(next(f'/dev/{name}' for name in names if os.path.exists(f'/dev/{name}')))

    def drop(self):
        for folder in self.folders:
            write(f'{folder}/power', 0)
            os.rmdir(folder)
        self.paths, self.folders = [], []

    def __enter__(self):
        unloaded('null_blk')
        self.make()
        return self

    def __exit__(self, *_):
        wait_until('the arrays stop', stop_arrays, 20)
        self.drop()

    def spoil(self, number, first, last):
        """Reads and writes of these sectors fail."""
        write(f'{self.folders[number]}/badblocks', f'+{first}-{last}')

    def mend(self, number, first, last):
        write(f'{self.folders[number]}/badblocks', f'-{first}-{last}')


class Dust:
    """A disk some of whose blocks cannot be read until they are written (dm-dust)."""

    def __init__(self, lower, mib=128):
        run('modprobe', 'dm_dust')
        self.name = f'dust-{os.path.basename(lower)}'
        self.path = f'/dev/mapper/{self.name}'
        run('dmsetup', 'create', self.name, '--table', f'0 {mib * 2048} dust {lower} 0 {DUST}')
        self.say('quiet')

    def say(self, *words):
        return run('dmsetup', 'message', self.name, '0', *words)

    def spoil(self, first, count):
        """So many blocks from the one with that sector on."""
        for block in range(first * disk.SECTOR // DUST, first * disk.SECTOR // DUST + count):
            self.say('addbadblock', str(block))
        self.say('enable')

    def bad(self):
        """How many there are still."""
        return int(self.say('countbadblocks').split(':')[-1].split()[0])

    def heal(self):
        self.say('disable')
        self.say('clearbadblocks')


def stop_arrays():
    """Whether none is there any more."""
    there = [f'/dev/md{number}' for number in range(2) if os.path.exists(f'/sys/block/md{number}/md')]
    return all(run('mdadm', '--stop', path, ok=None)[0] == 0 for path in there)


def unloaded(name):
    """Somebody who looks at a new disk, or at an array, may have it open for a moment."""
    wait_until(f'{name} can be unloaded', lambda: not loaded(name) or stop_arrays() and run(
        'rmmod', name, ok=None)[0] == 0, 20)


def keeps_discarded(path):
    """Whether a disk that takes a discard still has what it had."""
    old = b'\x5a' * 65536
    write_at(path, 0, old)
    run('blkdiscard', '-l', str(len(old)), path)
    found = read_at(path, 0, len(old))
    need(found in (old, bytes(len(old))), f'{path}: a discard leaves something else')
    return found == old
