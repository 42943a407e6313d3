# SPDX-License-Identifier: GPL-2.0
"""The llbitmap tool on real members: arrays with mdadm's internal bitmap become lockless
ones and back, with their data, also after a crash and from every point at which a
conversion can be cut off."""

import os
import signal
import time
import zlib

from llb import disk, fio
from llb.array import RAMDISK_MIB, Array, ramdisks
from llb.arrays import DISKS, MIB, filled, holds, make, settle
from llb.lanes import lanes, limit
from llb.sh import Direct, copy_device, equal, need, read, run, wait_until
from llb.tool import DAMAGED, REFUSED, UNREADABLE, apply, convert, examine, planned, tool, writes_of
from llb.trace import Trace

SMALL_MIB = 24


def internal(level, members, *extra, mib=48, number=0):
    """An array with an internal bitmap, of small chunks and synchronised."""
    return Array(number, members).create(level, f'--size={mib}M', '--bitmap-chunk=64K',
                                         '--delay=1', *extra, bitmap='internal')


def kind(array):
    return array.attribute('bitmap_type').split('[')[1].split(']')[0]


def data(paths):
    """What is on the members where data is: a checksum of each MiB."""
    found = []
    for path in paths:
        with Direct(path) as device:
            sup = disk.Super(device)
            start, end = sup.data_offset * disk.SECTOR, (sup.data_offset + sup.size) * disk.SECTOR
            found += [zlib.crc32(device.read(at, min(MIB, end - at))) for at in range(start, end, MIB)]
    return found


