# SPDX-License-Identifier: GPL-2.0
"""Size, number of disks, level and chunk size change under data: right, or refused in one
line with nothing moved."""

import os
import time

from llb import disk, fio
from llb.array import Array, ramdisks
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import (MIB, Data, add, fast, kernel_log, lose, refused, replace, running, slow,
                      used, whole)
from llb.sh import copy_device, equal, need, read, run, wait_until

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


@lanes('long')
def test_size_raid1():
    resized(1)


@lanes('long')
def test_size_raid10():
    resized(10)


@lanes('long')
def test_size_raid5():
    resized(5)


@lanes('long')
def test_size_raid6():
    resized(6)


@lanes('stock')
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


@lanes('long')
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
        replace(array, old, new)
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


@lanes('long')
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
    whole(array, disk.layout_of(array).chunks_at(range(0, 6 * MIB, fio.BLOCK)), check=False)
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
    slow(array, 3000 if interrupt else 30000)
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
    fast(array)
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


@lanes('long')
def test_disks_raid5():
    grown(5, 1, interrupt=False)


@lanes('stock')
def test_disks_interrupted_raid5():
    grown(5, 1, interrupt=True)


@lanes('long')
def test_disks_interrupted_raid6():
    grown(6, 1, interrupt=True)


@lanes('long')
def test_disks_raid10():
    grown(10, 2, interrupt=False)


@lanes('long')
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


@lanes('long')
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


@lanes('long')
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


@lanes('long')
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


# What mdadm or the kernel's log says to what is refused: src/tool/REFUSED.md quotes it.
AT_CREATION = (
    (('--level=0', '-n2'), 'bitmaps not meaningful with level raid0'),
    (('--level=linear', '-n2'), 'bitmaps not meaningful with level linear'),
    (('--level=1', '-n2', '--metadata=1.0'), 'only supported with creating the array with 1.2'),
    (('--level=1', '-n2', '--metadata=1.1'), 'only supported with creating the array with 1.2'),
    (('--level=1', '-n2', '--metadata=0.90'), 'a lockless bitmap needs metadata 1.2'),
    (('--level=1', '-n2', '--bitmap-chunk=64M'), "lockless bitmap doesn't support chunksize"),
    (('--level=5', '-n3', '--consistency-policy=ppl'),
     '--bitmap is not compatible with consistency policy: ppl'),
    (('--level=5', '-n3', '--write-journal', '/dev/ram5'),
     'array cannot have both journal and bitmap'),
    (('--level=1', '-n2', '--data-offset=8K'), 'would overlap data that begins at 16'),
)
CHANGES = (
    (1, (), (
        (('--bitmap=internal',), 'bitmap already present'),
        (('--bitmap=lockless',), 'bitmap already present'),
        (('--size=400M',), 'No space left on device'),
        (('--level=4',), 'level change request for RAID1'),
        (('--level=6',), 'level change request for RAID1'),
        (('--level=10',), 'level change request for RAID1'),
        (('--chunk=128',), 'chunk size not meaningful for this level'),
        (('-n1', '--force'), 'failed to set raid disks'),
        (('-n3',), 'Need 1 spare to avoid degraded array'))),
    (5, (), (
        (('-n2',), 'this change will reduce the size of the array'),
        (('-n4',), 'Need 1 spare to avoid degraded array'),
        (('--level=1',), 'Can only convert a 2-device array to RAID1'),
        (('--level=6',), 'Need 1 spare to avoid degraded array'),
        (('--level=10',), 'Impossible level change requested'),
        (('--consistency-policy=ppl',), 'Current consistency policy is bitmap'))),
    (10, (), (
        (('--level=1',), 'RAID10 can only be changed to RAID0'),
        (('--level=5',), 'RAID10 can only be changed to RAID0'),
        (('--layout=f2',), 'Cannot reshape RAID10 to far-mode'))),
    (10, ('--layout=f2',), (
        (('--size=40M',), 'Cannot set device size'),)),
)
WHILE_SYNCING = (
    (('--size=56M',), 'is performing resync/recovery and cannot be reshaped'),
    (('--level=5',), 'is performing resync/recovery and cannot be taken over'),
    (('--level=0',), 'failed to remove internal bitmap'),
    (('--bitmap=none',), 'failed to remove internal bitmap'),
)


