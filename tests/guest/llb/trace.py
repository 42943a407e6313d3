# SPDX-License-Identifier: GPL-2.0
"""Every read and write that reaches some block devices, from the kernel's own
tracepoint block:block_bio_queue."""

import os
import re

from .disk import PAGE_SECTORS
from .sh import device_number, need, read, write

TRACING = '/sys/kernel/tracing'
EVENT = f'{TRACING}/events/block/block_bio_queue'
LINE = re.compile(r'block_bio_queue: (\d+),(\d+) (\w+) (\d+) \+ (\d+) \[(.*)\]')


class Trace:
    """with Trace(paths) as trace: ...; then trace.bios is a list of
    (path, 'R' | 'W' | 'D', sector, sectors, task), .flags of what the kernel calls rwbs
    for each of them, and .flushes of (path, how many bios came before), for a flush
    without data. Order is that of submission. below: only what begins before this
    sector, and every flush."""

    def __init__(self, paths, below=None):
        self.paths = {device_number(path): path for path in paths}
        self.below = below
        self.bios, self.flags, self.flushes = [], [], []

    def __enter__(self):
        write(f'{TRACING}/tracing_on', 0)
        # The event names its task. For the names of others the kernel would patch its
        # scheduler, and under emulation a CPU was seen to trip over that (int3).
        write(f'{TRACING}/options/record-cmd', 0)
        write(f'{TRACING}/trace_clock', 'mono')
        write(f'{TRACING}/buffer_size_kb', 8192)
        with open(f'{TRACING}/trace', 'w', encoding='utf-8'):
            pass  # empties it
        devices = ' || '.join(f'dev == {major << 20 | minor}' for major, minor in self.paths)
        write(f'{EVENT}/filter', devices if self.below is None else
              f'({devices}) && sector < {self.below}')
        write(f'{EVENT}/enable', 1)
        write(f'{TRACING}/tracing_on', 1)
        return self

    def __exit__(self, kind, *_):
        write(f'{TRACING}/tracing_on', 0)
        write(f'{EVENT}/enable', 0)
        if kind:
            return
        for cpu in os.listdir(f'{TRACING}/per_cpu'):
            stats = read(f'{TRACING}/per_cpu/{cpu}/stats')
            need(re.search(r'^overrun: 0$', stats, re.M), f'the trace of {cpu} lost events')
        for path, rwbs, sector, sectors, task in self.so_far():
            kind = next((c for c in rwbs if c in 'RWDNZ'), None)
            if rwbs.startswith('F') and not sectors:
                self.flushes.append((path, len(self.bios)))
            if kind and sectors:
                self.flags.append(rwbs)
                self.bios.append((path, kind, sector, sectors, task))

    def so_far(self):
        """(path, rwbs, sector, sectors, task) of each bio, also while it is traced."""
        with open(f'{TRACING}/trace', encoding='utf-8', errors='replace') as file:
            for line in file:
                if found := LINE.search(line):
                    major, minor, rwbs, sector, sectors, task = found.groups()
                    yield self.paths[int(major), int(minor)], rwbs, int(sector), int(sectors), task

    def data_pages(self, order, layout):
        """The pages of data that were read or written, as {(role, sector of the
        bitmap)}; order: the members' paths by role. Metadata is left out."""
        found = set()
        for path, kind, sector, sectors, _ in self.bios:
            if sector + sectors <= layout.data_offset:
                continue
            need(kind in 'RW', f'{path}: a {kind} of sectors {sector}+{sectors}')
            need(sector >= layout.data_offset and sector % PAGE_SECTORS == 0 and
                 sectors % PAGE_SECTORS == 0, f'{path}: odd I/O at sectors {sector}+{sectors}')
            role = order.index(path)
            start = sector - layout.data_offset
            for page in range(start, start + sectors, PAGE_SECTORS):
                found.add((role, layout.sector_of(role, page)))
        return found
