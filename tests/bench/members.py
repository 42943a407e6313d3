# SPDX-License-Identifier: GPL-2.0
"""What arrays are made of: ramdisks whose pages are all allocated, and null_blk
devices with a volatile write cache."""

import os

from llb.sh import need, read, run, write

from measure import fill

CONFIG = '/sys/kernel/config/nullb'
MIB = 1 << 20
COUNT = 16 # four arrays of four, or one and its copies after a cut
filled = set()
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
    if not os.path.isdir('/sys/module/null_blk'):
        run('modprobe', 'null_blk', 'nr_devices=0')
    if not os.path.isdir(CONFIG):
        run('mount', '-t', 'configfs', 'configfs', '/sys/kernel/config')
    paths = []
    for number in range(count):
        folder = f'{CONFIG}/llb{number}'
        os.mkdir(folder)
        for name, value in (('size', mib), ('blocksize', 512), ('memory_backed', 1),
                            ('queue_mode', 2), ('submit_queues', 2), ('cache_size', 64),
                            ('irqmode', 2 if latency_us else 0),
                            ('completion_nsec', latency_us * 1000)):
            write(f'{folder}/{name}', value)
        write(f'{folder}/power', 1)
        disk = f'nullb{read(folder + "/index")}'
        name = next(name for name in (f'llb{number}', disk) if os.path.exists(f'/dev/{name}'))
        need(read(f'/sys/block/{name}/queue/write_cache') == 'write back',
             f'{name} has no write cache')
        paths.append(f'/dev/{name}')
    return paths


def drop_null_disks():
    if not os.path.isdir(CONFIG):
        return
    for name in os.listdir(CONFIG):
        if os.path.isdir(f'{CONFIG}/{name}'):
            write(f'{CONFIG}/{name}/power', 0)
            os.rmdir(f'{CONFIG}/{name}')
