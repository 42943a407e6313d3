# SPDX-License-Identifier: GPL-2.0
"""W7 for the last member: a degraded array whose remaining members do not take the bitmap.
Power goes at the acknowledgement of the first write that no mark could be made for: whatever
tells the next assembly is on the members by then. So writes of md's superblock, and of the
bitmap's header, are slow: what md writes in its own time comes too late. The next assembly
resynchronises all that was ever written, and a member that comes back gets all of it."""

import os
import threading

from llb import fio, life, mapped
from llb.array import Array, ramdisks
from llb.arrays import settle
from llb.lanes import lanes
from llb.life import Data
from llb.sh import Direct, copy_device, equal, need, read, run, wait_until

MIB = 1 << 20
HEADER = 2  # sectors; the cells begin behind them
COUNT = {1: 2, 10: 4}
PLACES = {'clean': 4 * MIB, 'unwritten': 30 * MIB}
SLOW_MS = 1500  # so long takes a write of a superblock; record_failure() waits for some seconds


class Last(mapped.Member):
    """A member that can refuse the cells, and take the bitmap's header, or refuse both; and
    whose power can go."""

    def __init__(self, number):  # pylint: disable=super-init-not-called
        self.name, self.under, self.disk = f'm{number}', f'base{number}', f'/dev/ram{number}'
        self.lower = mapped.create(self.under, f'0 {mapped.SIZE} linear {self.disk} 0')
        self.path = mapped.create(self.name, *self.lines('linear'))

    def break_bitmap(self, kind, slow_ms):
        """kind: cells or bitmap: that, and all behind it up to the data."""
        lower, end = self.lower, mapped.BITMAP + mapped.RESERVED
        begin = mapped.BITMAP + (HEADER if kind == 'cells' else 0)
        slow = f'delay {lower} 0 0 {lower} 0 {slow_ms} {lower} 0 0' if slow_ms else \
            f'linear {lower} 0'
        mapped.load(self.name, f'0 {begin} {slow}',
                    f'{begin} {end - begin} flakey {lower} {begin} 0 3600 1 error_writes',
                    f'{end} {mapped.SIZE - end} linear {lower} {end}')


def power_cut(members, spares):
    """What is on the disks now, on others. Nothing reaches the disks any more meanwhile."""
    run('dmsetup', 'suspend', '--noflush', '--nolockfs', *(member.under for member in members))
    for member, target in zip(members, spares):
        copy_device(member.disk, target)
    for member in members:
        run('dmsetup', 'resume', member.under)


def written(array, offset, tag):
    """Whether a write was acknowledged. It must end, one way or the other."""
    return fio.job(array.path, 'write', tag, offset, 65536, '--do_verify=0')['error'] == 0


def write_now(array, offset, tag):
    """Whether 64 KiB were acknowledged, at the instant when they were (or were not)."""
    content = b''.join(fio.filled(tag, at) for at in range(offset, offset + 65536, fio.BLOCK))
    with Direct(array.path, writable=True) as device:
        try:
            device.write(offset, content)
            return True
        except OSError:
            return False


def note(data, offset, tag, acked):
    """What is there now; anything, if it was not acknowledged."""
    for at in range(offset, offset + 65536, fio.BLOCK):
        if acked:
            data.blocks[at] = fio.filled(tag, at)
        else:
            data.blocks.pop(at, None)


def last_member(level, kind, where):
    """kind: what no member takes: the cells, or all of the bitmap. where: the write goes to
    a chunk that is Clean or Unwritten on disk."""
    count = COUNT[level]
    spares = ramdisks(2 * count)[count:]
    members = [Last(number) for number in range(count)]
    array = Array(0, [member.path for member in members])
    array.create(level, '--size=48M', *([] if level == 1 else ['--chunk=64']))
    data = Data(array)
    data.fill(0, 16)
    settle(array)
    gone = members[1]
    life.lose(array, gone.path)
    left = [member for member in members if member is not gone]
    array.set('safe_mode_delay', 0)  # md calls it active once, and for good
    data.sprinkle([40 * MIB], '3c')
    equal(array.attribute('array_state'), 'active', 'array_state')
    for member in left:
        member.break_bitmap(kind, SLOW_MS)
    log = life.kernel_log()
    offset = PLACES[where]
    acked = write_now(array, offset, '5a')
    power_cut(members, spares)
    need(any('no member takes writes of the bitmap' in line for line in log()),
         'the bitmap was written after all')
    need(not written(array, 20 * MIB, '69'), 'a write was acknowledged after that')
    for member in left:  # they need not be slow to stop
        member.break_bitmap(kind, 0)
    array.stop()
    for member in members:
        run('blkdiscard', '-f', member.lower)
    note(data, offset, '5a', acked)
    returned(level, spares, data, acked)


