# SPDX-License-Identifier: GPL-2.0
"""Made, written, cleaned, stopped, loaded; numbers from user space."""

import os
import random
import subprocess
import time

from llb import disk, fio, mapped
from llb.array import Array, load, loaded, ramdisks, unload
from llb.arrays import DISKS, MIB, chunks_of, filled, holds, make, only, settle
from llb.lanes import lanes
from llb.sh import Direct, Failure, copy_device, equal, need, read, run, wait_until, write_at
from llb.trace import Trace


def created(level):
    array = make(level, chunk=512)
    kind = array.attribute('bitmap_type')
    need('[llbitmap]' in kind.split(), f'bitmap_type: {kind}')
    lines = array.attribute('llbitmap/bits').splitlines()
    equal([line.rsplit(' ', 1)[0] for line in lines], list(disk.NAMES), 'names in bits')
    metadata = array.metadata()
    equal(list(metadata), ['chunksize', 'chunkshift', 'chunks', 'offset', 'daemon_sleep'],
          'names in metadata')
    equal(metadata['daemon_sleep'], 1, 'daemon_sleep')
    equal(metadata['chunksize'], 1 << metadata['chunkshift'], 'chunksize')
    need('bitmap: ' in read('/proc/mdstat'), 'no bitmap in /proc/mdstat')
    for sup in disk.supers(array.members):
        need(sup.lockless, 'no lockless bitmap on a member')
        equal(sup.bitmap_uuid, sup.uuid, 'uuid of the bitmap')
        need(not sup.state & disk.FIRST_USE, 'FIRST_USE is still set on disk')
        size = sup.size if level != 10 else sup.size * DISKS[10] // 2
        equal(sup.sync_size, size, 'sync_size')
        equal((sup.chunk, sup.chunks, sup.bitmap_offset),
              (metadata['chunksize'], metadata['chunks'], metadata['offset']), 'geometry on disk')
        need(disk.CELLS_OFFSET + sup.chunks <= sup.reserved * disk.SECTOR, 'bitmap too large')
    equal(array.bits()['unwritten'], metadata['chunks'], 'unwritten')
    only(array, set())


@lanes('stock', 'uml', 'backports', 'kcsan-long', 'rt-long')
def test_create_raid1():
    created(1)


@lanes('stock', 'backports')
def test_create_raid10():
    created(10)


@lanes('stock', 'backports')
def test_create_raid5():
    created(5)


def cleaned(level):
    """Some time after random writes the chunks that were written are Clean on the members, and no
    other. (When: Daemon.AWrittenChunkIsCleanOnAllMembersInTime in tests/unit.)"""
    array = make(level, chunk=512)
    size = array.bytes() // MIB * MIB
    running = fio.Running(array.path, '96', 0, size, '--rate_iops=100')
    wait_until('fio has written', lambda: array.writes() > 60, 60)
    _, touched = running.stop(time.monotonic())
    need(len(touched) > 20, f'fio wrote only {len(touched)} blocks')
    settle(array)  # raid5 builds parity first
    only(array, chunks_of(array, touched))
    array.equal_over()
    wrong = fio.wrong_blocks(array.path, 0, size, lambda offset: [
        fio.block('96', offset) if offset in touched else bytes(fio.BLOCK)])
    need(not wrong, f'{len(wrong)} blocks do not read back')


@lanes('stock', 'backports-long')
def test_clean_when_idle_raid1():
    cleaned(1)


@lanes('long')
def test_clean_when_idle_raid10():
    cleaned(10)


@lanes('stock')
def test_clean_when_idle_raid5():
    cleaned(5)


@lanes('stock', 'kcsan-long', 'rt-long')
def test_clean_beside_a_busy_chunk():
    """What rests becomes clean on disk although a write of the next chunk is under way
    all the time."""
    late = [mapped.Late(number) for number in range(2)]
    array = make(1, members=[one.path for one in late])
    chunk = array.metadata()['chunksize'] * disk.SECTOR
    filled(array, 8)
    array.set('llbitmap/daemon_sleep', 60)
    with Direct(array.path, True) as device:
        device.write(9 * chunk, bytes(4096))
    for one in late:
        one.keep()
    with subprocess.Popen(['dd', 'if=/dev/zero', f'of={array.path}', 'bs=4096', 'count=1',
                           'oflag=direct,seek_bytes', 'conv=notrunc', f'seek={8 * chunk}'],
                          stderr=subprocess.DEVNULL):
        try:
            wait_until('the write is kept', lambda: all(one.kept() for one in late), 60)
            need(all(cells[9] == disk.DIRTY for cells in array.cells()), 'chunk 9 is not dirty')
            array.set('llbitmap/daemon_sleep', 1)
            wait_until('chunk 9 is clean', lambda: all(
                cells[9] == disk.CLEAN for cells in array.cells()), 60)
            need(all(one.kept() for one in late), 'the write was not kept')
            need(all(cells[8] == disk.DIRTY for cells in array.cells()), 'chunk 8 is not dirty')
        finally:
            for one in late:
                one.let_go()
    settle(array)
    array.equal_over()


