# SPDX-License-Identifier: GPL-2.0
"""Disks that vanish in the middle of writes and come back, that hang, or check what they are
given. Data is always compared, with each member missing in turn; what a member is given when it
comes back is counted. (Members that refuse writes of the bitmap: test_errors.py, test_last.py.)"""

import os
import time

from llb import disk, fio, life, mapped
from llb.array import Array, ramdisks
from llb.arrays import DISKS, MIB, make, settle
from llb.lanes import lanes
from llb.life import Data
from llb.sh import Direct, device_number, equal, need, read, run, wait_until
from llb.trace import Trace
from test_behind import Task, rounds

KIB = 1 << 10
FILLED = 20  # MiB of what most arrays here hold
AREA = 12 * MIB, 20 * MIB  # what is written while a member is away: Clean chunks and Unwritten
FRESH = [28 * MIB + number * 192 * KIB for number in range(32)]  # in chunks that are Unwritten


def made(level, members, *extra, mib=48, filled=FILLED):
    """Returns the array and what it holds: all of it Clean on the members."""
    array = make(level, *extra, members=[getattr(one, 'path', one) for one in members], mib=mib)
    data = Data(array)
    data.fill(0, filled)
    settle(array)
    return array, data


def folder(array, path):
    """md's of that member, in sysfs."""
    name = os.path.basename(os.path.realpath('/sys/dev/block/%d:%d' % device_number(path)))
    return f'{array.sysfs}/dev-{name}'


def state(array, path):
    """md's words for that member."""
    return read(f'{folder(array, path)}/state').split(',')


def flows(array, count=200):
    before = array.writes()
    wait_until('writes are acknowledged', lambda: array.writes() >= before + count, 120, 0.02)


def away(array, data, go, count=1):
    """So many members go while it is written. Returns the offsets that were written, and those
    that were acknowledged when they had gone."""
    writer = fio.Running(array.path, '5a', *AREA)
    try:
        flows(array)
        go()
        mapped.wait_faulty(array, count)
        since = time.monotonic()
        flows(array)
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('5a', acked, touched)
    missed = {at for at, when in writer.acked_s.items() if when > since}
    need(missed, 'nothing was written without them')
    return touched, missed


def part_of(layout, role, chunks):
    """Those of the chunks of which the member with that role has something."""
    return {chunk for chunk in chunks if any(
        at == role for page in layout.pages(chunk) for at, _ in layout.places(page))}


