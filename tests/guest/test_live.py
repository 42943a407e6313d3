# SPDX-License-Identifier: GPL-2.0
"""llbitmap convert of arrays that run, under writes: to lockless and back; what is refused;
every point at which the power may go."""

import os
import random
import time

from llb import disk, fio
from llb.array import Array, load, loaded, ramdisks, unload
from llb.arrays import DISKS, MIB, holds, settle
from llb.lanes import lanes
from llb.life import fail
from llb.logwrites import MARK, Logged
from llb.ordering import Replay
from llb.sh import Direct, Failure, equal, need, read_at, run, wait_until
from llb.tool import REFUSED, examine, tool
from test_log import restore
from test_tool import internal, kind

AREA = 16 * MIB
SIGN = (8 + 2) * disk.SECTOR  # where md puts a bitmap that it adds itself


def live(to, array, *options):
    return tool('convert', '--to', to, *options, array.path)


def signs(array):
    return [read_at(path, SIGN, 6 * disk.SECTOR) for path in array.members]


def lockless_now(array, before):
    """Just converted, while it is written to."""
    equal(kind(array), 'llbitmap', 'bitmap_type')
    equal(array.attribute('sync_action'), 'idle', 'sync_action')
    equal(array.metadata()['offset'], 8, "the bitmap's offset from md's superblock")
    bits = array.bits()
    equal(bits['clean'] + bits['dirty'], array.metadata()['chunks'], 'clean and dirty chunks')
    need(signs(array) == before, "something is left behind md's superblock")
    for path in array.members:
        equal(examine(path)['bitmap']['kind'], 'lockless', f'{path}: the bitmap')


def both_ways(level):
    """Under writes that are checked: internal, lockless, none, lockless, internal."""
    array = internal(level, ramdisks(DISKS[level]))
    fio.fill(array.path, 'c3', 0, AREA)
    array.wait_idle()
    before = signs(array)
    for to, name in (('lockless', 'llbitmap'), ('none', 'none'), ('lockless', 'llbitmap'),
                     ('internal', 'bitmap'), ('lockless', 'llbitmap')):
        begun, count = time.monotonic(), array.writes()
        writer = fio.Running(array.path, '5a', 0, AREA, '--rate_iops=300')
        try:
            wait_until('fio writes', lambda n=count: array.writes() > n + 20, 60, 0.02)
            # A raid5 whose parity is just being built at its first writes is busy.
            wait_until(f'the conversion to {to}', lambda t=to: run_convert(t, array), 60)
            equal(kind(array), name, f'bitmap_type after the conversion to {to}')
            if to == 'lockless':
                lockless_now(array, before)
        finally:
            acked, touched = writer.stop(time.monotonic())
        need(len(acked) > 20, f'{len(acked)} writes were acknowledged since {begun}')
        wrong = fio.wrong_blocks(array.path, 0, AREA, lambda at, a=acked, t=touched: (
            [] if at in t - a else [fio.block('5a', at)] + ([] if at in a else [fio.filled('c3', at)])))
        equal(wrong, [], f'blocks that are wrong after the conversion to {to}')
        array.wait_idle()
        if to == 'lockless':
            array.quick()
            settle(array)
            array.equal_over()
        equal(array.sync('check'), 0, f'mismatch_cnt with {to}')
        array.stop()
        array.assemble()
        equal(kind(array), name, f'bitmap_type after a start, with {to}')
        equal(array.attribute('sync_action'), 'idle', f'sync_action after a start, with {to}')
        equal(signs(array), before, "what is behind md's superblock")
    array.stop()


def run_convert(to, array):
    """Done, or to be tried again because md synchronises just now."""
    try:
        live(to, array)
    except Failure as failure:
        if ' runs; once it is done' in str(failure) or 'synchronise something' in str(failure):
            return False
        raise
    return True


@lanes('stock', 'kcsan-long', 'rt-long')
def test_both_ways_raid1():
    both_ways(1)


@lanes('long')
def test_both_ways_raid10():
    both_ways(10)


@lanes('long')
def test_both_ways_raid5():
    both_ways(5)


@lanes('long', 'uml-long')
def test_mounted():
    """A file system in use, from no bitmap and by name; then the cut that the bitmap is for."""
    array = Array(0, ramdisks(2)).create(1, '--size=96M', bitmap='none')
    run('mkfs.ext4', '-q', array.path)
    os.makedirs('/mnt', exist_ok=True)
    run('mount', array.path, '/mnt')
    try:
        run('dd', 'if=/dev/urandom', 'of=/mnt/before', 'bs=1M', 'count=8', 'conv=fsync')
        sums = run('sha256sum', '/mnt/before')
        tool('convert', '--to', 'lockless', array.name)
        equal(kind(array), 'llbitmap', 'bitmap_type')
        run('dd', 'if=/dev/urandom', 'of=/mnt/after', 'bs=1M', 'count=8', 'conv=fsync')
        need('nothing to do' in tool('convert', '--to', 'lockless', array.name), 'it is done again')
        equal(run('sha256sum', '/mnt/before'), sums, 'a file')
    finally:
        run('umount', '/mnt')
    array.quick()
    settle(array)
    array.equal_over()
    run('fsck.ext4', '-fn', array.path)
    array.stop()