@lanes('stock')
def test_assume_clean():
    disks = ramdisks(2)
    write_at(disks[0], 2 * MIB, b'\x77' * MIB)
    copy_device(disks[0], disks[1])
    array = make(1, '--assume-clean', members=disks)
    everything = set(range(array.metadata()['chunks']))
    equal(array.bits()['clean'], len(everything), 'clean chunks')
    for sup in disk.supers(array.members):
        # Auto-read-only until its first write, and so is its bitmap.
        need(sup.cells or sup.state & disk.MADE_CLEAN, 'a bitmap is neither clean nor made so')
    filled(array, 8)
    only(array, everything)
    equal(array.sync('check'), 0, 'mismatch_cnt')
    holds(array, 8)
    array.equal_over()


def restarted(level):
    array = make(level, chunk=512)
    filled(array, 16)
    fio.fill(array.path, '96', 8 * MIB, 16 * MIB)
    if level == 5:
        array.wait_idle()  # the first write to a chunk has its parity built by a resync
    array.stop()
    only(array, disk.written(array.cells()))
    order, sup = disk.by_role(array.members)
    array.assemble(readwrite=False)
    with Trace(order) as trace:
        array.readwrite()
        array.wait_idle()
    equal(trace.data_pages(order, disk.Layout(sup)), set(), 'data I/O after an orderly stop')
    holds(array, 8)
    holds(array, 16, 8, '96')
    array.equal_over()


@lanes('stock')
def test_stop_and_assemble_raid1():
    restarted(1)


@lanes('long')
def test_stop_and_assemble_raid10():
    restarted(10)


@lanes('stock')
def test_stop_and_assemble_raid5():
    restarted(5)


@lanes('stock', 'uml', 'backports', 'rt-long')
def test_load_cycles():
    for _ in range(5):
        unload()
        need(not loaded(), 'still loaded')
        load()
    array = make(1)
    need(run('rmmod', 'llbitmap', ok=None)[0] != 0, 'rmmod in use was not refused')
    filled(array, 4)
    holds(array, 4)
    array.stop()
    unload()
    need(run('mdadm', '--assemble', array.path, *array.members, ok=None)[0] != 0 or
         'inactive' in read('/proc/mdstat'), 'array started without the module')
    run('mdadm', '--stop', array.path, ok=None)
    load()
    array.assemble()
    holds(array, 4)


@lanes('stock', 'uml-long')
def test_beside_classic_bitmap():
    disks = ramdisks(4)
    classic = Array(1, disks[2:]).create(1, '--size=32M', bitmap='internal')
    need('[bitmap]' in classic.attribute('bitmap_type').split(), 'not a classic bitmap')
    unload()
    fio.fill(classic.path, '96', 0, 4 * MIB)
    load()
    array = make(1, members=disks[:2])
    filled(array, 8)
    fio.fill(classic.path, '96', 4 * MIB, 4 * MIB)
    need('[bitmap]' in classic.attribute('bitmap_type').split(), 'the classic bitmap changed')
    holds(array, 8)
    holds(classic, 8, 0, '96')
    equal(classic.sync('check'), 0, 'mismatch_cnt of the classic array')
    array.stop()
    unload()
    classic.stop()
    load()


BAD = ('0', '-1', '18446744073709551616', '18446744073709551615', '99999999999', 'text', '1x',
       '\n', ' ', '0x', '1.5')


def bad_budgets(array):
    """As the others, but that 0 means: none."""
    equal(array.attribute('llbitmap/resync_budget'), '48', 'resync_budget by default: all')
    for value, found in (('1', '1'), ('4294967294', '4294967294'), ('0', '0'), ('3', '3')):
        array.set('llbitmap/resync_budget', value)
        equal(array.attribute('llbitmap/resync_budget'), found, f'resync_budget after {value}')
    for value in (*BAD[1:], '4294967295', '4294967296'):
        try:
            array.set('llbitmap/resync_budget', value)
        except OSError as error:
            need(error.errno in (22, 34), f'resync_budget = {value!r}: {error}')
        else:
            raise Failure(f'resync_budget = {value!r} was taken')
        equal(array.attribute('llbitmap/resync_budget'), '3', f'resync_budget after {value!r}')


