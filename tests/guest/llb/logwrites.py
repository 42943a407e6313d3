# SPDX-License-Identifier: GPL-2.0
"""One log of every write to all members, on one time line (dm-log-writes): the
members are slices of one logged device. The log has a write when it is durable:
FUA when it completes, others when a flush that came after them completes. Its format:
Documentation/admin-guide/device-mapper/log-writes.rst. Units are sectors."""

import struct

from .array import RAMDISK_MIB, ramdisks
from .mapped import create
from .sh import Direct, Failure, need, run

MAGIC, VERSION = 0x6A736677736872, 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
BELOW, LOG = 2, 6  # ramdisks
SECTOR = 512


def concat(name, first, count):
    size = RAMDISK_MIB * 2048
    return create(name, *(f'{at * size} {size} linear /dev/ram{first + at} 0'
                          for at in range(count)))


class Logged:
    """count members of mib each, logged until close()."""

    def __init__(self, count, mib):
        need(count * mib <= BELOW * RAMDISK_MIB, 'the members are too large')
        run('modprobe', 'dm-log-writes')
        ramdisks(BELOW + LOG)
        self.count, self.sectors = count, mib * 2048
        self.below, self.log = concat('below', 0, BELOW), concat('log', BELOW, LOG)
        total = BELOW * RAMDISK_MIB * 2048
        self.logged = create('logged', f'0 {total} log-writes {self.below} {self.log}')
        self.members = self.slices('s', self.logged)

    def slices(self, prefix, device):
        return [create(f'{prefix}{at}', f'0 {self.sectors} linear {device} {at * self.sectors}')
                for at in range(self.count)]

    def mark(self, name):
        run('dmsetup', 'message', 'logged', '0', 'mark', name)

    def close(self):
        """The log is complete then; returns slices of what was below it."""
        for at in range(self.count):
            run('dmsetup', 'remove', f's{at}')
        run('dmsetup', 'remove', 'logged')
        return self.slices('p', self.below)

    def entries(self):
        """(flags, member, its first sector, data), in order; a mark has its name as
        data, a flush no data, a discard a length in its place."""
        with Direct(self.log) as log:
            magic, version, count, sector_bytes = struct.unpack_from('<QQQI', log.read(0, 4096))
            need((magic, version, sector_bytes) == (MAGIC, VERSION, SECTOR), 'this is no log')
            reader = Reader(log, SECTOR)
            for number in range(count):
                head = reader.take(SECTOR)
                sector, sectors, flags, length = struct.unpack_from('<QQQQ', head)
                if flags & MARK:
                    yield flags, None, None, head[32:32 + length].rstrip(b'\0').decode()
                    continue
                member, first = divmod(sector, self.sectors)
                need(member < self.count or not sectors, f'log entry {number}: sector {sector}')
                if flags & DISCARD:
                    yield flags, member, first, sectors
                else:
                    yield flags, member, first, reader.take(sectors * SECTOR) if sectors else b''


class Reader:
    """A device from an offset on, read ahead."""

    STEP = 1 << 20

    def __init__(self, device, offset):
        self.device, self.offset, self.ahead, self.at = device, offset, b'', 0

    def take(self, length):
        while len(self.ahead) - self.at < length:
            step = min(self.STEP, self.device.bytes - self.offset)
            if step <= 0:
                raise Failure('the log ends in the middle of an entry')
            self.ahead = self.ahead[self.at:] + self.device.read(self.offset, step)
            self.offset, self.at = self.offset + step, 0
        self.at += length
        return self.ahead[self.at - length:self.at]
