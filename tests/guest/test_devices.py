# SPDX-License-Identifier: GPL-2.0
"""Disks that are not as good as ramdisks: sectors of the bitmap's place and of the data that cannot
be read, or not written, or until they are written; members that keep what was discarded, beside
others that forget it; one with larger blocks; members with checksums of their own (T10 protection).
Data is always compared, with each member missing in turn; what a member is given when it comes back
is counted (test_faults.py)."""

import contextlib
import os
import re

from llb import disk, life, scsi
from llb.array import ramdisks
from llb.arrays import DISKS, MIB, make, settle
from llb.lanes import lanes
from llb.life import Data
from llb.mapped import wait_faulty
from llb.scsi import bitmap_area, data_area
from llb.sh import equal, need, read, run, wait_until, write
from llb.trace import Trace
from test_faults import (FRESH, KIB, all_there, away, comes_back, folder, made, state,
                         written_all_over)
from test_life_discard import discard

SAFE = '/sys/module/raid456/parameters/devices_handle_discard_safely'
OLD = [4 * MIB + number * 192 * KIB for number in range(16)]  # in chunks that are Clean


def with_one(level, other, place=-1):
    """Paths for an array of that level: ramdisks, and the other disk in that place."""
    paths = ramdisks(DISKS[level] - 1)
    paths.insert(place % DISKS[level], other)
    return paths


# ---- sectors that cannot be read (scsi_debug), and whose writes heal nothing ----


def unreadable_data(level):
    """md's check finds them, writes them again, in vain, and fails the member, as there is no
    bad-block log. It comes back when it is well, and is given what it missed."""
    with scsi.Scsi(1) as disks:
        bad, = disks.paths
        array, data = made(level, with_one(level, bad))
        disks.fail_reads(*data_area(bad, 5, 1))
        data.holds()
        array.set('sync_action', 'check')
        wait_faulty(array)
        need('faulty' in state(array, bad), f'{bad} is not faulty')
        array.wait_idle()
        data.holds()
        data.sprinkle(OLD + FRESH, '3c')
        data.holds()
        disks.heal()
        life.remove(array, bad)
        comes_back(array, bad, OLD + FRESH, OLD + FRESH)
        all_there(array, data)


@lanes('long')
def test_unreadable_data_raid1():
    unreadable_data(1)


@lanes('long')
def test_unreadable_data_raid5():
    unreadable_data(5)


def again_in(array, paths):
    """All these members are in the array, those that it had failed when it was assembled, too."""
    for path in paths:
        if os.path.exists(folder(array, path)):
            if 'faulty' not in state(array, path):
                continue
            life.remove(array, path)
        if run('mdadm', array.path, '--re-add', path, ok=None)[0]:
            life.add(array, path)
    array.wait_whole()


def unreadable_bitmap(place):
    """A member's bitmap cannot be read at an assembly: what the others say holds, nothing that
    was marked is forgotten, and the member has a bitmap again when it can be read."""
    with scsi.Scsi(1) as disks:
        bad, = disks.paths
        array, data = made(1, with_one(1, bad, place))
        old = disk.written(array.cells())
        array.stop()
        disks.fail_reads(*bitmap_area(bad))
        array.assemble('--run')
        array.quick()
        print(f'  {bad}: {state(array, bad) if os.path.exists(folder(array, bad)) else "left out"}',
              flush=True)
        data.holds()
        data.sprinkle(OLD + FRESH, '3c')
        data.holds()
        disks.heal()
        again_in(array, array.members)
        settle(array)
        now = disk.written(array.cells())
        layout = disk.layout_of(array)
        need(old | layout.chunks_at(FRESH) <= now, 'chunks that hold data are forgotten')
        all_there(array, data)


@lanes('long')
def test_unreadable_bitmap_first_member():
    unreadable_bitmap(0)


@lanes('long')
def test_unreadable_bitmap_last_member():
    unreadable_bitmap(-1)


# ---- sectors that can be neither read nor written (null_blk) ----


