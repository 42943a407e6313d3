# SPDX-License-Identifier: GPL-2.0
"""The whole life of an array: what was written, over all levels and raid10 layouts;
parity computed again from the members; members that are used disks; steps that
several tests take."""

import contextlib
import os
import struct

from . import aio, disk, fio, pace
from .array import Array, ramdisks
from .sh import (Direct, Failure, KernelLog, copy_device, device_number, equal, need, read, read_at, run,
                 wait_until, write, write_at)

MIB = 1 << 20
BLOCK = fio.BLOCK


def unequal(paths, chunks=None):
    """(the chunks whose members do not agree, how many were compared). None: all that was
    ever written."""
    if chunks is None:
        chunks = disk.written(disk.cells(paths))
    return disk.unequal(paths, chunks), len(chunks)


def whole(array, chunks=None, check=True):
    """The members agree, computed here and by md's own check."""
    bad, count = unequal(array.members, chunks)
    need(count, f'{array.name}: nothing was ever written')
    need(not bad, f'{array.name}: {len(bad)} of {count} chunks do not agree on the members, '
                  f'first {sorted(bad)[:4]}')
    if check:
        equal(array.sync('check'), 0, 'mismatch_cnt')
    return count


class Data:
    """What an array has to hold: {offset of 4 KiB: content}. What it says nothing
    of may be anything."""

    def __init__(self, array):
        self.array, self.blocks = array, {}

    def fill(self, start_mib, mib, tag='c3'):
        fio.fill(self.array.path, tag, start_mib * MIB, mib * MIB)
        for offset in range(start_mib * MIB, (start_mib + mib) * MIB, BLOCK):
            self.blocks[offset] = fio.filled(tag, offset)

    def sprinkle(self, offsets, tag='96'):
        """4 KiB at each of these offsets: no chunk is written wholly."""
        with Direct(self.array.path, writable=True) as device:
            for offset in offsets:
                content = fio.block(tag, offset)
                device.write(offset, content)
                self.blocks[offset] = content

    def batch(self, offsets, tag):
        """4 KiB at each of these offsets, not yet acknowledged."""
        writes = {offset: fio.block(tag, offset) for offset in offsets}
        self.blocks.update(writes)
        return aio.Batch(self.array.path, writes)

    def acknowledged(self, tag, acked, touched):
        """Of a fio.Running that was stopped."""
        for offset in touched:
            self.blocks.pop(offset, None)
        for offset in acked:
            self.blocks[offset] = fio.block(tag, offset)

    def drop(self, offset, size):
        """Discarded: anything may be there."""
        for at in range(offset, offset + size, BLOCK):
            self.blocks.pop(at, None)

    def cut_to(self, size):
        self.blocks = {at: data for at, data in self.blocks.items() if at + BLOCK <= size}

    def holds(self, array=None):
        array = array or self.array
        need(self.blocks, 'nothing was written')
        wrong = []
        with Direct(array.path) as device:
            start = stop = None
            for offset in sorted(self.blocks):  # one read for a run of up to 1 MiB
                if start is not None and offset == stop and stop - start < MIB:
                    stop += BLOCK
                    continue
                if start is not None:
                    wrong += self.compare(device, start, stop)
                start, stop = offset, offset + BLOCK
            wrong += self.compare(device, start, stop)
        need(not wrong, f'{array.name}: {len(wrong)} of {len(self.blocks)} blocks do not read '
                        f'back, first at {wrong[:1]}')

    def compare(self, device, start, stop):
        data = device.read(start, stop - start)
        return [at for at in range(start, stop, BLOCK)
                if data[at - start:at - start + BLOCK] != self.blocks[at]]


def garbage(path, seed=1):
    """A used disk: nothing on it is zero, and no two are alike."""
    with open('/dev/urandom', 'rb') as source:
        noise = source.read(MIB)
    with Direct(path, writable=True) as device:
        for offset in range(0, device.bytes, MIB):
            device.write(offset, noise)


def used(count, mib=None):
    """Ramdisks that were used before."""
    paths = ramdisks(count, mib)
    for path in paths:
        garbage(path)
    return paths


def sparse(count, mib):
    """Loops over files that take memory only for what is written."""
    run('modprobe', 'loop')
    paths = []
    for number in range(count):
        name = f'/dev/shm/sparse{number}'
        with open(name, 'wb') as file:
            file.truncate(mib * MIB)
        paths.append(run('losetup', '--find', '--show', name).strip())
        os.unlink(name)  # its memory goes with the loop
    return paths


def fail(array, *members):
    run('mdadm', array.path, '--fail', *members)


def fail_in_reshape(array, member):
    """Returns when md has begun again: until then raid5 ends a write at the place that it has
    come to with ENOMEM, whatever the bitmap."""
    log = kernel_log()
    fail(array, member)
    wait_until('md goes on with the reshape', lambda: any(
        f'reshape of RAID array {array.name}' in line for line in log()), 60, 0.02)
    running(array, 'reshape')


def remove(array, *members):
    for member in members:
        wait_until(f'{member} can be removed', lambda m=member: run(
            'mdadm', array.path, '--remove', m, ok=None)[0] == 0, 20)


def lose(array, *members):
    fail(array, *members)
    remove(array, *members)


def add(array, *members):
    """As new disks."""
    for member in members:
        run('mdadm', '--zero-superblock', member, ok=None)
    run('mdadm', array.path, '--add', *members)


