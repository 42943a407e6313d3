# SPDX-License-Identifier: GPL-2.0
"""W7 for the last member: a degraded array whose remaining members do not take the bitmap.
Power goes right after the first write that no mark could be made for. The next assembly
resynchronises all that was ever written, and a member that comes back gets all of it."""

import time

from llb import fio, life, mapped
from llb.array import Array, ramdisks
from llb.life import Data
from llb.sh import copy_device, need, run

MIB = 1 << 20
HEADER = 2  # sectors; the cells begin behind them
COUNT = {1: 2, 10: 4}
PLACES = {'clean': 4 * MIB, 'unwritten': 30 * MIB}


class Last(mapped.Member):
    """A member that can refuse the cells, and take the bitmap's header."""

    def lines(self, kind):
        if kind != 'cells':
            return super().lines(kind)
        lower, cells, end = self.lower, mapped.BITMAP + HEADER, mapped.BITMAP + mapped.RESERVED
        return (f'0 {cells} linear {lower} 0',
                f'{cells} {end - cells} flakey {lower} {cells} 0 3600 1 error_writes',
                f'{end} {mapped.SIZE - end} linear {lower} {end}')

    def break_bitmap(self, kind):
        mapped.load(self.name, *self.lines(kind))


def written(array, offset, tag):
    """Whether a write was acknowledged. It must end, one way or the other."""
    return fio.job(array.path, 'write', tag, offset, 65536, '--do_verify=0')['error'] == 0


def last_member(level, kind, where):
    """kind: what no member takes: its cells, or (refuses) the header either. where: the
    write goes to a chunk that is Clean or Unwritten on disk."""
    count = COUNT[level]
    spares = ramdisks(2 * count)[count:]
    members = [Last(number) for number in range(count)]
    array = Array(0, [member.path for member in members])
    array.create(level, '--size=48M', *([] if level == 1 else ['--chunk=64']))
    data = Data(array)
    data.fill(0, 16)
    life.settle(array)
    gone = members[1]
    life.lose(array, gone.path)
    left = [member for member in members if member is not gone]
    for member in left:
        member.break_bitmap(kind)
    log = life.kernel_log()
    offset = PLACES[where]
    acked = written(array, offset, '5a')
    # Now: whatever md still had to write was on the members before that answer.
    run('dmsetup', 'suspend', '--noflush', '--nolockfs', *(member.name for member in members))
    for member, target in zip(members, spares):
        copy_device(member.lower, target)
    for member in members:
        run('dmsetup', 'resume', member.name)
    need(any('no member takes writes of the bitmap' in line for line in log()),
         'the bitmap was written after all')
    need(not written(array, 20 * MIB, '69'), 'a write was acknowledged after that')
    array.stop()
    for member in members:
        run('blkdiscard', '-f', member.lower)
    for at in range(offset, offset + 65536, fio.BLOCK):
        if acked:
            data.blocks[at] = fio.filled('5a', at)
        else:
            data.blocks.pop(at, None)
    returned(level, spares, data, acked)


def returned(level, disks, data, acked):
    """After the power cut: without the member that was gone, then with it."""
    gone, left = disks[1], [path for path in disks if path is not disks[1]]
    array = Array(0, disks)
    array.assemble('--run', members=left)
    if array.attribute('array_state') in ('readonly', 'read-auto', 'inactive'):
        array.readwrite()
    array.quick()
    data.holds(array)
    unsynced = array.bits()
    # All that was ever written waits for a sync; 16 MiB of it, some chunks more by neighbours.
    need(not unsynced['clean'], f'{unsynced["clean"]} chunks are trusted after the bitmap was lost')
    again = run('mdadm', array.path, '--re-add', gone, ok=None)[0] == 0
    if not again:
        run('mdadm', array.path, '--add', gone)
    array.wait_whole()
    life.settle(array)
    life.whole(array)
    data.holds(array)
    life.lose(array, disks[0])  # and then what came back holds it alone
    data.holds(array)
    print(f'  raid{level}: the write was {"" if acked else "not "}acknowledged; the member '
          f'returned by --{"re-" if again else ""}add', flush=True)


# lanes: long
def test_cells_raid1():
    last_member(1, 'cells', 'clean')


# lanes: long
def test_cells_unwritten_raid1():
    last_member(1, 'cells', 'unwritten')


# lanes: long
def test_bitmap_raid1():
    last_member(1, 'refuses', 'clean')


# lanes: long
def test_bitmap_unwritten_raid1():
    last_member(1, 'refuses', 'unwritten')


# lanes: long
def test_cells_raid10():
    last_member(10, 'cells', 'clean')


# lanes: long
def test_bitmap_raid10():
    last_member(10, 'refuses', 'clean')


def in_a_freeze(kind):
    """The same while md's mutex is held by others, who freeze and thaw the array: the
    writer waits, at most some seconds, and the array can be stopped."""
    spares = ramdisks(4)[2:]
    members = [Last(number) for number in range(2)]
    array = Array(0, [member.path for member in members])
    array.create(1, '--size=48M')
    data = Data(array)
    data.fill(0, 16)
    life.settle(array)
    life.lose(array, members[1].path)
    members[0].break_bitmap(kind)
    writer = fio.Running(array.path, '5a', 4 * MIB, 4 * MIB)
    try:
        for turn in range(20):
            array.set('suspend_lo', 0)
            array.set('suspend_hi', (turn + 1) * 2048)
            array.set('suspend_hi', 0)
    finally:
        acked, touched = writer.stop(time.monotonic())
    run('dmsetup', 'suspend', '--noflush', '--nolockfs', *(member.name for member in members))
    for member, target in zip(members, spares):
        copy_device(member.lower, target)
    for member in members:
        run('dmsetup', 'resume', member.name)
    array.stop()
    for member in members:
        run('blkdiscard', '-f', member.lower)
    data.acknowledged('5a', acked, touched)
    returned(1, spares, data, bool(acked))


# lanes: long
def test_in_a_freeze_raid1():
    in_a_freeze('refuses')
