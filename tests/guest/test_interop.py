# SPDX-License-Identifier: GPL-2.0
"""One on-disk format, two drivers: the in-tree one of the same kernel (the peer) and
ours. What one made, wrote and was cut off from, the other takes over."""

import os
import struct
import time

from llb import disk, fio
from llb.array import Array, ramdisks
from llb.arrays import DISKS, MIB, TAG, chunks_of, holds, make
from llb.cut import MEMBERS, Cut
from llb.lanes import lanes
from llb.peer import Drivers, use
from llb.sh import Direct, equal, need, run
from llb.trace import Trace

FILLED_MIB = 20
BYTES, SECTORS = 512, 1  # the chunk size on disk, as a multiple of its sectors
BYTES_LEAST = 65536
PERSONALITY = {1: 'raid1', 10: 'raid10', 5: 'raid456'}
FIRST_USE, MADE_CLEAN = 1 << 3, 1 << 4  # bits of the bitmap's state


CHECKPOINT_S = 5  # the peer's barrier_idle: a resync that lasts longer has checkpoints


def left_out(driver, level, resync, found, seconds=0):
    """The chunks that a resync of so many seconds did not touch, of those that it had to.
    Ours: none. The peer ends the first chunk of a resync of raid1 without reading it, and
    one after each checkpoint: these are printed, and left out of what is compared."""
    missed = resync - found
    if missed:
        print(f'  {driver}: resync of {len(resync)} chunks left out {sorted(missed)[:9]}', flush=True)
    # So many checkpoints may fall into that time, whenever its first one comes.
    checkpoints = 1 + int(seconds / CHECKPOINT_S)
    known = 1 + checkpoints if driver == 'peer' and level == 1 else 0
    need(len(missed) <= known, f'{driver}: {len(missed)} of {len(resync)} chunks were not '
         f'resynchronised: {sorted(missed)[:5]}')
    return missed


