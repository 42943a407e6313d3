# SPDX-License-Identifier: GPL-2.0
"""Members that do not say the same: whose bitmap and whose data is believed. What is on
them is what a power cut in the middle of md's or the bitmap's writes leaves, or one bit
that flipped; made by hand, with the array stopped."""

from llb import disk
from llb.array import ramdisks
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import MIB, Data, each_missing, fail, garbage, kernel_log, lose, patch, used, whole
from llb.sh import equal, need, run, write_at

KIB = 1 << 10
LIMIT_S = 400  # of a test, which takes 10 to 60
EVENTS_AT = 200  # of md's superblock, bytes
BITMAP_EVENTS_AT, STATE_AT, CHUNK_AT = 24, 48, 52  # of the bitmap's header
STALE = 1 << 1


def prepared(level, start_mib=0):
    """(array, data, a disk more): 16 MiB written, all Clean."""
    count = DISKS[level]
    disks = ramdisks(count + 1) if level in (1, 10) else used(count + 1)
    array = make(level, members=disks[:count], mib=48)
    data = Data(array)
    data.fill(start_mib, 16)
    settle(array)
    return array, data, disks[count]


def assembled(array):
    """Assembled from all members, whatever md takes; returns the counts of the states and
    what the kernel said of it."""
    log = kernel_log()
    status, said = run('mdadm', '--assemble', '--run', array.path, *array.members, ok=None)
    need(not status, f'the array is not assembled: {said.strip()}')
    bits = array.bits()
    said = [line for line in log() if 'llbitmap' in line and array.name in line]
    print('  degraded', array.attribute('degraded'), bits, *said, sep='\n  ', flush=True)
    return bits, said


def right(array, data):
    """Now and when it is whole, on every member."""
    array.readwrite()
    array.quick()
    data.holds()
    for path in array.members:
        name = f'dev-{path.rsplit("/", 1)[1]}'
        try:
            faulty = 'in_sync' not in array.attribute(f'{name}/state')
        except FileNotFoundError:
            faulty = True
        if faulty and array.attribute('degraded') != '0':
            run('mdadm', array.path, '--remove', path, ok=None)
            run('mdadm', array.path, '--add', path, ok=None)
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    each_missing(array, data)


def failed_one_behind(level):
    """A member failed, and missed what was written since; but its superblock is only one
    event behind, which md and mdadm take for fresh."""
    array, data, _ = prepared(level)
    gone = array.members[1]
    fail(array, gone)
    data.sprinkle(range(0, 12 * MIB, 300 * KIB), '3c')
    data.fill(24, 4, '96')
    data.holds()
    array.stop()
    events = max(sup.events for sup in disk.supers(array.members))
    patch(gone, EVENTS_AT, '<Q', events - 1)
    assembled(array)
    right(array, data)


@lanes('stock')
def test_failed_one_behind_raid1():
    failed_one_behind(1)


@lanes('long')
def test_failed_one_behind_raid10():
    failed_one_behind(10)


@lanes('long')
def test_failed_one_behind_raid5():
    failed_one_behind(5)


@lanes('long')
def test_failed_one_behind_raid6():
    failed_one_behind(6)


def cut_one_behind(level, dirty):
    """Power went while md wrote its superblocks: one member, rightly active, is one event
    behind, with its bitmap; chunks that were written just then are marked only on the
    others (or only on it), and differ. They are resynchronised, nothing else is forgotten."""
    array, data, _ = prepared(level)
    array.stop()
    order, sup = disk.by_role(array.members)
    behind = order[1]
    patch(behind, EVENTS_AT, '<Q', sup.events - 1)
    patch(behind, BITMAP_EVENTS_AT, '<Q', sup.bitmap_events - 1, bitmap=True)
    for path in order:
        if (path == behind) != (dirty == 'others'):
            patch(path, disk.CELLS_OFFSET + 300, '4B', *[disk.DIRTY] * 4, bitmap=True)
    for chunk in range(300, 304):
        write_at(behind, (sup.data_offset + chunk * sup.chunk + 16) * disk.SECTOR, b'\x5c' * 4096)
    bits, _ = assembled(array)
    equal(array.attribute('degraded'), '0', 'degraded')
    written = 16 * MIB // (64 * KIB) // {5: 2, 6: 2}.get(level, 1)
    need(bits['clean'] <= written and sum(bits.values()) - bits['unwritten'] >= written + 4,
         f'{written} chunks were written, and 4 are marked: {bits}')
    right(array, data)


@lanes('stock')
def test_cut_one_behind_raid1():
    cut_one_behind(1, 'others')


@lanes('long')
def test_cut_one_behind_marked_only_there_raid1():
    cut_one_behind(1, 'behind')


@lanes('long')
def test_cut_one_behind_raid5():
    cut_one_behind(5, 'others')


@lanes('long')
def test_cut_one_behind_raid6():
    cut_one_behind(6, 'others')


def damaged(level, which, offset, change, start_mib=0):
    """One field of some members' headers is another, the events are equal: no chunk that was
    written is taken for unwritten; a new disk gets all of it."""
    array, data, new = prepared(level, start_mib)
    before = array.bits()
    array.stop()
    for path in array.members[which]:
        sup = disk.supers([path])[0]
        patch(path, offset, '<I', change(sup), bitmap=True)
    bits, _ = assembled(array)
    size = array.metadata()['chunksize']
    scale = max(size // disk.supers(array.members[-1:])[0].chunk, 1)
    written = -(-(sum(before.values()) - before['unwritten']) // scale)
    need(sum(bits.values()) - bits['unwritten'] >= written,
         f'{written} chunks were written: {bits}')
    right(array, data)
    garbage(new)
    gone = array.members[0]
    lose(array, gone)
    run('mdadm', array.path, '--add', new)
    array.members = [*array.members[1:], new]
    array.wait_whole()
    settle(array)
    data.holds()
    each_missing(array, data)


def first_use(sup):
    return sup.state | disk.FIRST_USE


@lanes('stock')
def test_first_use_on_one_raid1():
    damaged(1, slice(0, 1), STATE_AT, first_use)


@lanes('long')
def test_first_use_on_the_last_raid5():
    damaged(5, slice(2, 3), STATE_AT, first_use)


@lanes('long')
def test_first_use_on_one_raid10():
    damaged(10, slice(0, 1), STATE_AT, first_use)


@lanes('long')
def test_first_use_on_all_raid1():
    damaged(1, slice(0, 2), STATE_AT, first_use)


@lanes('long')
def test_first_use_on_all_raid5():
    damaged(5, slice(0, 3), STATE_AT, first_use)


@lanes('long')
def test_other_chunk_size_on_one_raid1():
    """What was written is where the halved number of chunks says that nothing is."""
    damaged(1, slice(0, 1), CHUNK_AT, lambda sup: sup.chunk * 2, start_mib=30)


@lanes('long')
def test_stale_on_one_raid1():
    """One member says that the bitmap is not to be believed: then it is not."""
    array, data, _ = prepared(1)
    before = array.bits()
    array.stop()
    patch(array.members[1], STATE_AT, '<I', disk.supers(array.members[1:])[0].state | STALE,
          bitmap=True)
    bits, _ = assembled(array)
    equal(bits['clean'], 0, f'chunks that are still called clean (before: {before})')
    right(array, data)
