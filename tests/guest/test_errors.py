# SPDX-License-Identifier: GPL-2.0
"""Members that refuse writes of the bitmap: W7. The member is failed, data goes on,
and the next assembly resynchronises what it must; if no member takes the write, nothing
more is written."""

import os
import struct

from llb import disk, fio, mapped
from llb.array import Array
from llb.arrays import DISKS, MIB, chunks_of, filled, holds, settle
from llb.lanes import lanes
from llb.mapped import wait_faulty
from llb.sh import Direct, Failure, equal, need, read, run, wait_until
from llb.trace import Trace


def made(level):
    members = mapped.members(DISKS[level])
    array = Array(0, [member.path for member in members])
    array.create(level, '--size=48M')
    filled(array, 8)
    return array, members


def faulty(array, member):
    return 'faulty' in read(f'{member.attribute(array)}/state')


def whole(array, members):
    """All members are in the array again."""
    for member in members:
        member.heal()
        where = member.attribute(array)
        if os.path.exists(where):
            if 'faulty' not in read(f'{where}/state'):
                continue
            wait_until('the failed member can be removed', lambda: run(
                'mdadm', array.path, '--remove', member.path, ok=None)[0] == 0, 20)
        if run('mdadm', array.path, '--re-add', member.path, ok=None)[0]:
            run('mdadm', array.path, '--add', member.path)
    array.wait_whole()


def readd(array, member):
    whole(array, [member])
    array.quick()
    settle(array)
    array.equal_over()
    equal(array.sync('check'), 0, 'mismatch_cnt')


def one_member(level):
    """Its bitmap write fails: md fails it, the write is acknowledged, marked on the rest."""
    array, members = made(level)
    bad = members[1]
    bad.refuse()
    fio.fill(array.path, '5a', 20 * MIB, 2 * MIB)
    wait_faulty(array)
    need(faulty(array, bad), 'the member is not faulty')
    holds(array, 2, 20, '5a')
    touched = chunks_of(array, range(20 * MIB, 22 * MIB, fio.BLOCK))
    for member, cells in zip(members, array.cells()):
        if member is not bad:
            left = [chunk for chunk in touched if not disk.must_resync(cells[chunk])]
            need(not left, f'{member.path}: {len(left)} written chunks are not marked')
    readd(array, bad)
    holds(array, 2, 20, '5a')
    holds(array, 8)


@lanes('stock', 'uml-long')
def test_one_member_raid1():
    one_member(1)


@lanes('long')
def test_one_member_raid10():
    one_member(10)


@lanes('stock')
def test_one_member_raid5():
    one_member(5)


def events(array):
    """The newest events of a bitmap on a member."""
    return max(sup.bitmap_events for sup in disk.supers(array.members))


