# SPDX-License-Identifier: GPL-2.0
"""A mirror of a disk here and one over the network (nbd over TCP, llb/nbd.py): the link is cut in
the middle of writes, falls silent, is slow, and the power goes while the other side is behind.
What is on its way when a link goes is known: half of it arrives and half of it is lost. What the
member is given when it comes back is counted, and data is compared with each member missing."""

import time

from llb import fio, life, mapped, nbd, pace
from llb.array import ramdisks
from llb.cut import Cut
from llb.lanes import lanes
from llb.life import Data
from llb.sh import equal, need, run, wait_until
from test_behind import DEPTH, SPREAD, mirror, other, rounds, seen_behind, written_behind
from test_cut import STEPS
from test_faults import AREA, FILLED, all_there, away, comes_back, flows, made, state

LATE_MS = 40


def goes(array, data, remote, go):
    """The link goes while the array is written; go returns what was lost with it. All of that
    and what was missed is copied when it is back, and no more."""
    lost = set()
    written, missed = away(array, data, lambda: lost.update(go()))
    life.remove(array, remote.path)
    remote.connect()
    comes_back(array, remote.path, written, missed | lost)
    all_there(array, data)
    need(lost, 'nothing was lost with the link')


def goes_under_load(array, data, remote):
    """Cut off and back while it is written and the link is slow."""
    remote.late(LATE_MS)
    writer = fio.Running(array.path, '96', *AREA)
    try:
        flows(array)
        remote.cut()
        mapped.wait_faulty(array)
        flows(array)
        life.remove(array, remote.path)
        remote.connect()
        remote.late(LATE_MS)
        run('mdadm', array.path, '--re-add', remote.path)
        wait_until('no member is missing', lambda: array.missing() == 0, 120)
        flows(array)
    finally:
        acked, touched = writer.stop(time.monotonic())
    remote.let_go()
    data.acknowledged('96', acked, touched)
    all_there(array, data)


def on_their_way(remote, count):
    remote.keep()
    wait_until(f'{count} writes are on their way', lambda: remote.kept() >= count, 60, 0.02)


def cut_with(remote, count, clock):
    """It is cut with that many writes of data on their way, for as long as the daemon had its
    turns: none of them is in a chunk that became Clean."""
    on_their_way(remote, count)
    rounds(clock)
    return remote.cut()


@lanes('long')
def test_cut_raid1():
    """The other side ends the connection, with writes on their way. (Not as many as fio has
    under way: neighbours may have become one.)"""
    ramdisks(4)
    clock = other()
    remote = nbd.Remote(1)
    array, data = made(1, ['/dev/ram0', remote])
    goes(array, data, remote, lambda: cut_with(remote, DEPTH // 2, clock))
    goes_under_load(array, data, remote)


@lanes('long')
def test_times_out_raid1():
    """The other side does not answer any more; after some time the kernel gives it up."""
    ramdisks(2)
    remote = nbd.Remote(1)
    array, data = made(1, ['/dev/ram0', remote])

    def go():
        on_their_way(remote, DEPTH // 2)
        remote.hang()
        seconds = int(8 * pace.stretch())
        remote.give_up(seconds)
        wait_until('the kernel ends the connection', lambda: not remote.client.is_alive(), 4 * seconds)
        return remote.cut()
    goes(array, data, remote, go)


@lanes('long')
def test_behind_raid1():
    """A write-mostly member far away: what is acknowledged is behind, and half of it is lost
    when the link is cut."""
    ramdisks(4)
    clock = other()
    remote = nbd.Remote(1)
    array = mirror(remote)
    data = Data(array)
    data.fill(0, FILLED)
    remote.late(LATE_MS)
    writer = fio.Running(array.path, '5a', *AREA, f'--iodepth={DEPTH}')
    try:
        seen_behind(array, remote, 400)
    finally:
        acked, touched = writer.stop(time.monotonic())
    remote.let_go()
    data.acknowledged('5a', acked, touched)
    all_there(array, data)
    goes(array, data, remote, lambda: cut_with(remote, 4 * DEPTH, clock))
    with mapped.keeping(remote):  # and it is written behind again
        written_behind(data, remote, SPREAD[:20], '5a')
    goes_under_load(array, data, remote)


@lanes('long')
def test_silent_raid1():
    """The other side does not answer for a while and then goes on: writes wait, those of
    another array do not, and nothing fails."""
    ramdisks(4)
    clock = other()
    remote = nbd.Remote(1)
    array, data = made(1, ['/dev/ram0', remote])
    writer = fio.Running(array.path, '5a', *AREA)
    try:
        flows(array)
        remote.hang()
        rounds(clock, 1)  # what was under way is done, or waits
        before = array.writes()
        rounds(clock, 1)
        equal(array.writes(), before, 'writes that were acknowledged without an answer')
        need(remote.waits(), 'nothing waits for an answer')
        remote.let_go()
        flows(array)
    finally:
        remote.let_go()
        acked, touched = writer.stop(time.monotonic())
    need('in_sync' in state(array, remote.path), f'the member is {state(array, remote.path)}')
    data.acknowledged('5a', acked, touched)
    all_there(array, data)


class RemoteCut(Cut):
    """The second member is write-mostly, over the network, and late when the power goes; so is
    its copy afterwards, but for being late."""

    def make_array(self):
        local, far = self.make_members()
        self.remote = nbd.Remote(1, far)
        return mirror(self.remote, local, mib=120)

    def cut(self):
        self.remote.late(5 * LATE_MS)
        return super().cut()

    def freeze_and_copy(self):
        wait_until('writes are acknowledged that the far member does not have',
                   lambda: self.remote.kept() > DEPTH, 60, 0.02)
        return super().freeze_and_copy()

    def throw_away(self):
        self.remote.cut()
        super().throw_away()

    def copies(self):
        near, far = super().copies()
        return [near, nbd.Remote(3, far).path]


@lanes('long')
def test_power_cut_raid1():
    """With writes behind: what the far member does not have is in chunks that are not Clean;
    these are resynchronised, and no other."""
    run_ = RemoteCut('raid1')
    for step in STEPS:
        print(f'  {step}: {getattr(run_, step)()}', flush=True)
    need(run_.facts['differing_at_cut'], 'the far member was not behind')
