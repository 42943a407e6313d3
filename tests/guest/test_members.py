# SPDX-License-Identifier: GPL-2.0
"""Members that go, come back, are new, slow, of other block sizes; arrays that
grow, lose their bitmap, stand on one another."""

import os
import threading
import time

from llb import disk, fio
from llb.array import Array, in_tree, load, loaded, ramdisks, unload
from llb.arrays import DISKS, MIB, all_zero, chunks_of, filled, holds, make, only, settle
from llb.lanes import lanes
from llb.sh import Direct, Failure, equal, need, read, run, wait_until, write, write_at
from llb.trace import Trace


def fail(array, member):
    run('mdadm', array.path, '--fail', member)
    wait_until('the failed member can be removed',
               lambda: run('mdadm', array.path, '--remove', member, ok=None)[0] == 0, 20)


def garbage(path):
    """A used disk: nothing on it is zero."""
    with open('/dev/urandom', 'rb') as source:
        noise = source.read(MIB)
    with Direct(path, writable=True) as device:
        for offset in range(0, device.bytes, MIB):
            device.write(offset, noise)


def readded(level):
    """A member misses writes and comes back: nothing is cleaned meanwhile, it
    gets exactly the chunks that it missed."""
    array = make(level, chunk=512)
    filled(array, 24)
    gone = array.members[1]
    fio.fill(array.path, '3c', 0, 4 * MIB)
    dirty = chunks_of(array, range(0, 4 * MIB, fio.BLOCK))  # when the member fails
    fail(array, gone)
    fio.fill(array.path, '69', 2 * MIB, 4 * MIB)  # Dirty and Clean ones
    fio.fill(array.path, '96', 20 * MIB, 8 * MIB)  # Clean and Unwritten ones
    missed = chunks_of(array, range(2 * MIB, 6 * MIB, fio.BLOCK)) | \
        chunks_of(array, range(20 * MIB, 28 * MIB, fio.BLOCK))
    time.sleep(1 + 2 * 1 + 2)
    left = [path for path in array.members if path != gone]
    for path, cells in zip(left, disk.cells(left)):
        cleaned = {chunk for chunk in missed if not disk.must_resync(cells[chunk])}
        need(not cleaned, f'{path}: {len(cleaned)} chunks were cleaned while degraded')
    order, sup = disk.by_role(array.members)
    layout, role = disk.Layout(sup), order.index(gone)
    marked = disk.not_clean(disk.cells(left))
    need(missed <= marked, f'{len(missed - marked)} chunks are not marked')
    with Trace(order) as trace:
        run('mdadm', array.path, '--re-add', gone)
        array.wait_whole()
    copied = {sector // layout.chunk for at, sector in trace.data_pages(order, layout)
              if at == role}
    here = {chunk for chunk in missed | dirty for page in layout.pages(chunk)
            for at, _ in layout.places(page) if at == role}
    need(copied >= here & missed and copied <= here,
         f'{len(copied)} chunks were copied to the member, it had missed {len(here & missed)}: '
         f'{len(copied - here)} too many, {len(here & missed - copied)} too few')
    settle(array)
    array.equal_over()
    holds(array, 2, 0, '3c')
    holds(array, 4, 2, '69')
    holds(array, 14, 6)
    holds(array, 8, 20, '96')
    equal(array.sync('check'), 0, 'mismatch_cnt')


@lanes('stock', 'uml-long', 'backports', 'kcsan-long', 'rt-long')
def test_readd_raid1():
    readded(1)


@lanes('long')
def test_readd_raid10():
    readded(10)


@lanes('stock')
def test_readd_raid5():
    readded(5)


def replaced(level):
    """A used disk in the place of a failed one gets every written chunk."""
    disks = ramdisks(DISKS[level] + 1)
    array = make(level, members=disks[:-1], chunk=512)
    # One area far from the others: on raid10's members it is elsewhere than on the array.
    far = array.bytes() // MIB - 8
    filled(array, 24)
    filled(array, 4, far, '69')
    gone, new = array.members[0], disks[-1]
    garbage(new)
    fail(array, gone)
    fio.fill(array.path, '96', 20 * MIB, 8 * MIB)
    run('mdadm', array.path, '--add', new)
    array.members = disks[1:]
    array.wait_whole()
    holds(array, 20)
    holds(array, 4, far, '69')
    settle(array)
    only(array, disk.written(array.cells()))
    array.equal_over()
    holds(array, 8, 20, '96')
    equal(array.sync('check'), 0, 'mismatch_cnt')
    # What was never written may be garbage on the new disk: written now, it counts.
    filled(array, 8, 30, '3c')
    array.equal_over()
    holds(array, 8, 30, '3c')