def all_members(level):
    """No member takes the mark: the array takes no further write, the bitmap's events
    stay, and the next assembly resynchronises all that was ever written. The write that
    met it fails, or (md cannot fail a raid1's last member) is on the member that is left."""
    array, members = made(level)
    before, old = disk.written(array.cells()), events(array)
    for member in members:
        member.refuse()
    acked = fio.job(array.path, 'write', '5a', 40 * MIB, 65536, '--do_verify=0')['error'] == 0
    need(not acked or level == 1, 'the write was acknowledged')
    wait_until('further writes fail', lambda: fio.job(
        array.path, 'write', '69', 44 * MIB, 65536, '--do_verify=0')['error'] != 0, 20)
    array.stop()
    need(events(array) <= old, f'events of the bitmap: {events(array)}, were {old}')
    for member in members:
        member.heal()
    # If md could still write its superblock, data may have followed, and the bitmap is
    # stale. A raid5 that has lost two members writes nothing at all.
    stale = max(sup.events for sup in disk.supers(array.members)) > events(array)
    need(stale or not acked, 'a write was acknowledged, and the bitmap does not look stale')
    status, _ = run('mdadm', '--assemble', array.path, *array.members, ok=None)
    if status:
        array.assemble('--force', readwrite=False)
    order, sup = disk.by_role(array.members)
    layout = disk.Layout(sup)
    with Trace(order) as trace:
        array.readwrite()
        whole(array, members)
    resynced = {sector // layout.chunk for _, sector in trace.data_pages(order, layout)}
    need(not stale or before <= resynced, f'{len(before - resynced)} of {len(before)} written chunks were '
                                           f'trusted after the bitmap was lost')
    array.quick()
    settle(array)
    holds(array, 8)
    if acked:
        equal(fio.verify(array.path, '5a', 40 * MIB, 65536), 0, 'wrong blocks')
    array.equal_over(range(layout.chunks))
    equal(array.sync('check'), 0, 'mismatch_cnt')
    filled(array, 4, 20, '96')
    holds(array, 4, 20, '96')


@lanes('long', 'uml-long')
def test_all_members_raid1():
    all_members(1)


@lanes('stock')
def test_all_members_raid5():
    all_members(5)


@lanes('stock', 'uml', 'kcsan-long', 'rt-long')
def test_daemon():
    """The daemon's write fails on one member: it is failed, data stays, a return of the
    member brings all together again."""
    array, members = made(1)
    array.set('llbitmap/barrier_idle', 3600)
    array.set('llbitmap/daemon_sleep', 3)
    fio.fill(array.path, '5a', 20 * MIB, 4 * MIB)
    members[0].refuse()
    array.set('llbitmap/barrier_idle', 1)  # which writes nothing itself
    wait_faulty(array)
    need(faulty(array, members[0]), 'the member is not faulty')
    fio.fill(array.path, '96', 22 * MIB, MIB)
    touched = chunks_of(array, range(22 * MIB, 23 * MIB, fio.BLOCK))
    cells = disk.cells([members[1].path])[0]
    need(all(disk.must_resync(cells[chunk]) for chunk in touched),
         'chunks that the failed member misses are not marked')
    readd(array, members[0])
    holds(array, 2, 20, '5a')
    holds(array, 1, 22, '96')


@lanes('stock')
def test_stop():
    """The bitmap's last write fails on one member: the array stops, the member has left
    it, and it comes back."""
    array, members = made(1)
    array.set('llbitmap/barrier_idle', 60)
    array.set('llbitmap/daemon_sleep', 60)
    fio.fill(array.path, '5a', 20 * MIB, 4 * MIB)
    members[1].refuse()
    array.stop()
    members[1].heal()
    array.assemble('--run')
    equal(array.attribute('degraded'), '1', 'degraded after a stop that one member missed')
    holds(array, 4, 20, '5a')
    whole(array, members)
    array.quick()
    settle(array)
    holds(array, 4, 20, '5a')
    holds(array, 8)
    array.equal_over()
    equal(array.sync('check'), 0, 'mismatch_cnt')


def first_use(members):
    """The bitmap as mdadm leaves it at --create: a header, and no states yet."""
    for member in members:
        sup = disk.supers([member.path])[0]
        with Direct(member.path, writable=True) as device:
            page = bytearray(device.read(sup.bitmap, 4096))
            struct.pack_into('<I', page, 48, disk.FIRST_USE)
            device.write(sup.bitmap, bytes(page))


@lanes('long')
def test_create_one_member():
    """One member refuses the new bitmap: it is failed; the other one's is complete, and
    the array is written and comes back as without that."""
    array, members = made(1)
    array.stop()
    first_use(members)
    members[1].refuse()
    array.assemble('--run')
    fio.fill(array.path, '5a', 20 * MIB, MIB)
    wait_faulty(array)
    need(faulty(array, members[1]), 'the member is not faulty')
    sup = disk.supers([members[0].path])[0]
    need(not sup.state & disk.FIRST_USE and sup.cells, 'the other bitmap is not made')
    readd(array, members[1])
    holds(array, 1, 20, '5a')
    array.stop()
    array.assemble()
    array.wait_whole()
    holds(array, 8)
    holds(array, 1, 20, '5a')


@lanes('stock', 'rt-long')
def test_create_all_members():
    """No member takes the new bitmap: no write is acknowledged, none is lost, and it is
    made once they do."""
    array, members = made(1)
    array.stop()
    first_use(members)
    for member in members:
        member.refuse()
    status, _ = run('mdadm', '--assemble', '--run', array.path, *array.members, ok=None)
    if not status:
        run('mdadm', '--readwrite', array.path, ok=None)
        try:
            done = fio.job(array.path, 'write', '5a', 20 * MIB, 65536, '--do_verify=0')
            need(done['error'] != 0, 'a write was acknowledged without a bitmap')
        except Failure as failure:
            need('fio' in str(failure), str(failure))
    run('mdadm', '--stop', array.path, ok=None)
    for sup in disk.supers(array.members):
        need(sup.state & disk.FIRST_USE, 'FIRST_USE is gone without states')
    for member in members:
        member.heal()
    array.assemble('--force')
    whole(array, members)
    array.quick()
    filled(array, 4, 20, '96')
    holds(array, 4, 20, '96')
    array.equal_over()
