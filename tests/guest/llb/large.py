# SPDX-License-Identifier: GPL-2.0
"""Members of real sizes: sparse files in memory that hold what was written and no more, a
loop over each, and dm-linear over that, so that all can be frozen at one instant."""

import contextlib
import os

from . import arrays, disk
from .array import Array
from .sh import Direct, IO_BYTES, equal, need, run

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
DISK = 16 * 10**12 // 4096 * 4096  # bytes of a disk that is sold as one of 16 TB


def _copy(source, target):
    at, end = 0, os.fstat(source).st_size
    os.ftruncate(target, end)
    while at < end:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # no more data
            return
        stop = os.lseek(source, at, os.SEEK_HOLE)
        while at < stop:
            at += os.pwrite(target, os.pread(source, min(IO_BYTES, stop - at), at), at)


class Members:
    """paths: /dev/mapper/big0 and so on. The memory goes with the clean-up after the test."""

    def __init__(self, count=0, size=DISK):
        self.paths, self.files = [], []
        for _ in range(count):
            self.add(size)

    def add(self, size, source=None):
        """One more, empty or with what that file holds; returns its path."""
        name = f'big{len(os.listdir("/dev/mapper"))}'
        path = f'/dev/shm/{name}'
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if source is None:
            os.ftruncate(file, size)
        else:
            _copy(source, file)
        run('modprobe', 'loop')
        loop = run('losetup', '--find', '--show', path).strip()
        os.unlink(path)
        run('dmsetup', 'create', name, '--table', f'0 {size // 512} linear {loop} 0')
        self.files.append(file)
        self.paths.append(f'/dev/mapper/{name}')
        return self.paths[-1]

    @contextlib.contextmanager
    def frozen(self):
        """Nothing that is submitted now reaches a member."""
        try:
            run('dmsetup', 'suspend', '--noflush', '--nolockfs', *self.paths)
            yield
        finally:
            for path in self.paths:
                run('dmsetup', 'resume', path, ok=None)

    def copies(self):
        """Others with what these hold: of one instant, if they are frozen."""
        found = Members()
        for file in self.files:
            found.add(os.fstat(file).st_size, file)
        return found

    def stored(self):
        """Bytes of memory that they take."""
        return sum(os.fstat(file).st_blocks * 512 for file in self.files)


def make(level, members, *extra, number=0, bitmap='lockless'):
    """An array of that level over them, with mdadm's own data offsets."""
    array = Array(number, members.paths)
    return array.create(level, *extra, bitmap=bitmap)


def dirty(paths):
    """The chunks that the next assembly resynchronises, by any member's state bytes."""
    return disk.not_clean(disk.cells(paths))


def written(paths):
    """The chunks that are not Unwritten on some member."""
    return disk.written(disk.cells(paths))


def settle(array, limit_s=60):
    """Nothing is left that the next assembly would resynchronise."""
    arrays.settle(array, limit_s, also=(disk.CLEAN_UNWRITTEN,))


def geometry(array, chunk_mib, reserved):
    """The chunk is of that size, in the module and on the members; returns how many. An array
    that was made with --assume-clean has no bitmap there before its first write."""
    metadata = array.metadata()
    equal(metadata['chunksize'] * 512, chunk_mib * MIB, 'bytes of a chunk')
    equal(geometry_on_disk(array, chunk_mib, reserved), metadata['chunks'], 'chunks')
    return metadata['chunks']


def geometry_on_disk(array, chunk_mib, reserved):
    """Each header says so, and how many sectors it reserves: these hold the state bytes, and
    end before data begins."""
    for path, sup in zip(array.members, disk.supers(array.members)):
        need(sup.lockless and sup.cells, f'{path}: no bitmap on it')
        equal((sup.chunk * 512, sup.reserved), (chunk_mib * MIB, reserved), f'{path}: header')
        need(disk.CELLS_OFFSET + sup.chunks <= sup.reserved * 512,
             f'{path}: {sup.chunks} chunks in {sup.reserved} sectors')
        need(sup.bitmap // 512 + sup.reserved <= sup.data_offset,
             f'{path}: {sup.reserved} sectors reserved at {sup.bitmap // 512}, data at '
             f'{sup.data_offset}')
    return sup.chunks


def data_chunks(trace, path, sup, kinds='RW'):
    """(the bitmap's chunks, the sectors) of data that were read or written on that member;
    raid1 and raid4/5/6, where the bitmap counts a member's sectors."""
    chunks, total = set(), 0
    for member, kind, sector, sectors, _ in trace.bios:
        if member != path or kind not in kinds or sector < sup.data_offset:
            continue
        start = sector - sup.data_offset
        chunks.update(range(start // sup.chunk, (start + sectors - 1) // sup.chunk + 1))
        total += sectors
    return chunks, total


def equal_in(paths, chunks, level=1):
    """The members agree in these chunks, byte for byte; raid5: their XOR is zero. Holes are
    compared as such: most of a large chunk was never written."""
    sups = disk.supers(paths)
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(Direct(path)) for path in paths]
        _compare(devices, sups, chunks, level)


def _compare(devices, sups, chunks, level):
    zero = bytes(IO_BYTES)
    for chunk in sorted(chunks):
        start = chunk * sups[0].chunk * 512
        end = min(start + sups[0].chunk * 512, sups[0].sync_size * 512)
        for at in range(start, end, IO_BYTES):
            size = min(IO_BYTES, end - at)
            parts = [device.read(sup.data_offset * 512 + at, size)
                     for device, sup in zip(devices, sups)]
            if all(part == zero[:size] for part in parts):
                continue
            if level == 1:
                same = all(part == parts[0] for part in parts)
            else:
                total = 0
                for part in parts:
                    total ^= int.from_bytes(part, 'little')
                same = total == 0
            need(same, f'chunk {chunk}: members differ at {at - start} of it')
