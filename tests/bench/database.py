# SPDX-License-Identifier: GPL-2.0
"""(i) Databases on ext4 on a raid1 of two disks of 16 TB, which take 2 ms for
every request and have a volatile cache. Bitmaps as they come, see real.py.

Hot and wide are like a database: each write is followed by fsync, so that it waits for the
journal's commit and its flushes. Hot: pages of eight tables of 24 MiB, each in another
directory, so that ext4 puts them far apart; they were written before. Wide: pages that were never
written, all over eight tables of 32 GiB. pgbench is one: PostgreSQL with its own TPC-B, ten
branches, and few buffers, so that pages go out while it runs.

Speed is what fio and pgbench say; bitmap writes are what reached a member below its data,
superblock apart; crash bytes are read from the members as it ends."""

import contextlib
import glob
import os
import re
import signal
import subprocess

from llb import large, pace
from llb.array import JOB
from llb.sh import Failure, need, read, run, wait_until

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
CLIENTS = 8
# As tests/bench/postgresql has made them.
POSTGRES, OWNER = f'{JOB}/programs', 65534
CLUSTER = f'{MOUNTED}/cluster'
SETTINGS = {'shared_buffers': '16MB', 'backend_flush_after': '64kB', 'autovacuum': 'off'}
LOGS = '/tmp/transactions'


def plan(steps, size):
    # In a hurry the in-tree driver is left out: it needs another md.
    variants = tuple(name for name in ALL if name != 'intree') if size.quick else ALL
    for number, variant in in_turn(size.rounds(1 if size.quick else 3), variants):
        steps.add(4 * size.seconds(RUN_S) + 3 * WARM_S + 50, f'(i) {LEVEL} {variant} round {number + 1}',
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
    os.mkdir(CLUSTER)
    run('tar', '-xzf', f'{POSTGRES}/cluster.tar.gz', '-C', CLUSTER, timeout_s=300)
    run('umount', MOUNTED) # writes what is only in the journal yet
    mount(array)


def program(name):
    return {'args': [f'{POSTGRES}/tree/bin/{name}'], 'env': {'LD_LIBRARY_PATH': f'{POSTGRES}/lib'}}


@contextlib.contextmanager
def server():
    """PostgreSQL, at CLUSTER, stopped in the end as it likes to be."""
    started = program('postgres')
    started['args'] += ['-D', CLUSTER, *(f'-c{name}={value}' for name, value in SETTINGS.items())]
    with open('/tmp/postgres.log', 'w+', encoding='utf-8') as log:
        with subprocess.Popen(**started, user=OWNER, group=OWNER, extra_groups=[], cwd='/tmp',
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            def ready():
                need(process.poll() is None, 'postgres: ' + read(log.name)[-300:])
                state = f'{CLUSTER}/postmaster.pid'
                return os.path.exists(state) and read(state).splitlines()[7:8] == ['ready']
            try:
                wait_until('PostgreSQL is there', ready)
                yield
                process.send_signal(signal.SIGINT)  # in an orderly way, whoever is connected
                wait_until('PostgreSQL ends', lambda: process.poll() is not None)
            except BaseException:
                process.kill()
                raise


def transactions(run_s):
    """Its own load for so long: (how many, those per second, their times in ms in order)."""
    for old in glob.glob(f'{LOGS}.*'):
        os.unlink(old)
    started = program('pgbench')
    started['args'] += ['-h', '/tmp', '-U', 'postgres', '-n', '-M', 'prepared', '-c', str(CLIENTS), '-j', '2',
                        '-T', str(run_s), '-l', f'--log-prefix={LOGS}', 'postgres']
    # pylint: disable=consider-using-with
    process = subprocess.Popen(**started, cwd='/tmp', stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = pace.communicate(process, 60 + 5 * run_s)
    except pace.Late as late:
        raise Failure(f'pgbench: {late}') from late
    rate = re.search(r'^tps = ([0-9.]+) ', said, re.MULTILINE)
    need(process.returncode == 0 and rate, f'pgbench: status {process.returncode}: {said[-300:]}')
    times = []
    for path in glob.glob(f'{LOGS}.*'):
        times += [int(line.split()[2]) / 1000 for line in read(path).splitlines()]
    need(times, 'pgbench has no transaction in its log')
    return len(times), float(rate[1]), sorted(times)


def read_file(path):
    with open(path, 'rb') as file:
        while file.read(MIB):
            pass


class Load:
    """What is measured of one: its unit of work, and how it is called there."""

    def __init__(self, name, unit, latency):
        self.name, self.unit, self.latency = name, unit, latency

    def say(self, variant, number, count, rate, p50, p99, seen, cost):
        for metric, unit, value in (
                (self.unit, 'per second', rate),
                (f'p50 of {self.latency}', 'ms', p50),
                (f'p99 of {self.latency}', 'ms', p99),
                (f'bitmap writes per member for 1000 {self.unit.split()[0]}', 'writes',
                 seen.writes / 2 / count * 1000),
                (f'flushes per member for 1000 {self.unit.split()[0]}', 'flushes',
                 seen.flush_count / 2 / count * 1000),
                ('crash bytes as it ends', 'GB', cost / 1e9)):
            emit('i', LEVEL, self.name, variant, metric, unit, value, number)
        return (f'{self.name}: {rate:.0f} per s, p99 {p99:.1f} ms, {seen.writes / 2:.0f} bitmap writes, '
                f'{cost / 1e9:.1f} GB')


def pages(load, run_s):
    """fio's, see Load.say."""
    job = fio('database', FOLDER=MOUNTED, JOBS=JOBS, RUN_S=run_s, WARM_S=WARM_S,
              FILES=':'.join(f'{at}/{load}' for at in range(TABLES)))
    clat = job['sync']['lat_ns']['percentile']
    iops = job['write']['iops']
    # In the time that is traced, nearly.
    return iops * (run_s + WARM_S), iops, clat['50.000000'] / 1e6, clat['99.000000'] / 1e6


def pgbench(run_s):
    count, rate, times = transactions(run_s)
    return count, rate, times[len(times) // 2], times[len(times) * 99 // 100]


def step(variant, number, run_s):
    def measure(say):
        empty_all() # the memory is needed
        array = Measured(variant, 'raid1', null_disks(2, large.DISK // MIB, LATENCY_US))
        array.make()
        settings(array)
        make_files(array)

        def measured(load, work, *arguments):
            with Requests(array.members) as seen:
                done = work(*arguments)
            # Not while it runs: two megabytes read from each member were seen to halve its speed.
            cost, _ = cost_of(variant, array.members)
            say(load.say(variant, number, *done, seen, cost))
        fsync = 'writes with fsync', 'fsync'
        measured(Load('hot', *fsync), pages, 'hot', run_s)
        measured(Load('wide', *fsync), pages, 'wide', run_s)
        # What it reads is in memory, as a database's is.
        for path in glob.glob(f'{CLUSTER}/base/*/*'):
            read_file(path)
        with server():
            transactions(WARM_S)
            measured(Load('pgbench', 'transactions', 'transactions'), pgbench, max(2 * run_s, 4))
        run('umount', MOUNTED)
        array.stop()
    return measure
