# SPDX-License-Identifier: GPL-2.0
"""What is seen of a running bitmap from outside: llbitmap/stats, llbitmap/cells, who polls
llbitmap/bits, the tracepoints."""

import os
import re
import select

from llb import disk, fio, mapped, pace
from llb.arrays import MIB, filled, make, settle
from llb.lanes import lanes
from llb.sh import equal, need, read, run, wait_until, write
from llb.trace import TRACING, Trace

STATS = ('dirtied_chunks', 'cleaned_chunks', 'loaded_dirty_chunks', 'events_cleared', 'batches',
         'batch_pages', 'batch_bytes', 'batch_ns_total', 'batch_ns_max', 'batches_refused',
         'flushes', 'flush_ns_total', 'waits', 'wait_ns_total', 'passes', 'pass_ns_total')
EVENTS = ('llbitmap_write', 'llbitmap_flush', 'llbitmap_wait', 'llbitmap_daemon', 'llbitmap_load')


def path_of(array, name):
    return f'/sys/block/{array.name}/md/llbitmap/{name}'


def stats(array):
    lines = [line.split(' ') for line in read(path_of(array, 'stats')).splitlines()]
    equal([name for name, _ in lines], list(STATS), 'names in llbitmap/stats')
    return {name: int(value) for name, value in lines}


@lanes('stock', 'kcsan-long', 'rt-long')
def test_stats():
    """Each count is that of something which is counted here by other means."""
    array = make(1)
    settle(array)
    array.set('llbitmap/daemon_sleep', 60)  # nothing becomes clean before it was counted
    first = disk.supers(array.members)[0]
    begin, end = first.bitmap // 512, first.bitmap // 512 + first.reserved
    with Trace(array.members) as trace:
        before = stats(array)
        fio.fill(array.path, '5a', 0, 4 * MIB)
        dirty = len(disk.not_clean(array.cells()))
        array.quick()
        settle(array)
        after = stats(array)
    grown = {name: after[name] - before[name] for name in STATS}
    need(grown['dirtied_chunks'] >= dirty >= 4 * MIB // (array.metadata()['chunksize'] * 512),
         f'{grown["dirtied_chunks"]} chunks were dirtied, {dirty} were dirty')
    equal(grown['cleaned_chunks'], grown['dirtied_chunks'], 'chunks that became clean again')
    written = [sectors for path, kind, sector, sectors, _ in trace.bios
               if path == array.members[0] and kind == 'W' and begin <= sector < end]
    equal(grown['batch_bytes'], sum(written) * 512, 'bytes of bitmap writes to a member')
    need(0 < grown['batches'] <= len(written) <= grown['batch_pages'], f'{grown}, {len(written)} bios')
    need(grown['flushes'] > 0, 'no flush before chunks became clean')
    equal(grown['batches_refused'], 0, 'batches that nobody took')
    need(after['batch_ns_total'] >= after['batch_ns_max'] > 0 and grown['pass_ns_total'] > 0 and
         grown['passes'] >= 2, f'{after}')
    array.stop()
    array.assemble()
    again = stats(array)
    equal((again['dirtied_chunks'], again['loaded_dirty_chunks']), (0, 0), 'after an orderly stop')


@lanes('stock', 'uml')
def test_cells():
    """As many as there are chunks, and as bits counts them; also from the middle; of root alone."""
    array = make(1)
    filled(array, 8)
    fio.fill(array.path, '5a', 24 * MIB, MIB)
    path = path_of(array, 'cells')
    equal(oct(os.stat(path).st_mode & 0o777), '0o400', 'mode')
    wait_until('cells are as bits counts them', lambda: counted(array, path), 60, 0.2)
    settle(array)
    with open(path, 'rb') as file:
        cells = file.read()
        file.seek(100)
        equal(file.read(50), cells[100:150], 'from the middle')
        file.seek(len(cells))
        equal(file.read(10), b'', 'behind the last')
    equal(cells, bytes(array.cells()[0]), 'as on a member, when all is at rest')
    array.stop()


def counted(array, path):
    with open(path, 'rb') as file:
        cells = file.read()
    bits = list(array.bits().values())
    return len(cells) == sum(bits) == array.metadata()['chunks'] and \
        [cells.count(state) for state in range(len(bits))] == bits


@lanes('stock')
def test_poll():
    """Who polls bits wakes when chunks became dirty and clean, and sleeps while none does."""
    array = make(1)
    settle(array)
    with open(path_of(array, 'bits'), encoding='utf-8') as file:
        poller = select.poll()
        poller.register(file, select.POLLPRI | select.POLLERR)

        def dirty():
            """As the file says; a change after that wakes."""
            file.seek(0)
            return int(re.search(r'^dirty (\d+)$', file.read(), re.M)[1])

        def woken(limit_s):
            return bool(poller.poll(limit_s * 1000))
        wait_until('nothing wakes any more', lambda: not dirty() and not woken(1), 60)
        need(not woken(3), 'woken by nothing')
        fio.fill(array.path, '5a', 0, MIB)
        need(woken(60 * pace.stretch()), 'not woken by a write')
        while dirty():
            need(woken(60 * pace.stretch()), 'not woken when chunks became clean')
    array.stop()


@lanes('stock')
def test_tracepoints():
    """Each fires, names the array, and counts what stats counts."""
    folder = f'{TRACING}/events/llbitmap'
    equal(sorted(name for name in os.listdir(folder) if name.startswith('llbitmap_')), sorted(EVENTS),
          'tracepoints')
    members = mapped.members(2)
    array = make(1, members=[member.path for member in members])
    settle(array)
    array.set('llbitmap/resync_budget', 4)  # a touch covers half of it at most: many touches
    for member in members:
        member.delay(200)  # else nobody is waiting when another comes
    write(f'{TRACING}/options/record-cmd', 0)
    write(f'{TRACING}/buffer_size_kb', 8192)
    with open(f'{TRACING}/trace', 'w', encoding='utf-8'):
        pass
    before = stats(array)
    write(f'{folder}/enable', 1)
    write(f'{TRACING}/tracing_on', 1)
    try:
        run('fio', '--name=many', f'--filename={array.path}', '--rw=randwrite', '--bs=4k', '--direct=1',
            '--ioengine=libaio', '--iodepth=4', '--iodepth_batch_submit=4', '--numjobs=4',
            '--size=32m', '--io_size=256k', '--group_reporting')
        for member in members:
            member.heal()
        settle(array)
        after = stats(array)
        array.stop()
        array.assemble()
    finally:
        write(f'{TRACING}/tracing_on', 0)
        write(f'{folder}/enable', 0)
    with open(f'{TRACING}/trace', encoding='utf-8') as file:
        seen = [found.groups() for found in
                re.finditer(r': (llbitmap_\w+): (\w+) (.*)$', file.read(), re.M)]
    equal({name for _, name, _ in seen}, {array.name}, 'arrays that are named')
    count = {event: sum(name == event for name, _, _ in seen) for event in EVENTS}
    need(count['llbitmap_load'] == 1, f'{count}')
    for event, name in (('llbitmap_write', 'batches'), ('llbitmap_flush', 'flushes'),
                        ('llbitmap_wait', 'waits')):
        need(count[event] >= after[name] - before[name] > 0, f'{name}: {before} {after}, {count}')
    need(count['llbitmap_daemon'] > 0, f'{count}')
    array.stop()
