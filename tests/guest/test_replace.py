# SPDX-License-Identifier: GPL-2.0
"""replace=1, on a kernel with a lockless bitmap of its own (the peer): what runs goes on with
that one, what is assembled from then on has ours. (From ours to it: test_interop.py, at the
next boot as here.)"""

import os

from llb import disk, fio
from llb.array import MODULE, Array, loaded, ramdisks
from llb.arrays import DISKS, MIB, holds, settle
from llb.lanes import lanes, uses_up
from llb.life import kernel_log
from llb.peer import use
from llb.sh import equal, need, run

TAKES = "takes the place of this kernel's own lockless bitmap"
OPTIONS = ('layout_unchecked=1',)  # the peer's md has no BTF


def ours(array):
    return os.path.exists(f'{array.sysfs}/llbitmap/crash_bytes')


def insmod(*options):
    return run('insmod', MODULE, *OPTIONS, *options, ok=None)[0]


def one(number, level, disks):
    array = Array(number, disks)
    array.create(level, '--size=32M')
    need(not ours(array), f'{array.name} has our bitmap, with nothing loaded')
    fio.fill(array.path, '96', 0, 8 * MIB)
    return array


def taken(level):
    count = DISKS[level]
    disks = ramdisks(2 * count)
    use('peer')
    running, stopped = (one(number, level, disks[number * count:(number + 1) * count])
                        for number in range(2))
    stopped.wait_idle()
    stopped.stop()
    log = kernel_log()
    need(insmod() != 0 and not loaded(), 'it is loaded beside the peer')
    need(any('has a lockless bitmap of its own' in line for line in log()), 'refused without a word')
    equal(insmod('replace=1'), 0, 'insmod replace=1')
    need(any(TAKES in line for line in log()), 'it does not say what it does')
    need(run('rmmod', 'llbitmap', ok=None)[0] != 0 and loaded(), 'it was unloaded')
    # the one that runs goes on with the bitmap that it has
    need(not ours(running), 'the running array has our files')
    fio.fill(running.path, '5a', 8 * MIB, 8 * MIB)
    holds(running, 8, 0, '96')
    # the other one is ours now, as the peer left it
    stopped.assemble()
    stopped.wait_whole()
    need(ours(stopped), 'the array that was assembled has not our bitmap')
    stopped.quick()
    fio.fill(stopped.path, '5a', 8 * MIB, 8 * MIB)
    holds(stopped, 8, 0, '96')
    settle(stopped)
    # and so is the first, once it was stopped; all beside each other
    holds(running, 8, 8, '5a')
    running.wait_idle()
    running.stop()
    running.assemble()
    running.wait_whole()
    need(ours(running), 'the array has not our bitmap after a stop')
    for array in (running, stopped):
        array.quick()
        settle(array)
        holds(array, 8, 0, '96')
        holds(array, 8, 8, '5a')
        equal(array.sync('check'), 0, 'mismatch_cnt')
        need(disk.supers(array.members[:1])[0].lockless, 'the bitmap on the members')
        array.stop()


@lanes('peer')
@uses_up
def test_taken_raid1():
    taken(1)


@lanes('peer-long')
@uses_up
def test_taken_raid5():
    taken(5)
