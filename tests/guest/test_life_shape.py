# SPDX-License-Identifier: GPL-2.0
"""Size, number of disks, level and chunk size change under data: right, or refused in one
line with nothing moved."""

import time

from llb import disk, fio
from llb.array import Array, ramdisks
from llb.life import (DISKS, MIB, Data, add, kernel_log, layout_of, lose, make, refused,
                      running, settle, used, whole)
from llb.sh import copy_device, equal, need, run, wait_until

KIB = 1 << 10


def parts(array, step=1232 * KIB):
    return [offset // fio.BLOCK * fio.BLOCK
            for offset in range(0, array.bytes() - MIB, step)]


def geometry_agrees(array):
    metadata = array.metadata()
    for sup in disk.supers(array.members):
        equal((sup.chunks, sup.chunk), (metadata['chunks'], metadata['chunksize']),
              'geometry on disk')
    equal(sum(array.bits().values()), metadata['chunks'], 'sum of llbitmap/bits')


def again(array, data):
    """Stopped and assembled: all is still as it was."""
    array.stop()
    array.assemble()
    array.quick()
    settle(array)
    geometry_agrees(array)
    data.holds()
    whole(array)


def fresh(level, count, mib=None):
    """Used disks for parity. Copies of a chunk of which a part was never written agree only
    if the disks did: zeros for mirrors."""
    return ramdisks(count, mib) if level in (1, 10) else used(count, mib)


def resized(level, *extra):
    array = make(level, *extra, members=fresh(level, DISKS[level]), mib=24)
    data = Data(array)
    data.fill(0, 6)
    data.sprinkle(parts(array))
    settle(array)
    run('mdadm', '--grow', array.path, '--size=56M')
    array.wait_idle()
    geometry_agrees(array)
    data.holds()
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    settle(array)
    data.holds()
    whole(array)
    again(array, data)
    # Smaller: what is behind the new end goes, the rest stays.
    size = array.bytes() // 56 * 32
    run('mdadm', '--grow', array.path, f'--array-size={size // KIB}')
    run('mdadm', '--grow', array.path, '--size=32M')
    data.cut_to(array.bytes())
    array.wait_idle()
    geometry_agrees(array)
    data.holds()
    data.sprinkle([offset + 24 * KIB for offset in parts(array)], '69')
    settle(array)
    whole(array)
    again(array, data)
    # And larger again: what lies there is from another time.
    run('mdadm', '--grow', array.path, '--size=48M')
    array.wait_idle()
    data.sprinkle([offset + 40 * KIB for offset in parts(array)], '5a')
    settle(array)
    data.holds()
    whole(array)
    lose(array, array.members[0])
    data.holds()


# lanes: long
def test_size_raid1():
    resized(1)


# lanes: long
def test_size_raid10():
    resized(10)


# lanes: long
def test_size_raid5():
    resized(5)


# lanes: long
def test_size_raid6():
    resized(6)


# lanes: stock
def test_size_raid10_far_is_refused():
    """md itself cannot: nothing moves."""
    array = make(10, '--layout=f2', mib=24)
    data = Data(array)
    data.fill(0, 6)
    settle(array)
    before = array.bytes(), array.metadata(), array.cells()
    refused('mdadm', '--grow', array.path, '--size=40M')
    equal((array.bytes(), array.metadata(), array.cells()), before, 'size and bitmap')
    data.holds()
    whole(array)


# lanes: long
def test_larger_members_raid1():
    """The members are exchanged for larger ones, one after the other, then the array
    is made as large as they are."""
    disks = ramdisks(4)
    small = disks[:2]
    for number, path in enumerate(small):
        run('dmsetup', 'create', f'small{number}', '--table', f'0 {40 * 2048} linear {path} 0')
    members = [f'/dev/mapper/small{number}' for number in range(2)]
    array = make(1, members=members, size=False)
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    for old, new in zip(members, disks[2:]):
        add(array, new)
        run('mdadm', array.path, '--replace', old, '--with', new)
        wait_until('replaced', lambda path=old: run(
            'mdadm', array.path, '--remove', path, ok=None)[0] == 0, 60)
        array.members = [path for path in array.members if path != old] + [new]
        array.wait_whole()
    run('mdadm', '--grow', array.path, '--size=max')
    array.wait_idle()
    need(array.bytes() > 100 * MIB, f'the array has {array.bytes()} bytes')
    geometry_agrees(array)
    data.holds()
    data.fill(80, 8, '3c')
    settle(array)
    whole(array)
    again(array, data)


