# SPDX-License-Identifier: GPL-2.0
"""Raid4/5/6 over used disks: parity is built when it is first needed. It is computed
again from the members here, byte for byte, after each of these: first writes to parts of
chunks, a power cut, one member less, two members less, a build that is disturbed."""

import os
import time

from llb import disk, fio, mapped
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import (MIB, Data, add, cut, fail, fast, freeze, lose, remove, replace, running,
                      slow, thaw, unequal, used, waiting, whole)
from llb.sh import Direct, equal, need, run, wait_until

KIB = 1 << 10
PARTS = range(0, 24 * MIB, 1232 * KIB)  # 20 places, every one in another stripe
PARTS_OF_4 = [offset // fio.BLOCK * fio.BLOCK for offset in PARTS]
MORE = [offset + 8 * KIB for offset in PARTS_OF_4]
BUILT = (disk.CLEAN_UNWRITTEN,)


def first_writes(level):
    """A first write of 4 KiB makes the parity of its whole chunk valid, soon."""
    array = make(level, members=used(DISKS[level]), mib=32)
    data = Data(array)
    freeze(array)
    data.sprinkle(PARTS_OF_4)
    touched = disk.layout_of(array).chunks_at(PARTS_OF_4)
    equal(waiting(array), len(touched), 'chunks that wait for their parity')
    thaw(array)
    settle(array)
    equal(disk.written(array.cells()), touched, 'written chunks')
    whole(array)
    # Now read-modify-write may be used: parity is still right.
    data.sprinkle(MORE, '3c')
    settle(array)
    whole(array)
    data.holds()
    return array, data


def without_each(array, data, count=1):
    """Every member (two, for raid6) away in turn: the data is there."""
    for first in range(len(array.members)):
        gone = [array.members[(first + number) % len(array.members)] for number in range(count)]
        lose(array, *gone)
        data.holds()
        for path in gone:
            run('mdadm', array.path, '--re-add', path)
        array.wait_whole()


@lanes('long')
def test_lazy_raid4():
    without_each(*first_writes(4))


@lanes('stock', 'uml', 'kcsan-long', 'rt-long')
def test_lazy_raid5():
    without_each(*first_writes(5))


@lanes('long')
def test_lazy_raid6():
    array, data = first_writes(6)
    without_each(array, data, 2)
    settle(array)
    whole(array)


def cut_before_built(level, clean):
    """Power goes after the first writes and before their parity was built; also when
    md had marked the array clean meanwhile."""
    disks = used(2 * DISKS[level], mib=48)
    array = make(level, members=disks[:DISKS[level]], mib=32)
    freeze(array)
    array.set('safe_mode_delay', '0.1' if clean else '60')
    data = Data(array)
    data.sprinkle(PARTS_OF_4)
    if clean:
        wait_until('the array is clean', lambda: array.attribute('array_state') == 'clean', 20)
    need(waiting(array), 'nothing waits for its parity')
    after = cut(array, disks[DISKS[level]:])
    missing = disk.not_clean(after.cells())
    touched = disk.layout_of(after).chunks_at(PARTS_OF_4)
    need(touched <= missing, f'{len(touched - missing)} chunks without parity are not marked')
    after.assemble()
    after.quick()
    settle(after)
    data.holds(after)
    after_data = Data(after)
    after_data.blocks = data.blocks
    whole(after)
    lose(after, after.members[1])
    after_data.holds()


@lanes('long')
def test_cut_before_built_raid5():
    cut_before_built(5, clean=False)


@lanes('stock')
def test_cut_before_built_marked_clean_raid5():
    cut_before_built(5, clean=True)


@lanes('long')
def test_cut_before_built_raid6():
    cut_before_built(6, clean=True)


def lost_while_building(level, frozen):
    """Members fail while parity is being built, or waits for it: as many as the level
    survives, and the data is there, as it is with plain md after its first resync."""
    disks = used(DISKS[level] * 2, mib=48)
    array = make(level, members=disks[:DISKS[level]], mib=32)
    data = Data(array)
    if frozen:
        freeze(array)
    else:
        slow(array)
    data.sprinkle(PARTS_OF_4)
    if not frozen:
        running(array, 'resync')
    fail(array, disks[0])
    data.holds()
    data.sprinkle(MORE, '3c')  # degraded, some to the stripes that are half built
    if level == 6:
        fail(array, disks[1])
        data.holds()
        data.sprinkle([offset + 20 * KIB for offset in PARTS_OF_4], '69')
    data.holds()
    fast(array)
    thaw(array)
    gone = disks[:level - 4]
    remove(array, *gone)
    new = disks[DISKS[level]:DISKS[level] + len(gone)]
    add(array, *new)
    array.members = disks[len(gone):DISKS[level] + len(gone)]
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    lose(array, *array.members[:level - 4])
    data.holds()


@lanes('long')
def test_member_lost_while_building_raid5():
    lost_while_building(5, frozen=False)


@lanes('long')
def test_member_lost_before_building_raid5():
    lost_while_building(5, frozen=True)


@lanes('long')
def test_two_members_lost_while_building_raid6():
    lost_while_building(6, frozen=False)


@lanes('long')
def test_two_members_lost_before_building_raid6():
    lost_while_building(6, frozen=True)


@lanes('long')
def test_one_of_two_comes_back_raid6():
    """Two fail one after the other with writes between; only one place is filled at
    first: Q is not taken for built by a recovery that had nothing to compare it with."""
    disks = used(6, mib=48)
    array = make(6, members=disks[:4], mib=32)
    data = Data(array)
    data.sprinkle(PARTS_OF_4[:10])
    settle(array)
    lose(array, disks[0])
    data.sprinkle(PARTS_OF_4[10:], '3c')
    lose(array, disks[2])
    data.sprinkle(MORE, '69')
    add(array, disks[4])
    wait_until('the first is recovered', lambda: array.attribute('degraded') == '1' and
               array.attribute('sync_action') == 'idle', 60)
    data.holds()
    data.sprinkle([offset + 28 * KIB for offset in PARTS_OF_4], '5a')
    add(array, disks[5])
    array.members = [disks[1], disks[3], disks[4], disks[5]]
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    lose(array, disks[1], disks[5])
    data.holds()


def written_while_replaced(level):
    """First writes while a member is copied to its replacement: that copies blocks as they
    are and builds no parity, so these chunks still wait for it."""
    count = DISKS[level]
    disks = used(count + 1, mib=56)
    array = make(level, members=disks[:count], mib=40)
    data = Data(array)
    data.fill(0, 20)
    settle(array)
    add(array, disks[count])
    slow(array)
    replace(array, disks[0], disks[count])
    running(array, 'recover')
    ahead = [offset // fio.BLOCK * fio.BLOCK
             for offset in range(24 * MIB, 72 * MIB, 1232 * KIB)]
    data.sprinkle(ahead)
    need(array.attribute('sync_action') == 'recover', 'it was replaced too soon')
    fast(array)
    wait_until('replaced', lambda: run('mdadm', array.path, '--remove', disks[0], ok=None)[0] == 0,
               60)
    array.members = disks[1:]
    settle(array)
    whole(array)
    data.sprinkle([offset + 8 * KIB for offset in ahead], '3c')
    settle(array)
    lose(array, *array.members[:level - 4])
    data.holds()


@lanes('long')
def test_first_writes_while_replacing_raid5():
    written_while_replaced(5)


@lanes('long')
def test_first_writes_while_replacing_raid6():
    written_while_replaced(6)


def proactive(array):
    array.set('llbitmap/proactive_sync', 1)


def all_built(array, limit_s=90):
    array.wait_idle(limit_s)
    settle(array, limit_s, BUILT)
    need(not any(disk.UNWRITTEN in one for one in array.cells()), 'some chunks were not built')


@lanes('long')
def test_proactive_written_meanwhile_raid6():
    """Written to while parity is being built everywhere."""
    array = make(6, members=used(4, mib=48), mib=24)
    data = Data(array)
    slow(array, 4000)
    proactive(array)
    running(array, 'resync')
    writer = fio.Running(array.path, '96', 0, 40 * MIB, '--rate_iops=150')
    try:
        before = array.writes()
        wait_until('fio writes', lambda: array.writes() > before + 150, 60)
        fast(array)
        array.wait_idle()
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('96', acked, touched)
    array.set('llbitmap/proactive_sync', 1)  # for what a write took out of it
    all_built(array)
    data.holds()
    whole(array, range(array.metadata()['chunks']))
    without = array.members[:2]
    lose(array, *without)
    data.holds()


@lanes('long')
def test_proactive_aborted_and_cut_raid5():
    """Aborted half way, written to, asked for again, cut half way: what was written has
    its parity, and nothing that was not built is called built."""
    disks = used(6, mib=48)
    array = make(5, members=disks[:3], mib=32)
    data = Data(array)
    data.sprinkle(PARTS_OF_4[:10])
    settle(array)
    slow(array, 2000)
    proactive(array)
    running(array, 'resync')
    wait_until('some of it is done', lambda: array.bits()['syncing unwritten'] > 20, 30, 0.02)
    freeze(array)  # aborts it
    data.sprinkle(PARTS_OF_4[10:], '3c')
    data.holds()
    thaw(array)
    proactive(array)
    running(array, 'resync')
    wait_until('some of it is done', lambda: array.bits()['syncing unwritten'] > 20, 30, 0.02)
    after = cut(array, disks[3:])
    claimed = {chunk for chunk in range(len(after.cells()[0]))
               if all(one[chunk] in (disk.CLEAN, disk.CLEAN_UNWRITTEN) for one in after.cells())}
    bad, _ = unequal(after.members, claimed)
    need(not bad, f'{len(bad)} chunks are called built and are not: {sorted(bad)[:5]}')
    after.assemble()
    after.quick()
    settle(after, also=BUILT)
    data.holds(after)
    whole(after)
    lose(after, after.members[0])
    data.holds(after)


@lanes('long')
def test_proactive_then_another_disk_raid5():
    """Parity was built, and before that is called durable a used disk takes the place of
    a member. A recovery copies nothing where no data is: so nothing is built there now."""
    disks = used(4, mib=48)
    array = make(5, members=disks[:3], mib=32)
    data = Data(array)
    data.sprinkle(PARTS_OF_4)
    settle(array)
    array.set('llbitmap/daemon_sleep', 60)  # time enough for all that follows
    array.set('llbitmap/barrier_idle', 60)
    proactive(array)
    running(array, 'resync')
    wait_until('parity is built', lambda: array.attribute('sync_action') == 'idle', 60)
    lose(array, disks[0])
    add(array, disks[3])
    array.members = disks[1:]
    wait_until('recovered', lambda: array.attribute('degraded') == '0' and
               array.attribute('sync_action') == 'idle', 60)
    array.quick()
    settle(array, also=BUILT)
    claimed = {chunk for chunk, state in enumerate(array.cells()[0])
               if state in (disk.CLEAN, disk.CLEAN_UNWRITTEN)}
    bad, count = unequal(array.members, claimed)
    need(not bad, f'{len(bad)} of {count} chunks are called built and are not: {sorted(bad)[:5]}')
    data.holds()
    # What would be lost: written now, and then a member fails.
    data.sprinkle([offset + 36 * KIB for offset in PARTS_OF_4] +
                  list(range(40 * MIB, 48 * MIB, 300 * KIB)), '69')
    settle(array, also=BUILT)
    lose(array, disks[1])
    data.holds()


def delayed(path, read_ms):
    """A member whose reads take that long."""
    name, sectors = os.path.basename(path), Direct(path).bytes // disk.SECTOR
    lower = f'/dev/{name}'
    mapped.load(name, f'0 {sectors} delay {lower} 0 {read_ms} {lower} 0 0' if read_ms else
                f'0 {sectors} linear {lower} 0')


def stuck(array):
    """The sync has chunks under way, and goes no further: all but the slow one is read."""
    seen = []

    def same():
        seen.append(array.bits()['syncing'])
        return seen[-1] and seen[-5:] == [seen[-1]] * 5
    wait_until('the sync waits for the slow member', same, 20)


def lost_while_read(level):
    """A member fails when a sync has read it and still waits for another one. Raid5 keeps
    what it read of the failed member, and a recovery writes that, as if it were computed
    from the others: these stripes do not agree, and must not be called clean."""
    disks = used(DISKS[level] + level - 4, mib=48)
    array = make(level, members=disks[:DISKS[level]], mib=32)
    data = Data(array)
    freeze(array)
    data.sprinkle(PARTS_OF_4)
    delayed(disks[2], 5000)
    thaw(array)
    running(array, 'resync')
    stuck(array)
    gone = disks[:level - 4]
    fail(array, *gone)
    delayed(disks[2], 0)
    remove(array, *gone)
    array.wait_idle()
    add(array, *disks[DISKS[level]:])
    array.members = disks[len(gone):]
    array.wait_whole()
    settle(array)
    whole(array)
    data.holds()


@lanes('long')
def test_member_lost_while_read_raid5():
    lost_while_read(5)


@lanes('stock')
def test_member_lost_while_read_raid6():
    lost_while_read(6)


def read_while_degraded(level, back):
    """What was never written is read while a member is missing, and raid5 keeps what it
    computed from parity that was never built. The member that comes has something else
    there; the first write must not make parity from what was kept."""
    disks = used(DISKS[level] + 1, mib=48)
    array = make(level, members=disks[:DISKS[level]], mib=32)
    data = Data(array)
    lose(array, disks[0])
    with Direct(array.path) as device:
        for offset in PARTS_OF_4:
            device.read(offset // (128 * KIB) * 128 * KIB, 128 * KIB)
    if back:
        run('mdadm', array.path, '--re-add', disks[0])
    else:
        add(array, disks[DISKS[level]])
        array.members = disks[1:]
    array.wait_whole()
    data.sprinkle(PARTS_OF_4)
    settle(array)
    whole(array)
    data.sprinkle(MORE, '3c')
    settle(array)
    whole(array)
    data.holds()


@lanes('stock')
def test_read_while_degraded_raid5():
    read_while_degraded(5, back=False)


@lanes('long')
def test_read_while_degraded_then_back_raid5():
    read_while_degraded(5, back=True)


@lanes('long')
def test_read_while_degraded_raid6():
    read_while_degraded(6, back=False)


@lanes('long')
def test_recovered_under_load_raid5():
    """One disk after the other takes a member's place, under writes: md is quiesced and its
    stripe cache emptied each time, while somebody else changes the cache's size."""
    disks = used(4, mib=48)
    array = make(5, members=disks[:3], mib=24)
    data = Data(array)
    data.fill(0, 8)
    fast(array)
    writer = fio.Running(array.path, '96', 8 * MIB, 32 * MIB, '--rate_iops=200')
    try:
        for turn in range(4):
            lose(array, disks[turn % 4])
            add(array, disks[(turn + 3) % 4])
            wait_until('recovered', lambda size=256 + turn: [
                array.set('stripe_cache_size', size), array.attribute('degraded')][1] == '0', 60,
                0.02)
            wait_until('the cache has its size', lambda size=256 + turn:
                       array.attribute('stripe_cache_size') == str(size), 20)
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('96', acked, touched)
    array.members = [path for path in disks if path != disks[3]]
    array.wait_whole()
    settle(array)
    whole(array)
    data.holds()


def behind_recovery(level, written_mib=3, replaced=False):
    """First writes where a recovery has gone by, having skipped what was never written; it
    goes on, where so much was. The last of these disks is the new one, in the place of the first."""
    disks = used(DISKS[level] + 1)
    array = make(level, members=disks[:DISKS[level]], mib=112)
    data = Data(array)
    data.fill(10, written_mib)  # md calls what is behind in sync only in steps of a 16th of a member
    settle(array)
    slow(array, 50)
    if not replaced:
        lose(array, disks[0])
    add(array, disks[-1])
    if replaced:
        replace(array, disks[0], disks[-1])
    running(array, 'recover')
    data.sprinkle(range(4 * KIB, 10 * MIB, 132 * KIB))
    need(array.attribute('sync_action') == 'recover', 'it was recovered too soon')
    return array, data, disks


def from_the_members(array, data):
    """What is read is not the stripe cache's."""
    for size in (17, 81, 17):
        array.set('stripe_cache_size', size)
    data.holds()


def written_behind_recovery(level):
    """When it is over the next member may fail at once."""
    array, data, disks = behind_recovery(level)
    wait_until('recovered', lambda: array.attribute('degraded') == '0', 60, 0.01)
    fail(array, *disks[1:level - 3])
    from_the_members(array, data)


def failed_in_recovery(level, replaced, checkpoint):
    """A member fails before it is over: what it had is computed, and from what the new one has
    only where that is right. checkpoint: md came to one, behind those writes."""
    array, data, disks = behind_recovery(level, 12, replaced)
    if checkpoint:
        array.set('llbitmap/daemon_sleep', 1)
        wait_until('it comes to a checkpoint', lambda: array.attribute('sync_completed').split()[0] != '0', 60)
        need(array.attribute('sync_action') == 'recover', 'it was recovered too soon')
    fail(array, disks[1])
    wait_until('the recovery was stopped',
               lambda: array.attribute(f'dev-{os.path.basename(disks[1])}/slot') == 'none')
    from_the_members(array, data)
    fast(array)
    if level == 6:
        wait_until('recovered', lambda: array.attribute('degraded') == '1', 60)
        fail(array, disks[2])
        from_the_members(array, data)


@lanes('long')
def test_written_behind_recovery_raid5():
    written_behind_recovery(5)


@lanes('long')
def test_written_behind_recovery_raid6():
    written_behind_recovery(6)


@lanes('stock')
def test_failed_in_recovery_raid6():
    failed_in_recovery(6, replaced=False, checkpoint=False)


@lanes('long')
def test_failed_in_recovery_at_a_checkpoint_raid6():
    failed_in_recovery(6, replaced=False, checkpoint=True)


@lanes('long')
def test_failed_while_replaced_raid5():
    failed_in_recovery(5, replaced=True, checkpoint=False)


@lanes('long')
def test_failed_while_replaced_at_a_checkpoint_raid6():
    failed_in_recovery(6, replaced=True, checkpoint=True)
