# SPDX-License-Identifier: GPL-2.0
"""What many tests begin with: small arrays over ramdisks, filled areas, and the
map from the array's bytes to the bitmap's chunks."""

from . import disk, fio
from .array import Array, in_tree, ramdisks
from .sh import Direct, equal, need

LEVELS = {1: 2, 10: 4, 5: 3}
MIB = 1 << 20
TAG = 'c3'


def small(level, *extra, members=None, mib=48, number=0):
    """An array of that level over the first ramdisks, of mib per member."""
    array = Array(number, members or ramdisks(LEVELS[level]))
    return array.create(level, f'--size={mib}M', *extra)


def chunks_of(array, offsets):
    """The bitmap's chunks of the array's bytes at these offsets."""
    return disk.layout_of(array).chunks_at(offsets)


def settle(array, limit_s=60):
    """Idle, and all Clean on the members."""
    array.wait_idle(limit_s)
    if in_tree():  # it writes no Clean before the array stops
        array.stop()
        array.assemble()
        array.wait_idle(limit_s)
        array.quick()
    array.wait_clean(limit_s)


def filled(array, mib, start_mib=0, tag=TAG):
    """Writes an area and waits until it is Clean on the members."""
    fio.fill(array.path, tag, start_mib * MIB, mib * MIB)
    settle(array)


def holds(array, mib, start_mib=0, tag=TAG):
    equal(fio.verify(array.path, tag, start_mib * MIB, mib * MIB), 0, 'wrong blocks')


def all_zero(path, offset, size):
    with Direct(path) as device:
        return not any(device.read(offset, size))


def only(array, chunks, state=disk.CLEAN, other=disk.UNWRITTEN):
    """On every member these chunks have that state, all others the other one."""
    for path, cells in zip(array.members, array.cells()):
        wrong = [(chunk, disk.NAMES[now] if now < 8 else now) for chunk, now in enumerate(cells)
                 if now != (state if chunk in chunks else other)]
        need(not wrong, f'{path}: {len(wrong)} chunks of {len(cells)} in a wrong state, '
                        f'first {wrong[:3]}')