def returned(level, disks, data, acked):
    """After the power cut: without the member that was gone, then with it."""
    left = [path for path in disks if path is not disks[1]]
    array = Array(0, disks)
    array.assemble('--run', members=left)
    if array.attribute('array_state') in ('readonly', 'read-auto', 'inactive'):
        array.readwrite()
    array.quick()
    data.holds(array)
    unsynced = array.bits()
    # All that was ever written waits for a sync; 16 MiB of it, some chunks more by neighbours.
    need(not unsynced['clean'], f'{unsynced["clean"]} chunks are trusted after the bitmap was lost')
    # With the one that was gone; raid10 has failed another one that did not take the bitmap,
    # which may be there without a slot.
    again = False
    for path in disks:
        member = f'{array.sysfs}/dev-{os.path.basename(path)}'
        if os.path.exists(member):
            if read(f'{member}/slot') != 'none':
                continue
            life.remove(array, path)
        again = run('mdadm', array.path, '--re-add', path, ok=None)[0] == 0
        if not again:
            run('mdadm', array.path, '--add', path)
    array.wait_whole()
    settle(array)
    life.whole(array)
    data.holds(array)
    life.lose(array, disks[0])  # and then what came back holds it alone
    data.holds(array)
    print(f'  raid{level}: the write was {"" if acked else "not "}acknowledged; the member '
          f'returned by --{"re-" if again else ""}add', flush=True)


@lanes('stock')
def test_cells_raid1():
    last_member(1, 'cells', 'clean')


@lanes('long')
def test_cells_unwritten_raid1():
    last_member(1, 'cells', 'unwritten')


@lanes('stock')
def test_bitmap_raid1():
    last_member(1, 'bitmap', 'clean')


@lanes('long')
def test_bitmap_unwritten_raid1():
    last_member(1, 'bitmap', 'unwritten')


@lanes('long')
def test_cells_raid10():
    last_member(10, 'cells', 'clean')


@lanes('long')
def test_bitmap_raid10():
    last_member(10, 'bitmap', 'clean')


def in_a_freeze(kind):
    """The same while md's mutex is held by others, who freeze and thaw the array: the
    writer waits, at most some seconds, and the array can be stopped."""
    spares = ramdisks(4)[2:]
    members = [Last(number) for number in range(2)]
    array = Array(0, [member.path for member in members])
    array.create(1, '--size=48M')
    data = Data(array)
    data.fill(0, 16)
    settle(array)
    life.lose(array, members[1].path)
    members[0].break_bitmap(kind, 0)
    ended, turns = False, 0

    def freezes():
        nonlocal turns
        while not ended:
            array.set('suspend_lo', 0)
            array.set('suspend_hi', (turns % 20 + 1) * 2048)
            array.set('suspend_hi', 0)
            turns += 1
    task = threading.Thread(target=freezes, daemon=True)
    task.start()
    try:
        wait_until('the array is frozen and thawed', lambda: turns > 2, 60, 0.02)
        acked = write_now(array, PLACES['clean'], '5a')
        power_cut(members, spares)
    finally:
        ended = True
        task.join()
    array.stop()
    for member in members:
        run('blkdiscard', '-f', member.lower)
    note(data, PLACES['clean'], '5a', acked)
    returned(1, spares, data, acked)


@lanes('long')
def test_in_a_freeze_raid1():
    in_a_freeze('bitmap')
