# SPDX-License-Identifier: GPL-2.0
"""Members fail, come back, are replaced, one after the other: over arrays of which only a
part was ever written, at every level and in every raid10 layout."""

import time

from llb import disk, fio
from llb.array import ramdisks
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import (MIB, Data, add, cut, fail, fast, freeze, garbage, kernel_log, lose, remove,
                      replace, running, slow, slow_from_start, thaw, used, waiting, whole)
from llb.sh import need, run, wait_until, write_at
from llb.trace import Trace

KIB = 1 << 10
PARTS = [offset // fio.BLOCK * fio.BLOCK for offset in range(0, 40 * MIB, 1232 * KIB)]


def copied(trace, array, path):
    """The member's data sectors that were written, as a set of pages."""
    start = disk.supers([path])[0].data_offset
    return {page for at, kind, sector, sectors, _ in trace.bios
            if at == path and kind == 'W' and sector >= start
            for page in range(sector - start, sector - start + sectors, disk.PAGE_SECTORS)}


def in_sequence(layout, count, first, second):
    """A raid10 of that layout, partly written: two members fail one after the other,
    used disks take their places; then the first one's neighbours fail."""
    disks = ramdisks(count + 2)
    array = make(10, f'--layout={layout}', members=disks[:count], mib=32)
    data = Data(array)
    data.fill(0, 6)
    data.sprinkle(PARTS)
    settle(array)
    whole(array)
    spares = disks[count:]
    for turn, gone in enumerate((first, second)):
        garbage(spares[turn])
        lose(array, disks[gone])
        data.sprinkle([offset + (8 + 4 * turn) * KIB for offset in PARTS], '3c')
        data.holds()
        add(array, spares[turn])
        array.members = [path for path in array.members if path != disks[gone]] + [spares[turn]]
        array.wait_whole()
        settle(array)
        data.holds()
        whole(array)
    # What they were copied from fails: the new ones alone hold its data.
    lose(array, next(path for path in array.members if path in disks[:count]))
    data.holds()
    data.sprinkle([offset + 32 * KIB for offset in PARTS], '69')
    data.holds()


@lanes('long')
def test_two_in_sequence_raid10_near():
    in_sequence('n2', 4, 0, 1)


@lanes('long')
def test_two_in_sequence_raid10_far():
    in_sequence('f2', 4, 1, 2)


@lanes('long')
def test_two_in_sequence_raid10_offset():
    in_sequence('o2', 4, 0, 3)


@lanes('long')
def test_two_in_sequence_raid10_three_copies():
    in_sequence('n3', 5, 0, 2)


def readded(layout, count):
    """Inside of what the bitmap remembers, on a layout: the member gets what it missed,
    and no more than the chunks of that."""
    array = make(10, f'--layout={layout}', members=ramdisks(count), mib=32)
    data = Data(array)
    data.fill(0, 16)
    settle(array)
    gone = array.members[1]
    lose(array, gone)
    data.sprinkle(range(2 * MIB, 4 * MIB, 160 * KIB), '3c')
    data.sprinkle(range(20 * MIB, 22 * MIB, 160 * KIB), '3c')
    layout_now = disk.layout_of(array)
    with Trace([gone]) as trace:
        run('mdadm', array.path, '--re-add', gone)
        array.wait_whole()
    missed = layout_now.chunks_at(list(range(2 * MIB, 4 * MIB, 160 * KIB)) +
                                  list(range(20 * MIB, 22 * MIB, 160 * KIB)))
    most = sum(length for chunk in missed for _, length in layout_now.runs(chunk)) // 8
    found = copied(trace, array, gone)
    # A recovery of raid10 works in pieces of 64 KiB of the member.
    need(0 < len(found) <= 2 * most, f'{len(found)} pages were copied, {most} pages of chunks '
                                     f'had been written meanwhile')
    settle(array)
    data.holds()
    whole(array)


@lanes('long')
def test_readd_raid10_far():
    readded('f2', 3)


@lanes('long')
def test_readd_raid10_offset():
    readded('o2', 3)


def outside(level):
    """A member comes back after others filled its place and the bits were cleared: what
    it missed is not remembered any more, so it gets everything, or is not taken."""
    disks = ramdisks(DISKS[level] + 1)
    array = make(level, members=disks[:-1], mib=32)
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    old, new = disks[0], disks[-1]
    lose(array, old)
    data.sprinkle(range(0, 8 * MIB, 400 * KIB), '3c')  # old has not seen this
    add(array, new)
    array.members = disks[1:]
    array.wait_whole()
    settle(array)  # here the bits are cleared
    lose(array, new)
    status, said = run('mdadm', array.path, '--re-add', old, ok=None)
    if status:
        need(said.strip(), 're-add failed without a word')
        add(array, old)
    array.members = disks[:-1]
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    for path in array.members[1:DISKS[level] - 1] if level != 1 else array.members[1:]:
        lose(array, path)  # what is left of old's data is read from old
        data.holds()
        break


@lanes('stock', 'uml-long')
def test_readd_outside_raid1():
    outside(1)


@lanes('long')
def test_readd_outside_raid5():
    outside(5)


@lanes('long')
def test_readd_outside_raid10():
    outside(10)


def replaced(level):
    """--replace while the array is written: the new member has everything, also when the
    old one fails half way."""
    count = DISKS[level]
    disks = used(count + 2) if level in (5, 6) else ramdisks(count + 2)
    array = make(level, members=disks[:count], mib=32)
    data = Data(array)
    data.fill(0, 8)
    data.sprinkle(PARTS[:20])
    settle(array)
    if level != 1:  # a mirror's chunk need not agree where it was never written
        for path in disks[count:]:
            garbage(path)
    add(array, disks[count])
    writer = fio.Running(array.path, '5a', 24 * MIB, 6 * MIB, '--rate_iops=100')
    try:
        before = array.writes()
        wait_until('fio writes', lambda: array.writes() > before + 20, 60)
        replace(array, disks[0], disks[count])
        wait_until('replaced', lambda: 'faulty' in array.attribute(
            f'dev-{disks[0].rsplit("/", 1)[1]}/state'), 60)
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('5a', acked, touched)
    remove(array, disks[0])
    array.members = disks[1:count + 1]
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    # Once more; the member that is to be replaced fails meanwhile.
    add(array, disks[count + 1])
    slow(array, 500)
    replace(array, disks[1], disks[count + 1])
    data.sprinkle([offset + 16 * KIB for offset in PARTS[:20]], '69')
    lose(array, disks[1])
    data.sprinkle([offset + 24 * KIB for offset in PARTS[:20]], '3c')
    fast(array)
    array.members = disks[2:]
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    lose(array, array.members[0])
    data.holds()


@lanes('long')
def test_replace_raid1():
    replaced(1)


@lanes('long')
def test_replace_raid5():
    replaced(5)


@lanes('long')
def test_replace_raid6():
    replaced(6)


@lanes('long')
def test_replace_raid10():
    replaced(10)


@lanes('long')
def test_replace_before_resync_raid5():
    """A resync is owed, and a member is to be replaced: md would resynchronise first, beside the
    replacement, and warn at every stripe whose parity lies there (K24). The replacement is made
    first, also after a power cut in the middle of it."""
    disks = used(8, 64)
    array = make(5, members=disks[:3], mib=32)
    data = Data(array)
    data.fill(0, 24)
    settle(array)
    log = kernel_log()
    freeze(array)
    array.set('bitmap_set_bits', '0-100')
    add(array, disks[3])
    replace(array, disks[0], disks[3])
    array.members = disks[:4]
    slow(array)
    thaw(array)
    running(array, 'recover')
    data.sprinkle([28 * MIB])  # md tells nobody of the replacement before it writes its superblock
    wait_until('the replacement says so', lambda: disk.supers(disks[3:4])[0].role == 0, 60)
    # or md would resynchronise by itself after the cut, and warn
    wait_until('md calls it clean', lambda: disk.supers(disks[:1])[0].resync_offset == 2**64 - 1, 60)
    with slow_from_start():
        array = cut(array, disks[4:])
        array.assemble()
        running(array, 'recover')
    owed = waiting(array)
    need(owed >= 101, f'{owed} chunks wait for a resync')
    fast(array)
    array.quick()
    remove(array, disks[4])
    array.members = disks[5:]
    array.wait_whole()
    settle(array)
    need(any('resync of RAID array' in line for line in log()), 'nothing was resynchronised')
    data.holds()
    whole(array)


@lanes('stock')
def test_third_mirror_does_not_hide_a_difference():
    """Two copies that may differ, a third one that is recovered from one of them: the two
    still have to be compared."""
    disks = ramdisks(4)
    array = make(1, members=disks[:3], mib=32)
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    lose(array, disks[2])
    array.set('bitmap_set_bits', '5-9')
    order, sup = disk.by_role(array.members[:2])
    for chunk in range(5, 10):
        write_at(order[1], (sup.data_offset + chunk * sup.chunk + 16) * disk.SECTOR,
                 b'\x5c' * 4096)
    add(array, disks[3])
    array.members = disks[:2] + disks[3:]
    array.wait_whole()
    settle(array)
    whole(array)


@lanes('stock')
def test_spare_activation_raid5():
    """A hot spare that is a used disk takes over while the array is written."""
    disks = used(4)
    array = make(5, members=disks[:3], mib=32)
    add(array, disks[3])
    data = Data(array)
    data.sprinkle(PARTS[:20])
    settle(array)
    writer = fio.Running(array.path, '5a', 44 * MIB, 8 * MIB, '--rate_iops=100')
    try:
        before = array.writes()
        wait_until('fio writes', lambda: array.writes() > before + 20, 60)
        fail(array, disks[1])
        before = array.writes()
        wait_until('the spare is in', lambda: array.attribute('degraded') == '0', 60)
        wait_until('fio writes', lambda: array.writes() > before + 20, 60)
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('5a', acked, touched)
    remove(array, disks[1])
    array.members = [disks[0], disks[2], disks[3]]
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)
    lose(array, disks[0])
    data.holds()


