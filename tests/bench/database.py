# SPDX-License-Identifier: GPL-2.0
"""(i) A load like a database's on ext4 on a raid1 of two disks of 16 TB, which take 2 ms for
every request and have a volatile cache: each write is followed by fsync, so that it waits
for the journal's commit and its flushes. Bitmaps as they come, see real.py.

Hot: pages of eight tables of 24 MiB, each in another directory, so that ext4 puts them far
apart; they were written before. Wide: pages that were never written, all over eight tables of
32 GiB. Speed is what fio says; bitmap writes are what reached a member below its data,
superblock apart; crash bytes are read from the members as it ends."""

import os

from llb import large
from llb.sh import run

from measure import emit, fio
from members import empty_all, null_disks
from real import cost_of, settings
from rebuild import MOUNTED
from touch import Requests
from variants import ALL, Measured, in_turn

MIB, GIB = 1 << 20, 1 << 30
LEVEL = 'raid1 16 TB'
LATENCY_US = 2000
TABLES, HOT_MIB, WIDE_GIB = 8, 24, 32
JOBS, WARM_S, RUN_S = 4, 2, 10


def plan(steps, size):
    # In a hurry the in-tree driver is left out: it needs another md.
    variants = tuple(name for name in ALL if name != 'intree') if size.quick else ALL
    for number, variant in in_turn(size.rounds(1 if size.quick else 3), variants):
        steps.add(2 * (size.seconds(RUN_S) + WARM_S) + 25, f'(i) {LEVEL} {variant} round {number + 1}',
                  step(variant, number, size.seconds(RUN_S)), ('i', LEVEL), number)


def mount(array):
    run('mount', '-o', 'noinit_itable,noatime', array.path, MOUNTED)


def make_files(array):
    # Few inodes, no copies of what describes 120,000 groups, nothing left for a thread to do.
    run('mkfs.ext4', '-q', '-F', '-T', 'largefile4', '-m', '0', '-G', '1024', '-J', 'size=64',
        '-O', 'sparse_super2,^resize_inode', '-E', 'num_backup_sb=0,lazy_itable_init=1,nodiscard',
        array.path, timeout_s=300)
    os.makedirs(MOUNTED, exist_ok=True)
    mount(array)
    data = os.urandom(MIB)
    for number in range(TABLES):
        os.mkdir(f'{MOUNTED}/{number}')
        with open(f'{MOUNTED}/{number}/hot', 'wb') as file:
            for _ in range(HOT_MIB):
                file.write(data)
        with open(f'{MOUNTED}/{number}/wide', 'wb') as file:
            os.posix_fallocate(file.fileno(), 0, WIDE_GIB * GIB)
    run('umount', MOUNTED) # writes what is only in the journal yet
    mount(array)


def step(variant, number, run_s):
    def measure(say):
        empty_all() # the memory is needed
        array = Measured(variant, 'raid1', null_disks(2, large.DISK // MIB, LATENCY_US))
        array.make()
        settings(array)
        make_files(array)
        for load in 'hot', 'wide':
            with Requests(array.members) as seen:
                job = fio('database', FOLDER=MOUNTED, JOBS=JOBS, RUN_S=run_s, WARM_S=WARM_S,
                          FILES=':'.join(f'{at}/{load}' for at in range(TABLES)))
            # Not while it runs: two megabytes read from each member were seen to halve its speed.
            cost, _ = cost_of(variant, array.members)
            iops = job['write']['iops']
            counted = iops * (run_s + WARM_S) # in the time that is traced, nearly
            clat = job['sync']['lat_ns']['percentile']
            for metric, unit, value in (
                    ('writes with fsync', 'per second', iops),
                    ('p50 of fsync', 'ms', clat['50.000000'] / 1e6),
                    ('p99 of fsync', 'ms', clat['99.000000'] / 1e6),
                    ('bitmap writes per member for 1000 writes', 'writes',
                     seen.writes / 2 / counted * 1000),
                    ('flushes per member for 1000 writes', 'flushes',
                     seen.flush_count / 2 / counted * 1000),
                    ('crash bytes as it ends', 'GB', cost / 1e9)):
                emit('i', LEVEL, load, variant, metric, unit, value, number)
            say(f'{load}: {iops:.0f} per s, p99 {clat["99.000000"] / 1e6:.1f} ms, '
                f'{seen.writes / 2:.0f} bitmap writes, {cost / 1e9:.1f} GB')
        run('umount', MOUNTED)
        array.stop()
    return measure
