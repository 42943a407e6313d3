# SPDX-License-Identifier: GPL-2.0
"""(f) What a power cut costs: chunks that are not clean on the members' copies, and the
bytes that the resync then reads and writes there.

The cut is that of tests/guest/llb/cut.py: members are dm-linear devices, suspended
without a flush; their ramdisks are then one instant's image. Idle: a quarter of the
array was written and then left alone. Dense: cut in random writes over a contiguous
quarter of the array, which is clean when they begin; sparse: in few ones all over it.
What those really touched in barrier_idle + 2 * daemon_sleep before the cut is taken
from fio's own log."""

import struct
import time

from llb import disk, fio
from llb.array import Array
from llb.sh import Direct, Failure, copy_device, device_number, need, read, run, wait_until

from measure import emit, fill
from members import empty_ramdisks, ramdisk_size
from variants import ALL, LOCKLESS, MEMBERS, Measured, in_turn

MIB = 1 << 20
SLEEP_S, IDLE_S = 1, 1
WINDOW_S = IDLE_S + 2 * SLEEP_S
REST_S = 3 * WINDOW_S
BUSY_S = 2 * WINDOW_S # the daemon cleans what it can before the cut
LOADS = {'dense': 4000, 'sparse': 50} # IOPS
TAG = '5a'
CLASSIC_BITS = 256 # bytes, after the classic superblock


def plan(steps, size):
    for level in size.levels(*MEMBERS):
        loads = () if size.quick else \
            tuple(LOADS) if level == 'raid1' and not size.trying else ('dense',)
        count = size.rounds(1 if size.quick else 5)
        variants = ALL if level == 'raid1' else ('llbitmap',) if size.quick else LOCKLESS
        for number, variant in in_turn(count, variants):
            if number >= 3 and variant != 'llbitmap':
                continue # a target stands for this one only
            steps.add(10 + 16 * len(loads), f'(f) {level} {variant} round {number + 1}',
                      step(level, variant, number, loads if number < 3 else loads[:1]),
                      ('f', level), number)


def step(level, variant, number, loads):
    def measure(say):
        idle(level, variant, number, say)
        for load in loads:
            busy(level, variant, number, load, say)
    return measure


class Members:
    """Ramdisks under names that can be suspended, with copies after the cut."""

    def __init__(self, level):
        count = MEMBERS[level]
        self.disks = empty_ramdisks(0, count)
        self.copies = empty_ramdisks(4, count)
        self.names = [f'member{number}' for number in range(count)]
        self.copy_names = [f'copy{number}' for number in range(count)]
        self.map(self.names, self.disks)
        self.paths = [f'/dev/mapper/{name}' for name in self.names]

    @staticmethod
    def map(names, paths):
        for name, path in zip(names, paths):
            run('dmsetup', 'create', name, '--table',
                f'0 {ramdisk_size() // 512} linear {path} 0')

    def cut(self):
        """Returns when the first member was perhaps, the last certainly frozen."""
        begun = time.monotonic()
        run('dmsetup', 'suspend', '--noflush', '--nolockfs', *self.names)
        frozen = time.monotonic()
        try:
            for source, target in zip(self.disks, self.copies):
                copy_device(source, target)
        finally:
            run('dmsetup', 'resume', *self.names, ok=None)
        return begun, frozen

    def to_copies(self):
        """The array is gone; what is left of it is on the copies."""
        for name in self.names:
            run('dmsetup', 'remove', name)
        self.map(self.copy_names, self.copies)
        self.paths = [f'/dev/mapper/{name}' for name in self.copy_names]


def sectors(paths):
    """(read, written) at these dm devices so far."""
    total = [0, 0]
    for path in paths:
        major, minor = device_number(path)
        stat = read(f'/sys/dev/block/{major}:{minor}/stat').split()
        total[0] += int(stat[2])
        total[1] += int(stat[6])
    return total


