# SPDX-License-Identifier: GPL-2.0
"""What is on the members, read past md and past the module: md's superblock
(1.2 metadata), the bitmap, and which member sectors a chunk's data is at."""

import struct

from .sh import Direct, Failure, need

SECTOR = 512
PAGE_SECTORS = 8  # the unit in which data is compared and I/O is counted
MD_SUPER_SECTOR = 8
MD_MAGIC = 0xA92B4EFC
BITMAP_MAGIC, BITMAP_VERSION = 0x6D746962, 6
CELLS_OFFSET = 1024
CHUNKS_MAX = 1 << 26  # a byte each in the 64 MiB that a bitmap may have at most

UNWRITTEN, CLEAN, DIRTY, NEED_SYNC, SYNCING = range(5)
CLEAN_UNWRITTEN = 7
NAMES = ('unwritten', 'clean', 'dirty', 'need sync', 'syncing', 'need sync unwritten',
         'syncing unwritten', 'clean unwritten')
FIRST_USE, MADE_CLEAN = 1 << 3, 1 << 4
SLICE = 4096


def must_resync(state):
    """Whether a reload resynchronises a chunk with this byte on disk."""
    return state in (DIRTY, NEED_SYNC, SYNCING) or state > CLEAN_UNWRITTEN


NO_RESYNC = bytes(state for state in range(256) if not must_resync(state))


