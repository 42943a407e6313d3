# SPDX-License-Identifier: GPL-2.0
"""Members of real sizes, 16 TB and 60 TiB, with mdadm's own offsets: the bitmap is larger
than the 128 KiB that mdadm reserves, and what was not written is left alone."""

import fcntl
import struct
import tempfile
import time

from llb import disk, fio, large
from llb.array import Array
from llb.lanes import lanes
from llb.large import DISK, GIB, MIB, TIB, Members
from llb.life import (Data, fail, fast, freeze, grow, kernel_log, patch, remove, replace,
                      reshaped, slow, thaw)
from llb.peer import Drivers
from llb.sh import Failure, device_number, equal, need, read, read_at, run, wait_until, write_at
from llb.tool import convert, examine
from llb.trace import Trace

LIMIT_S = 600  # of a test, which takes 10 to 60
ADD_NEW_DISK = 0x40140921  # md's ioctl
# By mdadm's arithmetic 64 bytes a chunk, and 8 MiB are left of the 129 MiB before the data.
RESERVED = (264192 - 16 - (8 << 11)) // 64
CHUNK_MIB = {TIB // 2: 1, TIB: 1, DISK: 8, 60 * TIB: 32}  # of members, by their size


def spread(array, count, first=0):
    """Offsets all over the array, no two in one chunk or beside each other."""
    step = array.bytes() // count
    return [(number * step + first) // fio.BLOCK * fio.BLOCK for number in range(count)]


def made(level, count, size, *extra):
    members = Members(count, size)
    start = time.monotonic()
    array = large.make(level, members, *extra)
    print(f'  created in {time.monotonic() - start:.1f} s', flush=True)
    chunks = large.geometry(array, CHUNK_MIB[size], RESERVED)
    for path, sup in zip(array.members, disk.supers(array.members)):
        need(not sup.cells.strip(b'\0'), f'{path}: not all is Unwritten')
    equal(array.bits()['unwritten'], chunks, 'unwritten')
    return members, array


def readable(array):
    """mdadm shows what it shows of a small one."""
    for path in array.members:
        said = run('mdadm', '--examine', path)
        for word in ('Internal Bitmap : 8 sectors from superblock', 'correct'):
            need(word in said, f'{path}: mdadm -E does not say {word!r}: {said}')
    said = run('mdadm', '--detail', array.path)
    need('State : clean' in said or 'State : active' in said, f'mdadm -D: {said}')


def created(level, count, size):
    """Nothing but the superblocks and the bitmap is written, and mdadm can read it."""
    members, array = made(level, count, size)
    readable(array)
    need(members.stored() < count * (RESERVED * 512 + 2 * MIB),
         f'the members hold {members.stored()} bytes')
    data = Data(array)
    data.sprinkle([*spread(array, 8), array.bytes() - fio.BLOCK])
    large.settle(array)
    data.holds()
    array.stop()
    start = time.monotonic()
    array.assemble()
    print(f'  assembled in {time.monotonic() - start:.1f} s', flush=True)
    array.quick()
    bits = array.bits()
    equal((bits['need sync'], bits['syncing'], bits['dirty']), (0, 0, 0), 'after a stop')
    data.holds()
    large.geometry(array, CHUNK_MIB[size], RESERVED)


@lanes('stock')
def test_create_16tb_raid1():
    created(1, 2, DISK)


@lanes('long')
def test_create_60tib_raid1():
    created(1, 2, 60 * TIB)


@lanes('long')
def test_create_16tb_raid5():
    created(5, 3, DISK)


@lanes('long')
def test_create_1tib_raid10():
    """Raid10's bitmap counts the array's sectors: of two members' size here."""
    created(10, 4, TIB // 2)


def cut(level, count, size, blocks):
    """A power cut in mid-write. What was written lately is dirty on the members, and it alone
    is resynchronised; a copy that differs there is made equal again."""
    members, array = made(level, count, size)
    data = Data(array)
    data.sprinkle(spread(array, blocks), 'a5')
    large.settle(array)
    clean = large.written(array.members)
    array.set('llbitmap/daemon_sleep', 30)
    data.sprinkle(spread(array, blocks, 64 * GIB)[:-1], '5a')
    hot = array.bytes() * 11 // 20 // MIB * MIB  # in no block's chunk: those are at eighths, fifths
    running = fio.Running(array.path, '96', hot, 8 * MIB, '--rate_iops=100')
    before = array.writes()
    wait_until('fio writes', lambda: array.writes() > before + 50, 60, 0.05)
    cost = int(array.attribute('llbitmap/crash_bytes'))
    begun = time.monotonic()
    with members.frozen():
        copies = members.copies()
    acked, touched = running.stop(begun)
    data.acknowledged('96', acked, touched)
    array.stop()
    order, sup = disk.by_role(copies.paths)
    marked = large.dirty(copies.paths)
    print(f'  {len(marked)} of {sup.chunks} chunks are dirty, {len(acked)} writes were '
          f'acknowledged; crash_bytes {cost}', flush=True)
    need(marked and not marked & clean, 'what rested is dirty')
    need(blocks - 1 <= len(marked) <= 3 * blocks + 64, f'{len(marked)} chunks are dirty')
    need(abs(cost - len(marked) * sup.chunk * 512) <= 8 * CHUNK_MIB[size] * MIB,
         f'crash_bytes was {cost}, {len(marked)} chunks are dirty')
    # The last copy, or parity, differs in a dirty chunk, and in a clean one.
    wrong = {}
    for chunk in (min(marked), max(clean)):
        wrong[chunk] = sup.data_offset * 512 + chunk * sup.chunk * 512 + MIB + 4096
        write_at(order[-1], wrong[chunk], b'\x13' * 4096)
    array = Array(1, copies.paths)
    array.assemble(readwrite=False)
    equal(array.bits()['need sync'], len(marked), 'need sync after the load')
    start = time.monotonic()
    with Trace(order) as trace:
        array.readwrite()
        array.wait_idle()
    print(f'  resynchronised in {time.monotonic() - start:.1f} s', flush=True)
    for path in order:
        chunks, sectors = large.data_chunks(trace, path, sup)
        need(chunks <= marked, f'{path}: {len(chunks - marked)} chunks too many were touched: '
             f'{sorted(chunks - marked)[:4]}')
        need(chunks == marked, f'{path}: {len(marked - chunks)} chunks were not touched: '
             f'{sorted(marked - chunks)[:4]}')
        need(sectors * 512 <= len(marked) * sup.chunk * 512 * 2, f'{path}: {sectors} sectors')
    array.quick()
    large.settle(array)
    large.equal_in(order, marked, level)
    equal(read_at(order[-1], wrong[max(clean)], 4096), b'\x13' * 4096, 'a clean chunk')
    data.holds(array)
    large.geometry(array, CHUNK_MIB[size], RESERVED)


@lanes('stock')
def test_cut_16tb_raid1():
    cut(1, 2, DISK, 8)


@lanes('long')
def test_cut_60tib_raid1():
    cut(1, 2, 60 * TIB, 5)


@lanes('long')
def test_cut_16tb_raid5():
    cut(5, 3, DISK, 5)


def only_copied(trace, array, path, expected):
    """What was written to that member is in these chunks, all of them."""
    sup = disk.supers([path])[0]
    chunks, sectors = large.data_chunks(trace, path, sup, 'W')
    print(f'  {sectors * 512 / MIB:.0f} MiB were written to it, in {len(chunks)} chunks', flush=True)
    need(chunks <= expected, f'{len(chunks - expected)} chunks too many were copied: '
         f'{sorted(chunks - expected)[:4]}')
    need(chunks == expected, f'{len(expected - chunks)} chunks were not copied')
    for other in array.members:
        if other != path:
            chunks, _ = large.data_chunks(trace, other, disk.supers([other])[0], 'R')
            need(chunks <= expected, f'{other}: {len(chunks - expected)} chunks too many were read')


def recovered(size, blocks):
    """A new disk gets what was ever written, and no more."""
    members, array = made(1, 2, size)
    data = Data(array)
    data.sprinkle(spread(array, blocks), 'a5')
    large.settle(array)
    gone = array.members[1]
    fail(array, gone)
    remove(array, gone)
    data.sprinkle(spread(array, blocks, 3 * GIB)[::2], '5a')
    new = members.add(size)
    freeze(array)
    start = time.monotonic()
    run('mdadm', array.path, '--add', new, timeout_s=300)
    print(f'  mdadm --add: {time.monotonic() - start:.1f} s', flush=True)
    array.members[1] = new
    expected = large.written(array.members[:1])
    start = time.monotonic()
    with Trace(array.members) as trace:
        fast(array)
        thaw(array)
        array.wait_whole()
    print(f'  recovered in {time.monotonic() - start:.1f} s', flush=True)
    only_copied(trace, array, new, expected)
    large.settle(array)
    large.geometry(array, CHUNK_MIB[size], RESERVED)
    large.equal_in(array.members, expected)
    readable(array)
    data.holds()
    # And alone.
    fail(array, array.members[0])
    data.holds()
    need(large.written([new]) == expected, 'its bitmap says something else')


@lanes('long')
def test_new_disk_16tb():
    recovered(DISK, 10)


@lanes('long')
def test_new_disk_60tib():
    recovered(60 * TIB, 4)


@lanes('long')
def test_readd_16tb():
    """A member that comes back gets what was written meanwhile."""
    _, array = made(1, 2, DISK)
    data = Data(array)
    data.sprinkle(spread(array, 12), 'a5')
    large.settle(array)
    gone = array.members[1]
    fail(array, gone)
    remove(array, gone)
    late = spread(array, 12, 5 * GIB)[::3]
    data.sprinkle(late, '5a')
    chunk = array.metadata()['chunksize'] * 512
    freeze(array)
    run('mdadm', array.path, '--re-add', gone)
    with Trace(array.members) as trace:
        thaw(array)
        array.wait_whole()
    only_copied(trace, array, gone, {offset // chunk for offset in late})
    large.settle(array)
    large.equal_in(array.members, large.written(array.members))
    data.holds()
    large.geometry(array, CHUNK_MIB[DISK], RESERVED)


@lanes('long')
def test_replace_16tb():
    members, array = made(1, 2, DISK)
    data = Data(array)
    data.sprinkle(spread(array, 10), 'a5')
    large.settle(array)
    new = members.add(DISK)
    old = array.members[1]
    run('mdadm', array.path, '--add', new, timeout_s=300)
    expected = large.written(array.members[:1])
    fast(array)
    with Trace([*array.members, new]) as trace:
        replace(array, old, new)
        wait_until('the replacement is done', lambda: 'faulty' in run(
            'mdadm', '--detail', array.path), 120, 0.3)
        array.wait_idle()
    remove(array, old)
    array.members[1] = new
    only_copied(trace, array, new, expected)
    large.settle(array)
    large.equal_in(array.members, expected)
    data.holds()
    large.geometry(array, CHUNK_MIB[DISK], RESERVED)


@lanes('long')
def test_less_room_16tb():
    """A disk with data where the bitmap lies is not taken, in one clear line, and nothing is
    written over. Its superblock is another mdadm's: this one would give it the offset of the
    others."""
    members, array = made(1, 2, DISK)
    data = Data(array)
    data.sprinkle(spread(array, 6), 'a5')
    large.settle(array)
    spare = members.add(DISK)
    run('mdadm', array.path, '--add', spare, timeout_s=300)
    array.wait_idle()
    remove(array, spare)
    patch(spare, 128, '<Q', 2048)
    before = read_at(spare, 2048 * 512, 8 * MIB)
    log = kernel_log()
    with open(array.path, 'rb') as file:
        try:
            fcntl.ioctl(file, ADD_NEW_DISK, struct.pack('<5i', -1, *device_number(spare), -1, 0))
            taken = True
        except OSError as error:
            taken = False
            print(f'  refused: {error}', flush=True)
    if taken:
        fail(array, array.members[1])
        wait_until('the spare is in, or out', lambda: array.attribute('degraded') == '0' or
                   run('mdadm', '--detail', array.path).count('faulty') > 1, 120, 0.3)
        array.wait_idle()
    lines = [line for line in log() if 'llbitmap' in line and 'bad-block log' not in line]
    print(*[f'  {line}' for line in lines], sep='\n', flush=True)
    equal(array.attribute('degraded'), '1' if taken else '0', 'degraded')
    need(lines and len(lines) <= 2, f'the kernel said {lines}')
    equal(read_at(spare, 2048 * 512, 8 * MIB), before, 'what lies behind its data offset')
    data.holds()


@lanes('long')
def test_size_1tib_to_16tb():
    """The array grows on its members; chunks grow with it, and keep what they said."""
    members = Members(2, DISK)
    array = large.make(1, members, '--size=1T')
    large.geometry(array, CHUNK_MIB[TIB], RESERVED)
    data = Data(array)
    data.sprinkle(spread(array, 20), 'a5')
    large.settle(array)
    before = {chunk * CHUNK_MIB[TIB] // CHUNK_MIB[DISK] for chunk in large.written(array.members)}
    start = time.monotonic()
    run('mdadm', '--grow', array.path, '--size=max', '--assume-clean', timeout_s=300)
    array.wait_idle()
    print(f'  grown in {time.monotonic() - start:.1f} s', flush=True)
    need(array.bytes() > 15 * 10**12, f'the array has {array.bytes()} bytes')
    array.quick()
    large.settle(array)
    large.geometry(array, CHUNK_MIB[DISK], RESERVED)
    now = large.written(array.members)
    need(before <= now, f'{len(before - now)} chunks that were written are Unwritten')
    data.holds()
    data.sprinkle(spread(array, 10, 2 * TIB)[:-2], '5a')
    large.settle(array)
    data.holds()
    array.stop()
    array.assemble()
    bits = array.bits()
    equal((bits['need sync'], bits['syncing'], bits['dirty']), (0, 0, 0), 'after a stop')
    data.holds()
    large.geometry(array, CHUNK_MIB[DISK], RESERVED)


def shrunk_and_reshaped(level, count, change):
    """An array with a large bitmap is made small and then reshaped: mdadm moves the data to
    where the header says that the bitmap may be. Nothing is written over, then and when the
    array grows again."""
    members = Members(count, 200 * GIB)
    array = large.make(level, members, '--assume-clean', '--chunk=64')
    data = Data(array)
    data.fill(0, 8)
    large.geometry(array, 1, RESERVED)
    data.sprinkle([number * 4 * MIB + 64 * 1024 for number in range(12)], '96')
    large.settle(array)
    run('mdadm', '--grow', array.path, '--array-size=64M')
    run('mdadm', '--grow', array.path, '--size=64M')
    run('mdadm', '--grow', array.path, '--array-size=max')
    array.wait_idle()
    more = [members.add(200 * GIB) for _ in range(change)]
    start = time.monotonic()
    run('mdadm', array.path, '--add', *more, timeout_s=300)
    print(f'  mdadm --add: {time.monotonic() - start:.1f} s', flush=True)
    array.wait_idle()
    before = [sup.data_offset for sup in disk.supers(array.members)]
    grow(array, f'-n{count + change}')
    array.members = members.paths
    fast(array)
    reshaped(array)
    array.wait_whole()
    after = [sup.data_offset for sup in disk.supers(array.members)]
    print(f'  data was at {before}, is at {after}', flush=True)
    array.quick()
    large.settle(array)
    data.holds()
    sups = disk.supers(array.members)
    print(f'  reserved now: {[sup.reserved for sup in sups]}, bitmap at {sups[0].bitmap // 512}',
          flush=True)
    run('mdadm', '--grow', array.path, '--size=max', '--assume-clean', timeout_s=300)
    array.wait_idle()
    array.quick()
    data.sprinkle(spread(array, 20, 7 * GIB)[:-1], '3c')
    large.settle(array)
    for path, sup in zip(array.members, disk.supers(array.members)):
        end = sup.bitmap // 512 + -(-(disk.CELLS_OFFSET + sup.chunks) // 4096) * 8
        need(end <= sup.data_offset, f'{path}: the bitmap ends at {end}, data is at {sup.data_offset}')
    data.holds()
    array.stop()
    array.assemble()
    array.quick()
    data.holds()


@lanes('long')
def test_shrunk_and_reshaped_raid5():
    shrunk_and_reshaped(5, 3, 1)


@lanes('long')
def test_shrunk_and_reshaped_raid10():
    shrunk_and_reshaped(10, 2, 2)


def tried(array, change):
    """mdadm --grow: its status and what it said, as soon as the change has begun or not."""
    status, _ = run('sh', '-c', 'exec mdadm --grow "$@" >/tmp/grow 2>&1', 'sh', array.path, change,
                    ok=None, timeout_s=120)
    said = read('/tmp/grow')
    print(f'  mdadm --grow {change}: {status} {said}', flush=True)
    return status, said


@lanes('long')
def test_reshape_begins_16tb_raid5():
    """A reshape of 16 TB takes days; here it begins, is cut off by a stop, and goes on: data
    before and behind it is right."""
    members, array = made(5, 3, DISK, '--chunk=64')
    data = Data(array)
    data.fill(0, 8)
    data.sprinkle(spread(array, 6, 9 * GIB)[:-1], '96')
    large.settle(array, 120)
    new = members.add(DISK)
    run('mdadm', array.path, '--add', new, timeout_s=300)
    array.wait_idle()
    slow(array, 2000)
    status, said = tried(array, '-n4')
    if status:
        need(len(said.strip().splitlines()) <= 4, said)
        data.holds()
        large.geometry(array, CHUNK_MIB[DISK], RESERVED)
        return
    array.members.append(new)
    wait_until('some is reshaped', lambda: array.attribute('reshape_position').isdigit() and
               int(array.attribute('reshape_position')) > 3 * 4096, 120)
    data.holds()
    array.stop()
    array.assemble()
    wait_until('it goes on', lambda: array.attribute('sync_action') == 'reshape', 60)
    data.holds()
    for path, sup in zip(array.members, disk.supers(array.members)):
        end = sup.bitmap // 512 + -(-(disk.CELLS_OFFSET + sup.chunks) // 4096) * 8
        need(end <= sup.data_offset, f'{path}: the bitmap ends at {end}, data is at {sup.data_offset}')
    run('sh', '-c', 'pkill -x mdadm', ok=None)
    array.stop()


@lanes('long')
def test_grow_16tb_raid10():
    """mdadm has to move the data of a raid10 that grows; what it thinks of the room before it
    is not what there is. Done, or refused in a line and nothing changed."""
    members = Members(2, DISK)
    array = large.make(10, members, '--chunk=64')
    data = Data(array)
    data.sprinkle(spread(array, 6), '96')
    large.settle(array)
    more = [members.add(DISK) for _ in range(2)]
    run('mdadm', array.path, '--add', *more, timeout_s=300)
    slow(array, 2000)
    status, said = tried(array, '-n4')
    data.holds()
    for path, sup in zip(array.members, disk.supers(array.members)):
        end = sup.bitmap // 512 + -(-(disk.CELLS_OFFSET + sup.chunks) // 4096) * 8
        need(end <= sup.data_offset, f'{path}: the bitmap ends at {end}, data is at {sup.data_offset}')
    equal(status, 0, f'status of mdadm, which said {said.strip()!r}')


@lanes('long')
def test_convert_16tb():
    """Internal, lockless, internal, lockless: with data, and the same is dirty."""
    members = Members(2, DISK)
    array = large.make(1, members, '--assume-clean', bitmap='internal')
    data = Data(array)
    tag = 0x11
    for to in ('lockless', 'internal', 'lockless'):
        data.sprinkle(spread(array, 8, tag * GIB)[:-1], f'{tag:x}')
        tag += 0x11
        array.stop()
        start = time.monotonic()
        print('  ' + convert(to, array.members), flush=True)
        print(f'  converted in {time.monotonic() - start:.1f} s', flush=True)
        for path in array.members:
            found = examine(path)['bitmap']
            equal((found['kind'], found['resync_chunks']), (to, 0), f'{path}: bitmap')
        array.assemble()
        array.wait_idle()
        data.holds()
        if to == 'lockless':
            array.quick()
            large.geometry(array, CHUNK_MIB[DISK], RESERVED)
            equal(array.bits()['clean'], array.metadata()['chunks'], 'clean')
            data.sprinkle(spread(array, 8, 77 * GIB)[:-1], '77')
            large.settle(array)
    data.holds()


@lanes('long')
def test_incremental_16tb():
    """mdadm -I of each member, and its updates: nothing of the bitmap or the data is touched."""
    _, array = made(1, 2, DISK)
    data = Data(array)
    data.sprinkle(spread(array, 8), 'a5')
    large.settle(array)
    array.stop()
    cells = disk.cells(array.members)
    for path in array.members:
        run('mdadm', '--incremental', path)
    found = [line.split()[0] for line in open('/proc/mdstat', encoding='utf-8')
             if line.startswith('md')]
    equal(len(found), 1, 'arrays')
    equal(disk.cells(array.members), cells, 'state bytes')
    run('mdadm', '--stop', f'/dev/{found[0]}')
    for update in ('name', 'homehost', 'no-bbl', 'bbl', 'devicesize'):
        status, said = run('mdadm', '--assemble', array.path, f'--update={update}', '--name=x',
                           *array.members, ok=None)
        print(f'  --update={update}: {status} {said.strip()}', flush=True)
        if status:
            continue
        array.readwrite()
        array.wait_idle()
        data.holds()
        large.geometry(array, CHUNK_MIB[DISK], RESERVED)
        equal(large.written(array.members), large.written(array.members[:1]), update)
        large.settle(array)
        array.stop()


@lanes('long')
def test_dump_and_restore_16tb():
    """mdadm saves and restores as much as it takes the bitmap for: no data is among it."""
    _, array = made(1, 2, DISK)
    data = Data(array)
    data.sprinkle([0, MIB], '11')
    large.settle(array)
    array.stop()
    member = array.members[1]
    begin = disk.supers([member])[0].data_offset * 512
    with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
        run('mdadm', f'--dump={folder}', member, timeout_s=300)
        array.assemble()
        array.quick()
        data.sprinkle([0, MIB], '22')
        large.settle(array)
        array.stop()
        before = read_at(member, begin, 2 * MIB)
        need(before[:fio.BLOCK] == data.blocks[0], 'the data is not where it should be')
        run('mdadm', f'--restore={folder}', member, timeout_s=300)
        equal(read_at(member, begin, 2 * MIB) == before, True, 'data is the same after --restore')


def budget_on_disk(path):
    return struct.unpack_from('<I', read_at(path, disk.supers([path])[0].bitmap, 4096), 252)[0]


def to_and_fro(level, count, size, turns):
    """Made by one driver with more than 128 KiB of bitmap, and handed to the other and back,
    in order: nothing is resynchronised or forgotten, the header stays as it is."""
    with Drivers() as use:
        use('ours')
        members = Members(count, size)
        array = large.make(level, members, '--assume-clean')
        array.set('llbitmap/resync_budget', 4321)
        data = Data(array)
        data.sprinkle(spread(array, 6), '11')
        large.settle(array)
        large.geometry(array, CHUNK_MIB[size], RESERVED)
        array.stop()
        for turn, driver in enumerate(turns):
            use(driver)
            order, sup = disk.by_role(array.members)
            start = time.monotonic()
            array.assemble(readwrite=False)
            with Trace(order) as trace:
                array.readwrite()
                array.wait_idle()
            print(f'  {driver}: assembled in {time.monotonic() - start:.1f} s', flush=True)
            for path in order:
                equal(large.data_chunks(trace, path, sup), (set(), 0), f'{driver}: data I/O at {path}')
            large.geometry(array, CHUNK_MIB[size], RESERVED)
            array.quick()
            data.holds()
            data.sprinkle(spread(array, 6, (turn + 1) * 31 * GIB)[:-1], f'{turn + 2:x}' * 2)
            array.wait_idle()
            array.stop()
            equal(large.dirty(array.members), set(), f'{driver}: dirty after a stop')
            equal([budget_on_disk(path) for path in array.members], [4321] * count, 'budget on disk')
        use('ours')
        array.assemble()
        array.wait_idle()
        data.holds()
        equal(array.attribute('llbitmap/resync_budget'), '4321', 'resync_budget')
        array.stop()


@lanes('peer')
def test_to_peer_and_back_16tb_raid1():
    to_and_fro(1, 2, DISK, ('peer', 'ours'))


@lanes('peer-long')
def test_to_peer_and_back_60tib_raid1():
    to_and_fro(1, 2, 60 * TIB, ('peer', 'ours', 'peer'))


@lanes('peer-long')
def test_to_peer_and_back_16tb_raid5():
    to_and_fro(5, 3, DISK, ('peer', 'ours'))


def crashed(maker, reader):
    """One driver writes, is cut off, and the other assembles: all that was dirty on the
    members is made equal, all that was acknowledged is there."""
    with Drivers() as use:
        use('ours')
        members = Members(2, DISK)
        array = large.make(1, members, '--assume-clean')
        data = Data(array)
        data.sprinkle(spread(array, 6), '11')
        array.stop()
        large.geometry_on_disk(array, CHUNK_MIB[DISK], RESERVED)
        use(maker)
        array.assemble()
        late = spread(array, 6, 31 * GIB)[:-1]
        data.sprinkle(late, '22')
        with members.frozen():
            copies = members.copies()
        array.stop()
        marked = large.dirty(copies.paths)
        layout = disk.supers(copies.paths[:1])[0]
        for offset in late:
            need(offset // 512 // layout.chunk in marked, f'{maker}: {offset} is not dirty')
        wrong = layout.data_offset * 512 + (max(marked) * layout.chunk + 64) * 512
        write_at(copies.paths[1], wrong, b'\x13' * 4096)
        use(reader)
        array = Array(1, copies.paths)
        array.assemble()
        array.quick()
        array.wait_idle()
        data.holds(array)
        print(f'  {maker} to {reader}: {len(marked)} chunks were dirty', flush=True)
        try:
            large.equal_in(copies.paths, marked)
        except Failure as left:
            # It ends the first chunk of each resync of raid1 without reading it, and begins
            # several.
            need(reader == 'peer', str(left))
            print(f'  the peer left out: {left}', flush=True)
        large.geometry(array, CHUNK_MIB[DISK], RESERVED)
        array.stop()


@lanes('peer-long')
def test_crash_16tb_peer_then_ours():
    crashed('peer', 'ours')


@lanes('peer-long')
def test_crash_16tb_ours_then_peer():
    crashed('ours', 'peer')


@lanes('peer-long')
def test_new_disk_16tb_by_peer():
    """A new disk is added while the other driver runs an array with our bitmap."""
    with Drivers() as use:
        use('ours')
        members = Members(2, DISK)
        array = large.make(1, members, '--assume-clean')
        data = Data(array)
        data.sprinkle(spread(array, 4), '11')
        large.settle(array)
        array.stop()
        for path in array.members:  # so that little is to be copied
            cells = bytearray(disk.supers([path])[0].cells)
            keep = {offset // (CHUNK_MIB[DISK] * MIB) for offset in data.blocks}
            new = bytes(1 if chunk in keep else 0 for chunk in range(len(cells)))
            sup = disk.supers([path])[0]
            head = read_at(path, sup.bitmap, 1024)
            write_at(path, sup.bitmap, head + new + bytes(-(len(new) + 1024) % 512))
        use('peer')
        array.assemble()
        array.wait_idle()
        gone = array.members[1]
        fail(array, gone)
        remove(array, gone)
        new = members.add(DISK)
        run('mdadm', array.path, '--add', new, timeout_s=300)
        fast(array)
        array.wait_whole()
        array.members[1] = new
        data.holds()
        array.stop()
        use('ours')
        array.assemble()
        array.wait_idle()
        data.holds()
        large.geometry(array, CHUNK_MIB[DISK], RESERVED)
        large.equal_in(array.members, large.written(array.members[:1]))
        array.stop()
