# SPDX-License-Identifier: GPL-2.0
"""Discards of parts of chunks and of whole ones, on members with and without discard,
and then a recovery: what was not discarded is there, and nothing is trusted that is not."""

from llb import disk
from llb.array import ramdisks
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import MIB, Data, add, garbage, lose, unequal, whole
from llb.scsi import Nulls
from llb.sh import need, read, run

KIB = 1 << 10


def discard(array, data, offset, size):
    run('blkdiscard', '-o', str(offset), '-l', str(size), array.path)
    data.drop(offset, size)


def holes(array, data, before):
    """Discards whole chunks, parts of chunks, and from one chunk's middle into
    another's: only the chunks that were discarded wholly are forgotten."""
    layout = disk.layout_of(array)
    discard(array, data, 4 * MIB, 4 * MIB)
    discard(array, data, 10 * MIB + 8 * KIB, 16 * KIB)
    discard(array, data, 12 * MIB + 32 * KIB, 4 * MIB)
    settle(array)
    now = disk.written(array.cells())
    gone = before - now
    kept = layout.chunks_at(data.blocks)
    need(kept <= now, f'{len(kept - now)} chunks that hold data became Unwritten: '
                      f'{sorted(kept - now)[:5]}')
    need(now <= before, f'{len(now - before)} chunks were made written by a discard')
    ends = [10 * MIB + 8 * KIB, 12 * MIB + 32 * KIB, 16 * MIB + 32 * KIB]
    # and those that are discarded wholly and then written in part
    return gone, layout.chunks_at(ends + list(range(4 * MIB, 8 * MIB, 4 * KIB)) +
                                  list(range(20 * MIB, 22 * MIB, 4 * KIB)))


def agree(array, partly):
    """partly: chunks of which a part was discarded. Copies need not agree there if one
    member knows discards and another does not."""
    if not partly:
        whole(array)
        return
    bad, _ = unequal(array.members)
    need(bad <= partly, f'{len(bad - partly)} chunks differ, first {sorted(bad - partly)[:4]}')


def recovered(level, without=(), spare=True):
    disks = ramdisks(DISKS[level] + 1)
    with Nulls(len(without), discard=0) as others:
        for number, path in zip(without, others.paths):
            need(run('blkdiscard', '-f', path, ok=None)[0] != 0, f'{path} takes discards')
            disks[number] = path
        array = make(level, members=disks[:-1])
        need(int(read(f'/sys/block/{array.name}/queue/discard_max_bytes')) > 0,
             'the array takes no discards')
        data = Data(array)
        data.fill(0, 24)
        settle(array)
        gone, partly = holes(array, data, disk.written(array.cells()))
        need(gone, 'no chunk became Unwritten')
        if not without or level not in (1, 10):
            partly = set()
        data.holds()
        agree(array, partly)
        # Written again after the discard, partly: parity cannot be taken for built.
        data.sprinkle(range(5 * MIB, 6 * MIB, 96 * KIB))
        settle(array)
        agree(array, partly)
        garbage(disks[-1])
        lose(array, disks[0])
        data.holds()
        data.sprinkle(range(6 * MIB, 7 * MIB, 96 * KIB), '3c')  # discarded, then degraded
        discard(array, data, 20 * MIB, 2 * MIB)
        data.sprinkle(range(20 * MIB + 4 * KIB, 21 * MIB, 160 * KIB), '69')
        if spare:
            add(array, disks[-1])
            array.members = disks[1:]
        else:
            run('mdadm', array.path, '--re-add', disks[0])
        array.wait_whole()
        settle(array)
        data.holds()
        agree(array, partly)
        # And without another one: what came back from the recovery is what is read.
        lose(array, array.members[-2])
        data.holds()


@lanes('long')
def test_discard_then_recovery_raid1():
    recovered(1)


@lanes('long')
def test_discard_one_member_without():
    recovered(1, without=[1], spare=False)


@lanes('long')
def test_discard_then_recovery_raid10():
    recovered(10, without=[2])


@lanes('stock')
def test_discard_then_recovery_raid5():
    recovered(5)


@lanes('long')
def test_discard_then_readd_raid6():
    recovered(6, without=[0, 3], spare=False)