class Super:
    """md's superblock and the bitmap of one member. Units are sectors."""

    def __init__(self, device):
        page = device.read(MD_SUPER_SECTOR * SECTOR, 4096)
        magic, _, self.features = struct.unpack_from('<III', page, 0)
        need(magic == MD_MAGIC, 'no md superblock')
        self.uuid = page[16:32]
        self.level, self.layout, self.size, self.raid_chunk, self.disks, self.bitmap_offset = \
            struct.unpack_from('<iIQIIi', page, 72)
        self.data_offset, self.data_size, self.super_offset = \
            struct.unpack_from('<QQQ', page, 128)
        number, = struct.unpack_from('<I', page, 160)
        self.bad_log_sectors, self.bad_log_offset = struct.unpack_from('<Hi', page, 186)
        self.events, self.resync_offset = struct.unpack_from('<QQ', page, 200)
        self.role, = struct.unpack_from('<H', page, 256 + 2 * number)
        self.bitmap = (self.super_offset + self.bitmap_offset) * SECTOR
        self.read_bitmap(device)

    def bad_log_inside(self):
        """Whether the place for md's bad-block log lies in the bitmap's space. (mdadm puts it
        there when it makes a member, and behind that space when it adds one to some arrays.)"""
        return self.bad_log_sectors and self.bad_log_offset and self.bitmap_offset - \
            self.bad_log_sectors < self.bad_log_offset < self.bitmap_offset + self.reserved

    def read_bitmap(self, device):
        head = device.read(self.bitmap, 4096)
        magic, version, self.bitmap_uuid, self.bitmap_events, self.events_cleared, \
            self.sync_size, self.state, self.chunk, self.daemon_sleep, _, self.reserved = \
            struct.unpack_from('<II16sQQQIIIII', head, 0)
        self.lockless = magic == BITMAP_MAGIC and version == BITMAP_VERSION
        self.cells = b''
        if not self.lockless:
            return
        if not self.chunk or self.state & FIRST_USE:
            return
        self.chunks = -(-self.sync_size // self.chunk)
        need(0 < self.chunks <= CHUNKS_MAX, f'impossible geometry: {self.chunks} chunks')
        length = -(-(CELLS_OFFSET + self.chunks) // 4096) * 4096
        self.cells = device.read(self.bitmap, length)[CELLS_OFFSET:CELLS_OFFSET + self.chunks]


def supers(paths):
    found = []
    for path in paths:
        with Direct(path) as device:
            found.append(Super(device))
    return found


def cells(paths):
    """The state bytes of each member, as on disk now."""
    found = [sup.cells for sup in supers(paths)]
    need(all(found), 'a bitmap is not initialised on disk')
    return found


def count(states):
    """{state: how many chunks} of one member's bytes."""
    return {state: states.count(state) for state in sorted(set(states))}


def other_than(one, quiet):
    """The chunks whose state byte is none of quiet. Most of a large bitmap is: it is looked
    at in slices."""
    found = set()
    for base in range(0, len(one), SLICE):
        part = one[base:base + SLICE]
        if part.strip(quiet):
            found.update(base + at for at, state in enumerate(part) if state not in quiet)
    return found


def not_clean(states):
    """The chunks that any member's byte makes the next assembly resynchronise."""
    return set().union(*(other_than(one, NO_RESYNC) for one in states))


def written(states):
    """The chunks that are not Unwritten on some member."""
    return set().union(*(other_than(one, bytes([UNWRITTEN])) for one in states))


class Layout:
    """Where the data of a chunk of the bitmap is on the members. Raid1 and
    raid4/5/6 count a bitmap's sectors on the members, raid10 on the array."""

    def __init__(self, sup):
        self.level, self.disks, self.chunk, self.chunks = \
            sup.level, sup.disks, sup.chunk, sup.chunks
        self.sync_size, self.data_offset, self.raid_chunk = \
            sup.sync_size, sup.data_offset, sup.raid_chunk
        self.member_size = sup.size
        if self.level == 10:
            self.near = sup.layout & 0xFF
            if (sup.layout >> 8) & 0xFF != 1:
                raise Failure(f'raid10 layout {sup.layout:#x} is not a near one')
        elif self.level not in (1, 4, 5, 6):
            raise Failure(f'level {self.level} is not known here')

    def places(self, sector):
        """[(role, member's data sector)] of what a bitmap's sector covers."""
        if self.level != 10:
            return [(role, sector) for role in range(self.disks)]
        chunk, rest = divmod(sector, self.raid_chunk)
        found = []
        for copy in range(self.near):
            row, role = divmod(chunk * self.near + copy, self.disks)
            found.append((role, row * self.raid_chunk + rest))
        return found

    def sector_of(self, role, sector):
        """The bitmap's sector at a member's data sector."""
        if self.level != 10:
            return sector
        row, rest = divmod(sector, self.raid_chunk)
        return (row * self.disks + role) // self.near * self.raid_chunk + rest

    def chunk_at(self, offset):
        """The bitmap's chunk of a byte of the array."""
        sector = offset // SECTOR
        if self.level in (4, 5):
            stripe, rest = divmod(sector, self.raid_chunk)
            sector = stripe // (self.disks - 1) * self.raid_chunk + rest
        return sector // self.chunk

    def pages(self, chunk):
        """The bitmap's sectors of a chunk, one per page."""
        return range(chunk * self.chunk,
                     min((chunk + 1) * self.chunk, self.sync_size), PAGE_SECTORS)

    def runs(self, chunk):
        """[(first sector, sectors)] of a chunk, none across a raid10 chunk's end."""
        start, end = chunk * self.chunk, min((chunk + 1) * self.chunk, self.sync_size)
        unit = self.raid_chunk if self.level == 10 else end
        while start < end:
            stop = min(end, (start // unit + 1) * unit)
            yield start, stop - start
            start = stop

    def parity(self, row_sector):
        """The role that holds raid5's parity at a member's data sector
        (left-symmetric, mdadm's default)."""
        return self.disks - 1 - row_sector // self.raid_chunk % self.disks


def by_role(paths):
    """The paths in the order of their roles; a missing one is None."""
    found = supers(paths)
    order = [None] * found[0].disks
    for path, sup in zip(paths, found):
        if sup.role < len(order):
            order[sup.role] = path
    return order, found[0]


def unequal(paths, chunks):
    """The chunks whose copies differ: raid1 and raid10 compare them, raid5
    the XOR of all members with zero. Byte for byte, on the members."""
    order, sup = by_role(paths)
    need(None not in order, 'a member is missing')
    layout = Layout(sup)
    devices = [Direct(path) for path in order]
    bad = set()
    for chunk in sorted(chunks):
        for start, length in layout.runs(chunk):
            parts = [devices[role].read((layout.data_offset + sector) * SECTOR, length * SECTOR)
                     for role, sector in layout.places(start)]
            if layout.level in (4, 5):
                total = 0
                for part in parts:
                    total ^= int.from_bytes(part, 'little')
                same = total == 0
            else:
                same = all(part == parts[0] for part in parts[1:])
            if not same:
                bad.add(chunk)
    for device in devices:
        device.__exit__()
    return bad
