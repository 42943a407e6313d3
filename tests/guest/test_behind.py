# SPDX-License-Identifier: GPL-2.0
"""Write-behind: a raid1 whose write-mostly member keeps every write of data until it is
let go (mapped.Late). What is acknowledged meanwhile was written behind, and the device
mapper counts what the member keeps: no test here can pass without."""

import random
import threading
import time

from llb import disk, fio, life, mapped
from llb.array import Array, loaded, ramdisks, unload
from llb.arrays import settle
from llb.lanes import lanes
from llb.life import Data
from llb.sh import Direct, copy_device, equal, need, read, run, wait_until

MIB, KIB = 1 << 20, 1 << 10
MANY = 100
DEPTH = 8  # of fio's queue
# In as many chunks as possible.
SPREAD = [number * 384 * KIB for number in range(MANY)]


def mirror(late, local='/dev/ram0', most=256, mib=48):
    """An array whose second member is write-mostly."""
    array = Array(0, [local, late.path])
    run('mdadm', '--create', array.path, '--run', '--level=1', '-n2', '--bitmap=lockless',
        f'--size={mib}M', f'--write-behind={most}', local, '--write-mostly', late.path)
    array.wait_whole()
    array.quick()
    need('write_mostly' in read(f'{late.attribute(array)}/state'), 'no write-mostly member')
    return array


def made(most=256, mib=48):
    """Returns the array, what it holds, and the late member."""
    ramdisks(2)
    late = mapped.Late(1)
    array = mirror(late, most=most, mib=mib)
    return array, Data(array), late