def dirty_bits(path):
    """The chunks whose bit is set in an internal bitmap."""
    with Direct(path) as device:
        sup = disk.Super(device)
        chunks = -(-sup.sync_size * disk.SECTOR // sup.chunk)
        bits = device.read(sup.bitmap, 8192)[256:]
    return {chunk for chunk in range(chunks) if bits[chunk // 8] >> chunk % 8 & 1}


def traced_start(array):
    """Assembles it; returns the bitmap's chunks that were read or written since."""
    order, sup = disk.by_role(array.members)
    array.assemble(readwrite=False)
    with Trace(order) as trace:
        array.readwrite()
        array.wait_idle()
    pages = trace.data_pages(order, disk.Layout(sup)) if sup.lockless else \
        [bio for bio in trace.bios if bio[2] >= sup.data_offset]
    return {sector // sup.chunk for _, sector in pages} if sup.lockless else pages


def both_ways(level):
    """Clean arrays: internal, lockless, internal, none, lockless, each written to."""
    array = internal(level, ramdisks(DISKS[level]))
    area = 0
    for to, name in (('lockless', 'llbitmap'), ('internal', 'bitmap'), ('none', 'none'),
                     ('lockless', 'llbitmap')):
        fio.fill(array.path, f'{area + 1:x}' * 2, area * 6 * MIB, 6 * MIB)
        area += 1
        array.wait_idle()
        array.stop()
        before = data(array.members)
        said = convert(to, array.members)
        need(data(array.members) == before, f'to {to}: data was touched')
        for path in array.members:
            found = examine(path)
            if to == 'none':
                need(found['bitmap'] is None, 'a bitmap is left')
                need(found['array']['resync_offset_sectors'] is None, f'{said}: not in sync')
                continue
            equal(found['bitmap']['kind'], to, 'the bitmap')
            equal(found['bitmap']['resync_chunks'], 0, f'{said}: chunks to resync')
            if to == 'lockless':
                equal(found['bitmap']['state_chunks']['clean'], found['bitmap']['chunks'], 'clean chunks')
        touched = traced_start(array)
        need(not touched, f'{to}: {len(touched)} chunks were resynchronised')
        equal(kind(array), name, 'bitmap_type')
        if to == 'lockless':
            equal(array.bits()['clean'], array.metadata()['chunks'], 'clean chunks')
            array.quick()
        for number in range(area):
            holds(array, 6, number * 6, f'{number + 1:x}' * 2)
        equal(array.sync('check'), 0, f'mismatch_cnt with {to}')
    filled(array, 6, area * 6)
    array.equal_over()
    array.stop()


@lanes('stock', 'backports-long')
def test_both_ways_raid1():
    both_ways(1)


@lanes('long')
def test_both_ways_raid10():
    both_ways(10)


@lanes('long')
def test_both_ways_raid5():
    both_ways(5)


def mapped_path(name):
    return f'/dev/mapper/{name}'


class Crash:
    """An array that is written to, cut off from power, and thrown away: copies of its
    members, the blocks that were acknowledged, and unequal copies where a write was."""

    OLD, NEW = 'c3', '96'

    def __init__(self, level, make, mib=SMALL_MIB):
        count = DISKS[level]
        disks = ramdisks(2 * count)
        mapped = []
        for number, path in enumerate(disks[:count]):
            run('dmsetup', 'create', f'cut{number}', '--table',
                f'0 {RAMDISK_MIB * 2048} linear {path} 0')
            mapped.append(f'cut{number}')
        self.array = make(level, [mapped_path(name) for name in mapped], mib)
        self.size = self.array.bytes() // MIB * MIB
        # Far from what is being written at the cut: a first touch covers neighbours.
        start = self.size * 6 // 10 // MIB * MIB
        self.areas = [range(0, self.size // 5 // MIB * MIB), range(start, start + 2 * MIB)]
        for area in self.areas:
            fio.fill(self.array.path, self.OLD, area.start, len(area))
        if kind(self.array) == 'llbitmap':
            settle(self.array)
        else:
            wait_until('no bit is set', lambda: not dirty_bits(mapped_path(mapped[0])), 40)
        running = fio.Running(self.array.path, self.NEW, start, 4 * MIB, '--rate_iops=300')
        before = self.array.writes()
        wait_until('fio writes', lambda: self.array.writes() > before + 60, 60, 0.02)
        begun = time.monotonic()
        try:
            run('dmsetup', 'suspend', '--noflush', '--nolockfs', *mapped)
            self.copies = disks[count:]
            for number in range(count):
                copy_device(disks[number], self.copies[number])
        finally:
            for name in mapped:
                run('dmsetup', 'resume', name, ok=None)
        self.acked, self.touched = running.stop(begun)
        need(self.acked, 'fio had been told of no write')
        self.array.stop()
        for name, path in zip(mapped, disks):
            run('dmsetup', 'remove', name)
            run('blkdiscard', '-f', path)
        self.spoil()

    def spoil(self):
        """A chunk that was being written to may differ between the members: it does, in
        blocks whose content is known. Raid1 and raid10 take the first copy, so it is
        the last one; raid5: the parity."""
        order, sup = disk.by_role(self.copies)
        level, chunk, near = sup.level, sup.raid_chunk, sup.layout & 0xFF
        if sup.lockless:
            self.dirty = disk.not_clean(disk.cells(self.copies))
        else:
            self.dirty = set().union(*(dirty_bits(path) for path in self.copies))
        need(self.dirty, 'nothing is dirty')
        spoiled = 0
        for offset in sorted(self.acked)[::3]:
            sector = offset // disk.SECTOR
            covered = sector
            if level == 1:
                role, at = 1, sector
            elif level == 10:
                number, rest = divmod(sector, chunk)
                row, role = divmod(number * near + near - 1, sup.disks)
                at = row * chunk + rest
            else:
                stripe, rest = divmod(sector, chunk)
                at = covered = stripe // (sup.disks - 1) * chunk + rest
                role = sup.disks - 1 - at // chunk % sup.disks
            if covered // 128 in self.dirty:
                spoiled += 1
                with Direct(order[role], writable=True) as device:
                    device.write((sup.data_offset + at) * disk.SECTOR, os.urandom(4096))
        need(spoiled > 5, f'only {spoiled} blocks could be made to differ')
        self.used = (sup.data_offset + sup.size) * disk.SECTOR

    def save(self):
        self.saved = []
        for path in self.copies:
            with Direct(path) as device:
                pieces = {at: device.read(at, min(MIB, self.used - at))
                          for at in range(0, self.used, MIB)}
            zero = bytes(MIB)
            self.saved.append({at: piece for at, piece in pieces.items()
                               if piece != zero[:len(piece)]})

    def restore(self):
        for path, pieces in zip(self.copies, self.saved):
            run('blkdiscard', '-f', path)
            with Direct(path, writable=True) as device:
                for at, piece in pieces.items():
                    device.write(at, piece)

    def expected(self, offset):
        if offset in self.acked:
            return [fio.block(self.NEW, offset)]
        old = fio.filled(self.OLD, offset) if any(offset in area for area in self.areas) \
            else bytes(fio.BLOCK)
        return [old, fio.block(self.NEW, offset)] if offset in self.touched else [old]

    def verify(self, array, what):
        wrong = fio.wrong_blocks(array.path, 0, self.size, self.expected)
        need(not wrong, f'{what}: {len(wrong)} wrong blocks, first at {wrong[:3]}')

    def started(self, what, want=None):
        """The copies come up in sync, with all data; returns the array, running."""
        array = Array(1, self.copies)
        array.assemble()
        equal(array.attribute('degraded'), '0', f'{what}: degraded')
        if want:
            equal(kind(array), want, f'{what}: bitmap_type')
        array.wait_idle()
        self.verify(array, what)
        equal(array.sync('check'), 0, f'{what}: mismatch_cnt')
        return array


def with_internal(level, members, mib):
    return internal(level, members, mib=mib)


def with_lockless(level, members, mib):
    return make(level, members=members, mib=mib, chunk=512)


def crash_to_lockless(level):
    """Dirty bits become NeedSync, and exactly these chunks are resynchronised."""
    crash = Crash(level, with_internal)
    before = data(crash.copies)
    convert('lockless', crash.copies)
    need(data(crash.copies) == before, 'data was touched')
    cells = disk.cells(crash.copies)
    for one in cells:
        equal(one, cells[0], 'state bytes of a member')
        equal(set(one), {disk.CLEAN, disk.NEED_SYNC}, 'state bytes')
    marked = disk.not_clean(cells)
    equal(marked, crash.dirty, 'chunks that are to be resynchronised')
    need(len(marked) < len(cells[0]) // 2, f'{len(marked)} of {len(cells[0])} chunks are marked')
    unequal = disk.unequal(crash.copies, range(len(cells[0])))
    need(unequal and unequal <= marked, f'{len(unequal - marked)} of {len(unequal)} chunks '
         'that differ are not marked')
    array = Array(1, crash.copies)
    equal(traced_start(array), marked, 'chunks that were resynchronised')
    crash.verify(array, 'after the resync')
    equal(array.sync('check'), 0, 'mismatch_cnt')
    array.quick()
    settle(array)
    array.equal_over()
    array.stop()


@lanes('long')
def test_crash_to_lockless_raid1():
    crash_to_lockless(1)


@lanes('long')
def test_crash_to_lockless_raid10():
    crash_to_lockless(10)


@lanes('stock')
def test_crash_to_lockless_raid5():
    crash_to_lockless(5)


def crash_to_internal(level):
    """Every chunk that is not clean, never written ones too, is resynchronised by md
    with the internal bitmap, or with none: afterwards check finds nothing anywhere."""
    crash = Crash(level, with_lockless, 120)
    crash.save()
    cells = disk.cells(crash.copies)
    clean = {chunk for chunk in range(len(cells[0])) if all(one[chunk] == disk.CLEAN for one in cells)}
    need(0 < len(clean) < len(cells[0]), f'{len(clean)} of {len(cells[0])} are clean')
    # What was never written is equal on new ramdisks: make it differ.
    order, sup = disk.by_role(crash.copies)
    empty = set(range(len(cells[0]))) - disk.written(cells)
    need(empty, 'no chunk is unwritten')
    for to, name in (('internal', 'bitmap'), ('none', 'none')):
        crash.restore()
        chunk = max(empty)
        role, at = disk.Layout(sup).places(chunk * sup.chunk)[-1]
        if level == 5:
            role = disk.Layout(sup).parity(at)
        with Direct(order[role], writable=True) as device:
            device.write((sup.data_offset + at) * disk.SECTOR, os.urandom(4096))
        options = ('--bitmap-chunk', '64') if to == 'internal' else ()
        convert(to, crash.copies, *options)
        if to == 'internal':
            equal(examine(crash.copies[0])['bitmap']['resync_chunks'],
                  -(-sup.sync_size // 128) - len(clean) * sup.chunk // 128, 'dirty bits')
        crash.started(f'as {to}', name).stop()


@lanes('long')
def test_crash_to_internal_raid1():
    crash_to_internal(1)


@lanes('long')
def test_crash_to_internal_raid10():
    crash_to_internal(10)


@lanes('stock')
def test_crash_to_internal_raid5():
    crash_to_internal(5)


def cut_everywhere(level, make, to, *options):
    """A conversion of a crashed array that is cut off after each of its writes: what md
    then assembles has all data and ends in sync."""
    crash = Crash(level, make)
    crash.save()
    writes = planned(to, crash.copies, *options)
    phases = [number for number, _, _, _ in writes]
    need(phases == sorted(phases) and len(set(phases)) == 3, f'phases {phases}')
    kinds = []
    for count in range(len(writes) + 1):
        crash.restore()
        apply(writes[:count])
        array = crash.started(f'after {count} of {len(writes)} writes')
        kinds.append(kind(array))
        array.stop()
    print(f'  bitmap_type after 0 to {len(writes)} writes: {kinds}', flush=True)
    equal(kinds[-1], {'lockless': 'llbitmap', 'internal': 'bitmap'}[to], 'at the end')
    need('none' in kinds, 'no cut fell between the bitmaps')
    # A torn write of the body: only its first half.
    crash.restore()
    body = [write for write in writes if write[0] == 1]
    apply([write for write in writes if write[0] == 0])
    apply([(number, path, offset, content[:len(content) // 8192 * 4096 or 4096])
           for number, path, offset, content in body])
    crash.started('after a torn write').stop()


@lanes('stock')
@limit(600)
def test_cut_to_lockless():
    cut_everywhere(1, with_internal, 'lockless')


@lanes('long')
@limit(600)
def test_cut_to_internal():
    cut_everywhere(1, with_lockless, 'internal', '--bitmap-chunk', '64')


@lanes('long')
@limit(600)
def test_cut_to_lockless_raid5():
    cut_everywhere(5, with_internal, 'lockless')


@lanes('stock')
def test_refused_running_and_degraded():
    """A running array, one that waits for a recovery, one with a member away."""
    disks = ramdisks(3)
    array = internal(1, disks[:2], mib=64)
    filled_state = [examine(path)['bitmap']['kind'] for path in disks[:2]]
    equal(filled_state, ['internal'] * 2, 'a running array can be examined')
    said = tool('convert', '--to', 'lockless', *disks[:2], status=REFUSED)
    need('in use' in said and len(said.splitlines()) == 1, said)
    fio.fill(array.path, 'c3', 0, 16 * MIB)
    run('mdadm', array.path, '--fail', disks[1])
    wait_until('the failed member can be removed',
               lambda: run('mdadm', array.path, '--remove', disks[1], ok=None)[0] == 0, 20)
    fio.fill(array.path, '96', 0, 4 * MIB)
    array.stop()
    for members in ([disks[0]], disks[:2]):
        tool('convert', '--to', 'lockless', *members, status=REFUSED)
    tool('examine', disks[2], status=UNREADABLE)
    array.assemble('--run', members=disks[:1])
    write_limit = read('/proc/sys/dev/raid/speed_limit_max')
    with open('/proc/sys/dev/raid/speed_limit_max', 'w', encoding='ascii') as file:
        file.write('500')
    try:
        run('mdadm', array.path, '--add', disks[2])
        wait_until('a recovery', lambda: array.attribute('sync_action') == 'recover', 20)
        array.stop()
    finally:
        with open('/proc/sys/dev/raid/speed_limit_max', 'w', encoding='ascii') as file:
            file.write(write_limit)
    said = tool('convert', '--to', 'lockless', disks[0], disks[2], status=REFUSED)
    need('recover' in said, said)
    array.members = [disks[0], disks[2]]
    array.assemble()
    array.wait_whole()
    array.stop()
    convert('lockless', array.members)
    array.assemble()
    array.wait_idle()
    holds(array, 4, 0, '96')
    holds(array, 12, 4)
    array.stop()


@lanes('stock')
def test_examine_is_what_the_module_says():
    """Of a running array and of a stopped one, with the spare; damaged and stale."""
    disks = ramdisks(3)
    run('mdadm', '--create', '/dev/md0', '--run', '--level=1', '-n2', '-x1', '--size=48M',
        '--bitmap=lockless', *disks)
    array = Array(0, disks[:2])
    array.wait_whole()
    array.quick()
    filled(array, 16)
    fio.fill(array.path, '96', 20 * MIB, MIB)
    settle(array)
    bits, metadata = array.bits(), array.metadata()
    for stop in (False, True):
        if stop:
            array.stop()
        for path in array.members:
            found = examine(path)['bitmap']
            equal({name: found['state_chunks'][name.replace(' ', '_')] for name in bits}, bits, f'states of {path}')
            equal((found['chunk_sectors'], found['chunks'], found['offset_sectors']),
                  (metadata['chunksize'], metadata['chunks'], metadata['offset']), 'geometry')
    equal(examine(disks[2])['member']['role'], 'spare', 'the third member')
    sup = disk.supers(disks[:1])[0]
    with Direct(disks[0], writable=True) as device:
        head = bytearray(device.read(sup.bitmap, 4096))
        head[24:32] = bytes(8)  # events
        device.write(sup.bitmap, bytes(head))
    found = examine(disks[0], DAMAGED)
    equal((found['bitmap']['stale'], found['bitmap']['resync_chunks']), (True, sup.chunks), 'stale')


def heads(paths):
    """What is on the members before the data."""
    found = []
    for path in paths:
        with Direct(path) as device:
            found.append(device.read(0, MIB))
    return found


def restore_heads(paths, saved):
    for path, head in zip(paths, saved):
        with Direct(path, writable=True) as device:
            device.write(0, head)


def set_head(path, at, value):
    """Bytes of the bitmap's header on a member."""
    sup = disk.supers([path])[0]
    with Direct(path, writable=True) as device:
        head = bytearray(device.read(sup.bitmap, 4096))
        head[at:at + len(value)] = value
        device.write(sup.bitmap, bytes(head))


def dies(*args):
    """Whether mdadm ends by a signal: a division by zero."""
    status, _ = run('mdadm', *args, ok=None)
    return status == -signal.SIGFPE


def killing_mdadm(level):
    """A stopped array of which mdadm dies, and what is before its data."""
    array = make(level, chunk=512)
    need(16 < array.bytes() // MIB, 'too small')
    filled(array, 16)
    settle(array)
    array.stop()
    set_head(array.members[1], 52, bytes(4))
    return array


def mend_what_kills_mdadm(level):
    """mdadm dies of a header whose chunksize is 0; mended, the array assembles, and all
    of it is resynchronised, also where the members had come to differ in a clean chunk."""
    array = killing_mdadm(level)
    one, two = array.members[:2]
    for args in (('--examine', two), ('--examine-bitmap', two),
                 ('--assemble', array.path, *array.members)):
        need(dies(*args), f'mdadm {args[0]} lives')
    need(not dies('--examine', one), 'mdadm dies of the other member')
    said = examine(two, DAMAGED)['warnings']
    need(any('mdadm 4.6 dies' in line for line in said), f'{said}')
    said = tool('convert', '--to', 'none', *array.members, status=REFUSED)
    need('llbitmap mend first' in said, said)
    before = heads(array.members)
    tool('mend', *array.members, status=REFUSED)  # nobody is there to say yes
    tool('mend', '--yes', two, status=REFUSED)
    need(heads(array.members) == before, 'something was written')
    order, sup = disk.by_role(array.members)
    role, at = {1: (1, 2048), 10: (1, 2048), 5: (sup.disks - 1, 0)}[level]
    with Direct(order[role], writable=True) as device:
        device.write((sup.data_offset + at) * disk.SECTOR, os.urandom(4096))
    written = data(array.members)
    tool('mend', '--yes', *array.members)
    need(data(array.members) == written, 'data was touched')
    need(not dies('--examine', two), 'mdadm still dies')
    need('nothing to mend' in tool('mend', '--yes', *array.members), 'it would do it again')
    array.assemble()
    array.wait_idle()
    equal(kind(array), 'llbitmap', 'bitmap_type')
    holds(array, 16)
    equal(array.sync('check'), 0, 'mismatch_cnt')
    array.quick()
    settle(array)
    equal(array.bits()['clean'], array.metadata()['chunks'], 'clean chunks')
    array.stop()
    examine(two)


@lanes('stock')
def test_mend_raid1():
    mend_what_kills_mdadm(1)


@lanes('long')
def test_mend_raid5():
    mend_what_kills_mdadm(5)


@lanes('long')
@limit(240)
def test_mend_cut():
    """Cut off after each of its writes: done once more, the array comes up with its data."""
    array = killing_mdadm(1)
    saved = heads(array.members)
    writes = writes_of('mend', *array.members)
    need(len({number for number, _, _, _ in writes}) == 3, f'{len(writes)} writes')
    dead = []
    for count in range(len(writes) + 1):
        restore_heads(array.members, saved)
        apply(writes[:count])
        dead.append(dies('--examine', array.members[1]))
        if count < len(writes):
            tool('mend', '--yes', *array.members)
        array.assemble()
        array.wait_idle()
        holds(array, 16)
        equal(array.attribute('degraded'), '0', f'after {count} writes: degraded')
        equal(array.sync('check'), 0, f'after {count} writes: mismatch_cnt')
        array.stop()
    equal(dead, [True] * len(writes) + [False], 'mdadm dies after so many writes')


@lanes('stock')
def test_mend_degraded():
    """A raid5 that lost a member, and then its header: it comes up degraded, and takes a
    new member."""
    disks = ramdisks(DISKS[5] + 1)
    array = make(5, members=disks[:-1], chunk=512)
    filled(array, 16)
    settle(array)
    run('mdadm', array.path, '--fail', array.members[2])
    wait_until('the failed member can be removed',
               lambda: run('mdadm', array.path, '--remove', array.members[2], ok=None)[0] == 0, 20)
    array.stop()
    left = array.members[:2]
    set_head(left[0], 52, bytes(4))
    said = tool('mend', '--yes', *array.members, status=REFUSED)
    need('older than the others' in said, said)
    tool('mend', '--yes', *left)
    array.assemble('--run', members=left)
    holds(array, 16)
    run('mdadm', array.path, '--add', disks[-1])
    array.members = [*left, disks[-1]]
    array.wait_whole()
    array.wait_idle()
    holds(array, 16)
    equal(array.sync('check'), 0, 'mismatch_cnt')
    array.stop()


@lanes('stock')
def test_refused_read_only():
    """A member that cannot be written to is found before the first write to another."""
    array = make(1)
    settle(array)
    array.stop()
    before = heads(array.members)
    run('blockdev', '--setro', array.members[1])
    try:
        for args in (('convert', '--to', 'none'), ('convert', '--to', 'internal', '--dry-run'),
                     ('mend', '--yes')):
            said = tool(*args, *array.members, status=REFUSED)
            need('read-only' in said and len(said.splitlines()) == 1, said)
            need(heads(array.members) == before, f'{args}: something was written')
    finally:
        run('blockdev', '--setrw', array.members[1])
    tool('convert', '--to', 'none', *array.members)


@lanes('stock')
def test_examine_logical_blocks():
    """What md of 6.19 and newer records of logical blocks is told, and a conversion keeps it."""
    array = make(1)
    settle(array)
    array.stop()
    for to in ('internal', 'lockless'):
        for path in array.members:
            found = examine(path)['array']
            equal((found['logical_block_bytes'], found['oldest_kernel']), (512, '6.19'), path)
        convert(to, array.members)
    array.assemble()
    array.stop()