@lanes('stock', 'backports-long')
def test_fresh_disk_raid1():
    replaced(1)


@lanes('long')
def test_fresh_disk_raid10():
    replaced(10)


@lanes('stock', 'uml-long')
def test_fresh_disk_raid5():
    replaced(5)


@lanes('stock')
def test_writes_while_degraded_then_cut_short():
    """A raid1 that is stopped while degraded and started again still knows what
    the missing member missed."""
    array = make(1)
    filled(array, 8)
    gone = array.members[1]
    fail(array, gone)
    fio.fill(array.path, '96', 4 * MIB, 8 * MIB)
    array.stop()
    array.assemble('--run', members=array.members[:1])
    marked = disk.not_clean(disk.cells(array.members[:1]))
    missed = chunks_of(array, range(4 * MIB, 12 * MIB, fio.BLOCK))
    need(missed <= marked, f'{len(missed - marked)} missed chunks are not marked after a stop')
    run('mdadm', array.path, '--re-add', gone)
    array.wait_whole()
    array.quick()
    settle(array)
    array.equal_over()
    holds(array, 8, 4, '96')
    equal(array.sync('check'), 0, 'mismatch_cnt')


def discarded(level):
    """A discard that covers a chunk makes it Unwritten; one that covers a part
    of it does not, and the rest of its data stays."""
    array = make(level, chunk=512)
    limit = int(read(f'/sys/block/{array.name}/queue/discard_max_bytes'))
    need(limit > 0, 'the array takes no discards')
    filled(array, 16)
    before = disk.written(array.cells())
    chunk = array.metadata()['chunksize'] * 512
    run('blkdiscard', '-o', str(4 * MIB), '-l', str(2 * MIB), array.path)  # whole chunks
    run('blkdiscard', '-o', str(10 * MIB), '-l', str(chunk // 2), array.path)  # half of one
    gone = chunks_of(array, range(4 * MIB, 6 * MIB, fio.BLOCK))
    time.sleep(1)
    settle(array)
    only(array, before - gone)
    for start, end in ((0, 4), (6, 10), (11, 16)):
        holds(array, end - start, start)
    need(all_zero(array.path, 4 * MIB, 2 * MIB), 'discarded blocks are not zero')
    wrong = fio.wrong_blocks(array.path, 10 * MIB + chunk // 2, MIB - chunk // 2,
                             lambda offset: [fio.filled('c3', offset)])
    need(not wrong, f'{len(wrong)} blocks beside a discard are wrong')
    array.equal_over()
    fio.fill(array.path, '96', 5 * MIB, MIB)
    settle(array)
    holds(array, 1, 5, '96')
    array.equal_over()


@lanes('stock', 'uml-long')
def test_discard_raid1():
    discarded(1)


@lanes('long')
def test_discard_raid10():
    discarded(10)


@lanes('stock', 'uml-long')
def test_grow_size():
    """Old chunks keep their states and data, new ones begin Unwritten."""
    array = make(1, mib=32)
    filled(array, 12)
    before = disk.written(array.cells())
    run('mdadm', '--grow', array.path, '--size=64M')
    array.wait_idle()
    need(array.bytes() >= 63 * MIB, f'the array has {array.bytes()} bytes')
    sups = disk.supers(array.members)
    equal(sups[0].sync_size, sups[0].size, 'sync_size')
    array.quick()
    settle(array)
    need(before <= disk.written(array.cells()), 'old chunks are forgotten')
    holds(array, 12)
    filled(array, 8, 50, '96')
    holds(array, 8, 50, '96')
    array.equal_over()
    array.stop()
    array.assemble()
    array.wait_idle()
    holds(array, 12)
    holds(array, 8, 50, '96')
    equal(array.sync('check'), 0, 'mismatch_cnt')


def removed(level):
    """--grow --bitmap=none under writes: afterwards nothing is unsynced."""
    disks = ramdisks(DISKS[level])
    for number, path in enumerate(disks):
        write_at(path, 30 * MIB, bytes([1 << number]) * MIB)  # XOR: not 0
    array = make(level, members=disks, mib=32, chunk=512)
    filled(array, 8)
    running = fio.Running(array.path, '96', 16 * MIB, 8 * MIB, '--rate_iops=100')
    before = array.writes()
    wait_until('fio has written', lambda: array.writes() > before + 20, 60)
    try:
        run('mdadm', '--grow', array.path, '--bitmap=none')
    finally:
        acked, _ = running.stop(time.monotonic())
    need('[none]' in array.attribute('bitmap_type').split() or
         not os.path.exists(f'{array.sysfs}/llbitmap'), 'the bitmap is still there')
    array.wait_idle()
    holds(array, 8)
    wrong = fio.wrong_blocks(array.path, 16 * MIB, 8 * MIB, lambda offset: (
        [fio.block('96', offset)] if offset in acked else []))
    need(not wrong, f'{len(wrong)} blocks are wrong')
    equal(array.sync('check'), 0, 'mismatch_cnt over the whole array')
    if in_tree():
        return
    unload()
    need(not loaded(), 'the module is in use by nobody and stays')
    holds(array, 8)
    load()


@lanes('stock', 'uml-long')
def test_bitmap_none_raid1():
    removed(1)


@lanes('long')
def test_bitmap_none_raid5():
    removed(5)


@lanes('stock')
def test_live_addition():
    """A lockless bitmap is not taken by a running array (md would make the classic one's
    files for it): refused, the array goes on without one, and data is unharmed."""
    array = make(1)
    filled(array, 8)
    array.stop()
    before = disk.supers(array.members)[0]
    array.assemble()
    run('mdadm', '--grow', array.path, '--bitmap=none')
    array.wait_idle()
    for path in array.members:  # the header may still be there
        with Direct(path) as device:
            need(device.read(before.bitmap, 4096)[:4] == b'bitm', 'no header is left')
    try:
        write(f'{array.sysfs}/bitmap/location', f'+{before.bitmap_offset}')
    except OSError:
        pass
    else:
        raise Failure('a running array took a lockless bitmap')
    equal(read(f'{array.sysfs}/bitmap/location'), 'none', 'bitmap/location')
    fio.fill(array.path, '96', 4 * MIB, 4 * MIB)
    holds(array, 4)
    holds(array, 4, 4, '96')
    array.stop()
    array.assemble()
    holds(array, 4, 4, '96')
    equal(array.sync('check'), 0, 'mismatch_cnt')


@lanes('stock', 'uml-long')
def test_stacked_arrays():
    """A lockless raid1 over two lockless raid1, all of them written at once."""
    disks = ramdisks(4)
    low = [make(1, members=disks[:2], mib=64, number=1),
           make(1, members=disks[2:], mib=64, number=2)]
    top = make(1, members=[array.path for array in low], mib=48, number=0)
    running = fio.Running(top.path, '96', 16 * MIB, 16 * MIB, '--rate_iops=200')
    try:
        fio.fill(top.path, 'c3', 0, 12 * MIB)
        time.sleep(2)
    finally:
        acked, _ = running.stop(time.monotonic())
    for array in [top] + low:
        settle(array)
        array.equal_over()
    holds(top, 12)
    wrong = fio.wrong_blocks(top.path, 16 * MIB, 16 * MIB, lambda offset: (
        [fio.block('96', offset)] if offset in acked else []))
    need(not wrong, f'{len(wrong)} blocks are wrong')
    top.stop()
    for array in low:
        array.stop()
    for array in low:
        array.assemble()
    top.assemble()
    top.wait_idle()
    holds(top, 12)


@lanes('stock', 'uml-long')
def test_two_arrays():
    """One's members are frozen: the other goes on, is cleaned, and stops."""
    mapped = ramdisks(2, mib=64)
    slow = Array(1, mapped).create(1, '--size=32M')
    fast = make(1, members=['/dev/ram2', '/dev/ram3'])
    for path in fast.members:
        run('blkdiscard', '-f', path)
    fast.stop()
    fast = make(1, members=fast.members)
    running = fio.Running(slow.path, '96', 0, 8 * MIB, '--rate_iops=50')
    try:
        wait_until('fio has written', lambda: slow.writes() > 10, 60)
        for number in range(2):
            run('dmsetup', 'suspend', '--noflush', '--nolockfs', f'ram{number}')
        frozen = slow.writes()
        filled(fast, 8)
        holds(fast, 8)
        fast.equal_over()
        fast.stop()
        need(slow.writes() == frozen, 'the members were not frozen')
    finally:
        for number in range(2):
            run('dmsetup', 'resume', f'ram{number}')
        running.stop(0)
    settle(slow)
    slow.equal_over()


@lanes('stock', 'uml-long')
def test_proactive_sync():
    """Parity over members of garbage: afterwards all stripes are consistent,
    and written ones still are after a cut."""
    disks = ramdisks(3)
    for path in disks:
        garbage(path)
    array = make(5, members=disks, mib=24, chunk=512)
    filled(array, 8)
    written = disk.written(array.cells())
    array.set('llbitmap/proactive_sync', 1)
    array.wait_idle()
    wait_until('all chunks built on the members', lambda: all(
        set(one) <= {disk.CLEAN, disk.CLEAN_UNWRITTEN} for one in array.cells()), 60)
    everything = set(range(array.metadata()['chunks']))
    array.equal_over(everything)
    for one in array.cells():
        equal({chunk for chunk in everything if one[chunk] == disk.CLEAN}, written,
              'chunks with data')
    holds(array, 8)
    fio.fill(array.path, '96', 24 * MIB, 4 * MIB, rw='randwrite')
    settle_clean = {disk.CLEAN, disk.CLEAN_UNWRITTEN}
    array.wait_idle()
    wait_until('written chunks Clean', lambda: all(
        set(one) <= settle_clean for one in array.cells()), 30)
    array.equal_over(everything)
    for value in ('text', '18446744073709551616'):
        try:
            array.set('llbitmap/proactive_sync', value)
        except OSError as error:
            need(error.errno in (22, 34), f'proactive_sync = {value!r}: {error}')
        else:
            raise Failure(f'proactive_sync = {value!r} was taken')


def loop_4k(number, mib):
    """A loop device with blocks of 4096 bytes."""
    run('modprobe', 'loop')
    path = f'/dev/shm/loop{number}'
    with open(path, 'wb') as file:
        file.truncate(mib * MIB)
    return run('losetup', '--find', '--show', '-b', '4096', path).strip()


@lanes('stock')
def test_4k_blocks():
    """Members with blocks of 4096 bytes."""
    loops = [loop_4k(number, 64) for number in range(2)]
    try:
        array = make(1, members=loops)
        equal(read(f'/sys/block/{array.name}/queue/logical_block_size'), '4096', 'block size')
        filled(array, 12)
        only(array, chunks_of(array, range(0, 12 * MIB, fio.BLOCK)))
        array.equal_over()
        fio.fill(array.path, '96', 8 * MIB, 8 * MIB)
        array.stop()
        equal(disk.not_clean(array.cells()), set(), 'chunks not clean after a stop')
        array.assemble()
        array.wait_idle()
        holds(array, 8)
        holds(array, 8, 8, '96')
        array.stop()
    finally:
        for path in loops:
            run('losetup', '-d', path, ok=None)


@lanes('stock')
def test_mixed_block_sizes():
    """One member with blocks of 512 bytes, one of 4096; then another of 4096."""
    disk_512, loops = ramdisks(1)[0], [loop_4k(number, 128) for number in range(2)]
    array = make(1, members=[disk_512, loops[0]])
    equal(read(f'/sys/block/{array.name}/queue/logical_block_size'), '4096', 'block size')
    filled(array, 12)
    array.equal_over()
    fail(array, disk_512)
    fio.fill(array.path, '96', 8 * MIB, 8 * MIB)
    run('mdadm', array.path, '--add', loops[1])
    array.members = loops
    array.wait_whole(30)
    settle(array)
    only(array, disk.written(array.cells()))
    array.equal_over()
    holds(array, 8)
    holds(array, 8, 8, '96')


@lanes('stock', 'uml', 'kcsan-long', 'rt-long')
def test_members_come_and_go():
    """Fail, remove and re-add again and again under writes."""
    array = make(1)
    running = fio.Running(array.path, '96', 0, 32 * MIB, '--rate_iops=150')
    try:
        for turn in range(4):
            gone = array.members[turn % 2]
            fail(array, gone)
            seen = array.writes()
            wait_until('it misses writes', lambda: array.writes() >= seen + 20)  # pylint: disable=cell-var-from-loop
            run('mdadm', array.path, '--re-add', gone)
            array.wait_whole()
    finally:
        acked, _ = running.stop(time.monotonic())
    settle(array)
    array.equal_over()
    wrong = fio.wrong_blocks(array.path, 0, 32 * MIB, lambda offset: (
        [fio.block('96', offset)] if offset in acked else []))
    need(acked and not wrong, f'{len(wrong)} blocks of {len(acked)} are wrong')
    equal(array.sync('check'), 0, 'mismatch_cnt')


@lanes('stock', 'uml', 'kcsan-long', 'rt-long')
def test_sysfs_while_starting_and_stopping():
    """Everything in llbitmap/ is read while arrays start, are written and stop."""
    done = threading.Event()

    def reader():
        while not done.is_set():
            for name in ('bits', 'metadata', 'daemon_sleep', 'barrier_idle', 'resync_budget', 'crash_bytes',
                         'stats', 'cells'):
                try:
                    read(f'/sys/block/md0/md/llbitmap/{name}')
                except OSError:
                    pass
    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        array = make(1, mib=16)
        for _ in range(4):
            fio.fill(array.path, '96', 0, 2 * MIB)
            array.stop()
            array.assemble()
        holds(array, 2, 0, '96')
    finally:
        done.set()
        for thread in threads:
            thread.join()