def back_after_replacement(level):
    """A member that was replaced is still bound, and taken back through its state file; then
    the one that replaced it fails. What was written, and became clean, since it left is known
    to no bitmap (K22 in src/shim/README.md)."""
    count = DISKS[level]
    disks = ramdisks(count + 1)
    old, new = disks[0], disks[count]
    array = make(level, members=disks[:count], mib=32)
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    add(array, new)
    replace(array, old, new)
    state = f'dev-{old.rsplit("/", 1)[1]}'
    wait_until('it was replaced, and has no slot', lambda: array.attribute(
        f'{state}/slot') == 'none' and 'faulty' in array.attribute(f'{state}/state'), 60)
    array.members = disks[1:]
    # Where parity was built: after any other sync md forgets the slot.
    data.sprinkle([offset for offset in PARTS if offset < 8 * MIB], '5a')
    settle(array)
    array.set(f'{state}/state', 're-add')
    lose(array, new)
    array.members = disks[:count]
    array.wait_whole()
    settle(array)
    whole(array)
    for path in disks[1:count] if level == 1 else disks[1:2]:
        lose(array, path)
    data.holds()


@lanes('stock')
def test_back_after_replacement_raid1():
    back_after_replacement(1)


@lanes('long')
def test_back_after_replacement_raid5():
    back_after_replacement(5)


@lanes('long')
def test_back_after_replacement_raid10():
    back_after_replacement(10)