def bad_blocks(level, area):
    """They go bad under writes: the member is failed, and the array goes on."""
    with scsi.Nulls(DISKS[level]) as disks:
        array, data = made(level, disks.paths)
        bad = disks.paths[1]
        first, last = area(bad)
        written, missed = away(array, data, lambda: disks.spoil(1, first, last))
        need('faulty' in state(array, bad), f'{bad} is not faulty')
        data.holds()
        disks.mend(1, first, last)
        life.remove(array, bad)
        comes_back(array, bad, written, missed)
        all_there(array, data)


def under_the_writer(path):
    """Of a raid5 member: half as far as on the array; Clean chunks, and Unwritten ones."""
    return data_area(path, 8, 8)


@lanes('long')
def test_bad_blocks_bitmap_raid1():
    bad_blocks(1, bitmap_area)


@lanes('long')
def test_bad_blocks_bitmap_raid10():
    bad_blocks(10, bitmap_area)


@lanes('long')
def test_bad_blocks_data_raid1():
    bad_blocks(1, lambda path: data_area(path, 16, 8))


@lanes('long')
def test_bad_blocks_data_raid5():
    bad_blocks(5, under_the_writer)


# ---- sectors that cannot be read until they are written (dm-dust) ----


def dusty(level):
    """(the array, what it holds, the disk with dust)"""
    lower = ramdisks(DISKS[level])
    dust = scsi.Dust(lower[-1])
    array, data = made(level, [*lower[:-1], dust.path], mib=24, filled=8)
    return array, data, dust