class Handed(Cut):
    """The power cut of the demo. What the peer wrote stays dirty on the members until the
    array is stopped (W4), so that is how it comes to rest, with both."""

    reader, missed = None, frozenset()

    def assemble(self):
        if self.reader == 'ours':
            return super().assemble()
        self.array.assemble(readwrite=False)
        marked = self.array.bits()['need sync']
        # The peer takes neighbours of what is dirty for dirty as well.
        need(marked >= len(self.dirty), f'need sync after the load: {marked}, not {len(self.dirty)}')
        return f'mdadm --assemble of the copies; bits: {self.words()}'

    def resync(self):
        if self.reader == 'ours':
            return super().resync()
        order, sup = disk.by_role(self.array.members)
        start = time.monotonic()
        with Trace(order) as trace:
            self.array.readwrite()
            self.array.wait_idle()
        seconds = time.monotonic() - start
        found = {sector // sup.chunk for _, sector in trace.data_pages(order, disk.Layout(sup))}
        self.missed = left_out(self.reader, sup.level, self.dirty, found, seconds)
        return f'resync of {len(self.dirty)} chunks touched {len(found)}'

    def check(self):
        if self.missed:
            self.array.sync('repair')
        return super().check()

    def restart(self):
        self.array.wait_idle()
        self.array.stop()
        states = self.array.cells()
        equal(len(disk.not_clean(states)), 0, 'chunks not clean after a stop')
        for one in states:
            equal(one, states[0], 'state bytes of a member')
        self.array.equal_over(disk.written(states) - self.missed)
        self.array.assemble()
        self.array.quick()
        return states[0]

    def idle(self):
        clean = self.restart().count(disk.CLEAN)
        need(0 < clean < self.chunks, f'{clean} of {self.chunks} chunks are Clean')
        return f'{clean} chunks Clean, members equal there'

    def members_equal(self):
        self.written = disk.written([self.restart()])
        return f'members equal over {len(self.written)} written chunks'


def crashed(level, maker, reader):
    """The copies of its members are assembled by the other driver."""
    cut = Handed(level)
    cut.reader = reader
    with Drivers():
        use(maker)
        for step in ('create', 'write', 'idle', 'cut'):
            print(f'  {maker}: {step}: {getattr(cut, step)()}', flush=True)
        use(reader)
        for step in ('assemble', 'resync', 'members_equal', 'acknowledged', 'check'):
            print(f'  {reader}: {step}: {getattr(cut, step)()}', flush=True)
        cut.array.stop()
        equal(disk.not_clean(cut.array.cells()), set(), 'chunks not clean after a stop')
    need(len(cut.array.members) == MEMBERS[level], 'a member is missing')


@lanes('peer-long')
def test_crash_raid1_peer_then_ours():
    crashed('raid1', 'peer', 'ours')


@lanes('peer-long')
def test_crash_raid10_peer_then_ours():
    crashed('raid10', 'peer', 'ours')


@lanes('peer')
def test_crash_raid5_peer_then_ours():
    crashed('raid5', 'peer', 'ours')


@lanes('peer')
def test_crash_raid1_ours_then_peer():
    crashed('raid1', 'ours', 'peer')


@lanes('peer-long')
def test_crash_raid10_ours_then_peer():
    crashed('raid10', 'ours', 'peer')


@lanes('peer-long')
def test_crash_raid5_ours_then_peer():
    crashed('raid5', 'ours', 'peer')


def edit(path, states, unit):
    """Sets state bytes, {chunk: byte}, and the unit of the chunk size."""
    sup = disk.supers([path])[0]
    with Direct(path, writable=True) as device:
        head = bytearray(device.read(sup.bitmap, 4096))
        struct.pack_into('<I', head, 52, sup.chunk * unit)
        for chunk, state in states.items():
            need(disk.CELLS_OFFSET + chunk < len(head), f'chunk {chunk} is too far')
            head[disk.CELLS_OFFSET + chunk] = state
        device.write(sup.bitmap, bytes(head))


def unclean(path):
    """md's superblock says that the array was not stopped: resync_offset is 0."""
    with Direct(path, writable=True) as device:
        at = disk.MD_SUPER_SECTOR * disk.SECTOR
        page = bytearray(device.read(at, 4096))
        struct.pack_into('<Q', page, 208, 0)
        struct.pack_into('<I', page, 216, 0)
        roles, = struct.unpack_from('<I', page, 220)
        need(roles % 2 == 0, f'max_dev is {roles}')
        total = sum(struct.unpack_from(f'<{64 + roles // 2}I', page))
        struct.pack_into('<I', page, 216, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
        device.write(at, bytes(page))


def unequal_copies(order, layout, chunks):
    """The last copy's first sectors of each chunk become garbage; raid5: its parity."""
    for chunk in chunks:
        sector = chunk * layout.chunk
        role, at = layout.places(sector)[-1]
        if layout.level == 5:
            role = layout.parity(at)
        with Direct(order[role], writable=True) as device:
            device.write((layout.data_offset + at) * disk.SECTOR, os.urandom(4096))


def head_on_disk(path):
    """(state, chunk size) as they are in the bitmap's superblock."""
    with Direct(path) as device:
        return struct.unpack_from('<II', device.read(disk.Super(device).bitmap, 4096), 48)


def field_on_disk(path):
    return head_on_disk(path)[1]


def states(level, maker, reader, unit):
    """Every state byte, where data was written and where none was: what the other
    driver resynchronises, and what it calls the chunks afterwards."""
    with Drivers():
        use(maker)
        array = make(level, mib=64, chunk=512)
        fio.fill(array.path, TAG, 0, FILLED_MIB * MIB)
        array.wait_idle()
        data = sorted(chunks_of(array, range(0, FILLED_MIB * MIB, fio.BLOCK)))
        array.stop()
        order, sup = disk.by_role(array.members)
        layout = disk.Layout(sup)
        cells = array.cells()[0]
        equal({cells[chunk] for chunk in data}, {disk.CLEAN}, 'states after a stop')
        # The peer calls some neighbours of what was written Clean too.
        empty = [chunk for chunk in range(sup.chunks) if cells[chunk] == disk.UNWRITTEN]
        # raid5 asks for whole raid chunks of the members
        step = max(1, sup.raid_chunk // sup.chunk) if level == 5 else 1
        wanted, at = {}, {}
        for number, state in enumerate((disk.CLEAN, disk.DIRTY, disk.NEED_SYNC, disk.SYNCING)):
            for turn in range(3):
                chunk = data[len(data) * (3 * number + turn) // 12 // step * step]
                wanted[chunk] = state
                at.setdefault(state, set()).add(chunk)
        for number, state in enumerate((0, 5, 6, 7, disk.NEED_SYNC)):
            for turn in range(3):
                chunk = empty[len(empty) * (3 * number + turn) // 15 // step * step]
                wanted[chunk] = state
                at.setdefault(state, set()).add(chunk)
        need(len(wanted) == 27, f'{len(wanted)} chunks')
        resync = at[disk.DIRTY] | at[disk.NEED_SYNC] | at[disk.SYNCING]
        unequal_copies(order, layout, resync)
        equal(disk.unequal(array.members, wanted), resync, 'chunks whose copies differ')
        for path in array.members:
            edit(path, wanted, unit)
            if reader == 'peer':  # ours looks at the bytes, whatever md says
                unclean(path)
        equal(field_on_disk(order[0]), sup.chunk * unit, 'the chunk size on disk')

        use(reader)
        array.assemble(readwrite=False)
        bits = array.bits()
        # The peer takes neighbours of what is dirty for dirty as well.
        need(bits['need sync'] == len(resync) or
             (reader == 'peer' and bits['need sync'] > len(resync)),
             f'need sync after the load: {bits["need sync"]}, not {len(resync)}')
        equal(sum(bits.values()), sup.chunks, 'chunks')
        with Trace(order) as trace:
            array.readwrite()
            array.wait_idle()
        found = {sector // layout.chunk for _, sector in trace.data_pages(order, layout)}
        missed = left_out(reader, level, resync, found)
        need(reader == 'peer' or found == resync,
             f'{len(found - resync)} chunks were resynchronised for nothing')
        array.quick()
        array.stop()
        got = array.cells()
        for one in got:
            equal(one, got[0], 'state bytes of a member')
        equal(field_on_disk(order[0]), sup.chunk, 'the chunk size on disk after a stop')
        for chunk in range(sup.chunks):
            state = wanted.get(chunk, cells[chunk])
            if chunk in resync or state == disk.CLEAN:
                allowed = {disk.CLEAN}
            elif state == disk.CLEAN_UNWRITTEN:
                allowed = {state}
            else:
                allowed = {disk.UNWRITTEN}
            if reader == 'peer':
                allowed.add(disk.CLEAN)
            need(got[0][chunk] in allowed, f'chunk {chunk} was {disk.NAMES[state]}, is '
                 f'{disk.NAMES[got[0][chunk]]}')
        equal(disk.unequal(array.members, set(wanted) | set(data)) - missed, set(),
              'unequal chunks')

        use(maker)  # and back, whichever unit it was
        for path in array.members:
            edit(path, {chunk: disk.NEED_SYNC for chunk in missed}, SECTORS)
        array.assemble()
        array.wait_idle()
        holds(array, FILLED_MIB)
        array.stop()
        for one in array.cells():
            equal({one[chunk] for chunk in data}, {disk.CLEAN}, 'states of what was written')


@lanes('peer-long')
def test_states_raid1_ours_reads():
    for unit in (SECTORS, BYTES):
        states(1, 'peer', 'ours', unit)


@lanes('peer')
def test_states_raid10_ours_reads():
    for unit in (SECTORS, BYTES):
        states(10, 'peer', 'ours', unit)


@lanes('peer-long')
def test_states_raid5_ours_reads():
    for unit in (SECTORS, BYTES):
        states(5, 'peer', 'ours', unit)


@lanes('peer')
def test_states_raid1_peer_reads():
    states(1, 'ours', 'peer', SECTORS)


@lanes('peer-long')
def test_states_raid10_peer_reads():
    states(10, 'ours', 'peer', SECTORS)


@lanes('peer-long')
def test_states_raid5_peer_reads():
    states(5, 'ours', 'peer', SECTORS)


def made_but_not_started(level):
    """mdadm has written all it writes, no driver has seen it: the level is not there."""
    use('ours')
    run('rmmod', PERSONALITY[level])
    os.makedirs('/run/modprobe.d', exist_ok=True)
    with open('/run/modprobe.d/absent.conf', 'w', encoding='ascii') as file:
        file.write(f'install {PERSONALITY[level]} /bin/false\n')
    array = Array(0, ramdisks(DISKS[level]))
    try:
        status, said = run('mdadm', '--create', array.path, '--run', f'--level={level}',
                           f'-n{DISKS[level]}', '--bitmap=lockless', '--size=48M',
                           '--assume-clean', *array.members, ok=None)
    finally:
        os.unlink('/run/modprobe.d/absent.conf')
    need(status and 'RUN_ARRAY' in said, f'started without its level: {said.strip()}')
    return array


def first_used(level, first, second):
    """What mdadm writes, FIRST_USE and the chunk size in bytes, is started by one driver;
    its states, and its chunk size in sectors, are then read by the other one. After that
    nobody writes bytes any more: the peer takes them for sectors, and forgets chunks."""
    with Drivers():
        array = made_but_not_started(level)
        heads = [head_on_disk(path) for path in array.members]
        print(f'  state, chunk size: {heads}', flush=True)
        for state, size in heads:
            need(state & FIRST_USE, f'state {state:#x}: no FIRST_USE')
            need(size >= BYTES_LEAST and size & size - 1 == 0, f'chunk size {size}: not in bytes')
        clean = bool(heads[0][0] & MADE_CLEAN)
        use(first)
        array.assemble()
        array.wait_idle()
        chunks = array.metadata()['chunks']
        bits = array.bits()
        equal(bits['clean' if clean else 'unwritten'], chunks, f'chunks, all of {bits}')
        for turn, driver in enumerate((first, second, first)):
            if turn:
                use(driver)
                array.assemble()
                array.wait_idle()
            for before in range(turn):
                holds(array, 4, 8 * before, f'{before + 1:x}' * 2)
            fio.fill(array.path, f'{turn + 1:x}' * 2, 8 * turn * MIB, 4 * MIB)
            array.wait_idle()
            sectors = array.metadata()['chunksize']
            equal(array.metadata()['chunks'], chunks, 'chunks')
            array.stop()
            for path in array.members:
                state, size = head_on_disk(path)
                equal((state & FIRST_USE, size), (0, sectors), 'FIRST_USE and chunk size on disk')
            equal(disk.not_clean(array.cells()), set(), 'chunks not clean after a stop')


@lanes('peer')
def test_first_use_raid1_by_ours():
    first_used(1, 'ours', 'peer')


@lanes('peer-long')
def test_first_use_raid5_by_peer():
    first_used(5, 'peer', 'ours')


def handed_over(level):
    """To and fro with orderly stops: nothing is resynchronised, nothing forgotten."""
    with Drivers():
        use('peer')
        array = Array(0, ramdisks(DISKS[level]))
        array.create(level, '--size=48M')
        array.stop()
        written = set()
        for turn, driver in enumerate(('ours', 'peer', 'ours', 'peer', 'ours')):
            use(driver)
            order, sup = disk.by_role(array.members)
            array.assemble(readwrite=False)
            with Trace(order) as trace:
                array.readwrite()
                array.wait_idle()
            equal(trace.data_pages(order, disk.Layout(sup)), set(),
                  f'data I/O after an orderly stop, turn {turn}')
            array.quick()
            for before in range(turn):
                holds(array, 4, 8 * before, f'{before + 1:x}' * 2)
            start = 8 * turn * MIB
            fio.fill(array.path, f'{turn + 1:x}' * 2, start, 4 * MIB)
            array.wait_idle()
            written |= chunks_of(array, range(start, start + 4 * MIB, fio.BLOCK))
            array.stop()
            cells = array.cells()
            clean = {chunk for chunk, state in enumerate(cells[0]) if state == disk.CLEAN}
            for one in cells:
                equal(one, cells[0], 'state bytes of a member')
                equal(set(one), {disk.UNWRITTEN, disk.CLEAN}, f'states after turn {turn}')
            need(written <= clean, f'turn {turn}: {len(written - clean)} chunks are forgotten')
            # The peer calls some neighbours of what was written Clean too.
            need(written == clean or driver == 'peer',
                 f'turn {turn}: {len(clean - written)} chunks too many are Clean')
            array.equal_over(clean)
            written = clean
        use('ours')
        array.assemble()
        array.wait_idle()
        equal(array.sync('check'), 0, 'mismatch_cnt')


@lanes('peer-long')
def test_handed_over_raid1():
    handed_over(1)


@lanes('peer-long')
def test_handed_over_raid10():
    handed_over(10)


@lanes('peer')
def test_handed_over_raid5():
    handed_over(5)
