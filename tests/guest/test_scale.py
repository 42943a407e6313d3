# SPDX-License-Identifier: GPL-2.0
"""Many and large, again and again, for long: 256 arrays, 64 members, 16 PiB; the module loaded
and arrays made a thousand times, with flat memory; CPUs that come and go under writes; cuts
minute after minute. (64 arrays: test_life_many.py; members of 16 TB and 60 TiB: test_large.py.)

A longer soak, by hand: the job `soak` (its first lines say how)."""

import os
import time

from llb import disk, fio, large, life, mapped
from llb.array import MODULE, Array, ramdisks, unload
from llb.arrays import make, settle
from llb.lanes import lanes, limit
from llb.large import GIB, MIB, Members
from llb.life import Data, fast, sparse, whole
from llb.load import Load
from llb.sh import copy_device, device_number, equal, need, read, read_at, run, wait_until, write, write_at
from llb.tool import convert
from llb.torture import Torture
from test_behind import rounds
from test_faults import all_there, comes_back
from test_life_many import settle_all

KIB, PIB = 1 << 10, 1 << 50
ALSO = (disk.CLEAN_UNWRITTEN,)


def pieces(under, each, mib):
    """So many members of mib on each of these, made with one command."""
    names, tables = [], []
    for path in under:
        for number in range(each):
            names.append(f'piece{len(names)}')
            tables.append(f'{names[-1]},,,rw,0 {mib * 2048} linear {path} {number * mib * 2048}')
    run('dmsetup', 'create', '--concise', ';'.join(tables), timeout_s=300)
    return [f'/dev/mapper/{name}' for name in names]


class Clock:
    """Says when things were done."""

    def __init__(self):
        self.start = time.monotonic()

    def done(self, what):
        print(f'  {time.monotonic() - self.start:.0f} s: {what}', flush=True)


def kib():
    """{what: KiB} of the kernel's memory, without what it could drop and what members are made of."""
    write('/proc/sys/vm/drop_caches', 3)
    found = {line.split(':')[0]: int(line.split()[1])
             for line in read('/proc/meminfo').splitlines()}
    return {'used': found['MemTotal'] - found['MemAvailable'] - found['Shmem'], 'Slab': found['Slab'],
            'Percpu': found['Percpu'], 'VmallocUsed': found['VmallocUsed']}


def grown(before):
    return {name: now - before[name] for name, now in kib().items()}


def given_back(before, most):
    """Nothing has grown by more than that many KiB; what is freed late is waited for. Returns by
    how much."""
    last = {}

    def flat():
        last.update(grown(before))
        return all(last[name] <= most[name] for name in most)
    try:
        wait_until('memory is given back', flat, 60, 1)
    finally:
        print(f'  memory, KiB more than before: {last}, at most {most}', flush=True)
    return last


# ---- 256 arrays ----

MANY = 256


def made_many(members):
    arrays = []
    for number in range(MANY):
        array = Array(number, members[number::MANY])
        run('mdadm', '--create', array.path, '--run', '--level=1', '-n2', '--bitmap=lockless',
            '--size=4M', *array.members)
        array.set('llbitmap/daemon_sleep', 3600)
        arrays.append(array)
    return arrays


def stopped(arrays):
    for array in arrays:
        array.stop()
        equal(disk.not_clean(array.cells()), set(), f'{array.name}: chunks not clean')


def all_hold(arrays, datas):
    for array, data in zip(arrays, datas):
        need(life.waiting(array) == 0 and array.bits()['dirty'] == 0,
             f'{array.name}: not all is clean: {array.bits()}')
        data.holds()