def pages_of(sup):
    """How many pages of the bitmap are in use."""
    return -(-(disk.CELLS_OFFSET + sup.chunks) // scsi.DUST)


@lanes('uml-long')
def test_dust_bitmap_raid1():
    """The bitmap's place on one member cannot be read any more: nobody reads it while the array
    runs, and the next mark heals it. At an assembly the other member's holds."""
    array, data, dust = dusty(1)
    sup = disk.supers([dust.path])[0]
    dust.spoil(sup.bitmap // disk.SECTOR, pages_of(sup))
    equal(dust.bad(), pages_of(sup), 'bad blocks')
    data.sprinkle([10 * MIB + number * 64 * KIB for number in range(8)])
    settled = dust.bad()
    equal(settled, 0, 'bad blocks of the bitmap after a first touch')
    equal(array.missing(), 0, 'missing members')
    all_there(array, data)
    old, fresh = disk.written(array.cells()), [14 * MIB + number * 64 * KIB for number in range(8)]
    array.stop()
    dust.spoil(sup.bitmap // disk.SECTOR, pages_of(sup))
    array.assemble('--run')
    array.quick()
    data.holds()
    data.sprinkle(fresh)
    print(f'  bad blocks after an assembly and first touches: {dust.bad()}', flush=True)
    dust.heal()
    again_in(array, array.members)
    settle(array)
    now = disk.written(array.cells())
    need(old | disk.layout_of(array).chunks_at(fresh) <= now, 'chunks that hold data are forgotten')
    all_there(array, data)


def dust_on_data(level):
    """md's check rewrites what it cannot read: the member stays, and all agrees."""
    array, data, dust = dusty(level)
    first, _ = data_area(dust.path, 2, 1)
    dust.spoil(first, 12)
    equal(dust.bad(), 12, 'bad blocks')
    data.holds()
    array.sync('check')
    equal(dust.bad(), 0, 'bad blocks after a check')
    equal(array.missing(), 0, 'missing members')
    all_there(array, data)


@lanes('uml-long')
def test_dust_data_raid1():
    dust_on_data(1)


@lanes('uml-long')
def test_dust_data_raid5():
    dust_on_data(5)


# ---- members that keep what was discarded ----


class Holes:
    """Discards, and the chunks of which they may have left anything."""

    def __init__(self, array, data):
        self.array, self.data, self.layout, self.chunks = array, data, disk.layout_of(array), set()

    def make(self, *areas):
        for offset, size in areas:
            discard(self.array, self.data, offset, size)
            self.chunks |= self.layout.chunks_at(range(offset // 4096 * 4096, offset + size, 4096))

    def agree(self):
        """What was not discarded is the same on all members."""
        bad, count = life.unequal(self.array.members)
        need(count, 'nothing was ever written')
        need(bad <= self.chunks, f'{len(bad - self.chunks)} chunks without a discard differ, first '
                                 f'{sorted(bad - self.chunks)[:4]}')
        return bad


def keeping(array):
    """What is written stays dirty."""
    array.set('llbitmap/barrier_idle', 3600)
    array.set('llbitmap/daemon_sleep', 3600)


def kept_by_one(level):
    """One member keeps what was discarded, the others have zeroes: over Clean chunks, dirty
    ones, Unwritten ones, wholly and in part. Each kind of member is away meanwhile, and the power
    is cut."""
    with scsi.Scsi(1, lbpu=1, lbprz=0) as disks:
        need(scsi.keeps_discarded(disks.paths[0]), 'scsi_debug forgets what was discarded')
        need(not scsi.keeps_discarded(ramdisks(1)[0]), 'a ramdisk keeps what was discarded')
        life.garbage(disks.paths[0])
        array = make(level, members=with_one(level, disks.paths[0]), mib=40)
        data = Data(array)
        data.fill(0, 24)
        settle(array)
        holes = Holes(array, data)
        holes.make((4 * MIB, 2 * MIB), (10 * MIB + 8 * KIB, 16 * KIB), (12 * MIB + 32 * KIB, MIB),
                   (28 * MIB, MIB), (30 * MIB + 12 * KIB, 8 * KIB))
        settle(array)
        data.holds()
        holes.agree()
        gone = holes.layout.chunks_at(range(4 * MIB, 6 * MIB, 4 * KIB))  # which were equal
        need(disk.unequal(array.members, gone), 'all members have the same: nobody has kept anything')
        for member, at in ((disks.paths[0], 14), (array.members[0], 17)):
            life.lose(array, member)
            data.sprinkle(range(4 * MIB, 5 * MIB, 160 * KIB), '3c')  # which was discarded
            holes.make((at * MIB, MIB), ((at + 1) * MIB + 16 * KIB, 32 * KIB))
            data.sprinkle(range(at * MIB + 4 * KIB, (at + 2) * MIB, 160 * KIB), '69')
            run('mdadm', array.path, '--re-add', member)
            array.wait_whole()
            settle(array)
            holes.agree()
            data.holds()
        life.each_missing(array, data)
        keeping(array)
        data.sprinkle(range(20 * MIB, 22 * MIB, 48 * KIB), '5a')
        holes.make((20 * MIB + 8 * KIB, 8 * KIB), (21 * MIB, 512 * KIB), (32 * MIB, 64 * KIB))
        data.sprinkle(range(4 * MIB, 6 * MIB, 96 * KIB), '5a')
        dirty = disk.not_clean(array.cells())
        need(dirty, 'nothing is dirty at the cut')
        array = data.array = holes.array = life.cut(array, [f'/dev/ram{at}' for at in range(4, 8)])
        array.assemble()
        array.quick()
        settle(array)
        data.holds()
        holes.agree()
        bad, count = life.unequal(array.members, dirty & disk.written(array.cells()))
        need(count, 'nothing of what was dirty is known to be written')
        need(not bad, f'{len(bad)} chunks that were dirty at the cut differ, first {sorted(bad)[:4]}')
        life.each_missing(array, data)


@lanes('long')
def test_discarded_kept_by_one_raid1():
    kept_by_one(1)


@lanes('long')
def test_discarded_kept_by_one_raid10():
    kept_by_one(10)


@contextlib.contextmanager
def safe(value):
    """What the administrator says of discards of all members of raid4/5/6 that are started."""
    before = read(SAFE)
    write(SAFE, value)
    try:
        yield
    finally:
        write(SAFE, before)


def parity_kept(said):
    """Raid5, all of whose members keep what was discarded. Said to be unsafe (N) they get no
    discard, and parity stays right everywhere. Said to be safe (Y, which is a lie) they do: parity
    is right where a chunk was discarded wholly, as it is then built again when it is written."""
    with scsi.Scsi(DISKS[5], mib=64, lbpu=1, lbprz=0) as disks, safe(said):
        for path in disks.paths:
            need(scsi.keeps_discarded(path), 'scsi_debug forgets what was discarded')
            life.garbage(path)
        array = make(5, members=disks.paths, mib=40)
        data = Data(array)
        data.fill(0, 24)
        settle(array)
        whole = [(4 * MIB, 2 * MIB), (12 * MIB, MIB), (40 * MIB, MIB)]
        parts = [(10 * MIB + 8 * KIB, 16 * KIB), (16 * MIB + 32 * KIB, MIB)] if said == 'N' else []
        before = disk.written(array.cells())
        with Trace(array.members) as trace:
            for area in whole + parts:
                discard(array, data, *area)
        given = {path for path, kind, *_ in trace.bios if kind == 'D'}
        equal(given, set(array.members) if said == 'Y' else set(), 'members that were given a discard')
        settle(array)
        need(before - disk.written(array.cells()), 'no chunk was forgotten')
        data.sprinkle(range(4 * MIB, 5 * MIB, 96 * KIB), '3c')
        all_there(array, data)
        member = array.members[1]
        life.lose(array, member)
        data.sprinkle(range(5 * MIB, 6 * MIB, 96 * KIB), '69')
        data.holds()
        run('mdadm', array.path, '--re-add', member)
        array.wait_whole()
        all_there(array, data)


@lanes('long')
def test_discarded_kept_raid5():
    parity_kept('N')


@lanes('long')
def test_discarded_kept_raid5_said_safe():
    parity_kept('Y')


# ---- a member with larger blocks ----


@lanes('long')
def test_4kn_added_later():
    """An array whose blocks have 512 bytes takes no member whose blocks have 4096: mdadm says
    "added", md why it stays a spare, and what the array knows does not change."""
    with scsi.Scsi(1, sector_size=4096) as disks:
        equal(read(f'/sys/block/{os.path.basename(disks.paths[0])}/queue/logical_block_size'), '4096',
              'block size')
        array, data = made(1, ramdisks(2))
        equal(read(f'/sys/block/{array.name}/queue/logical_block_size'), '512', 'block size')
        gone = array.members[1]
        life.lose(array, gone)
        data.sprinkle(OLD, '3c')
        log = life.kernel_log()
        before = disk.not_clean(array.cells())
        run('mdadm', array.path, '--add', disks.paths[0])
        wait_until('md says the reason', lambda: any(
            'incompatible logical_block_size' in line for line in log()))
        equal(state(array, disks.paths[0]), ['spare'], 'its state')
        equal(array.missing(), 1, 'missing members')
        equal(disk.not_clean(array.cells()), before, 'chunks not clean')
        run('mdadm', array.path, '--remove', disks.paths[0])
        data.sprinkle(FRESH, '69')
        data.holds()
        comes_back(array, gone, OLD + FRESH, OLD + FRESH)
        all_there(array, data)


# ---- members that check what they are given (T10 protection) ----


def protected(kind):
    """The kernel computes a checksum when it is given a buffer, the disk compares it when it takes
    it: nothing is refused, and data that is read fits the checksums that were written. (A buffer
    of the bitmap that changes meanwhile was not noticed here: faults.stable_buffers_raid1 does.)"""
    log = life.kernel_log()
    with scsi.Scsi(2, mib=64, dif=kind, dix=1, max_queue=1, ndelay=4000000) as disks:
        array, data = made(1, disks.paths, mib=24, filled=8)
        for name in [array.name, *map(os.path.basename, disks.paths)]:
            need(read(f'/sys/block/{name}/integrity/format').startswith('T10-DIF-TYPE'),
                 f'{name} has no protection')
        written_all_over(array, data, 4 * MIB, 16 * MIB)
        wrong = [line for line in log() if re.search(r'(?i)\b(guard|ref|app)\b.*(fail|error)', line)]
        need(not wrong, f'{len(wrong)} lines in the kernel log, the first is: {wrong[:1]}')
        equal(array.missing(), 0, 'missing members')
        all_there(array, data)


@lanes('long')
def test_protected_type1():
    protected(1)


@lanes('long')
def test_protected_type2():
    protected(2)


@lanes('long')
def test_protected_type3():
    protected(3)
