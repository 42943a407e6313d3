# SPDX-License-Identifier: GPL-2.0
"""(f) at 16 TB: what a power cut costs a raid1 of two disks of that size, sparse ones, which
hold what was written and no more. Bitmaps as they come: daemon_sleep 30 s and barrier_idle
5 s of the lockless ones, 5 s of the classic one, llbitmap's own budget.

Idle: some blocks all over it were written, then it was left alone for RUN_S. Sparse: 50
random writes per second for as long. Burst: just after 5000 at once. Arrays of one md exist
side by side, each nearly idle. Each is cut off as in cuts.py; then the bitmaps of both
members are read and merged, as the next assembly does. What they cover is not
resynchronised here: it is terabytes. It is nearly the same as `make crash-cost` has in
simulated time, for one instant instead of sixty."""

import subprocess
import time

from llb import disk, large
from llb.fio import BLOCK
from llb.sh import Direct, need, run, wait_until

from cuts import classic_bytes
from measure import emit
from members import empty_all
from variants import LOCKLESS, Measured

GB = 10**9
LEVEL = 'raid1 16 TB'
RUN_S = 75 # two passes of the lockless daemons and more
SPARSE, BURST = 50, 1000 # writes per second
BURST_WRITES = 5000
IDLE_BLOCKS = 64
COPY_MB_S = 200
LOADS = ('sparse', 'idle', 'burst') # cut off in this order
TOGETHER = (('classic', 'llbitmap'), ('intree',))


def plan(steps, size):
    for number in range(size.rounds(1 if size.quick else 2)):
        # The in-tree driver's is no news: in a hurry it is left out.
        groups = TOGETHER[:1] if size.quick else \
            TOGETHER if number % 2 == 0 else tuple(reversed(TOGETHER))
        run_s = size.seconds(RUN_S)
        for group in groups:
            steps.add(run_s + 25 * len(group), f'(f) {LEVEL} {", ".join(group)} round {number + 1}',
                      step(group, number, run_s), ('f', LEVEL), number)


def settings(array):
    """As an administrator has it."""
    if array.variant in LOCKLESS:
        array.set('llbitmap/daemon_sleep', 30)
        array.set('llbitmap/barrier_idle', 5)


def cost_of(variant, paths):
    """(bytes that the next assembly of these members would resynchronise, how many chunks of
    a lockless bitmap that are)."""
    if variant == 'classic':
        return classic_bytes(*paths), None
    sups = disk.supers(paths)
    if variant == 'none':
        return sups[0].size * disk.SECTOR, None
    need(all(sup.cells for sup in sups), 'a bitmap is not initialised on disk')
    chunks = len(disk.not_clean([sup.cells for sup in sups]))
    return min(chunks * sups[0].chunk, sups[0].size) * disk.SECTOR, chunks


class Job:
    """An array, and what is written to it."""

    def __init__(self, at, variant, load, modules):
        self.variant, self.load, self.writer = variant, load, None
        self.members = large.Members(2)
        self.array = Measured(variant, 'raid1', self.members.paths, number=at)
        self.array.make(modules=modules)
        settings(self.array)

    def start(self):
        self.before = self.array.writes()
        if self.load == 'idle':
            step_bytes = self.array.bytes() // IDLE_BLOCKS
            with Direct(self.array.path, writable=True) as device:
                for number in range(IDLE_BLOCKS):
                    device.write(number * step_bytes // BLOCK * BLOCK, b'\x5a' * BLOCK)
            return
        # pylint: disable=consider-using-with
        self.writer = subprocess.Popen(
            ['fio', '--name=job', f'--filename={self.array.path}', '--direct=1', '--rw=randwrite',
             '--bs=4k', '--ioengine=libaio', '--iodepth=64', '--norandommap',
             '--random_generator=tausworthe64', '--rate_process=poisson', '--randrepeat=0',
             f'--rate_iops={BURST if self.load == "burst" else SPARSE}',
             *((f'--number_ios={BURST_WRITES}',) if self.load == 'burst' else
               ('--time_based', '--runtime=86400'))],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    def written(self):
        return self.array.writes() - self.before

    def wait(self, writes, limit_s):
        return wait_until(f'{self.variant}, {self.load}: {writes} writes',
                          lambda: self.written() >= writes, limit_s, 0.02)

    def cut(self, number, say):
        said = int(self.array.attribute('llbitmap/crash_bytes')) \
            if self.variant == 'llbitmap' else None
        # Frozen, the files are the image; copies of them would take as long as all the rest.
        files = [f'/proc/self/fd/{file}' for file in self.members.files]
        with self.members.frozen():
            cost, chunks = cost_of(self.variant, files)
            whole, _ = cost_of('none', files)
        if self.writer:
            self.writer.terminate()
            self.writer.wait()
        self.array.stop()
        self.tell(number, 'covered by them', 'GB', cost / GB, whole / GB)
        self.tell(number, f'of it at {COPY_MB_S} MB/s', 's', cost / COPY_MB_S / 1e6)
        if chunks is not None:
            self.tell(number, 'chunks not clean', 'chunks', chunks)
        if said is not None:
            self.tell(number, 'crash_bytes said just before', 'GB', said / GB)
        say(f'{self.variant} {self.load}: {cost / GB:.1f} GB')

    def tell(self, number, metric, unit, value, none=None):
        emit('f', LEVEL, self.load, self.variant, metric, unit, value, number, none=none)


def step(group, number, run_s):
    def measure(say):
        empty_all() # the memory is needed
        run('modprobe', 'dm_mod') # /dev/mapper is there from then on
        jobs = [Job(at, variant, load, group[-1]) for at, (variant, load) in enumerate(
            (variant, load) for load in LOADS for variant in group)]
        calm = [job for job in jobs if job.load != 'burst']
        try:
            for job in calm:
                job.start()
            for job in calm:
                job.wait(1, 60)
            time.sleep(run_s) # what the bitmaps make of that time is what is measured
            for job in jobs:
                if job.load == 'burst': # one after the other: each is to be quick
                    job.start()
                    took = job.wait(BURST_WRITES - 1, 60)
                    job.tell(number, 'the burst took', 's', took)
                job.cut(number, say)
        finally:
            for job in jobs:
                if job.writer:
                    job.writer.kill()
                    job.writer.wait()
    return measure
