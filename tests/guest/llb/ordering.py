# SPDX-License-Identifier: GPL-2.0
"""W1 and W2 (src/core/README.md) at every boundary of a log of writes: the
log is replayed, one entry after the other, onto images of the members. Units are
sectors unless a name says otherwise."""

from . import disk
from .disk import PAGE_SECTORS, SECTOR, must_resync
from .logwrites import DISCARD
from .sh import need

PAGE = PAGE_SECTORS * SECTOR


class Image:
    """A member's content so far, with Direct's way of reading."""

    def __init__(self, sectors):
        self.data = bytearray(sectors * SECTOR)

    def read(self, offset, length):
        return bytes(self.data[offset:offset + length])


def data_places(layout, sector):
    """[(role, member's data sector)] of a sector of the array: its copies."""
    if layout.level != 5:
        return layout.places(sector)
    number, rest = divmod(sector, layout.raid_chunk)
    row, index = divmod(number, layout.disks - 1)
    parity = layout.disks - 1 - row % layout.disks  # left-symmetric
    return [((parity + 1 + index) % layout.disks, row * layout.raid_chunk + rest)]


class Replay:
    """apply() each entry in turn. broken: {rule: [what was seen]} so far."""

    def __init__(self, members, sectors):
        self.images = [Image(sectors) for _ in range(members)]
        self.layout, self.checks, self.differing = None, 0, {}
        self.broken = {'W1': [], 'W2': []}

    def begin(self):
        """From here on the rules are checked; the array is whole and idle."""
        sups = [disk.Super(image) for image in self.images]
        self.layout, self.bitmap = disk.Layout(sups[0]), sups[0].bitmap // SECTOR
        self.roles = [sup.role for sup in sups]
        need(sorted(self.roles) == list(range(len(sups))), f'roles {self.roles}')
        self.by_role = [self.images[self.roles.index(role)] for role in range(len(sups))]
        need(all(sup.cells for sup in sups), 'a bitmap is not initialised')
        self.first_cell = self.bitmap * SECTOR + disk.CELLS_OFFSET

    def cell(self, image, chunk):
        return image.data[self.first_cell + chunk]

    def apply(self, flags, member, first, data, number):
        if flags & DISCARD:
            need(self.layout is None, f'entry {number}: a discard')
            size = data * SECTOR
            self.images[member].data[first * SECTOR:first * SECTOR + size] = bytes(size)
            return
        if not data:
            return
        image, start = self.images[member], first * SECTOR
        if not self.layout or start + len(data) <= self.first_cell:
            image.data[start:start + len(data)] = data
        elif first >= self.layout.data_offset:
            image.data[start:start + len(data)] = data
            self.data_write(self.roles[member], first - self.layout.data_offset,
                            len(data) // SECTOR, number)
        else:
            self.bitmap_write(member, start, data, number)

    def data_write(self, role, first, sectors, number):
        layout = self.layout
        for at in range(first // PAGE_SECTORS * PAGE_SECTORS, first + sectors, PAGE_SECTORS):
            sector = layout.sector_of(role, at)
            chunk = sector // layout.chunk
            self.checks += 1
            for other, image in enumerate(self.by_role):
                state = self.cell(image, chunk)
                if not must_resync(state):
                    self.broken['W1'].append(
                        f'entry {number}: data of chunk {chunk} is durable on member {role}, '
                        f'whose byte on member {other} is {disk.NAMES[state]}')
            pages = self.differing.setdefault(chunk, set())
            if self.page_differs(sector):
                pages.add(sector)
            else:
                pages.discard(sector)

    def page(self, role, sector):
        start = (self.layout.data_offset + sector) * SECTOR
        return self.by_role[role].data[start:start + PAGE]

    def page_differs(self, sector):
        parts = [self.page(role, at) for role, at in self.layout.places(sector)]
        if self.layout.level != 5:
            return any(part != parts[0] for part in parts)
        total = 0
        for part in parts:
            total ^= int.from_bytes(part, 'little')
        return total != 0

    def bitmap_write(self, member, start, data, number):
        image = self.images[member]
        old = image.data[start:start + len(data)]
        image.data[start:start + len(data)] = data
        for at in range(0, len(data), SECTOR):
            if old[at:at + SECTOR] == data[at:at + SECTOR]:
                continue
            for byte in range(at, min(at + SECTOR, len(data))):
                chunk = start + byte - self.first_cell
                if old[byte] == data[byte] or not 0 <= chunk < self.layout.chunks:
                    continue
                self.checks += 1
                if not must_resync(data[byte]) and self.differing.get(chunk):
                    self.broken['W2'].append(
                        f'entry {number}: chunk {chunk} becomes {disk.NAMES[data[byte]]} on '
                        f'member {self.roles[member]}, and {len(self.differing[chunk])} of its '
                        f'pages are not the same on all members')

    def contents(self, array_sector):
        """What the array may read there after a resync: its copies now."""
        return {bytes(self.page(role, at))
                for role, at in data_places(self.layout, array_sector)}

    def verdict(self):
        return '; '.join(f'{rule}: {len(seen)} times, first at {seen[0]}'
                         for rule, seen in self.broken.items() if seen)
