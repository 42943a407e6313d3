# SPDX-License-Identifier: GPL-2.0
"""(c) First touches: what making chunks dirty costs, in time and in requests that reach
the members; (d) the same, and the steady state, where a flush costs something.

Requests are counted by the kernel's tracepoint block_bio_queue, on null_blk members
with a write cache: without one the block layer drops flushes and FUA before it."""

import random

from llb import disk
from llb.sh import need
from llb.trace import Trace

from measure import emit, fill, fio, random_writes
from members import null_disks, ramdisks
from variants import ALL, MEMBERS, Measured, in_turn

MIB = 1 << 20
NULL_MIB, SLOW_MIB = 256, 128 # of each null_blk
TOUCHES = 2000
STEP = 64 << 10 # between two first touches: a chunk of these arrays
COUNTED_MIB, TIMED_MIB = 8, 128 # of sequential writes
LIST = '/tmp/list.fio'
SUPER_SECTOR = 8
LATENCY_US = 200 # (d): of every request, a flush too


class Requests(Trace):
    """with Requests(members) as seen: ...; then its counts: what reached the members
    below the data, and every flush. The superblock is not counted."""

    def __init__(self, paths):
        super().__init__(paths, below=min(sup.data_offset for sup in disk.supers(paths)))
        self.writes = self.bytes = self.fua = self.flush_count = 0

    def __exit__(self, *exception):
        super().__exit__(*exception)
        # A flush without data, and one before a write: F before the operation; after
        # it: FUA.
        self.flush_count = len(self.flushes)
        for (_, kind, sector, sectors, _), rwbs in zip(self.bios, self.flags):
            if SUPER_SECTOR <= sector < SUPER_SECTOR + 8:
                continue
            before, _, after = rwbs.partition(kind)
            self.flush_count += 'F' in before
            if kind == 'W':
                self.writes += 1
                self.bytes += sectors * 512
                self.fua += 'F' in after

    def tell(self, *key):
        """Per member: (bench, level, load, variant, pattern, round)."""
        bench, level, load, variant, pattern, number = key
        for name, unit, value in (('bitmap writes', 'writes', self.writes),
                                  ('bitmap bytes', 'KiB', self.bytes / 1024),
                                  ('FUA', 'writes', self.fua), ('flushes', 'flushes', self.flush_count)):
            emit(bench, level, load, variant, f'{pattern}: {name} per member', unit,
                 value / len(self.paths), number)


def plan(steps, size):
    for level in size.levels(*MEMBERS):
        # never-written chunks: raid5 resynchronises meanwhile, raid10 does as raid1
        for state in ('clean', 'unwritten') if level == 'raid1' else ('clean',):
            for number, variant in in_turn(size.rounds(5 if state == 'clean' else 3), ALL):
                steps.add(12 if variant in ('none', 'llbitmap') else 25, f'(c) {level} {state} {variant} round {number + 1}',
                          step(level, state, variant, number), ('c', level, state), number)


def touches(path, size, number):
    """A list of single writes to different chunks, the same for all variants of a round."""
    places = range(0, size - STEP + 1, STEP)
    chosen = random.Random(number).sample(places, min(TOUCHES, len(places)))
    with open(LIST, 'w', encoding='utf-8') as file:
        print(f'fio version 2 iolog\n{path} add\n{path} open', file=file)
        for at in chosen:
            print(f'{path} write {at} 4096', file=file)
        print(f'{path} close', file=file)
    return len(chosen)


def fresh_array(level, state, variant, members):
    array = Measured(variant, level, members)
    # Nothing is ever cleaned in between: daemon_sleep is 30 s (the classic one's 5 s).
    array.make(fresh=state == 'unwritten')
    if state == 'unwritten':
        array.set('sync_action', 'frozen') # md would resynchronise what none and classic have
    return array


def random_touches(array, depth, number):
    count = touches(array.path, array.bytes(), number)
    done = fio('list', DEVICE=array.path, DEPTH=depth, LIST=LIST)['write']
    need(done['total_ios'] == count, f'fio wrote {done["total_ios"]} of {count} blocks')
    return done['iops']


def sequential(array, mib, run_s):
    """Returns writes per second, and whether all were done."""
    done = fio('sequential', DEVICE=array.path, DEPTH=1, BYTES=mib * MIB,
               RUN_S=run_s)['write']
    return done['iops'], done['io_bytes'] == mib * MIB


def step(level, state, variant, number):
    def measure(say):
        nulls = null_disks(MEMBERS[level], NULL_MIB)
        for depth in (32, 1) if level == 'raid1' else (32,):
            array = fresh_array(level, state, variant, nulls)
            with Requests(nulls) as seen:
                iops = random_touches(array, depth, number)
            seen.tell('c', level, str(depth), variant, f'random, {state}', number)
            emit('c', level, str(depth), variant, f'random, {state}', 'IOPS', iops, number)
            say(f'random QD{depth}: {iops / 1000:.2f}k, {seen.writes / len(nulls):.0f} writes, '
                f'{seen.fua / len(nulls):.0f} FUA, {seen.flush_count / len(nulls):.0f} flushes')
            array.stop()
        array = fresh_array(level, state, variant, nulls)
        with Requests(nulls) as seen:
            need(sequential(array, COUNTED_MIB, 60)[1], 'not all was written')
        seen.tell('c', level, '1', variant, f'sequential, {state}', number)
        array.stop()
        # The time it takes, where members cost next to nothing: on ramdisks.
        array = fresh_array(level, state, variant, ramdisks(MEMBERS[level]))
        iops = sequential(array, TIMED_MIB, 4)[0]
        emit('c', level, '1', variant, f'sequential, {state}', 'IOPS', iops, number)
        say(f'sequential QD1: {iops / 1000:.2f}k, {seen.writes / len(nulls):.0f} writes, '
            f'{seen.flush_count / len(nulls):.0f} flushes')
        array.stop()
    return measure


def plan_cache(steps, size):
    for level in size.levels('raid1'):
        for number, variant in in_turn(size.rounds(3), ALL):
            steps.add(20, f'(d) {level} {variant} round {number + 1}',
                      cache_step(level, variant, number, size.seconds(5)), ('d', level), number)


def cache_step(level, variant, number, run_s):
    def measure(say):
        nulls = null_disks(MEMBERS[level], SLOW_MIB, LATENCY_US)
        for depth in (32, 1):
            array = fresh_array(level, 'clean', variant, nulls)
            iops = random_touches(array, depth, number)
            emit('d', level, str(depth), variant, 'first touch, random', 'IOPS', iops, number)
            say(f'first touch QD{depth} {iops / 1000:.2f}k')
            if depth == 32:
                fill(array.path, array.bytes())
                iops = random_writes(array, 32, 2, run_s)
                emit('d', level, '32x2', variant, 'randwrite', 'IOPS', iops, number)
                say(f'steady QD32x2 {iops / 1000:.1f}k')
            array.stop()
    return measure