class Task(threading.Thread):
    """Something that may have to wait for the late member."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self.function, self.args, self.why = function, args, None
        self.start()

    def run(self):
        try:
            self.function(*self.args)
        except Exception as failure:  # pylint: disable=broad-except
            self.why = failure

    def done(self, what, limit_s=60):
        wait_until(what, lambda: not self.is_alive(), limit_s, 0.02)
        if self.why:
            raise self.why


def written_behind(data, late, offsets, tag):
    """Writes; all of it is acknowledged while the member keeps it."""
    before = late.kept()
    writes = data.batch(offsets, tag)
    wait_until(f'{len(offsets)} writes are acknowledged while the write-mostly member keeps them',
               writes.all_done, 60, 0.02)
    equal(late.kept() - before, len(offsets), 'writes that the write-mostly member keeps')


def rounds(array, count=2):
    """Until that other array, with the same settings, was written and became Clean so
    often: the daemon of the one under test has had its turns."""
    for turn in range(count):
        fio.fill(array.path, f'{turn + 16:02x}', 0, MIB)
        settle(array)


def other():
    """A second array, for rounds()."""
    array = Array(1, ['/dev/ram2', '/dev/ram3'])
    return array.create(1, '--size=16M')


def all_there(array, data):
    settle(array)
    data.holds()
    life.whole(array)


def only_late_one(array, data):
    """What the write-mostly member alone has."""
    life.lose(array, array.members[0])
    data.holds()


@lanes('long')
def test_counted():
    """A hundred writes are acknowledged that the write-mostly member does not have."""
    array, data, late = made()
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '5a')
        need(disk.not_clean(array.cells()), 'nothing is marked')
    all_there(array, data)
    only_late_one(array, data)


@lanes('stock')
def test_at_most():
    """max_write_behind writes and not one more are acknowledged; also after a restart."""
    array, data, late = made(most=16)
    for tag in ('5a', '3c'):
        with mapped.keeping(late):
            first = data.batch(SPREAD[:40], tag)
            wait_until('the member keeps all writes', lambda: late.kept() == 40, 60)
            wait_until('sixteen are acknowledged', lambda: first.done() >= 16, 60)
            # More of them, one by one: who finds sixteen behind waits for the member.
            rest = [Task(data.sprinkle, [(number + 200) * 64 * KIB + 8 * KIB], tag)
                    for number in range(5)]
            wait_until('and those that come then', lambda: late.kept() == 45, 60)
            equal(first.done(), 16, 'writes that are acknowledged while the member keeps them')
            need(all(task.is_alive() for task in rest), 'a seventeenth write was acknowledged')
        wait_until('the rest is written', first.all_done, 60)
        for task in rest:
            task.done('those that came then')
        all_there(array, data)
        array.stop()
        array.assemble()
        array.wait_idle()
        array.quick()


@lanes('stock')
def test_overlapping():
    """A write over one that is behind comes to the write-mostly member after it: it is not
    sent there while the other is under way, however they overlap."""
    array, data, late = made()
    end = MIB + 16 * KIB
    with mapped.keeping(late):
        written_behind(data, late, [MIB, MIB + 8 * KIB, MIB + 24 * KIB], '5a')
        again = [Task(data.sprinkle, [MIB], '3c'), Task(overlapping, array, MIB + 4 * KIB, end)]
        for turn in range(3):  # what overlaps nothing goes on
            written_behind(data, late, SPREAD[10 + turn * 20:30 + turn * 20], '69')
        equal(late.kept(), 63, 'writes that the write-mostly member keeps')
        need(all(task.is_alive() for task in again), 'an overlapping write was acknowledged')
    for task in again:
        task.done('the overlapping writes')
    for at in range(MIB + 4 * KIB, end, fio.BLOCK):
        data.blocks[at] = fio.block('96', at)
    all_there(array, data)
    only_late_one(array, data)


def seen_behind(array, late, count):
    """fio has written so often, and the late member had more to do at once than fio waited
    for: the rest was acknowledged."""
    most, before = 0, array.writes()

    def seen():
        nonlocal most
        most = max(most, late.kept())
        return array.writes() - before > count and most > DEPTH
    wait_until('fio has written, and some of it was behind', seen, 120, 0.02)


def overlapping(array, start, end):
    with Direct(array.path, writable=True) as device:
        device.write(start, b''.join(fio.block('96', at) for at in range(start, end, fio.BLOCK)))


@lanes('long')
def test_overlapping_load():
    """The same few blocks over and over, in front of a member that is 60 ms late."""
    array, data, late = made(most=64)
    late.keep(60)
    writer = fio.Running(array.path, '5a', 0, 256 * KIB, '--serialize_overlap=1',
                         '--norandommap', f'--iodepth={DEPTH}')
    try:
        seen_behind(array, late, 1500)
    finally:
        acked, touched = writer.stop(time.monotonic())
        late.let_go()
    data.acknowledged('5a', acked, touched)
    all_there(array, data)
    only_late_one(array, data)


@lanes('stock')
def test_not_clean():
    """W2: while a write is behind, its chunk is Clean on no member; its data could be lost
    with the power, and the next assembly has to know."""
    spares = ramdisks(6)[4:]
    clock = other()
    array, data, late = made()
    data.fill(0, 40)
    settle(array)
    layout = disk.layout_of(array)
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '3c')
        chunks = layout.chunks_at(SPREAD)
        rounds(clock)
        clean = chunks - disk.not_clean([array.cells()[0]])
        need(not clean, f'{len(clean)} of {len(chunks)} chunks are Clean while writes to them '
                        f'are behind')
        equal(late.kept(), MANY, 'writes that the write-mostly member keeps')
        # Power goes now: the copies differ, and are made equal.
        for source, target in zip(('/dev/ram0', '/dev/ram1'), spares):
            run('blkdiscard', '-f', target)
            copy_device(source, target)
    settle(array)
    array.stop()
    for path in ('/dev/ram0', late.path):
        run('blkdiscard', '-f', path)
    after = Array(0, spares)
    need(len(life.unequal(spares, chunks)[0]) == len(chunks), 'the copies do not differ')
    after.assemble()
    after.quick()
    settle(after)
    data.holds(after)
    life.whole(after)


def under(action, check=None, limit_s=60):
    """action(array, data, late) returns a Task that has to wait while a hundred writes
    are behind; then these are let go, and it ends well."""
    ramdisks(4)
    clock = other()
    array, data, late = made()
    data.fill(0, 40)
    settle(array)
    chunks = disk.layout_of(array).chunks_at(SPREAD)
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '3c')
        task = action(array, data, late)
        rounds(clock, 1)
        need(task.is_alive(), f'it did not wait for what is behind: {task.why or "it is done"}')
        equal(late.kept(), MANY, 'writes that the write-mostly member keeps')
        marked = disk.not_clean(disk.cells(['/dev/ram0']))
        need(chunks <= marked, f'{len(chunks - marked)} chunks are Clean while writes to them '
                               f'are behind')
    task.done('it goes on when they are through', limit_s)
    if check:
        check(array, data, late)
    return array, data, late


@lanes('stock')
def test_bitmap_none():
    """The bitmap goes while a hundred writes are behind: only when they are through; after
    it nothing is written behind, nothing differs, and the module can go."""
    array, data, late = under(lambda array, *_: Task(
        run, 'mdadm', '--grow', array.path, '--bitmap=none'))
    wait_until('idle', lambda: array.attribute('sync_action') == 'idle' and
               array.attribute('resync_start') == 'none', 60)
    data.holds()
    equal(array.sync('check'), 0, 'mismatch_cnt')
    with mapped.keeping(late):
        before = array.writes()
        writer = Task(data.sprinkle, SPREAD[:2], '96')
        wait_until('the member has a write', lambda: late.kept() == 1, 20)
        equal(array.writes() - before, 0, 'writes behind without a bitmap')
    writer.done('a write without write-behind')
    Array(1, []).stop()
    unload()
    need(not loaded(), 'the module stays')
    data.holds()
    only_late_one(array, data)


@lanes('long')
def test_stop():
    """An array is stopped: only when all is through, and nothing is left to do (D9)."""
    array, data, _ = under(lambda array, *_: Task(array.stop))
    equal(disk.not_clean(array.cells()), set(), 'chunks that are not clean')
    bad, _ = life.unequal(array.members)
    need(not bad, f'{len(bad)} chunks differ after an orderly stop')
    array.assemble()
    equal(array.attribute('sync_action'), 'idle', 'after an orderly stop')
    array.quick()
    all_there(array, data)
    only_late_one(array, data)


@lanes('long')
def test_late_member_fails():
    """The write-mostly member fails with a hundred writes behind, leaves, and returns."""
    array, data, late = made()
    data.fill(0, 40)
    settle(array)
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '3c')
        life.fail(array, late.path)
        Task(data.sprinkle, [at + 4 * KIB for at in SPREAD], '69').done('writes without it')
    life.remove(array, late.path)
    run('mdadm', array.path, '--re-add', late.path)
    array.wait_whole()
    all_there(array, data)
    with mapped.keeping(late):  # and it is written behind again
        written_behind(data, late, SPREAD[:20], '5a')
    all_there(array, data)
    only_late_one(array, data)


def lost(action):
    """What is behind fails on the write-mostly member while somebody waits for it with md's
    mutex held: md ends such writes when its superblock tells of the failed member, which
    wants that mutex."""
    ramdisks(4)
    clock = other()
    array, data, late = made()
    data.fill(0, 40)
    settle(array)
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '3c')
        late.fail_data()
        task = Task(*action(array))
        rounds(clock, 1)
        need(task.is_alive(), f'it did not wait for what is behind: {task.why or "it is done"}')
    task.done('it goes on when they have failed')
    return array, data, late


@lanes('stock')
def test_lost_while_bitmap_goes():
    array, data, _ = lost(lambda array: (run, 'mdadm', '--grow', array.path, '--bitmap=none'))
    wait_until('the member is failed', lambda: array.attribute('degraded') == '1', 20)
    data.holds()


@lanes('long')
def test_fast_member_fails():
    """The other member fails: whoever reads gets what was acknowledged, once it is there."""
    def reads(array, data, late):
        life.fail(array, '/dev/ram0')
        return Task(data.holds)
    array, data, _ = under(reads)
    life.remove(array, '/dev/ram0')
    run('mdadm', array.path, '--re-add', '/dev/ram0')
    array.wait_whole()
    all_there(array, data)
    only_late_one(array, data)


@lanes('long')
def test_resize():
    """The array grows with a hundred writes behind, and more are written to what is new."""
    array, data, late = made(mib=40)
    data.fill(0, 38)
    settle(array)
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '3c')
        task = Task(run, 'mdadm', '--grow', array.path, '--size=80M')
        wait_until('the array is larger, or waits', lambda: array.bytes() > 70 * MIB or
                   not task.is_alive() or late.kept() > MANY, 60)
    task.done('the array grows')
    need(array.bytes() > 70 * MIB, f'the array has {array.bytes()} bytes')
    array.wait_idle()
    array.quick()
    with mapped.keeping(late):
        written_behind(data, late, [44 * MIB + at for at in SPREAD[:80]], '69')
    all_there(array, data)
    only_late_one(array, data)


@lanes('long')
def test_rmmod():
    """The module does not go while writes are behind."""
    array, data, late = made()
    with mapped.keeping(late):
        written_behind(data, late, SPREAD, '3c')
        run('rmmod', 'llbitmap', ok=False)
    all_there(array, data)


@lanes('long')
def test_under_load():
    """Random writes in front of a late member; the bitmap goes, the array is stopped,
    started without one and with writes under way, over and over."""
    dice = random.Random(7)
    for turn in range(4):
        array, data, late = made(most=dice.choice((16, 64, 256)))
        late.keep(dice.choice((60, 200)))
        writer = fio.Running(array.path, '5a', 0, 8 * MIB, f'--iodepth={DEPTH}')
        try:
            seen_behind(array, late, 1000)
            if turn % 2:
                life.fail(array, late.path)
                life.remove(array, late.path)
                run('mdadm', array.path, '--re-add', late.path)
                array.wait_whole()
            else:
                run('mdadm', '--grow', array.path, '--bitmap=none')
        finally:
            acked, touched = writer.stop(time.monotonic())
            late.let_go()
        data.acknowledged('5a', acked, touched)
        wait_until('idle', lambda: array.attribute('sync_action') == 'idle', 60)
        data.holds()
        equal(array.sync('check'), 0, 'mismatch_cnt')
        only_late_one(array, data)
        array.stop()
        run('dmsetup', 'remove', late.name, late.under)
