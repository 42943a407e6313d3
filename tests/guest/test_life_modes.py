# SPDX-License-Identifier: GPL-2.0
"""Read-only, interrupted and bounded resyncs, write-mostly members, removal of the bitmap:
each with chunks that are not in sync."""

import os
import time

from llb import disk, fio
from llb.array import ramdisks
from llb.lanes import lanes
from llb.arrays import make, settle
from llb.life import MIB, Data, cut, fast, freeze, lose, running, slow, thaw, used, waiting, whole
from llb.sh import Direct, equal, need, run, wait_until, write
from llb.trace import Trace

KIB = 1 << 10


def parts(array, step=400 * KIB):
    return [offset // fio.BLOCK * fio.BLOCK for offset in range(0, array.bytes() - MIB, step)]


def differ(array, chunks):
    """Makes the copies of these chunks differ behind md's back: the last copy, or parity."""
    order, sup = disk.by_role(array.members)
    layout = disk.layout_of(array)
    for chunk in chunks:
        sector = chunk * sup.chunk + 16
        role, at = layout.places(sector)[-1]
        if layout.parities:
            role = layout.disks - 1 - sector // layout.raid_chunk % layout.disks
        with Direct(order[role], writable=True) as device:
            device.write((sup.data_offset + at) * disk.SECTOR, b'\x5c' * 4096)


def unsynced(level, *extra, mib=48):
    """A whole array, all of it written, whose every chunk waits for a sync and every fifth
    differs between the members; frozen."""
    array = make(level, *extra, mib=mib)
    data = Data(array)
    data.fill(0, array.bytes() // MIB)
    settle(array)
    freeze(array)
    chunks = array.metadata()['chunks']
    array.set('bitmap_set_bits', f'0-{chunks - 1}')
    equal(waiting(array), chunks, 'chunks that wait for a sync')
    differ(array, range(0, chunks, 5))
    return array, data


def removed(level):
    """--grow --bitmap=none with chunks that are not in sync: afterwards all are. md does
    not remove it while frozen or while a sync runs: so when one has just been done, and
    the next is not asked for within barrier_idle."""
    array, data = unsynced(level, mib=24)
    array.set('llbitmap/barrier_idle', 40)
    thaw(array)
    running(array, 'resync')
    wait_until('resynchronised', lambda: array.attribute('sync_action') == 'idle', 60)
    chunks = array.metadata()['chunks']
    array.set('bitmap_set_bits', f'0-{chunks - 1}')
    differ(array, range(0, chunks, 5))
    equal((array.attribute('sync_action'), waiting(array)), ('idle', chunks),
          'sync_action and chunks that wait')
    run('mdadm', '--grow', array.path, '--bitmap=none')
    need(not os.path.exists(f'{array.sysfs}/llbitmap'), 'the bitmap is still there')
    wait_until('idle', lambda: array.attribute('sync_action') == 'idle' and
               array.attribute('resync_start') == 'none', 60)
    data.holds()
    equal(array.sync('check'), 0, 'mismatch_cnt')
    lose(array, array.members[0])
    data.holds()


@lanes('long')
def test_bitmap_none_unsynced_raid10():
    removed(10)


@lanes('long')
def test_bitmap_none_unsynced_raid6():
    removed(6)


@lanes('long')
def test_bitmap_none_never_written_raid6():
    """Parity that was never built, over used disks."""
    array = make(6, members=used(4), mib=24)
    data = Data(array)
    data.sprinkle(parts(array)[:5])
    run('mdadm', '--grow', array.path, '--bitmap=none')
    wait_until('idle', lambda: array.attribute('sync_action') == 'idle' and
               array.attribute('resync_start') == 'none', 60)
    equal(array.sync('check'), 0, 'mismatch_cnt')
    data.sprinkle(parts(array), '3c')
    lose(array, *array.members[:2])
    data.holds()


def interrupted(level, how):
    """A resync that is stopped in the middle, several times: at the end all is in sync,
    what was done is not done again, and nothing else counts as done."""
    array, data = unsynced(level)
    chunks = array.metadata()['chunks']
    slow(array, 4000)
    thaw(array)
    done = 0
    for turn in range(2):
        running(array, 'resync')
        wait_until('it goes on', lambda: int(array.attribute('sync_completed').split()[0]) > 0
                   if '/' in array.attribute('sync_completed') else waiting(array) == 0, 30, 0.02)
        time.sleep(2.2)  # the daemon ends chunks every daemon_sleep
        data.sprinkle(parts(array)[turn::7], '3c')
        if how == 'stop':
            array.stop()
            left = disk.not_clean(array.cells())
        else:
            freeze(array)
            left = disk.not_clean(array.cells())
        # What no byte calls unsynced is in sync, byte for byte.
        whole(array, set(range(chunks)) - left, check=False) if len(left) < chunks else None
        done = max(done, chunks - len(left))
        if how == 'stop':
            array.assemble()
            array.quick()
            slow(array, 4000)
        else:
            thaw(array)
    need(waiting(array), 'the resync was over before it was interrupted')
    print(f'  {done} of {chunks} chunks were done when it was interrupted last', flush=True)
    fast(array)
    settle(array)
    data.holds()
    whole(array, range(chunks))


@lanes('long')
def test_resync_interrupted_raid1():
    interrupted(1, 'freeze')


@lanes('long')
def test_resync_interrupted_raid10():
    interrupted(10, 'freeze')


@lanes('long')
def test_resync_interrupted_by_stop_raid5():
    interrupted(5, 'stop')


@lanes('stock')
def test_resync_checkpointed_then_cut_raid1():
    """The daemon ends chunks while a long resync goes on; then power goes: what the copies
    call Clean is in sync, and the rest is done after the restart."""
    disks = ramdisks(4)
    array = make(1, members=disks[:2])
    data = Data(array)
    data.fill(0, 46)
    settle(array)
    freeze(array)
    chunks = array.metadata()['chunks']
    array.set('bitmap_set_bits', f'0-{chunks - 1}')
    differ(array, range(0, chunks, 5))
    slow(array, 4000)
    # It stands still there: so that the members are copied as of one instant.
    bound = 300 * array.metadata()['chunksize'] + 64
    array.set('sync_max', bound)
    thaw(array)
    running(array, 'resync')
    wait_until('it stands still', lambda: array.attribute('sync_completed').split()[0] ==
               str(bound), 60)
    wait_until('ended chunks are Clean', lambda: array.cells()[0].count(disk.CLEAN) > 50, 30)
    need(array.attribute('sync_action') == 'resync', 'the resync is over')
    after = cut(array, disks[2:])
    left = disk.not_clean(after.cells())
    whole(after, set(range(chunks)) - left, check=False)
    after.assemble()
    after.quick()
    settle(after)
    data.holds(after)
    whole(after, range(chunks))


def bounded(level, action):
    """sync_min and sync_max in the middle of chunks: only whole chunks are ended."""
    array, data = unsynced(level, *([] if level == 1 else ['--chunk=32']))
    chunk = array.metadata()['chunksize']
    low, high = chunk * 40 + chunk // 2, chunk * 200 + chunk // 2
    array.set('sync_max', high)
    if action == 'repair':
        array.set('sync_min', low)
        array.set('sync_action', 'repair')
    else:
        thaw(array)
        running(array, 'resync')
    wait_until('it stands at the bound', lambda: array.attribute('sync_completed').split()[0] ==
               str(high), 60)
    array.set('sync_action', 'frozen')
    # All that is called in sync is.
    chunks = array.metadata()['chunks']
    claimed = set(range(chunks)) - disk.not_clean(array.cells())
    if claimed:
        whole(array, claimed, check=False)
    array.set('sync_max', 'max')
    if action == 'repair':
        array.set('sync_min', 0)
    thaw(array)
    settle(array)
    data.holds()
    whole(array, range(chunks))


@lanes('long')
def test_resync_max_raid1():
    bounded(1, 'resync')


@lanes('long')
def test_resync_max_raid10():
    bounded(10, 'resync')


@lanes('long')
def test_repair_min_max_raid1():
    bounded(1, 'repair')


@lanes('long')
def test_repair_min_max_raid5():
    bounded(5, 'repair')


@lanes('stock')
def test_read_only():
    """Read-only: nothing is written to the members, by nobody; --readwrite goes on."""
    array = make(1)
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    data.sprinkle(parts(array)[:10], '3c')
    run('mdadm', '--readonly', array.path)
    equal(array.attribute('array_state'), 'readonly', 'array_state')
    equal(disk.not_clean(array.cells()), set(), 'chunks not clean in a read-only array')
    before = array.cells()
    with Trace(array.members) as trace:
        data.holds()
        need(run('dd', 'if=/dev/zero', f'of={array.path}', 'bs=4k', 'count=1', 'oflag=direct',
                 ok=None)[0] != 0, 'a read-only array was written')
        time.sleep(2.5)  # several times daemon_sleep
    equal([bio for bio in trace.bios if bio[1] != 'R'], [], 'writes to the members')
    equal(array.cells(), before, 'state bytes')
    array.readwrite()
    data.sprinkle(parts(array)[10:20], '69')
    settle(array)
    data.holds()
    whole(array)


@lanes('long')
def test_auto_read_only_after_a_cut():
    """Assembled after a cut, it waits: no resync, no write; stopped like that it still
    knows what to do, and does it at the first write."""
    disks = ramdisks(4)
    array = make(1, members=disks[:2])
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    freeze(array)
    array.set('bitmap_set_bits', '3-9')
    differ(array, range(3, 10))
    after = cut(array, disks[2:])
    left = disk.not_clean(after.cells())  # these and neighbours that were covered
    need(left >= set(range(3, 10)), f'chunks not clean: {sorted(left)}')
    write('/sys/module/md_mod/parameters/start_ro', 1)
    after.assemble(readwrite=False)
    equal(after.attribute('array_state'), 'read-auto', 'array_state')
    before = after.cells()
    with Trace(after.members) as trace:
        with Direct(after.path) as device:
            device.read(0, MIB)
        time.sleep(1)
        after.stop()
    equal([bio for bio in trace.bios if bio[1] != 'R'], [], 'writes to the members')
    equal(after.cells(), before, 'state bytes')
    after.assemble(readwrite=False)
    equal(waiting(after), len(left), 'chunks that wait')
    data.array = after
    data.sprinkle([40 * MIB], '3c')  # the first write
    after.quick()
    settle(after)
    whole(after)
    data.holds()
