# SPDX-License-Identifier: GPL-2.0
"""What arrays are made of: ramdisks whose pages are all allocated, and null_blk
devices with a volatile write cache."""

from llb.scsi import Nulls
from llb.sh import need, read, run

from measure import fill

MIB = 1 << 20
COUNT = 16 # four arrays of four, or one and its copies after a cut
filled = set()
nulls = []
ramdisk_mib = 0


def load_ramdisks(mib):
    global ramdisk_mib
    ramdisk_mib = mib
    run('modprobe', 'brd', f'rd_nr={COUNT}', f'rd_size={mib * 1024}')


def ramdisk_size():
    return ramdisk_mib * MIB


def some_ramdisks(first, count):
    return [f'/dev/ram{number}' for number in range(first, first + count)]


def ramdisks(count):
    """Written once, so that no later write has to allocate."""
    paths = some_ramdisks(0, count)
    for path in paths:
        if path not in filled:
            fill(path, ramdisk_mib * MIB)
            filled.add(path)
    return paths


def empty_ramdisks(first, count):
    paths = some_ramdisks(first, count)
    for path in paths:
        run('blkdiscard', '-f', path)
        filled.discard(path)
    return paths


def empty_all():
    """Their memory is free again."""
    empty_ramdisks(0, COUNT)


def null_disks(count, mib, latency_us=0):
    """Devices with a write cache: md sends them flushes and FUA writes. With a
    latency every request takes that long, a flush too."""
    made = Nulls(count, mib, blocksize=512, queue_mode=2, submit_queues=2, cache_size=64,
                 irqmode=2 if latency_us else 0, completion_nsec=latency_us * 1000)
    nulls.append(made)
    made.make()
    for path in made.paths:
        need(read(f'/sys/block/{path[5:]}/queue/write_cache') == 'write back',
             f'{path} has no write cache')
    return made.paths


def drop_null_disks():
    while nulls:
        nulls.pop().drop()