# lanes: long
def test_disks_raid1():
    """One more copy, then one less."""
    disks = used(3)
    array = make(1, members=disks[:2], mib=32)
    data = Data(array)
    data.fill(0, 6)
    data.sprinkle(parts(array))
    settle(array)
    add(array, disks[2])
    run('mdadm', '--grow', array.path, '-n3')
    array.members = disks
    array.wait_whole()
    settle(array)
    data.holds()
    # The rest of a chunk that was written in part is what the disks held before.
    whole(array, layout_of(array).chunks_at(range(0, 6 * MIB, fio.BLOCK)), check=False)
    lose(array, disks[0])
    run('mdadm', '--grow', array.path, '-n2')
    array.members = disks[1:]
    array.wait_idle()
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    settle(array)
    data.holds()
    lose(array, disks[1])
    data.holds()


def reshaped(array):
    wait_until('the reshape is done', lambda: array.attribute('sync_action') != 'reshape' and
               array.attribute('reshape_position') == 'none', 80)
    # mdadm watches it in the background, and bounds what comes next if it is late.
    wait_until('mdadm is done', lambda: run('pgrep', '-x', 'mdadm', ok=None)[0] != 0, 60)
    array.set('sync_max', 'max')
    array.wait_whole()


def grown(level, extra_disks, interrupt):
    """More disks, written meanwhile; perhaps stopped in the middle and assembled."""
    count = DISKS[level]
    disks = fresh(level, count + extra_disks)
    array = make(level, members=disks[:count], mib=24)
    data = Data(array)
    data.fill(0, 4)
    data.sprinkle(parts(array))
    settle(array)
    add(array, *disks[count:])
    array.set('sync_speed_min', 1)
    array.set('sync_speed_max', 3000 if interrupt else 30000)
    run('mdadm', '--grow', array.path, f'-n{count + extra_disks}')
    array.members = disks
    running(array, 'reshape')
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    if interrupt:
        need(array.attribute('sync_action') == 'reshape', 'the reshape was over too soon')
        array.stop()
        array.assemble()
        data.holds()
        array.quick()
    data.sprinkle([offset + 12 * KIB for offset in data_parts(data)], '5a')
    array.set('sync_speed_max', 2000000)
    array.set('sync_speed_min', 2000000)
    reshaped(array)
    geometry_agrees(array)
    data.holds()
    data.sprinkle([offset + 24 * KIB for offset in parts(array)], '69')
    settle(array)
    data.holds()
    whole(array)
    again(array, data)
    lose(array, array.members[1])
    data.holds()


def data_parts(data):
    return sorted(data.blocks)[2000:2012]


# lanes: long
def test_disks_raid5():
    grown(5, 1, interrupt=False)


# lanes: stock
def test_disks_interrupted_raid5():
    grown(5, 1, interrupt=True)


# lanes: long
def test_disks_interrupted_raid6():
    grown(6, 1, interrupt=True)


# lanes: long
def test_disks_raid10():
    grown(10, 2, interrupt=False)


# lanes: long
def test_disks_interrupted_raid10():
    grown(10, 1, interrupt=True)


def changed_or_refused(array, data, *change):
    """The change is made, or refused with nothing moved; in both cases the data is there.
    Returns whether it was made."""
    before = array.bytes(), array.metadata(), array.attribute('level')
    status, said = run('mdadm', '--grow', array.path, *change, ok=None)
    print(f'  {" ".join(change)}: status {status}: {" / ".join(said.strip().splitlines())}',
          flush=True)
    if status:
        need(said.strip(), f'{change} was refused without a word')
        equal((array.bytes(), array.metadata(), array.attribute('level')), before,
              'size, bitmap and level')
        array.wait_idle()
        data.holds()
        return False
    reshaped(array)
    array.quick()
    data.holds()
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    settle(array)
    data.holds()
    whole(array)
    again(array, data)
    return True


