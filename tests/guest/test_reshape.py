# SPDX-License-Identifier: GPL-2.0
"""A reshape moves data, so the bitmap knows nothing of what a member that was not there all
the time has missed: before, in and after it, across a restart, however it comes back."""

import os

from llb import disk, fio
from llb.array import ramdisks
from llb.lanes import lanes
from llb.arrays import make, settle
from llb.life import (MIB, Data, add, each_missing, fail_in_reshape, fast, freeze, grow,
                      kernel_log, lose, remove, reshaped, running, slow, slow_from_start, sparse,
                      thaw, used, whole)
from llb.sh import equal, need, run, wait_until

KIB = 1 << 10
LIMIT_S = 500  # of a test, which takes 15 to 100
BACKUP = '/tmp/backup'


class Kind:
    """A change of shape: level and options before it, members, how many more it takes,
    what mdadm is told; frees: how many members it lets go, the last ones; size: MiB of each."""

    def __init__(self, level, count, more, *change, options=(), frees=0, size=24):
        self.level, self.count, self.more, self.change = level, count, more, change
        self.options, self.frees, self.size = options, frees, size

    def made(self):
        """(array, all disks): parity over used disks, mirrors over zeros, and half of it
        written."""
        total = self.count + self.more
        disks = ramdisks(total) if self.level in (1, 10) else used(total)
        array = make(self.level, *self.options, members=disks[:self.count], mib=self.size)
        data = Data(array)
        data.fill(0, self.size)
        data.sprinkle(parts(array))
        settle(array)
        return array, disks, data


