# SPDX-License-Identifier: GPL-2.0
"""Every write to the members in the order in which it became durable: the rules W1 and
W2 at each boundary; a power cut at some of them."""

import random
import time

from llb import fio
from llb.array import Array
from llb.arrays import DISKS, MIB, settle
from llb.lanes import lanes, limit
from llb.logwrites import MARK, Logged
from llb.ordering import Replay
from llb.sh import Direct, Failure, need

AREA = 16 * MIB
MEMBER_MIB = {1: 64, 10: 32, 5: 48}
# Submitted several at a time: then raid1 and raid10 plug, and each task waits for the bitmap itself.
PLUGGED = ('--iodepth_batch_submit=8', '--iodepth_batch_complete_min=4')
# Each of these over chunks that become clean meanwhile and are touched again. FUA
# writes are in the log when they complete, the others at the flush after them.
LOADS = {
    'QD1, FUA': ('randwrite', '--iodepth=1', '--sync=dsync', '--rate_iops=120'),
    'QD32x4, FUA': ('randwrite', '--iodepth=32', '--numjobs=4', '--sync=dsync', '--rate_iops=120',
                    *PLUGGED),
    'QD32x4, flushes': ('randwrite', '--iodepth=32', '--numjobs=4', '--fdatasync=24',
                        '--rate_iops=120', *PLUGGED),
    # One chunk after the other, and nobody flushes (md does when all writes rest): what
    # lies behind becomes clean while the array is written, and the daemon's is the first flush.
    'moving on, no flushes': ('write', '--rate_iops=32'),
}


def workload(array, logged, seconds):
    logged.mark('begin')
    for at, (name, (rw, *extra)) in enumerate(LOADS.items()):
        done = fio.job(array.path, rw, '5a', at * 4 * MIB, AREA, '--do_verify=0',
                       '--time_based', f'--runtime={seconds if rw == "randwrite" else 6}',
                       '--norandommap', '--group_reporting', *extra)
        need(done['status'] == 0 and done['error'] == 0, f'fio ({name}) failed')
        need(done['write']['total_ios'] > 100, f'fio ({name}) wrote too little')
    logged.mark('rest')
    settle(array)
    logged.mark('stop')
    array.stop()


def restore(replay, slices):
    """The images onto the members, which are ramdisks below."""
    for path, image in zip(slices, replay.images):
        with Direct(path, writable=True) as device:
            zero = bytes(MIB)
            for offset in range(0, len(image.data), MIB):
                data = image.data[offset:offset + MIB]
                if data != zero or device.read(offset, len(data)) != zero:
                    device.write(offset, bytes(data))


def cut(array, replay, slices, size):
    """The power goes here: the array assembles, is resynchronised, its members are
    equal, and it reads what some copy had."""
    restore(replay, slices)
    array.members = slices
    array.assemble()
    array.wait_idle()
    array.equal_over()
    with Direct(array.path) as device:
        for start in range(0, size, MIB):
            data = device.read(start, MIB)
            for at in range(0, MIB, 4096):
                need(data[at:at + 4096] in replay.contents((start + at) // 512),
                     f'the block at byte {start + at} is none of its copies')
    array.stop()


def logged(level, cuts, seconds=3):
    members = Logged(DISKS[level], MEMBER_MIB[level])
    array = Array(0, members.members)
    array.create(level)
    settle(array)
    workload(array, members, seconds)
    slices = members.close()
    entries = list(members.entries())
    marks = {data: number for number, (flags, _, _, data) in enumerate(entries) if flags & MARK}
    random.seed(f'{level} {len(entries)}')
    chosen = set(random.sample(range(marks['begin'] + 1, marks['stop']), cuts))
    replay, begun, cut_s = Replay(members.count, members.sectors), time.monotonic(), 0
    for number, (flags, member, first, data) in enumerate(entries):
        if flags & MARK:
            if data == 'begin':
                replay.begin()
            continue
        replay.apply(flags, member, first, data, number)
        if number in chosen and not replay.verdict():
            start = time.monotonic()
            try:
                cut(array, replay, slices, AREA * 7 // 4)
            except Failure as failure:
                raise Failure(f'cut after entry {number} of {len(entries)}: {failure}') from failure
            cut_s += time.monotonic() - start
    need(not replay.verdict(), f'{len(entries)} log entries: {replay.verdict()}')
    need(replay.checks > 500, f'only {replay.checks} checks')
    print(f'  {len(entries)} log entries, {replay.checks} checks, {cuts} cuts in {cut_s:.0f} s, '
          f'replay {time.monotonic() - begun - cut_s:.0f} s', flush=True)


@lanes('stock')
@limit(600)
def test_raid1():
    logged(1, 10)


@lanes('long')
@limit(600)
def test_raid10():
    logged(10, 20)


@lanes('stock')
@limit(600)
def test_raid5():
    logged(5, 10)


@lanes('long')
@limit(3000)
def test_long_raid1():
    logged(1, 200, 15)


@lanes('long')
@limit(3000)
def test_long_raid10():
    logged(10, 200, 15)


@lanes('long')
@limit(3000)
def test_long_raid5():
    logged(5, 200, 15)