def classic_bits(path):
    """(bytes of a chunk, bytes that the bitmap is of, its bits as a number) of a member."""
    with Direct(path) as device:
        sup = disk.Super(device)
        head = device.read(sup.bitmap // 4096 * 4096, 4096)[sup.bitmap % 4096:]
        magic, = struct.unpack_from('<I', head, 0)
        sync_size, = struct.unpack_from('<Q', head, 40)
        chunk, = struct.unpack_from('<I', head, 52)
        need(magic == disk.BITMAP_MAGIC, f'{path}: no classic bitmap')
        count = -(-sync_size * 512 // chunk)
        start = sup.bitmap + CLASSIC_BITS
        size = -(-count // 8)
        first = start // 4096 * 4096
        data = device.read(first, -(-(start + size - first) // 4096) * 4096)[start - first:]
    return chunk, sync_size * 512, int.from_bytes(data[:size], 'little') & (1 << count) - 1


def classic_bytes(*paths):
    """How many bytes the classic bitmaps of these members, taken together, call dirty."""
    found = [classic_bits(path) for path in paths]
    chunk, size, bits = found[0]
    for _, _, others in found[1:]:
        bits |= others
    last = (size - 1) // chunk # it may be shorter
    return bits.bit_count() * chunk - (bits >> last) * ((last + 1) * chunk - size)


def chunks_of(path, offsets):
    """The bitmap's chunks of the array's bytes at these offsets."""
    return disk.Layout(disk.supers([path])[0]).chunks_at(offsets)


def after(level, variant, number, load, members, say, touched=None):
    """Counts, assembles the copies, resynchronises."""
    chunk = None
    if variant in LOCKLESS:
        dirty = disk.not_clean(disk.cells(members.copies))
        chunk = disk.supers(members.copies[:1])[0].chunk * 512
        emit('f', level, load, variant, 'chunks not clean', 'chunks', len(dirty), number)
        emit('f', level, load, variant, 'covered by them', 'MiB', len(dirty) * chunk / MIB, number)
        say(f'{load}: {len(dirty)} chunks')
        if touched is not None:
            recent = chunks_of(members.copies[0], touched)
            need(recent, 'nothing was written just before the cut')
            emit('f', level, load, variant, f'touched in the last {WINDOW_S} s', 'chunks',
                 len(recent), number)
            emit('f', level, load, variant, 'not clean per touched chunk', 'ratio',
                 len(dirty) / len(recent), number)
            say(f'{len(recent)} touched, {len(dirty) / len(recent):.2f}')
    elif variant == 'classic':
        size = classic_bytes(members.copies[0])
        emit('f', level, load, variant, 'covered by them', 'MiB', size / MIB, number)
    members.to_copies()
    array = Array(1, members.paths)
    before = sectors(members.paths)
    start = time.monotonic()
    run('mdadm', '--assemble', array.path, *members.paths)
    assembled = sectors(members.paths)
    array.readwrite()
    done(array, variant)
    took = time.monotonic() - start
    moved = [new - old for new, old in zip(sectors(members.paths), assembled)]
    emit('f', level, load, variant, 'read and written until in sync', 'MiB',
         sum(moved) * 512 / MIB, number)
    need(before[1] <= assembled[1], 'the statistics of the members went back')
    say(f'{sum(moved) * 512 / MIB:.1f} MiB in {took:.1f} s')
    array.stop()
    for name in members.copy_names:
        run('dmsetup', 'remove', name)


def done(array, variant):
    """md may need a moment to begin: wait until it has been idle for one."""
    quiet_since = None

    def settled():
        nonlocal quiet_since
        busy = array.attribute('sync_action') != 'idle' or array.attribute('degraded') != '0'
        if variant in LOCKLESS:
            busy = busy or any(count for name, count in array.bits().items()
                               if name.startswith(('need sync', 'syncing')))
        if busy:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        return quiet_since is not None and time.monotonic() - quiet_since > 1
    wait_until(f'{array.name} is in sync', settled, 120)


def rest(array):
    """Until md and the bitmap on the members call nothing dirty, but no longer than
    REST_S: what is dirty then is what a cut of an idle array costs. (The in-tree
    driver was seen not to come there within a minute.)"""
    def clean():
        if array.attribute('array_state') not in ('clean', 'active-idle'):
            return False
        if array.variant == 'classic':
            return classic_bytes(array.members[0]) == 0
        return array.variant not in LOCKLESS or not disk.not_clean(array.cells())
    try:
        wait_until(f'{array.name}: clean', clean, REST_S, 0.2, exact=True)
    except Failure:
        pass


def idle(level, variant, number, say):
    members = Members(level)
    array = Measured(variant, level, members.paths).make()
    array.sleep(SLEEP_S)
    fill(array.path, array.bytes() // 4 // MIB * MIB)
    rest(array)
    members.cut()
    array.stop()
    after(level, variant, number, 'idle', members, say)


def busy(level, variant, number, load, say):
    members = Members(level)
    array = Measured(variant, level, members.paths).make()
    array.sleep(SLEEP_S)
    size = array.bytes()
    quarter = size // 4 // MIB * MIB
    start, length = (size * 3 // 8 // MIB * MIB, quarter) if load == 'dense' else \
        (0, size // MIB * MIB)
    running = fio.Running(array.path, TAG, start, length, f'--rate_iops={LOADS[load]}',
                          '--randrepeat=0', '--norandommap')
    begun = frozen = 0
    try:
        before = array.writes()
        wait_until('fio writes', lambda: array.writes() > before, 60, 0.02)
        time.sleep(BUSY_S)
        begun, frozen = members.cut()
    finally:
        running.stop(begun)
    array.stop()
    recent = [offset for offset, at in running.acked_s.items() if at > frozen - WINDOW_S]
    after(level, variant, number, load, members, say, recent)