# lanes: long
def test_level_1_to_5():
    """A mirror becomes raid5 of two, then of three: its parity is built, not assumed."""
    disks = used(3)
    array = make(1, members=disks[:2], mib=32)
    data = Data(array)
    data.sprinkle(parts(array))
    settle(array)
    if changed_or_refused(array, data, '--level=5'):
        equal(array.attribute('level'), 'raid5', 'level')
        add(array, disks[2])
        array.members = disks
        run('rm', '-f', '/tmp/backup')
        need(changed_or_refused(array, data, '-n3', '--backup-file=/tmp/backup'), 'no third disk')
        lose(array, disks[0])
        data.holds()


# lanes: long
def test_level_5_to_6():
    disks = used(4)
    array = make(5, members=disks[:3], mib=24)
    data = Data(array)
    data.sprinkle(parts(array))
    settle(array)
    add(array, disks[3])
    run('rm', '-f', '/tmp/backup')
    array.members = disks[:4]
    changed_or_refused(array, data, '--level=6', '-n4', '--backup-file=/tmp/backup')
    equal(array.attribute('level'), 'raid6', 'level')
    equal(array.attribute('degraded'), '0', 'degraded')
    lose(array, disks[0])
    data.holds()


# lanes: long
def test_chunk_size_raid5():
    disks = used(3)
    array = make(5, members=disks, mib=24)
    data = Data(array)
    data.fill(0, 4)
    data.sprinkle(parts(array))
    settle(array)
    run('rm', '-f', '/tmp/backup')
    if changed_or_refused(array, data, '--chunk=128', '--backup-file=/tmp/backup'):
        equal(array.attribute('chunk_size'), str(128 * KIB), 'chunk_size')
    lose(array, disks[2])
    data.holds()


# lanes: long
def test_level_10_to_0_and_others_are_refused():
    """A level that has no redundancy has no bitmap: md refuses, nothing moves."""
    array = make(10, mib=24)
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    log = kernel_log()
    lose(array, array.members[1])
    lose(array, array.members[3])
    need(not changed_or_refused(array, data, '--level=0'), 'raid0 with a bitmap')
    equal(array.attribute('level'), 'raid10', 'level')
    print('  ' + ' / '.join(line for line in log() if 'raid0' in line or 'bitmap' in line))
    data.sprinkle(range(0, 4 * MIB, 400 * KIB), '3c')
    data.holds()


def cut_while_reshaping(level, count):
    """Power goes in the middle of a reshape, under writes: after it every byte is in its
    new or its old place, and in sync where the bitmap says so."""
    mapped = fresh(level, 2 * (count + 1), mib=56)[:count + 1]
    spares = [f'/dev/ram{number}' for number in range(count + 1, 2 * (count + 1))]
    for path in spares:
        run('dmsetup', 'remove', path.removeprefix('/dev/'))
        run('blkdiscard', '-f', path)
    array = make(level, members=mapped[:count], mib=40)
    data = Data(array)
    data.fill(0, 4)
    data.sprinkle(parts(array))
    settle(array)
    add(array, mapped[count])
    array.set('sync_speed_min', 1)
    array.set('sync_speed_max', 3000)
    run('mdadm', '--grow', array.path, f'-n{count + 1}')
    array.members = mapped
    running(array, 'reshape')
    size = array.bytes() // MIB * MIB
    writer = fio.Running(array.path, '5a', 8 * MIB, size - 8 * MIB, '--rate_iops=60')
    try:
        before = array.writes()
        wait_until('fio writes', lambda: array.writes() > before + 60, 60, 0.02)
        begun = time.monotonic()
        run('dmsetup', 'suspend', '--noflush', '--nolockfs', *mapped)
        try:
            need(array.attribute('sync_action') == 'reshape', 'the reshape is over')
            for source, target in zip(mapped, spares):
                copy_device(source.replace('mapper/', ''), target)
        finally:
            for path in mapped:
                run('dmsetup', 'resume', path)
    finally:
        acked, touched = writer.stop(begun)
    array.stop()
    for path in mapped:
        run('blkdiscard', '-f', path)
    data.acknowledged('5a', acked, touched)
    after = Array(1, spares)
    after.assemble()
    after.quick()
    reshaped(after)
    settle(after)
    geometry_agrees(after)
    data.holds(after)
    whole(after)
    lose(after, spares[1])
    data.holds(after)


# lanes: long
def test_cut_while_reshaping_raid5():
    cut_while_reshaping(5, 3)


# lanes: long
def test_cut_while_reshaping_raid10():
    cut_while_reshaping(10, 3)