def says(words, log, *command):
    """The command is refused in these words, by mdadm or by the kernel."""
    log()
    said = refused(*command)
    if words not in said:
        kernel = []
        wait_until(f'{" ".join(command[1:])}: "{words}" instead of "{said}"', lambda: words in
                   ' / '.join(kernel.extend(log()) or kernel), 5)
        said += ' / ' + next(line for line in kernel if words in line)
    print(f'  {" ".join(command)}: {said}', flush=True)


@lanes('long')
def test_refused_at_creation():
    log = kernel_log()
    for options, words in AT_CREATION:
        members = ramdisks(8)[:int(options[1].removeprefix('-n'))]
        says(words, log, 'mdadm', '--create', '/dev/md0', '--run', '--bitmap=lockless', *options,
             *members)
        need(not any(name.startswith('md') for name in os.listdir('/sys/block')) or
             read('/sys/block/md0/md/array_state') in ('clear', 'inactive'), f'{options}: it runs')
        run('mdadm', '--stop', '/dev/md0', ok=None)


def is_now(array):
    return (array.bytes(), array.metadata(), array.cells(), array.attribute('level'),
            array.attribute('raid_disks'), array.attribute('chunk_size'),
            array.attribute('bitmap_type'))


@lanes('long')
def test_refused_changes():
    """In one line, and nothing moves: size, level, disks and every state byte stay."""
    log = kernel_log()
    for level, options, changes in CHANGES:
        array = make(level, *options, mib=24)
        data = Data(array)
        data.fill(0, 6)
        settle(array)
        before = is_now(array)
        for change, words in changes:
            says(words, log, 'mdadm', '--grow', array.path, *change)
            equal(is_now(array), before, f'level {level}, {change}: what it is')
        data.holds()
        whole(array)
        array.stop()


@lanes('long')
def test_refused_while_syncing():
    """md changes no shape while it resynchronises, and lets no bitmap go: later it does."""
    log = kernel_log()
    array = make(1)
    data = Data(array)
    data.fill(0, 24)
    settle(array)
    slow(array)
    array.set('bitmap_set_bits', '0-300')
    running(array, 'resync')
    before = is_now(array)
    for change, words in WHILE_SYNCING:
        says(words, log, 'mdadm', '--grow', array.path, *change)
        now = is_now(array)
        equal(now[:2] + now[3:], before[:2] + before[3:], f'{change}: what it is')
    need(array.attribute('sync_action') == 'resync', 'the resync was over too soon')
    fast(array)
    settle(array)
    data.holds()
    run('mdadm', '--grow', array.path, '--size=56M')
    array.wait_idle()
    geometry_agrees(array)
    settle(array)
    run('mdadm', '--grow', array.path, '--bitmap=none')
    array.wait_idle()
    data.holds()


def to_raid0(degraded):
    """Raid0 has no bitmap: mdadm takes it away before it asks md, which then has to build
    what was never written, and refuses. Asked again it is made. The data is there all the
    time."""
    log = kernel_log()
    array = make(10, mib=24)
    data = Data(array)
    data.fill(0, 6)
    settle(array)
    if degraded:
        lose(array, array.members[1])
        lose(array, array.members[3])
        data.sprinkle(range(0, 4 * MIB, 400 * KIB), '3c')
    says('is performing resync/recovery and cannot be taken over', log, 'mdadm', '--grow',
         array.path, '--level=0')
    equal(array.attribute('level'), 'raid10', 'level')
    need('[none]' in array.attribute('bitmap_type'), 'the bitmap is still there')
    wait_until('idle', lambda: array.attribute('sync_action') == 'idle' and
               array.attribute('resync_start') == 'none', 60)
    data.holds()
    if not degraded:
        equal(array.sync('check'), 0, 'mismatch_cnt')
    data.sprinkle(range(MIB, 4 * MIB, 400 * KIB), '69')
    run('mdadm', '--grow', array.path, '--level=0')
    equal(array.attribute('level'), 'raid0', 'level')
    data.holds()


@lanes('long')
def test_level_10_to_0():
    to_raid0(degraded=False)


@lanes('long')
def test_level_10_to_0_degraded():
    to_raid0(degraded=True)


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
    slow(array, 3000)
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


@lanes('long')
def test_cut_while_reshaping_raid5():
    cut_while_reshaping(5, 3)


@lanes('long')
def test_cut_while_reshaping_raid10():
    cut_while_reshaping(10, 3)