def comes_back(array, path, written, missed):
    """Of data the member is given all that it missed, and no more than what was written, as
    offsets, since all was Clean. Nobody writes meanwhile."""
    order, sup = disk.by_role(array.members)
    layout, role = disk.Layout(sup), order.index(path)
    with Trace(order) as trace:
        run('mdadm', array.path, '--re-add', path)
        wait_until(f'{path} is in sync', lambda: 'in_sync' in state(array, path), 120)
        array.wait_idle()
    got = {sector // layout.chunk for at, sector in trace.data_pages(order, layout) if at == role}
    least, most = (part_of(layout, role, layout.chunks_at(offsets)) for offsets in (missed, written))
    need(least <= got <= most, f'{path} was given {len(got)} chunks: {len(got - most)} too many, '
                               f'{len(least - got)} of the {len(least)} that it missed too few')
    print(f'  {path}: {len(got)} chunks of {layout.chunks}, it missed {len(least)}', flush=True)


def all_there(array, data):
    settle(array)
    data.holds()
    life.whole(array)
    life.each_missing(array, data)


# ---- members that vanish and return ----


def vanish(level, gone=(1,), how='vanish'):
    members = mapped.members(DISKS[level])
    array, data = made(level, members)
    gone = [members[number] for number in gone]

    def go():
        for member in gone:
            getattr(member, how)()

    written, missed = away(array, data, go, len(gone))
    for member in gone:
        member.heal()
        life.remove(array, member.path)
    for member in gone:
        comes_back(array, member.path, written, missed)
    all_there(array, data)
    # Once more, and they come back under writes.
    writer = fio.Running(array.path, '96', *AREA)
    try:
        flows(array)
        go()
        mapped.wait_faulty(array, len(gone))
        flows(array)
        for member in gone:
            member.heal()
            life.remove(array, member.path)
        for member in gone:
            run('mdadm', array.path, '--re-add', member.path)
        wait_until('no member is missing', lambda: array.missing() == 0, 120)
        flows(array)
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('96', acked, touched)
    all_there(array, data)


@lanes('long')
def test_vanishes_raid1():
    vanish(1)


# ---- a bitmap write that hangs ----


def beside(numbers=(6, 7)):
    """Another array, whose writes and daemon go on, for rounds()."""
    array = Array(1, [f'/dev/ram{number}' for number in numbers])
    return array.create(1, '--size=16M')


def hanging(level):
    """(the array, what it holds, the member that will keep the bitmap, another array)"""
    ramdisks(8)
    members = mapped.members(DISKS[level])
    array, data = made(level, members)
    # For good, or the write would wait for md's own superblock, which takes the bitmap's with it.
    array.set('safe_mode_delay', 0)
    data.sprinkle([0])
    settle(array)
    equal(read(f'{array.sysfs}/array_state'), 'active', 'array_state')
    return array, data, members[1], beside()


def waits(array, task, member, clock, count=1):
    """It does, while the other array goes on."""
    wait_until('the member keeps a write of the bitmap', lambda: member.kept() > 0, 60, 0.02)
    before = array.writes()
    rounds(clock, count)
    need(task.is_alive(), f'it did not wait for the bitmap: {task.why or "it is done"}')
    equal(array.writes(), before, 'writes that were acknowledged meanwhile')


def untouched(member, offset):
    """raid1: nothing of a write reached the member (W1)."""
    sup = disk.supers([member.path])[0]
    with Direct(member.lower) as device:
        need(not any(device.read(sup.data_offset * disk.SECTOR + offset, 4096)),
             f'{member.path} has data whose mark is not durable')


def hangs(level):
    """A member keeps the mark of a first touch: the write waits, and another array does not.
    The member is failed meanwhile; it is let go, and comes back."""
    array, data, bad, clock = hanging(level)
    bad.hang()
    writer = Task(data.sprinkle, FRESH, '3c')
    waits(array, writer, bad, clock, 2)
    if level == 1:
        untouched(bad, FRESH[0])
        data.holds()  # reads go on
    Task(run, 'mdadm', array.path, '--fail', bad.path).done('the member is failed')
    need('faulty' in state(array, bad.path), 'the member is not faulty')
    rounds(clock, 1)
    bad.heal()
    writer.done('the write goes on')
    life.remove(array, bad.path)
    comes_back(array, bad.path, FRESH, FRESH[1:])  # the first one may have been under way
    all_there(array, data)


@lanes('stock')
def test_bitmap_hangs_raid1():
    hangs(1)


# ---- members that look at what they are given ----


def written_all_over(array, data, *area, count=300):
    """First touches, and chunks that become Clean, side by side."""
    writer = fio.Running(array.path, '5a', *area, '--iodepth=16')
    try:
        flows(array, count)
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('5a', acked, touched)


def sealed(level):
    """W6: a member sees each buffer twice, some time apart. What is given to it does not
    change, so that every sector of it fits its checksum: also those of the bitmap."""
    ramdisks(8)
    members = [mapped.Sealed(number) for number in range(DISKS[level])]
    array, data = made(level, members, mib=24, filled=8)
    for member in members:
        member.delay(60)
    written_all_over(array, data, 4 * MIB, 16 * MIB)
    for member in members:
        member.heal()
    settle(array)
    for member in members:
        equal(member.mismatches(), 0, f'{member.path}: sectors that do not fit their checksums')
    data.holds()
    life.whole(array)


@lanes('stock')
def test_stable_buffers_raid1():
    sealed(1)
