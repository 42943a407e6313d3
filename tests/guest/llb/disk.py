# SPDX-License-Identifier: GPL-2.0
"""What is on the members, read past md and past the module: md's superblock
(1.2 metadata), the bitmap, and which member sectors a chunk's data is at."""

import struct

from .sh import Direct, need

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
PARITIES = {4: 1, 5: 1, 6: 2}  # by level
OFFSET_LAYOUT = 1 << 16  # of raid10
LEFT_SYMMETRIC = 2


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
    """Where the chunks of the bitmap are on the members, for each level and each raid10
    layout that mdadm makes. Sectors: raid1 and raid4/5/6 count a bitmap's on the members,
    raid10 on the array."""

    def __init__(self, sup):
        self.level, self.disks, self.chunk, self.chunks = \
            sup.level, sup.disks, sup.chunk, sup.chunks
        self.sync_size, self.data_offset, self.raid_chunk = \
            sup.sync_size, sup.data_offset, sup.raid_chunk
        self.parities, self.layout = PARITIES.get(self.level, 0), sup.layout
        need(self.level in (1, 10, *PARITIES), f'level {self.level} is not known here')
        if self.level == 10:
            self.near, self.far = sup.layout & 0xFF, sup.layout >> 8 & 0xFF
            need(sup.layout < OFFSET_LAYOUT * 2, f'raid10 layout {sup.layout:#x} is not known here')
            self.offset = bool(sup.layout & OFFSET_LAYOUT)
            self.stride = self.raid_chunk if self.offset else \
                sup.size // self.raid_chunk // self.far * self.raid_chunk

    def places(self, sector):
        """[(role, member's data sector)] of a bitmap's sector. Raid10: near copies
        side by side; the far ones one stride below and near roles to the right, the
        stride being a raid chunk (offset) or an equal part of the member (far)."""
        if self.level != 10:
            return [(role, sector) for role in range(self.disks)]
        chunk, rest = divmod(sector, self.raid_chunk)
        found = []
        for near in range(self.near):
            row, role = divmod(chunk * self.near + near, self.disks)
            row *= self.far if self.offset else 1
            for far in range(self.far):
                found.append(((role + far * self.near) % self.disks,
                              row * self.raid_chunk + rest + far * self.stride))
        return found

    def sector_of(self, role, sector):
        """The bitmap's sector at a member's data sector; of raid10 near layouts only."""
        if self.level != 10:
            return sector
        need(self.far == 1, f'raid10 layout {self.layout:#x} is not a near one')
        row, rest = divmod(sector, self.raid_chunk)
        return (row * self.disks + role) // self.near * self.raid_chunk + rest

    def chunk_at(self, offset):
        """The bitmap's chunk of a byte of the array."""
        sector = offset // SECTOR
        if self.parities:
            row, rest = divmod(sector, self.raid_chunk)
            sector = row // (self.disks - self.parities) * self.raid_chunk + rest
        return sector // self.chunk

    def chunks_at(self, offsets):
        """For parity levels md asks for whole stripes: all of a raid chunk."""
        found = {self.chunk_at(offset) for offset in offsets}
        if not self.parities:
            return found
        row = max(self.raid_chunk // self.chunk, 1)
        return {chunk // row * row + number for chunk in found for number in range(row)}

    def pages(self, chunk):
        """The bitmap's sectors of a chunk, one per page."""
        return range(chunk * self.chunk,
                     min((chunk + 1) * self.chunk, self.sync_size), PAGE_SECTORS)

    def runs(self, chunk):
        """[(first sector, sectors)] of a chunk, none across a raid chunk's end."""
        start, end = chunk * self.chunk, min((chunk + 1) * self.chunk, self.sync_size)
        unit = end if self.level == 1 else self.raid_chunk
        while start < end:
            stop = min(end, (start // unit + 1) * unit)
            yield start, stop - start
            start = stop

    def parity(self, row_sector):
        """The role that holds the (first) parity at a member's data sector (left-symmetric,
        mdadm's default)."""
        return self.disks - 1 - row_sector // self.raid_chunk % self.disks

    def agree(self, sector, parts):
        """Whether the members' parts at that sector belong together."""
        if not self.parities:
            return all(part == parts[0] for part in parts[1:])
        if self.parities == 1:
            return xor(parts) == 0
        need(self.layout == LEFT_SYMMETRIC, f'raid6 layout {self.layout} is not known here')
        parity = self.parity(sector)
        data = [parts[(parity + 2 + number) % self.disks] for number in range(self.disks - 2)]
        return xor(data) == as_number(parts[parity]) and \
            syndrome(data) == as_number(parts[(parity + 1) % self.disks])


def as_number(part):
    return int.from_bytes(part, 'little')


def xor(parts):
    total = 0
    for part in parts:
        total ^= as_number(part)
    return total


def syndrome(data):
    """Raid6's Q: the sum of 2^n * data[n] in GF(256) with the polynomial 0x11d, for
    all bytes at once: one large number, whose bytes are doubled side by side."""
    size = len(data[0])
    low, keep = as_number(b'\x01' * size), as_number(b'\xfe' * size)
    total = 0
    for part in reversed(data):
        carry = total >> 7 & low
        total = (total << 1 & keep) ^ carry * 0x1D ^ as_number(part)
    return total


def by_role(paths):
    """The paths in the order of their roles; a missing one is None."""
    found = supers(paths)
    order = [None] * found[0].disks
    for path, sup in zip(paths, found):
        if sup.role < len(order):
            order[sup.role] = path
    return order, found[0]


def layout_of(array):
    return Layout(supers(array.members[:1])[0])


def unequal(paths, chunks):
    """The chunks whose members do not agree: copies byte for byte, parity computed again."""
    order, sup = by_role(paths)
    need(None not in order, 'a member is missing')
    layout = Layout(sup)
    begins = [one.data_offset for one in supers(order)]  # a returned member's may differ
    devices = [Direct(path) for path in order]
    bad = set()
    for chunk in sorted(chunks):
        for start, length in layout.runs(chunk):
            parts = [devices[role].read((begins[role] + sector) * SECTOR, length * SECTOR)
                     for role, sector in layout.places(start)]
            if not layout.agree(start, parts):
                bad.add(chunk)
    for device in devices:
        device.__exit__()
    return bad