def parts(array, step=1232 * KIB):
    return [offset // fio.BLOCK * fio.BLOCK for offset in range(0, array.bytes() - MIB, step)]


RAID5 = Kind(5, 3, 1, '-n4')
RAID6 = Kind(6, 4, 1, '-n5')
RAID10 = Kind(10, 4, 2, '-n6')
RAID10_OFFSET = Kind(10, 4, 2, '-n6', options=('--layout=o2',))
# Not near to offset: md 7.2 keeps the distance of the copies of the old layout until the next
# assembly, which then looks for the second ones where they are not; with any bitmap.
RAID10_CHUNK = Kind(10, 4, 0, '--chunk=128')
RAID5_CHUNK = Kind(5, 3, 0, '--chunk=128')
FROM_5_TO_6 = Kind(5, 3, 1, '--level=6', '-n4', f'--backup-file={BACKUP}')
FROM_6_TO_5 = Kind(6, 4, 0, '--level=5', '-n3', f'--backup-file={BACKUP}', frees=1)


def begin(array, kind, disks, *force):
    """Grows it, slowly; returns when data has moved."""
    run('rm', '-f', BACKUP)
    grow(array, *kind.change, *force)
    array.members = [path for path in disks if path in array.members or
                     path in disks[kind.count:]]
    running(array, 'reshape')
    moved(array)


def position(array):
    found = array.attribute('reshape_position')
    return None if found == 'none' else int(found)


def moved(array):
    """Waits until more data has moved, and the reshape still runs."""
    start = position(array)
    need(start is not None, 'the reshape was over too soon')
    wait_until('the reshape goes on', lambda: position(array) != start, 60, 0.02)
    need(position(array) is not None, 'the reshape was over too soon')


def superblock(path):
    return disk.supers([path])[0]


def void(array, gone):
    """On every member that is left the bitmap says that it knows nothing of what this one
    has missed; found on the members, while it is reshaped."""
    old = superblock(gone).events
    wait_until(f'events_cleared is above {gone}\'s events, {old}', lambda: all(
        sup.events_cleared > old for sup in disk.supers(array.members)), 20)


def without(array, gone):
    array.members = [path for path in array.members if path != gone]


def back_by_readd(array, gone):
    """The bitmap is not enough: it is not possible. As a new one it is taken."""
    status, said = run('mdadm', array.path, '--re-add', gone, ok=None)
    need(status, f'--re-add of {gone} was taken')
    need('not possible' in said, f'--re-add: {said.strip()}')
    run('mdadm', array.path, '--add', gone)


def back_by_add(array, gone):
    run('mdadm', array.path, '--add', gone)


def back_by_incremental(array, gone):
    """What udev's rule does; and the same with --run, which it needs for an array that runs."""
    for option in (), ('--run',):
        status, said = run('mdadm', '--incremental', *option, gone, ok=None)
        print(f'  mdadm --incremental {option}: {status} {said.strip()}', flush=True)
    if f'dev-{gone.rsplit("/", 1)[1]}' not in os.listdir(array.sysfs):
        run('mdadm', array.path, '--add', gone)


def complete(array, gone, data):
    """It is a member again, and holds all that it has to."""
    array.members.append(gone)
    array.wait_whole(200)
    array.quick()
    settle(array, 120)
    data.holds()
    whole(array)
    each_missing(array, data)


def failed_in(kind, back, restart=False, late=True):
    """A member fails in the reshape. restart: the array is stopped and assembled without it
    meanwhile; late: it comes back when the reshape is over, else in it."""
    array, disks, data = kind.made()
    gone = disks[1]
    if kind.more:
        add(array, *disks[kind.count:])
    slow(array, 400)
    begin(array, kind, disks)
    fail_in_reshape(array, gone)
    without(array, gone)
    moved(array)
    void(array, gone)
    if restart:
        array.stop()
        backup = (f'--backup-file={BACKUP}',) if f'--backup-file={BACKUP}' in kind.change else ()
        with slow_from_start(400):
            array.assemble('--run', *backup)
            slow(array, 400)
        array.quick()
        running(array, 'reshape')
        moved(array)
    elif not late:
        freeze(array)  # md lets none go while its thread runs
        remove(array, gone)
        thaw(array)
        running(array, 'reshape')
    # Behind the reshape and before it; none of this reaches the member.
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    void(array, gone)
    if not late:
        need(position(array) is not None, 'the reshape was over too soon')
        back(array, gone)
    fast(array)
    reshaped(array)
    if late:
        array.wait_idle()
        if not restart:
            remove(array, gone)
        for path in disks[kind.count - kind.frees:kind.count]:  # md has taken it in gone's place
            array.wait_whole()
            lose(array, path)
            without(array, path)
        data.sprinkle([offset + 12 * KIB for offset in parts(array)], '5a')
        data.holds()
        void(array, gone)
        back(array, gone)
    complete(array, gone, data)


def away_before(kind, back, restart=False):
    """A member is away when the reshape begins, and comes back after it."""
    array, disks, data = kind.made()
    gone = disks[1]
    lose(array, gone)
    without(array, gone)
    data.sprinkle([offset + 4 * KIB for offset in parts(array)], '69')
    array.set('sync_action', 'frozen')
    if kind.more:
        add(array, *disks[kind.count:])
    slow(array, 400)
    run('rm', '-f', BACKUP)
    grow(array, *kind.change, '--force')
    array.members += disks[kind.count:]
    running(array, 'reshape')
    moved(array)
    void(array, gone)
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    if restart:
        array.stop()
        with slow_from_start(400):
            array.assemble('--run')
            slow(array, 400)
        array.quick()
        running(array, 'reshape')
        data.holds()
    fast(array)
    reshaped(array)
    data.holds()
    array.wait_idle()
    back(array, gone)
    complete(array, gone, data)


def missing_after_restart(kind, back):
    """Orderly stopped in the reshape, and assembled without one member, which nobody ever
    called faulty."""
    array, disks, data = kind.made()
    gone = disks[1]
    if kind.more:
        add(array, *disks[kind.count:])
    slow(array, 400)
    begin(array, kind, disks)
    data.sprinkle([offset + 4 * KIB for offset in parts(array)], '69')
    need(position(array) is not None, 'the reshape was over too soon')
    array.stop()
    without(array, gone)
    with slow_from_start(400):
        array.assemble('--run')
        slow(array, 400)
    array.quick()
    running(array, 'reshape')
    moved(array)
    void(array, gone)
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    fast(array)
    reshaped(array)
    array.wait_idle()
    data.holds()
    back(array, gone)
    complete(array, gone, data)


@lanes('long')
def test_missing_after_restart_readd_raid5():
    missing_after_restart(RAID5, back_by_readd)


@lanes('long')
def test_missing_after_restart_incremental_raid6():
    missing_after_restart(RAID6, back_by_incremental)


@lanes('long')
def test_missing_after_restart_readd_raid10():
    missing_after_restart(RAID10, back_by_readd)


@lanes('long')
def test_fails_and_is_readded_raid5():
    failed_in(RAID5, back_by_readd)


@lanes('long')
def test_fails_and_is_readded_raid10():
    """No restart is needed: raid10 forgets by itself that such a member has to be copied."""
    failed_in(RAID10, back_by_readd)


@lanes('stock')
def test_fails_restart_readd_raid5():
    """md forgets with the restart that the member has to be copied wholly."""
    failed_in(RAID5, back_by_readd, restart=True)


@lanes('long')
def test_fails_restart_readd_raid6():
    failed_in(RAID6, back_by_readd, restart=True)


@lanes('long')
def test_fails_restart_readd_raid10():
    failed_in(RAID10, back_by_readd, restart=True)


@lanes('long')
def test_fails_restart_add_raid5():
    failed_in(RAID5, back_by_add, restart=True)


@lanes('long')
def test_fails_restart_incremental_raid5():
    failed_in(RAID5, back_by_incremental, restart=True)


@lanes('long')
def test_fails_incremental_raid10():
    failed_in(RAID10, back_by_incremental)


@lanes('long')
def test_fails_add_raid10():
    failed_in(RAID10, back_by_add)


@lanes('long')
def test_back_in_it_by_readd_raid5():
    failed_in(RAID5, back_by_readd, late=False)


@lanes('long')
def test_back_in_it_by_add_raid6():
    failed_in(RAID6, back_by_add, late=False)


@lanes('long')
def test_back_in_it_after_restart_raid10():
    failed_in(RAID10, back_by_readd, restart=True, late=False)


@lanes('long')
def test_back_in_it_after_restart_raid5():
    failed_in(RAID5, back_by_readd, restart=True, late=False)


@lanes('long')
def test_back_in_it_incremental_raid5():
    failed_in(RAID5, back_by_incremental, restart=True, late=False)


@lanes('long')
def test_fails_readd_raid10_offset():
    failed_in(RAID10_OFFSET, back_by_readd)


@lanes('long')
def test_fails_readd_raid10_chunk():
    failed_in(RAID10_CHUNK, back_by_readd)


@lanes('long')
def test_fails_readd_raid5_chunk():
    failed_in(RAID5_CHUNK, back_by_readd)


@lanes('long')
def test_fails_restart_readd_raid5_chunk():
    failed_in(RAID5_CHUNK, back_by_readd, restart=True)


@lanes('long')
def test_fails_readd_5_to_6():
    failed_in(FROM_5_TO_6, back_by_readd)


@lanes('long')
def test_fails_readd_6_to_5():
    failed_in(FROM_6_TO_5, back_by_readd)


@lanes('long')
def test_away_before_readd_raid5():
    away_before(RAID5, back_by_readd, restart=True)


@lanes('long')
def test_away_before_readd_raid6():
    away_before(RAID6, back_by_readd, restart=True)


@lanes('long')
def test_away_before_readd_raid10():
    away_before(RAID10, back_by_readd)


@lanes('long')
def test_away_before_incremental_raid10_chunk():
    away_before(RAID10_CHUNK, back_by_incremental)


@lanes('long')
def test_away_before_readd_raid5_chunk():
    away_before(RAID5_CHUNK, back_by_readd, restart=True)


def records_bad_blocks(array, path):
    """Whether md would note a bad block of this member instead of failing it."""
    try:
        array.set(f'dev-{path.rsplit("/", 1)[1]}/bad_blocks', f'{8192 + array.members.index(path)} 1')
    except OSError as error:
        need(error.errno == 28, f'{path}: bad_blocks: {error}')
        return False
    return True


def joined(array):
    """While it is reshaped: the new members are like the others."""
    on = [path for path, sup in zip(array.members, disk.supers(array.members))
          if sup.bad_log_inside() and records_bad_blocks(array, path)]
    equal(on, [], 'members that record bad blocks, inside the bitmap')
    seen = []

    def alike():
        need(position(array) is not None, f'the reshape is over, and the state bytes are '
                                          f'{[disk.count(cells) for cells in seen]}')
        seen[:] = array.cells()
        return all(cells == seen[0] for cells in seen[1:])
    wait_until('the members hold the same state bytes', alike, 60)


def members_join(kind, *steps, members=None):
    """What the reshape adds is a member like the others before it counts, and an orderly
    stop leaves nothing to resynchronise; then the next step, in the same assembly."""
    disks, count = members or ramdisks(8), kind.count
    array = make(kind.level, *kind.options, members=disks[:count], mib=kind.size)
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    for step in steps:
        add(array, *disks[count:step])
        slow(array, 400)
        grow(array, f'-n{step}')
        count = step
        array.members = disks[:count]
        running(array, 'reshape')
        moved(array)
        joined(array)
        fast(array)
        reshaped(array, 200)
        array.wait_whole(200)
        joined_cells = [disk.count(cells) for cells in array.cells()]
        print('  on the members:', joined_cells, flush=True)
        settle(array, 120)
    before = array.bits()
    log = kernel_log()
    array.stop()
    array.assemble(readwrite=False)
    after = array.bits()
    said = [line for line in log() if 'llbitmap' in line and array.name in line]
    print('  before', before, 'after', after, said, flush=True)
    equal(after['need sync'] + after['syncing'], 0, 'chunks to resynchronise after an orderly stop')
    need(not any('invalid' in line for line in said), f'the log says {said}')
    array.readwrite()
    array.quick()
    data.sprinkle(parts(array), '3c')
    settle(array)
    data.holds()
    whole(array)
    each_missing(array, data)


@lanes('stock')
def test_members_join_raid5():
    members_join(Kind(5, 3, 1), 4)


@lanes('long')
def test_members_join_raid10():
    members_join(Kind(10, 4, 2), 6)


@lanes('long')
def test_members_join_raid10_offset():
    members_join(RAID10_OFFSET, 6)


@lanes('long')
def test_members_join_raid6():
    members_join(Kind(6, 4, 1), 5)


@lanes('long')
def test_members_join_twice_raid10():
    """The bitmap has more than one block."""
    members_join(Kind(10, 4, 4, size=100), 6, 8)


@lanes('long')
def test_members_join_twice_raid5():
    """Here, too; five such members do not fit into the guest's memory."""
    members_join(Kind(5, 2, 2, size=200), 3, 4, members=sparse(4, 230))
