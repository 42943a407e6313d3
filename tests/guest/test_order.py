# SPDX-License-Identifier: GPL-2.0
"""Bitmap first, then data, also when the bitmap is slow; flushes where they are needed,
and none where they are not."""

import threading
import time

from llb import disk, fio, mapped
from llb.array import Array, in_tree
from llb.arrays import DISKS, MIB, chunks_of, filled
from llb.lanes import lanes
from llb.logwrites import Logged
from llb.sh import equal, need, run, wait_until, write
from llb.trace import Trace

DELAY_MS = 3000  # two fio start and submit within it
FIRST_CELL = mapped.BITMAP + disk.CELLS_OFFSET // disk.SECTOR


def in_bitmap(sector):
    return mapped.BITMAP <= sector < mapped.BITMAP + mapped.RESERVED


def active(array):
    """One chunk is dirty, some are Clean; md has written its superblock for the writes to
    come, the daemon sleeps."""
    filled(array, 1)
    write(f'{array.sysfs}/safe_mode_delay', '100')
    fio.fill(array.path, 'c3', 0, 65536)
    array.wait_idle()
    array.set('llbitmap/daemon_sleep', 60)
    array.set('llbitmap/barrier_idle', 60)


def two_writers(level):
    """Two tasks write to the same fresh chunk, the second while the first one's bitmap
    write is under way: the data of neither reaches a member before that is durable."""
    members = mapped.members(DISKS[level])
    array = Array(0, [member.path for member in members])
    array.create(level, '--size=48M')
    if not in_tree():
        array.set('llbitmap/resync_budget', 4)  # a touch covers half of it at most: nothing far
    active(array)
    for member in members:
        member.delay(DELAY_MS)
    # Far from chunk 0: not in a sector of the bitmap that was just written.
    at, took = array.bytes() * 5 // 6 // MIB * MIB, []
    chunk = chunks_of(array, [at])
    cell = mapped.BITMAP + (disk.CELLS_OFFSET + min(chunk)) // disk.SECTOR
    lower, upper = [member.lower for member in members], array.members

    def marks(path, sector, sectors):
        return path in upper and sector <= cell < sector + sectors

    def writer(number):
        # In one submission, so that raid1 and raid10 plug: then each task waits for the
        # bitmap itself, else mdX does for both, one after the other.
        begun = time.monotonic()
        run('fio', '--name=writer', f'--filename={array.path}', '--direct=1', '--rw=write',
            '--bs=4k', '--ioengine=libaio', '--iodepth=4', '--iodepth_batch_submit=4',
            f'--offset={at + number * 16384}', '--size=16k')
        took.append(time.monotonic() - begun)
    with Trace(lower + upper) as trace:
        first = threading.Thread(target=writer, args=(0,))
        second = threading.Thread(target=writer, args=(1,))
        first.start()
        wait_until('the first writer marks the chunk', lambda: any(
            marks(path, sector, sectors) for path, _, sector, sectors, _ in trace.so_far()), 10, 0.01)
        second.start()
        first.join()
        second.join()
    equal(len(took), 2, 'writes that were acknowledged')
    # Below the delay a write of the bitmap is submitted when the delay is over.
    arrived = [(path, sector, sectors) for path, kind, sector, sectors, _ in trace.bios
               if kind == 'W' and path in lower]
    done = {path: next((n for n, (other, sector, sectors) in enumerate(arrived)
                        if other == path and sector <= cell < sector + sectors), len(arrived))
            for path in lower}
    data = [n for n, (_, sector, _) in enumerate(arrived)
            if sector >= mapped.BITMAP + mapped.RESERVED]
    need(len(data) >= 2 * DISKS[1], f'only {len(data)} writes of data')
    early = [n for n in data if n < max(done.values())]
    need(not early, f'{len(early)} of {len(data)} data writes reached a member before the '
                    f'bitmap was durable on all (W1); the writers took '
                    f'{sorted(round(one, 1) for one in took)} s, the bitmap {DELAY_MS / 1000} s')
    for member in members:
        member.heal()
    for cells in array.cells():
        need(all(disk.must_resync(cells[one]) for one in chunk), 'the chunk is not marked')


@lanes('stock')
def test_slow_bitmap_raid1():
    two_writers(1)


@lanes('long')
def test_slow_bitmap_raid10():
    two_writers(10)


@lanes('stock')
def test_slow_bitmap_raid5():
    two_writers(5)


def submissions(trace, members):
    """Per member: flushes, writes of the bitmap, those of them with FUA, of data."""
    found = []
    for path in members:
        bios = [(bio[2], flags) for bio, flags in zip(trace.bios, trace.flags)
                if bio[0] == path and bio[1] == 'W']
        found.append((sum(one == path for one, _ in trace.flushes) +
                      sum(flags.startswith('F') and sector >= mapped.BITMAP
                          for sector, flags in bios),
                      sum(in_bitmap(sector) for sector, _ in bios),
                      sum(in_bitmap(sector) and 'F' in flags[1:] for sector, flags in bios),
                      sum(not in_bitmap(sector) and sector >= mapped.BITMAP
                          for sector, _ in bios)))
    return found


def flushes(level):
    """Members with a volatile cache: first touches flush nothing; before a chunk becomes
    clean every member is flushed, after the last data."""
    logged = Logged(DISKS[level], {1: 64, 10: 32, 5: 48}[level])
    array = Array(0, logged.members)
    array.create(level)
    active(array)
    with Trace(logged.members) as trace:
        fio.fill(array.path, '5a', 4 * MIB, 16 * MIB, '--io_size=1M', rw='randwrite')
    for path, (flushed, bitmap, fua, data) in zip(logged.members, submissions(trace, logged.members)):
        need(data > 20 and bitmap > 0, f'{path}: {data} data writes, {bitmap} of the bitmap')
        equal(flushed, 0, f'{path}: flushes for {data} first touches')
        equal(fua, bitmap, f'{path}: bitmap writes with FUA')
    if level == 5:  # parity is built first, and a resync flushes too
        array.set('llbitmap/barrier_idle', 1)
        array.wait_idle(20)
    with Trace(logged.members) as trace:
        array.quick()
        array.wait_clean()
    for path, (flushed, bitmap, fua, _) in zip(logged.members, submissions(trace, logged.members)):
        need(flushed > 0 and bitmap > 0, f'{path}: {flushed} flushes, {bitmap} bitmap writes')
        equal(fua, bitmap, f'{path}: bitmap writes with FUA')
        clean = [n for n, bio in enumerate(trace.bios)
                 if bio[0] == path and in_bitmap(bio[2]) and bio[2] >= FIRST_CELL]
        need(any(one == path and before <= clean[0] for one, before in trace.flushes),
             f'{path}: no flush before its first byte becomes Clean')


@lanes('stock')
def test_flushes_raid1():
    flushes(1)


@lanes('long')
def test_flushes_raid5():
    flushes(5)
