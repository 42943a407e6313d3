# SPDX-License-Identifier: GPL-2.0
"""A power cut and what has to be true after it, for one level, as steps: each
is a method that raises Failure or returns what it saw, in words.

The cut: the members are dm-linear devices over ramdisks. All are suspended
(nothing that md submits later reaches a ramdisk, and nothing that was not on
all its members was acknowledged), so the ramdisks then are one instant's crash
image. They are copied to other ramdisks while frozen; the array is thrown away
and the copies are assembled."""

import platform
import time

from . import disk, fio, large
from .array import RAMDISK_MIB, Array, load, loaded, ramdisks, unload
from .sh import Direct, Failure, copy_device, equal, need, read, run, wait_until
from .trace import Trace

OLD, NEW = 'a5', '5a'
# About 2000 chunks and more: a first touch covers neighbours, up to 1024 of
# them, so what is written at the cut is far from the rest.
MEMBERS = {'raid1': 2, 'raid10': 4, 'raid5': 3}
MIB = 1 << 20


def accelerator():
    info = read('/proc/cpuinfo')
    if 'User Mode Linux' in info:
        return 'uml'
    return 'tcg' if 'QEMU TCG' in info else 'kvm'


class Cut:
    def __init__(self, level, write_s=3, iops=150, hot_mib=8):
        self.level, self.write_s, self.iops, self.hot_mib = level, write_s, iops, hot_mib
        self.count = MEMBERS[level]
        self.facts = {'level': level}
        self.start = time.monotonic()
        self.mapped = []

    STEPS = ('load_module', 'create', 'write', 'idle', 'cut', 'assemble', 'resync',
             'members_equal', 'acknowledged', 'check', 'damage', 'repair', 'rmmod_in_use',
             'stop_and_unload', 'load_again')

    def load_module(self):
        load()
        need(loaded(), 'llbitmap is not in /sys/module')
        version = run('mdadm', '--version').split()[2].removeprefix('v')
        self.facts.update(kernel=platform.release(), mdadm=version, accel=accelerator())
        return f'llbitmap loaded, kernel {platform.release()}, mdadm {version}'

    def make_members(self):
        self.disks = ramdisks(2 * self.count)
        for number, path in enumerate(self.disks[:self.count]):
            run('dmsetup', 'create', f'member{number}', '--table',
                f'0 {RAMDISK_MIB * 2048} linear {path} 0')
            self.mapped.append(f'member{number}')
        return [f'/dev/mapper/{name}' for name in self.mapped]

    def make_array(self):
        return Array(0, self.make_members()).create(self.level.removeprefix('raid'))

    def create(self):
        self.array = self.make_array()
        kind = self.array.attribute('bitmap_type')
        need('[llbitmap]' in kind.split(), f'bitmap_type is {kind}')
        self.chunks = self.array.metadata()['chunks']
        self.facts['chunks'] = self.chunks
        equal(sum(self.array.bits().values()), self.chunks, 'sum of llbitmap/bits')
        equal(self.array.bits()['unwritten'], self.chunks, 'unwritten chunks of a new array')
        return f'mdadm --create --bitmap=lockless; bitmap_type: {kind}; bits: ' + self.words()

    def words(self):
        return ', '.join(f'{name} {number}' for name, number in self.array.bits().items()
                         if number)

    def rest_bytes(self):
        return self.size // 4 // MIB * MIB

    def write(self):
        """Two areas: the first quarter, which then rests, and the first half of
        what is written to at the cut."""
        size = self.array.bytes()
        self.size = size - size % MIB
        self.rest = range(0, self.rest_bytes())
        start = self.size * 6 // 10 // MIB * MIB
        self.hot = range(start, start + self.hot_mib * MIB)
        self.areas = [self.rest, range(start, start + self.hot_mib * MIB // 2)]
        for area in self.areas:
            fio.fill(self.array.path, OLD, area.start, len(area))
        errors = sum(fio.verify(self.array.path, OLD, area.start, len(area))
                     for area in self.areas)
        equal(errors, 0, 'blocks that fio found wrong')
        total = sum(len(area) for area in self.areas) // MIB
        return f'fio wrote and verified {total} MiB; bits: {self.words()}'

    def idle(self):
        took = self.array.wait_clean()
        states = self.array.cells()
        for one in states:
            equal(one, states[0], 'state bytes of a member')
        clean = states[0].count(disk.CLEAN)
        self.facts['clean_when_idle'] = clean
        need(0 < clean < self.chunks, f'{clean} of {self.chunks} chunks are Clean')
        self.array.equal_over(disk.written(states))
        return (f'on the members: {clean} chunks Clean, {self.chunks - clean} Unwritten, '
                f'{took:.1f} s after the last write')

    def freeze_and_copy(self):
        """Returns when the first member was perhaps, and the last one certainly frozen."""
        begun = time.monotonic()
        try:
            run('dmsetup', 'suspend', '--noflush', '--nolockfs', *self.mapped)
            frozen = time.monotonic()
            for number in range(self.count):
                copy_device(self.disks[number], self.disks[self.count + number])
        finally:
            for name in self.mapped:
                run('dmsetup', 'resume', name, ok=None)
        return begun, frozen

    def copies(self):
        return self.disks[self.count:]

    def compared(self, written):
        """The chunks in which copies are compared at the cut."""
        return range(self.chunks)

    def throw_away(self):
        self.array.stop()
        for name, path in zip(self.mapped, self.disks):
            run('dmsetup', 'remove', name)
            run('blkdiscard', '-f', path)

    def cut(self):
        """fio writes over Clean chunks and over Unwritten ones."""
        running = fio.Running(self.array.path, NEW, self.hot.start, len(self.hot),
                              f'--rate_iops={self.iops}')
        try:
            before = self.array.writes()
            wait_until('fio writes', lambda: self.array.writes() > before + 50, 60, 0.02)
            time.sleep(self.write_s)
            begun, frozen = self.freeze_and_copy()
        except Failure:
            running.stop(0)
            raise
        self.acked, self.touched = running.stop(begun)
        self.throw_away()
        copies = self.copies()
        states = disk.cells(copies)
        self.dirty = disk.not_clean(states)
        written = disk.written(states)
        clean = {chunk for chunk in written if all(one[chunk] == disk.CLEAN for one in states)}
        unwritten = self.chunks - len(written)
        self.facts.update(dirty_at_cut=len(self.dirty), clean_at_cut=len(clean),
                          unwritten_at_cut=unwritten, acknowledged=len(self.acked))
        equal(len(states[0]), self.chunks, 'chunks of the copies')
        differ = disk.unequal(copies, self.compared(written))
        self.facts['differing_at_cut'] = len(differ)
        need(differ <= self.dirty, f'at the cut {len(differ - self.dirty)} chunks differ between '
             f'the members and are not marked: {sorted(differ - self.dirty)[:5]}')
        need(self.acked, 'fio had been told of no write')
        # A pass of the daemon marks, a later one cleans: nothing that was written
        # less than daemon_sleep before the last member was frozen can be clean.
        layout = disk.Layout(disk.supers(copies[:1])[0])
        recent = {layout.chunk_at(offset) for offset, acked_s in running.acked_s.items()
                  if acked_s > frozen - 0.8}
        for path, one in zip(copies, states):
            lost = {chunk for chunk in recent if not disk.must_resync(one[chunk])}
            need(not lost, f'{path}: {len(lost)} of {len(recent)} chunks written just before '
                 f'the cut are not marked: {[(chunk, disk.NAMES[one[chunk]]) for chunk in sorted(lost)[:5]]}')
        need(self.dirty and clean and unwritten,
             f'at the cut: {len(self.dirty)} not clean, {len(clean)} clean, '
             f'{unwritten} unwritten: not some of each')
        self.array = Array(1, copies)
        return (f'power cut in mid-write: {len(self.dirty)} chunks not clean, {len(clean)} clean, '
                f'{unwritten} unwritten; members differ in {len(differ)}, all of them not '
                f'clean; fio had {len(self.acked)} acknowledgements')

    def assemble(self):
        self.array.assemble(readwrite=False)
        kind = self.array.attribute('bitmap_type')
        need('[llbitmap]' in kind.split(), f'bitmap_type is {kind}')
        equal(self.array.attribute('degraded'), '0', 'degraded')
        equal(self.array.bits()['need sync'], len(self.dirty), 'need sync after the load')
        return f'mdadm --assemble of the copies; bits: {self.words()}'

    def resync(self):
        """The data that the resync reads and writes at the members: all copies
        of the chunks that were not clean, wholly, and of no other."""
        order, sup = disk.by_role(self.array.members)
        layout = disk.Layout(sup)
        with Trace(order) as trace:
            self.array.readwrite()
            self.array.wait_idle()
        pages = trace.data_pages(order, layout)
        found = {sector // layout.chunk for _, sector in pages}
        self.facts['resynced'] = len(found)
        for kind, name in (('R', 'read'), ('W', 'write')):
            self.facts[f'resync_{name}_bios'] = sum(
                bio[1] == kind and bio[2] >= layout.data_offset for bio in trace.bios)
        need(found == self.dirty, f'resynchronised {len(found)} chunks, {len(self.dirty)} were '
             f'not clean: {len(found - self.dirty)} too many {sorted(found - self.dirty)[:5]}, '
             f'{len(self.dirty - found)} too few {sorted(self.dirty - found)[:5]}')
        expected = {(role, page) for chunk in self.dirty for page in layout.pages(chunk)
                    for role, _ in layout.places(page)}
        need(pages == expected, f'{len(expected - pages)} of {len(expected)} pages of the '
             f'chunks were not touched, {len(pages - expected)} too many')
        left = sum(self.array.bits()[name] for name in ('need sync', 'syncing'))
        equal(left, 0, 'chunks that still need a sync')
        return (f'resync touched exactly these {len(found)} chunks at the members '
                f'({self.facts["resync_read_bios"]} reads, '
                f'{self.facts["resync_write_bios"]} writes), no other')

    def members_equal(self):
        self.array.quick()
        took = self.array.wait_clean()
        self.written = disk.written(self.array.cells())
        self.array.equal_over(self.written)
        return (f'members equal byte for byte over {len(self.written)} written chunks, '
                f'all Clean on the members after {took:.1f} s')

    def filled(self, offset):
        return any(offset in area for area in self.areas)

    def expected(self, offset):
        if offset in self.acked:
            return [fio.block(NEW, offset)]
        old = fio.filled(OLD, offset) if self.filled(offset) else bytes(fio.BLOCK)
        return [old, fio.block(NEW, offset)] if offset in self.touched else [old]

    def read_back(self):
        """The areas in which every block is read in the end."""
        return [range(0, self.size)]

    def data_errors(self):
        return sum(len(fio.wrong_blocks(self.array.path, area.start, len(area), self.expected))
                   for area in self.read_back())

    def acknowledged(self):
        # fio itself where the workload at the cut did not write, then every
        # block of the array against the list of acknowledgements.
        errors = fio.verify(self.array.path, OLD, 0, len(self.rest))
        errors += self.data_errors()
        self.facts['verify_errors'] = errors
        equal(errors, 0, 'blocks that do not read back')
        return (f'{len(self.acked)} acknowledged writes and all older data read back, '
                f'verify errors {errors}')

    def check(self):
        found = self.array.sync('check')
        self.facts['mismatch_cnt'] = found
        equal(found, 0, 'mismatch_cnt')
        return 'check: mismatch_cnt 0'

    def damage(self):
        """One sector of a chunk that the cut left dirty: raid5's parity, else
        the second copy, so that a repair keeps the data."""
        order, sup = disk.by_role(self.array.members)
        layout = disk.Layout(sup)
        bitmap_sector = min(self.dirty) * layout.chunk + 3
        role, sector = layout.places(bitmap_sector)[1]
        if layout.level == 5:
            role = layout.parity(sector)
        at = (layout.data_offset + sector) * disk.SECTOR
        with Direct(order[role], writable=True) as device:
            device.write(at, bytes(byte ^ 0xFF for byte in device.read(at, disk.SECTOR)))
        found = self.array.sync('check')
        self.facts['mismatch_cnt_damaged'] = found
        need(found > 0, 'check does not see a damaged sector')
        return f'one sector damaged behind md\'s back: check: mismatch_cnt {found}'

    def repair(self):
        self.array.sync('repair')
        equal(self.array.sync('check'), 0, 'mismatch_cnt after a repair')
        self.array.wait_clean()
        self.array.equal_over(self.written)
        equal(self.data_errors(), 0, 'wrong blocks after the repair')
        return 'repair: members equal again, check: mismatch_cnt 0, data unharmed'

    def rmmod_in_use(self):
        status, said = run('rmmod', 'llbitmap', ok=None)
        need(status != 0 and loaded(), 'rmmod of a module in use was not refused')
        need(self.array.bits(), 'no bits after a refused rmmod')
        return f'refused: {said.strip()}'

    def stop_and_unload(self):
        self.array.stop()
        equal(disk.not_clean(self.array.cells()), set(), 'chunks not clean after a stop')
        unload()
        need(not loaded(), 'llbitmap is still loaded')
        return 'array stopped, nothing left to resynchronise, module unloaded'

    def load_again(self):
        load()
        need(loaded(), 'llbitmap is not in /sys/module')
        self.array.assemble()
        self.array.wait_idle()
        equal(self.array.bits()['clean'], len(self.written), 'clean chunks')
        equal(self.data_errors(), 0, 'wrong blocks')
        self.array.stop()
        self.facts['seconds'] = round(time.monotonic() - self.start, 1)
        return f'loaded and assembled again, {len(self.written)} chunks Clean, data reads back'


class LargeCut(Cut):
    """The same on disks of 16 TB, sparse ones, of which a little is written."""

    def __init__(self, level='raid1-16tb'):
        super().__init__(level.removesuffix('-16tb'))
        self.facts['level'] = level

    def make_members(self):
        self.members = large.Members(self.count)
        return self.members.paths

    def rest_bytes(self):
        return 16 * MIB

    def freeze_and_copy(self):
        begun = time.monotonic()
        with self.members.frozen():
            frozen = time.monotonic()
            self.found = self.members.copies()
        return begun, frozen

    def throw_away(self):
        self.array.stop()

    def copies(self):
        return self.found.paths

    def compared(self, written):
        return written

    def read_back(self):
        edge = 4 * MIB
        return [range(0, self.rest.stop + edge),
                range(self.hot.start - edge, self.hot.stop + edge),
                range(self.size - edge, self.size)]
