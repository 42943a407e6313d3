# SPDX-License-Identifier: GPL-2.0
"""Members of md arrays as image files, made byte by byte: md's 1.x superblock, a
classic or a lockless bitmap, recognisable data. Units are sectors."""

import filecmp
import struct

SECTOR = 512
MAX_SECTOR = (1 << 64) - 1
MAGIC, BITMAP_MAGIC = 0xA92B4EFC, 0x6D746962
BITMAP, RECOVERY, RESHAPE, BAD_BLOCKS, REPLACEMENT = 1, 2, 4, 8, 16
NEW_OFFSET, CLUSTERED, JOURNAL, PPL = 64, 256, 512, 1024
SPARE, FAULTY, JOURNAL_ROLE = 0xFFFF, 0xFFFE, 0xFFFD
STALE, FIRST_USE, MADE_CLEAN = 1 << 1, 1 << 3, 1 << 4
UUID = bytes(range(16))


def checksum(raw):
    raw = raw[:216] + bytes(4) + raw[220:]
    total = sum(struct.unpack_from(f'<{len(raw) // 4}I', raw))
    if len(raw) % 4:
        total += struct.unpack_from('<H', raw, len(raw) - 2)[0]
    return (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF


def super_bytes(one):
    """From a dictionary of the fields that differ from a raid1's of two members."""
    got = dict(minor=2, features=0, uuid=UUID, name=b'host:0', created=77, level=1, layout=0,
               size=16384, chunk=0, disks=2, bitmap_offset=0, data_offset=2048, data_size=16384,
               start=8, number=0, log_shift=0, log_size=8, log_offset=16, events=20,
               resync=MAX_SECTOR, max_dev=128, roles=(0, 1), magic=MAGIC, recovery=0, lbs=0)
    unknown = set(one) - set(got)
    assert not unknown, unknown
    got.update(one)
    raw = bytearray(256 + 2 * got['max_dev'])
    struct.pack_into('<IIII16s32s', raw, 0, got['magic'], 1, got['features'], 0, got['uuid'],
                     got['name'])
    struct.pack_into('<QiIQIIi', raw, 64, got['created'], got['level'], got['layout'],
                     got['size'], got['chunk'], got['disks'], got['bitmap_offset'])
    struct.pack_into('<QQQQI', raw, 128, got['data_offset'], got['data_size'], got['start'],
                     got['recovery'], got['number'])
    struct.pack_into('<BBHi', raw, 184, 0, got['log_shift'], got['log_size'], got['log_offset'])
    struct.pack_into('<QQQ', raw, 192, 99, got['events'], got['resync'])
    struct.pack_into('<II', raw, 220, got['max_dev'], got['lbs'])
    for number in range(got['max_dev']):
        role = got['roles'][number] if number < len(got['roles']) else SPARE
        struct.pack_into('<H', raw, 256 + 2 * number, role)
    struct.pack_into('<I', raw, 216, checksum(bytes(raw)))
    return bytes(raw)


def head_bytes(**one):
    got = dict(magic=BITMAP_MAGIC, version=4, uuid=UUID, events=20, cleared=18, sync_size=16384,
               state=0, chunksize=65536, sleep=5, behind=0, reserved=8, nodes=0)
    unknown = set(one) - set(got)
    assert not unknown, unknown
    got.update(one)
    return struct.pack('<II16sQQQIIIIII', *got.values()).ljust(256, b'\0')


def classic(dirty, chunks=128, **head):
    """256 bytes and one bit per chunk; what follows the last is 1, as mdadm leaves it."""
    bits = bytearray(b'\xff' * 512)
    for chunk in range(chunks):
        if chunk not in dirty:
            bits[chunk // 8] &= ~(1 << chunk % 8)
    return head_bytes(**head) + bytes(bits)


def lockless(cells, **head):
    head = dict(dict(version=6, chunksize=128, sleep=30, reserved=256), **head)
    return head_bytes(**head).ljust(1024, b'\0') + bytes(cells)


def make(path, fields, bitmap=None, data=b'\xa7', mib=12):
    """A member's image; bitmap: bytes for bitmap_offset; data: a byte, or None: a hole."""
    one = dict(fields)
    if bitmap is not None:
        one.setdefault('bitmap_offset', 8)
        one['features'] = one.get('features', 0) | BITMAP
    raw = super_bytes(one)
    start, offset = one.get('start', 8), one.get('data_offset', 2048)
    with open(path, 'wb') as file:
        file.truncate(mib << 20)
        file.seek(offset * SECTOR)
        if data is not None:
            file.write(data * (one.get('data_size', 16384) * SECTOR))
        if bitmap is not None:
            file.seek((start + one['bitmap_offset']) * SECTOR)
            file.write(bitmap)
        file.seek(start * SECTOR)
        file.write(raw)
    return path


class Found:
    """What is on an image now, read without the tool."""

    def __init__(self, path, start=8):
        with open(path, 'rb') as file:
            image = file.read()
        raw = image[start * SECTOR:start * SECTOR + 4096]
        self.features, = struct.unpack_from('<I', raw, 8)
        self.size, = struct.unpack_from('<Q', raw, 80)
        self.bitmap_offset, = struct.unpack_from('<i', raw, 96)
        data_offset, data_size = struct.unpack_from('<QQ', raw, 128)
        self.log_size, self.log_offset = struct.unpack_from('<Hi', raw, 186)
        self.events, self.resync = struct.unpack_from('<QQ', raw, 200)
        self.sum, max_dev = struct.unpack_from('<II', raw, 216)
        self.sum_ok = self.sum == checksum(raw[:256 + 2 * max_dev])
        self.data = image[data_offset * SECTOR:(data_offset + data_size) * SECTOR]
        self.image = image
        at = (start + self.bitmap_offset) * SECTOR
        self.version, = struct.unpack_from('<I', image, at + 4)
        self.uuid = image[at + 8:at + 24]
        self.head_events, self.cleared, self.sync_size, self.state, self.chunk, self.sleep, \
            self.behind, self.reserved, self.nodes = struct.unpack_from('<QQQIIIIII', image, at + 24)
        self.cells = self.dirty = None
        if not self.chunk or self.sync_size > self.size:
            return  # damaged
        if self.features & BITMAP and self.version == 6:
            count = -(-self.sync_size // self.chunk)
            self.cells = image[at + 1024:at + 1024 + count]
        elif self.features & BITMAP and self.version in (3, 4):
            self.dirty = {chunk for chunk in range(-(-self.sync_size * SECTOR // self.chunk))
                          if image[at + 256 + chunk // 8] >> chunk % 8 & 1}


def same(one, two):
    return filecmp.cmp(one, two, shallow=False)
