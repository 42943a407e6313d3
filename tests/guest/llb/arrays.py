# SPDX-License-Identifier: GPL-2.0
"""What many tests begin with: small arrays over ramdisks, filled areas, and the
map from the array's bytes to the bitmap's chunks; what they wait for before they look."""

from . import disk, fio
from .array import Array, in_tree, ramdisks
from .sh import Direct, equal, need, wait_until

DISKS = {1: 2, 10: 4, 4: 3, 5: 3, 6: 4}  # how many members an array of that level gets
MIB = 1 << 20
TAG = 'c3'


def make(level, *extra, members=None, mib=48, number=0, size=True, chunk=64):
    """An array of that level, over the first ramdisks if no members are given, of mib per
    member. With raid chunks of 64 KiB a bitmap's chunk is one of a member."""
    array = Array(number, members or ramdisks(DISKS[level]))
    if level != 1 and not any(word.startswith('--chunk') for word in extra):
        extra = (f'--chunk={chunk}', *extra)
    sized = (f'--size={mib}M',) if size else ()
    return array.create(level, *sized, *extra)


def chunks_of(array, offsets):
    """The bitmap's chunks of the array's bytes at these offsets."""
    return disk.layout_of(array).chunks_at(offsets)


def settle(array, limit_s=60, also=()):
    """Idle, and nothing but Clean, Unwritten and these states, in memory (a discard that reaches
    no member makes its chunks dirty only there) and on the members."""
    array.wait_idle(limit_s)
    if in_tree():  # it writes no Clean before the array stops
        array.stop()
        array.assemble()
        array.wait_idle(limit_s)
        array.quick()
    else:
        wait_until(f'{array.name}: nothing is dirty', lambda: array.bits()['dirty'] == 0, limit_s)
    array.wait_clean(limit_s, also)


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