def replace(array, old, new):
    """Marks old for replacement by new. md may give the only spare that place by itself,
    before mdadm, which marked old first, says which one it is to be; mdadm then calls that an
    error."""
    status, said = run('mdadm', array.path, '--replace', old, '--with', new, ok=None)
    numbers = [device_number(path) for path in (old, new)]
    names = [os.path.basename(os.path.realpath('/sys/dev/block/%d:%d' % number)) for number in numbers]
    slots = [array.attribute(f'dev-{name}/slot') for name in names]
    need(status == 0 or (f'{new} is active and cannot be a replacement' in said
                         and slots[0] in (slots[1], 'none')), f'{said} {slots}')


def freeze(array):
    """No sync is started until thaw()."""
    array.set('sync_action', 'frozen')


def thaw(array):
    array.set('sync_action', 'idle')


def slower(kib_s):
    """As long as it takes at that speed on the reference, for what the test does meanwhile."""
    return max(1, int(kib_s / pace.stretch()))


def slow(array, kib_s=500):
    array.set('sync_speed_min', 1)
    array.set('sync_speed_max', slower(kib_s))


@contextlib.contextmanager
def slow_from_start(kib_s=500):
    """Arrays that are assembled here sync slowly from their first instant."""
    limits = '/proc/sys/dev/raid/speed_limit_min', '/proc/sys/dev/raid/speed_limit_max'
    before = [read(path) for path in limits]
    try:
        write(limits[0], 1)
        write(limits[1], slower(kib_s))
        yield
    finally:
        for path, value in zip(limits, before):
            write(path, value)


def fast(array):
    array.set('sync_speed_max', 2000000)
    array.set('sync_speed_min', 2000000)


def waiting(array):
    """How many chunks wait for a sync."""
    bits = array.bits()
    return bits['need sync'] + bits['syncing']


def running(array, action, limit_s=20):
    wait_until(f'{array.name}: {action} runs', lambda: array.attribute('sync_action') == action,
               limit_s, 0.02)


def copies(array, spares):
    """The members as they are now, on other disks: a power cut. Mapped members, those of
    ramdisks() with a size, are frozen for it; others only while nothing is written."""
    mapped = [path for path in array.members if path.startswith('/dev/mapper/ram')]
    spares = spares[:len(array.members)]
    for target in spares:
        run('blkdiscard', '-f', target)
    try:
        if mapped:
            run('dmsetup', 'suspend', '--noflush', '--nolockfs', *mapped)
        for source, target in zip(array.members, spares):
            copy_device(source.replace('mapper/', ''), target)
    finally:
        for path in mapped:
            run('dmsetup', 'resume', path)
    return spares


def cut(array, spares):
    """Assembles such copies in the place of the array."""
    found = copies(array, spares)
    array.stop()
    for path in array.members:
        run('blkdiscard', '-f', path)
    return Array(array.path.removeprefix('/dev/md'), found)


def grow(array, *change):
    """Returns when the change has begun. Where data is backed up mdadm stays in the
    background, and run() would wait until it lets go of its output."""
    status, _ = run('sh', '-c', 'exec mdadm --grow "$@" >/tmp/grow 2>&1', 'sh', array.path, *change,
                    ok=None)
    need(status == 0, f'mdadm --grow {" ".join(change)}: status {status}: '
                      f'{read("/tmp/grow")[-300:]}')


def reshaped(array, limit_s=120):
    """The reshape is over, and so is what mdadm does behind it."""
    wait_until('the reshape is done', lambda: array.attribute('sync_action') != 'reshape' and
               array.attribute('reshape_position') == 'none', limit_s)
    # mdadm watches it in the background, and bounds what comes next if it is late.
    wait_until('mdadm is done', lambda: run('pgrep', '-x', 'mdadm', ok=None)[0] != 0, limit_s)
    array.set('sync_max', 'max')


def each_missing(array, data):
    """What the array holds can be read with each of its members missing in turn. It is
    stopped, assembled read-only without one, which changes nothing on the others, and
    assembled whole in the end."""
    array.stop()
    for gone in array.members:
        rest = [path for path in array.members if path != gone]
        run('mdadm', '--assemble', '--readonly', '--run', array.path, *rest)
        try:
            data.holds()
        except Failure as wrong:
            raise Failure(f'without {gone}: {wrong}') from wrong
        array.stop()
    array.assemble()
    array.quick()


def seal(page):
    """The checksum of md's superblock, so that it fits."""
    struct.pack_into('<I', page, 216, 0)
    roles, = struct.unpack_from('<I', page, 220)
    total = sum(word for word, in struct.iter_unpack('<I', page[:(256 + 2 * roles) // 4 * 4]))
    if roles % 2:
        total += struct.unpack_from('<H', page, 254 + 2 * roles)[0]
    struct.pack_into('<I', page, 216, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)


def patch(path, offset, layout, *values, bitmap=False):
    """Other values in md's superblock of a member that is in no array, or in its bitmap's
    header; offset: bytes within it; layout: struct's. The checksum fits again."""
    start = disk.supers([path])[0].bitmap if bitmap else disk.MD_SUPER_SECTOR * disk.SECTOR
    page = bytearray(read_at(path, start, 4096))
    struct.pack_into(layout, page, offset, *values)
    if not bitmap:
        seal(page)
    write_at(path, start, bytes(page))


def refused(*command):
    """The command fails, in one line; returns the line."""
    status, said = run(*command, ok=None)
    need(status != 0, f'{" ".join(command)} was not refused')
    lines = [line for line in said.strip().splitlines() if line.strip()]
    need(len(lines) >= 1, f'{" ".join(command)} was refused without a word')
    return ' / '.join(lines)


def kernel_log():
    """The kernel's messages from now on: a function that returns the new ones."""
    log = KernelLog()
    return lambda: list(log.lines())