@lanes('stock', 'kcsan-long', 'rt-long')
def test_crash_bytes():
    """What the module says that a crash would cost is what is dirty on the members; and so
    long as nothing was written, and when all is clean again, nothing. The budget is kept
    over a restart."""
    for level in (1, 10):
        array = make(level, chunk=512)
        equal(array.attribute('llbitmap/crash_bytes'), '0', 'crash_bytes of a new array')
        array.set('llbitmap/daemon_sleep', 600)
        array.set('llbitmap/resync_budget', 33)
        chunk = array.metadata()['chunksize'] * disk.SECTOR
        offsets = [number * 5 * MIB for number in range(9)]
        seen = set()
        with Direct(array.path, writable=True) as device:
            for offset in offsets:
                device.write(offset, fio.block('96', offset))
                dirty = disk.not_clean(array.cells())
                equal(int(array.attribute('llbitmap/crash_bytes')), len(dirty) * chunk,
                      f'raid{level}: crash_bytes with {len(dirty)} chunks dirty on the members')
                seen.add(len(dirty))
        need(chunks_of(array, offsets) <= dirty, 'a written chunk is not dirty on the members')
        need(len(seen) > 1, f'dirty chunks after each write: {sorted(seen)}')
        array.quick()
        settle(array)
        wait_until('crash_bytes is 0', lambda: array.attribute('llbitmap/crash_bytes') == '0', 20)
        array.stop()
        array.assemble()
        equal(array.attribute('llbitmap/resync_budget'), '33', 'resync_budget after a restart')
        array.stop()


@lanes('stock')
def test_bad_tunables():
    array = make(1)
    filled(array, 4)
    before, bits = array.metadata(), array.bits()
    for name in ('daemon_sleep', 'barrier_idle'):
        array.set(f'llbitmap/{name}', 3)
        for value in BAD:
            try:
                array.set(f'llbitmap/{name}', value)
            except OSError as error:
                need(error.errno in (22, 34), f'{name} = {value!r}: {error}')
            else:
                raise Failure(f'{name} = {value!r} was taken')
            equal(array.attribute(f'llbitmap/{name}'), '3', f'{name} after {value!r}')
        array.set(f'llbitmap/{name}', 1)
    bad_budgets(array)
    for name in ('bits', 'metadata', 'crash_bytes'):
        equal(os.stat(f'{array.sysfs}/llbitmap/{name}').st_mode & 0o222, 0, f'mode of {name}')
    for value in ('1', '0', 'text', '18446744073709551616'):  # raid1 has no parity
        try:
            array.set('llbitmap/proactive_sync', value)
        except OSError as error:
            need(error.errno in (22, 34, 95), f'proactive_sync = {value!r}: {error}')
        else:
            raise Failure(f'proactive_sync = {value!r} was taken on raid1')
    equal((array.metadata(), array.bits()), (before, bits), 'metadata and bits')
    holds(array, 4)


@lanes('stock', 'uml-long')
def test_set_bits():
    """Chunks named by hand are resynchronised, and no others; numbers outside
    of the array change nothing."""
    array = make(1)
    filled(array, 16)
    chunks = array.metadata()['chunks']
    before = array.cells()
    for value in (f'{chunks}', f'{chunks - 1}-{chunks}', '9-3', '-1', 'text', '1099511627776',
                  '18446744073709551615', '0-18446744073709551615', ''):
        try:
            array.set('bitmap_set_bits', value)
        except OSError as error:
            need(error.errno in (22, 34), f'bitmap_set_bits = {value!r}: {error}')
        equal(array.cells(), before, f'state bytes after bitmap_set_bits = {value!r}')
    order, sup = disk.by_role(array.members)
    layout = disk.Layout(sup)
    with Trace(order) as trace:
        array.set('bitmap_set_bits', f'5 10-12 {chunks - 1}')
        array.wait_idle()
    pages = trace.data_pages(order, layout)
    equal({sector // layout.chunk for _, sector in pages}, {5, 10, 11, 12, chunks - 1},
          'chunks that were resynchronised')
    settle(array)
    only(array, disk.written(before) | {chunks - 1})
    holds(array, 16)
    array.equal_over()


@lanes('stock')
def test_invalid_state_bytes():
    """Bytes that are no state are resynchronised; so are 2, 3 and 4."""
    array = make(1)
    filled(array, 16)
    array.stop()
    random.seed(3)
    wrong = {7: 255, 20: 8, 21: 2, 40: 3, 41: 4, 60: 0x80}
    for path in array.members:
        sup = disk.supers([path])[0]
        with Direct(path, writable=True) as device:
            page = bytearray(device.read(sup.bitmap, 4096))
            for chunk, value in wrong.items():
                page[disk.CELLS_OFFSET + chunk] = value
            device.write(sup.bitmap, bytes(page))
    # And the copies really differ there.
    sup = disk.supers(array.members[1:])[0]
    for chunk in wrong:
        write_at(array.members[1], (sup.data_offset + chunk * sup.chunk + 8) * 512, b'\x13' * 4096)
    order, sup = disk.by_role(array.members)
    array.assemble(readwrite=False)
    with Trace(order) as trace:
        array.readwrite()
        array.wait_idle()
    layout = disk.Layout(sup)
    equal({sector // layout.chunk for _, sector in trace.data_pages(order, layout)}, set(wrong),
          'chunks that were resynchronised')
    array.quick()
    settle(array)
    array.equal_over()
    equal(array.sync('check'), 0, 'mismatch_cnt')