@lanes('stock')
def test_taken_away_by_location():
    """md's bitmap/location takes it away, and leaves no file of ours behind, nor the module."""
    array = Array(0, ramdisks(2)).create(1, '--size=48M', bitmap='none')
    live('lockless', array)
    fio.fill(array.path, 'c3', 0, MIB)
    files = f'{array.sysfs}/llbitmap'
    with open(f'{files}/bits', encoding='utf-8') as held:
        array.set('bitmap/location', 'none')
        need(not os.path.exists(files), 'llbitmap/ is still there')
        try:
            need('clean' not in held.read(), 'a file tells of a bitmap that is gone')
        except OSError:
            pass  # it is gone, too
    equal(kind(array), 'none', 'bitmap_type')
    unload()
    need(not loaded(), 'the module stays')
    load()
    run('mdadm', '--grow', '--bitmap=internal', array.path)
    equal(kind(array), 'bitmap', 'bitmap_type')
    live('lockless', array)
    holds(array, 1)
    run('mdadm', '--grow', '--bitmap=none', array.path)
    need(not os.path.exists(files), 'llbitmap/ is still there')
    array.stop()


@lanes('stock')
def test_refused():
    """In one line, before anything is changed; the bitmap that there was is still in use."""
    array = internal(1, ramdisks(2), mib=48)

    def refused(why):
        said = tool('convert', '--to', 'lockless', array.path, status=REFUSED)
        need(why in said and len(said.strip().splitlines()) == 1, f'not "{why}": {said}')
        equal(kind(array), 'bitmap', 'bitmap_type')

    run('mdadm', '--readonly', array.path)
    refused('is read-only')
    run('mdadm', '--readwrite', array.path)
    array.set('sync_action', 'frozen')
    refused('frozen')
    array.set('sync_action', 'idle')
    fail(array, array.members[1])
    refused('a member is missing')
    run('mdadm', '--remove', array.path, array.members[1])
    run('mdadm', '--re-add', array.path, array.members[1])
    array.wait_whole()
    live('lockless', array)
    array.stop()


def cuts(level, count):
    """The power goes at any of the writes of a conversion: the array assembles, with the old
    bitmap, with none or with the new one; it is in sync after what it then does, and reads what
    some copy had."""
    members = Logged(DISKS[level], {1: 64, 10: 32, 5: 48}[level])
    array = Array(0, members.members)
    array.create(level, '--bitmap-chunk=64K', '--delay=1', bitmap='internal')
    fio.fill(array.path, 'c3', 0, AREA)
    array.wait_idle()
    before = array.writes()
    writer = fio.Running(array.path, '5a', 0, AREA, '--rate_iops=60', '--sync=dsync')
    try:
        wait_until('fio writes', lambda: array.writes() > before + 20, 60, 0.02)
        members.mark('begin')
        live('lockless', array)
        members.mark('end')
    finally:
        writer.stop(0)
    sups = disk.supers(array.members)
    layout = disk.Layout(sups[0])
    array.stop()
    slices = members.close()
    entries = list(members.entries())
    marks = {data: number for number, (flags, _, _, data) in enumerate(entries) if flags & MARK}
    span = range(marks['begin'] + 1, marks['end'])
    meta = [number for number in span if entries[number][3] and
            not entries[number][0] & MARK and entries[number][2] < sups[0].data_offset]
    need(len(meta) > 3 * len(slices), f'only {len(meta)} writes before the data')
    random.seed(f'{level} {len(entries)}')
    # Before the first and after the last of them, whatever the classic bitmap wrote meanwhile.
    chosen = {marks['begin'], meta[-1], *random.sample(meta, min(count, len(meta)))}
    replay, found = Replay(members.count, members.sectors), {}
    for number, (flags, member, first, data) in enumerate(entries):
        if not flags & MARK:
            replay.apply(flags, member, first, data, number)
        if number not in chosen:
            continue
        try:
            name = cut(array, replay, slices, sups, layout)
        except Failure as failure:
            raise Failure(f'cut after entry {number} of {len(entries)}: {failure}') from failure
        found[name] = found.get(name, 0) + 1
    need(set(found) >= {'bitmap', 'llbitmap'} and ('none' in found or count < len(meta)),
         f'{len(chosen)} cuts left {found}')
    print(f'  {len(meta)} writes of the conversion, cut after {len(chosen)}: {found}', flush=True)


def cut(array, replay, slices, sups, layout):
    restore(replay, slices)
    array.members = slices
    array.assemble()
    array.wait_idle()
    name = kind(array)
    equal(array.sync('check'), 0, f'mismatch_cnt with {name}')
    replay.layout, roles = layout, [sup.role for sup in sups]
    replay.by_role = [replay.images[roles.index(role)] for role in range(len(sups))]
    with Direct(array.path) as device:
        for start in range(0, AREA, MIB):
            data = device.read(start, MIB)
            for at in range(0, MIB, 4096):
                need(data[at:at + 4096] in replay.contents((start + at) // 512),
                     f'{name}: the block at byte {start + at} is none of its copies')
    replay.layout = None
    array.stop()
    return name


@lanes('long')
def test_cuts_raid1():
    cuts(1, 60)


@lanes('long')
def test_cuts_raid5():
    cuts(5, 40)