@lanes('long')
@limit(3000)
def test_arrays_256():
    """All of them dirty at one time, and clean some passes later; stopped and assembled; what an
    array costs in memory, and that it is given back."""
    clock = Clock()
    arrays = made_many(pieces(sparse(8, 512), 64, 8))
    clock.done(f'{MANY} arrays are made')
    datas = []
    for number, array in enumerate(arrays):
        data = Data(array)
        data.sprinkle(range(number * 4 * KIB % (256 * KIB), 4 * MIB, 512 * KIB), f'{number:02x}')
        datas.append(data)
    for array in arrays:
        marked = disk.layout_of(array).chunks_at(datas[arrays.index(array)].blocks)
        missed = marked - disk.not_clean(array.cells())
        need(not missed, f'{array.name}: {len(missed)} of {len(marked)} chunks written without a mark')
    clock.done('all are dirty')
    for array in arrays:
        array.quick()
    settle_all(arrays, 300)
    clock.done('all are clean')
    for array, data in zip(arrays, datas):
        data.holds()
        whole(array, check=False)
    stopped(arrays)
    clock.done('compared, and stopped')
    without = kib()
    for array in arrays:
        array.assemble()
    clock.done('assembled')
    costs = grown(without)
    all_hold(arrays, datas)
    clock.done('compared')
    print(f'  KiB of an array, md and bitmap: '
          f'{ {name: round(all_of / MANY, 1) for name, all_of in costs.items()} }', flush=True)
    need(costs['used'] > MANY * 16, f'{MANY} arrays cost nothing? {costs}')
    stopped(arrays)
    clock.done('stopped')
    given_back(without, {name: max(costs[name] // 10, 1024) for name in ('used', 'Slab', 'Percpu')})


# ---- 64 members ----

DEVICES, ROW = 64, 64 * KIB
LATE_SLOTS = 33, 63


def in_rows(rows, at=0):
    """A block in each of these rows of raid6's 62 chunks of data, all over the members."""
    return [(row * (DEVICES - 2) + (row * 7 + at) % (DEVICES - 2)) * ROW + 4 * KIB for row in rows]


def lost_and_back(array, data):
    """Two members of slots above 32 go; they come back, and get what they missed, no more."""
    gone = [array.members[slot] for slot in LATE_SLOTS]
    life.lose(array, *gone)
    missed = in_rows(range(2, 60, 6), 3)
    data.sprinkle(missed, '5a')
    layout = disk.layout_of(array)
    marked = disk.not_clean(disk.cells([path for path in array.members if path not in gone]))
    need(layout.chunks_at(missed) <= marked, 'what was written without them is called clean')
    data.holds()
    for path in gone:
        comes_back(array, path, missed, missed)


def cut_64(array, data, spares):
    """Written, and at once what a cut leaves, on other disks: what is dirty there is what was
    written, and it alone is resynchronised."""
    array.set('safe_mode_delay', 0)
    array.set('llbitmap/daemon_sleep', 3600)
    hot = in_rows([4], 5)  # a second one would cover what is between them: all chunks there are
    data.sprinkle(hot, '3c')
    for source, target in zip(array.members, spares):
        copy_device(source, target)
    array.stop()
    array = Array(1, spares)
    layout = disk.layout_of(array)
    expected = layout.chunks_at(hot)
    for slot, one in enumerate(array.cells()):
        equal(disk.not_clean([one]), expected, f'slot {slot}: chunks not clean')
    # The parity of a row that is dirty, on a late slot.
    row = 4
    role = layout.parity(row * ROW // disk.SECTOR)
    need(role > 32, f'parity of row {row} is in slot {role}')
    order, _ = disk.by_role(spares)
    at = disk.supers([order[role]])[0].data_offset * disk.SECTOR + row * ROW
    good = read_at(order[role], at, 4096)
    write_at(order[role], at, b'\x13' * 4096)
    array.assemble(readwrite=False)
    equal(array.bits()['need sync'], len(expected), 'need sync after the load')
    array.readwrite()
    array.wait_idle(300)
    equal(read_at(order[role], at, 4096), good, f'parity of row {row} in slot {role}')
    array.quick()
    settle(array, 120, ALSO)
    return array


def recovered_64(array, fresh):
    """A new disk in a late slot."""
    old = array.members[LATE_SLOTS[0]]
    life.lose(array, old)
    run('blkdiscard', '-f', fresh)
    life.add(array, fresh)
    array.members[LATE_SLOTS[0]] = fresh
    array.wait_whole(300)
    settle(array, 120, ALSO)


@lanes('long')
@limit(2000)
def test_members_64_raid6():
    clock = Clock()
    members = pieces(ramdisks(8), 16, 8)
    array = make(6, members=members[:DEVICES], mib=4, chunk=64)
    clock.done(f'made of {len(array.members)} members')
    data = Data(array)
    data.fill(0, 8)
    data.sprinkle(in_rows(range(3, 64)))
    settle(array, 300, ALSO)
    whole(array)
    clock.done('written, all clean')
    lost_and_back(array, data)
    settle(array, 120, ALSO)
    whole(array)
    clock.done(f'slots {LATE_SLOTS} were away')
    data.array = array = cut_64(array, data, members[DEVICES:])
    data.holds()
    whole(array)
    clock.done('cut and resynchronised')
    recovered_64(array, members[0])
    whole(array)
    data.holds()
    clock.done('recovered')
    array.stop()
    equal(disk.not_clean(array.cells()), set(), 'chunks not clean after a stop')
    for slots in ((0, 1), (31, 32), LATE_SLOTS):
        rest = [path for path in array.members if path not in [array.members[slot] for slot in slots]]
        run('mdadm', '--assemble', '--readonly', '--run', array.path, *rest)
        data.holds()
        array.stop()
    clock.done('there without any two')


# ---- 16 PiB ----


def read_of(path):
    """Sectors that were read of it until now."""
    return int(read('/sys/dev/block/%d:%d/stat' % device_number(path)).split()[2])


def made_huge(level, members, size):
    """mdadm 4.6 divides by 0 where a lockless bitmap is to be made for more than some 2 PiB
    (src/LIMITS.md), of a member, or for raid10 of the array. Without one it makes the array, and
    that is converted: all its chunks are taken for written."""
    array = large.make(level, members, '--assume-clean', f'--size={size // KIB}', bitmap='none')
    array.stop()
    print('  ' + convert('lockless', array.members), flush=True)
    array.assemble()
    array.quick()
    return array


def huge(level, count, size):
    """Its last chunk is one in part, and small: a resync writes all of a chunk, into memory here."""
    clock = Clock()
    members = Members(count, size + GIB)
    array = made_huge(level, members, size)
    need(array.bytes() >= 16 * PIB, f'only {array.bytes()} bytes')
    sup = disk.supers(array.members)[0]
    clock.done(f'{array.bytes() / PIB:.4f} PiB are made, {sup.chunks} chunks of {sup.chunk // 2048} MiB')
    fast(array)
    data = Data(array)
    middle, end = array.bytes() // 2 // MIB * MIB, array.bytes() - fio.BLOCK
    data.sprinkle([0, middle, end])
    large.settle(array, 1200)
    for one in disk.cells(array.members):
        equal(bytes(one).count(disk.UNWRITTEN), 0, 'Unwritten chunks of a converted array')
    clock.done('begin, middle and end are written and clean')
    array.stop()
    equal(large.dirty(array.members), set(), 'chunks not clean after a stop')
    array.assemble()
    data.holds()
    clock.done('stopped, assembled, and right')
    array.set('llbitmap/daemon_sleep', 3600)
    data.sprinkle([end - MIB], '5a')
    with members.frozen():
        copies = members.copies()
    array.stop()
    expected = disk.layout_of(array).chunks_at([end - MIB, end])
    equal(len(expected), 1, 'chunks at the end')
    equal(large.dirty(copies.paths), expected, 'dirty chunks after a cut')
    resynchronised(copies, expected, data, clock)


def resynchronised(copies, expected, data, clock):
    """What is dirty, and nothing else; the last copy of something in the last chunk differs."""
    order, sup = disk.by_role(copies.paths)
    places = disk.Layout(sup).places(max(expected) * sup.chunk + (MIB + 4096) // disk.SECTOR)
    places = [(order[role], (sup.data_offset + sector) * disk.SECTOR) for role, sector in places]
    write_at(*places[-1], b'\x13' * 4096)
    array = Array(1, copies.paths)
    array.assemble(readwrite=False)
    equal(array.bits()['need sync'], len(expected), 'need sync after the load')
    fast(array)
    before = [read_of(path) for path in order]
    array.readwrite()
    array.wait_idle(1200)
    clock.done('resynchronised')
    sectors = sum(min(sup.chunk, sup.sync_size - chunk * sup.chunk) for chunk in expected)
    each = sectors if sup.level == 1 else sectors * 2 // sup.disks  # and the bitmap, md's superblock
    for path, old in zip(order, before):
        found = read_of(path) - old
        need(found <= each + 16 * MIB // disk.SECTOR, f'{path}: {found} sectors were read of {each}')
    array.quick()
    large.settle(array, 120)
    data.holds(array)
    for path, at in places:
        equal(read_at(path, at, 4096), bytes(4096), f'{path}: where the copies differed')
    clock.done('all of it is right')


@lanes('long')
@limit(3000)
def test_array_16pib_raid1():
    huge(1, 2, 16 * PIB + 64 * MIB)


@lanes('long')
@limit(3000)
def test_array_16pib_raid10():
    """34 members, two copies: 17 PiB."""
    huge(10, 34, PIB + 4 * MIB)


# ---- again and again ----

CYCLES, SINCE = 1000, 100  # memory is compared from that cycle on
# KiB for each cycle since then, less than an object of 256 bytes, or a page, that is lost in each.
# The last: all of the guest, which is not alone with its kernel.
MOST = {'Slab': 0.25, 'Percpu': 0.25, 'VmallocUsed': 0.25, 'used': 3}


def again(cycle, what):
    clock, before = Clock(), None
    for number in range(1, CYCLES + 1):
        cycle()
        if number == SINCE:
            before = kib()
        if number in (1, 50, SINCE) or number % 250 == 0:
            clock.done(f'{number} cycles: {what}; {grown(before) if before else ""}')
    given_back(before, {name: int(each * (CYCLES - SINCE)) for name, each in MOST.items()})


@lanes('long')
@limit(3000)
def test_cycles_1000_load():
    """The module is loaded and unloaded."""
    def cycle():
        unload()
        run('insmod', MODULE)
    again(cycle, 'unloaded and loaded')


@lanes('long')
@limit(3000)
def test_cycles_1000_create():
    """An array is made, written, and stopped."""
    array = Array(0, pieces(ramdisks(2), 1, 32))

    def cycle():
        run('mdadm', '--create', array.path, '--run', '--level=1', '-n2', '--bitmap=lockless',
            *array.members)
        write_at(array.path, MIB, b'\x5a' * fio.BLOCK)
        array.stop()
    again(cycle, 'made, written, stopped')
    array.assemble()
    equal(read_at(array.path, MIB, fio.BLOCK), b'\x5a' * fio.BLOCK, 'what was written')


# ---- CPUs that come and go ----

CPU = 1


class Cpu:
    """It is there again behind it."""

    def __init__(self, number=CPU):
        self.switch = f'/sys/devices/system/cpu/cpu{number}/online'
        need(os.path.exists(self.switch), f'CPU {number} cannot be taken away')

    def set(self, on):
        write(self.switch, int(on))
        equal(read(self.switch), str(int(on)), self.switch)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        write(self.switch, 1)


def pinned(cpu, function, *args):
    """Called on that CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        return function(*args)
    finally:
        os.sched_setaffinity(0, before)


@lanes('long')
def test_cpu_goes_while_written_raid1():
    """Writes that were begun on a CPU are under way when it goes, and end on another one: their
    chunks are not Clean before, and are Clean then. The same when it comes."""
    ramdisks(4)
    members = [mapped.Late(number) for number in range(2)]
    array = Array(0, [late.path for late in members])
    array.create(1, '--size=48M')
    other = Array(1, ['/dev/ram2', '/dev/ram3']).create(1, '--size=16M')
    data = Data(array)
    offsets = [number * 384 * KIB for number in range(100)]
    chunks = disk.layout_of(array).chunks_at(offsets)
    with Cpu() as cpu:
        for begun_on, there in ((CPU, False), (0, True), (CPU, False)):
            array.set('llbitmap/daemon_sleep', 3600)
            data.sprinkle(offsets)  # the marks; the next writes need none
            for late in members:
                late.keep()
            try:
                writes = pinned(begun_on, data.batch, offsets, f'{0x40 + begun_on:02x}')
                wait_until('the members keep them', lambda: all(
                    late.kept() == len(offsets) for late in members), 60, 0.02)
                cpu.set(there)
                array.quick()
                rounds(other)
                clean = chunks - disk.not_clean([array.cells()[0]])
                need(not clean, f'{len(clean)} of {len(chunks)} chunks are Clean, their writes under way')
            finally:
                for late in members:
                    late.let_go()
            wait_until('the writes end', writes.all_done, 60, 0.02)
            settle(array)
            print(f'  begun on CPU {begun_on}, which CPUs were there at the end: '
                  f'{read("/sys/devices/system/cpu/online")}', flush=True)
    all_there(array, data)


def come_and_go(level, turns=20):
    array = make(level, mib=24)
    load = Load(array.path, array.bytes(), level)
    load.discards = level == 1  # K26
    with Cpu() as cpu:
        for turn in range(turns):
            load.run()
            load.go_on(60)
            cpu.set(turn % 2)
            load.go_on(60)
            if turn % 4 < 2:  # once without it, once with it
                load.pause()
                settle(array, 120, ALSO)
                load.verify()
    load.end()
    settle(array, 120, ALSO)
    print(f'  {turns} times: {load.verify()} blocks are right; {load.counts}', flush=True)
    whole(array)
    array.stop()
    equal(disk.not_clean(array.cells()), set(), 'chunks not clean after a stop')


@lanes('long')
def test_cpus_come_and_go_raid1():
    come_and_go(1)


@lanes('long')
def test_cpus_come_and_go_raid5():
    come_and_go(5)


# ---- a soak ----

SOAK_MINUTES = 3


@lanes('long')
@limit(2000)
def test_soak_raid1():
    Torture('raid1', 1).soak(SOAK_MINUTES)


@lanes('long')
@limit(2000)
def test_soak_raid5():
    Torture('raid5', 1).soak(SOAK_MINUTES)
