# SPDX-License-Identifier: GPL-2.0
"""Where the bitmap ends and the next thing on a member begins: a bitmap grows only into
what is there, whatever its header says, on every member, before and after data moved."""

import fcntl
import struct

from llb import disk, fio
from llb.array import Array
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import (MIB, Data, each_missing, fail, fast, kernel_log, patch, remove, reshaped,
                      slow, sparse)
from llb.sh import device_number, equal, need, read, read_at, run, wait_until, write_at

KIB = 1 << 10
LIMIT_S = 400  # of a test, which takes 10 to 60
NEW_OFFSET = 1 << 6  # md's superblock: data is being moved by new_offset sectors
RESERVED_AT = 64  # of the bitmap's header, bytes: how many sectors it may use
CLAIMED = 1 << 16  # sectors: a number that a header may hold
ADD_NEW_DISK = 0x40140921  # md's ioctl
BAD_BLOCKS = 1 << 3  # md's superblock: there is a bad-block log


def bitmap_end(sup):
    """The sector behind the blocks of the bitmap that are written."""
    need(sup.cells, 'the bitmap is not initialised on disk')
    return sup.bitmap // disk.SECTOR + -(-(disk.CELLS_OFFSET + sup.chunks) // 4096) * 8


def data_begins(path):
    """The sector where data begins, now and when it has moved; from md's superblock."""
    sup = disk.supers([path])[0]
    page = read_at(path, disk.MD_SUPER_SECTOR * disk.SECTOR, 4096)
    moved, = struct.unpack_from('<i', page, 124)
    return min(sup.data_offset, sup.data_offset + (moved if sup.features & NEW_OFFSET else 0))


def fits(array):
    """On no member does the bitmap reach into the data."""
    for path, sup in zip(array.members, disk.supers(array.members)):
        need(bitmap_end(sup) <= data_begins(path),
             f'{path}: the bitmap ends at sector {bitmap_end(sup)}, data begins at '
             f'{data_begins(path)}')


def spread(array, count=24):
    """Offsets all over the array."""
    step = array.bytes() // count
    return [number * step // fio.BLOCK * fio.BLOCK for number in range(count)]


def used_again(array, data):
    """Written all over, orderly stopped, assembled; then with each member missing."""
    data.sprinkle(spread(array), '3c')
    settle(array)
    fits(array)
    data.holds()
    array.stop()
    array.assemble()
    bits = array.bits()
    equal((bits['need sync'], bits['syncing']), (0, 0), 'need sync, syncing after a stop')
    array.quick()
    each_missing(array, data)
    fits(array)


def to_max(array, data):
    size = array.bytes()
    run('mdadm', '--grow', array.path, '--size=max', '--assume-clean')
    need(array.bytes() > size, f'the array has {array.bytes()} bytes still')
    array.wait_idle()
    array.quick()
    fits(array)
    data.holds()
    used_again(array, data)


def grown(level, offset_kib, mib):
    """Made small, with little room before the data; then as large as its members."""
    array = make(level, f'--data-offset={offset_kib}', '--assume-clean', mib=64,
                 members=sparse(DISKS[level], mib))
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    to_max(array, data)


@lanes('stock')
def test_one_block_raid1():
    """Room for one block of 4 KiB: 3072 chunks."""
    grown(1, 12, 256)


@lanes('long')
def test_one_block_raid10():
    grown(10, 12, 256)


@lanes('long')
def test_one_block_raid5():
    grown(5, 12, 256)


@lanes('stock')
def test_few_blocks_raid1():
    """The bitmap would be as large as the data is far away, and larger."""
    grown(1, 32, 4200)


@lanes('long')
def test_few_blocks_raid5():
    grown(5, 32, 4200)


@lanes('long')
def test_few_blocks_raid10():
    grown(10, 32, 4200)


@lanes('long')
def test_larger_by_steps_raid1():
    """Each step takes more of the room, the last ones more than there is."""
    array = make(1, '--data-offset=20', '--assume-clean', mib=64, members=sparse(2, 1200))
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    for mib in (180, 200, 390, 450, 800, 1100):
        run('mdadm', '--grow', array.path, f'--size={mib}M', '--assume-clean')
        array.wait_idle()
        fits(array)
        data.sprinkle(spread(array), f'{mib % 90 + 10}')
        settle(array)
        data.holds()
    used_again(array, data)


def differing(level, *offsets_kib, spares=0, mib=64):
    """An array whose members have their data at these offsets."""
    members = sparse(len(offsets_kib), 256)
    array = Array(0, members[:len(members) - spares])
    chunk = () if level == 1 else ('--chunk=64',)
    run('mdadm', '--create', array.path, '--run', f'--level={level}', f'-n{len(array.members)}',
        f'-x{spares}', '--bitmap=lockless', '--assume-clean', f'--size={mib}M', *chunk,
        '--data-offset=variable',
        *[f'{path}:{offset}K' for path, offset in zip(members, offsets_kib)])
    array.wait_whole()
    array.quick()
    found = [sup.data_offset for sup in disk.supers(members)]
    equal(found, [2 * offset for offset in offsets_kib], 'data offsets')
    return array, members[len(array.members):]


@lanes('stock')
def test_least_of_the_members():
    """One member of three has less room than the others: not the first, not the last."""
    array, _ = differing(5, 1024, 12, 1024)
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    to_max(array, data)


def taken_over(array, gone, spare, data):
    """A member fails, and a spare with less room takes over, or fails too; in both cases the
    array is whole again in the end."""
    fail(array, gone)
    state = f'{array.sysfs}/dev-{spare.rsplit("/", 1)[1]}/state'
    wait_until('the spare is in, or out', lambda: array.attribute('degraded') == '0' or
               'faulty' in read(state))
    remove(array, gone)
    taken = array.attribute('degraded') == '0'
    print(f'  the spare is {"taken" if taken else "refused"}', flush=True)
    array.members[1:] = [spare] if taken else []
    array.wait_idle()
    data.sprinkle(spread(array, 30), '5a')
    data.holds()
    fits(array)
    if not taken:
        remove(array, spare)
        run('mdadm', array.path, '--add', gone)
        array.members.append(gone)
    array.wait_whole()
    settle(array)
    used_again(array, data)


@lanes('stock')
def test_spare_with_less_room():
    """The bitmap has one block, and grows while the spare waits."""
    array, spares = differing(1, 1024, 1024, 12, spares=1, mib=100)
    data = Data(array)
    data.fill(0, 4)
    data.sprinkle(spread(array), '96')
    settle(array)
    run('mdadm', '--grow', array.path, '--size=220M', '--assume-clean')
    array.wait_idle()
    data.sprinkle(spread(array), '3c')
    settle(array)
    fits(array)
    data.holds()
    taken_over(array, array.members[1], spares[0], data)


@lanes('long')
def test_spare_with_less_room_comes_later():
    """The bitmap has two blocks when it comes. Its superblock is another mdadm's: this one
    would give it the data offset of the others."""
    array, spares = differing(1, 1024, 1024, 1024, spares=1, mib=220)
    data = Data(array)
    data.fill(0, 4)
    data.sprinkle(spread(array), '96')
    settle(array)
    spare = spares[0]
    remove(array, spare)
    patch(spare, 128, '<Q', 24)
    before = read_at(spare, 24 * disk.SECTOR, MIB)
    with open(array.path, 'rb') as file:
        fcntl.ioctl(file, ADD_NEW_DISK, struct.pack('<5i', -1, *device_number(spare), -1, 0))
    equal(disk.supers(spares)[0].data_offset, 24, 'data offset of the spare')
    data.sprinkle(spread(array), '3c')
    settle(array)
    data.holds()
    equal(read_at(spare, 24 * disk.SECTOR, MIB), before, 'what is behind the data offset')
    taken_over(array, array.members[1], spare, data)


def claimed(level, which):
    """The headers of these members claim more room than there is: one line says so, and the
    bitmap uses what is there."""
    array = make(level, '--data-offset=12', '--assume-clean', mib=64,
                 members=sparse(DISKS[level], 256))
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    array.stop()
    for path in array.members[which]:
        patch(path, RESERVED_AT, '<I', CLAIMED, bitmap=True)
    log = kernel_log()
    array.assemble()
    array.quick()
    lines = [line for line in log() if 'llbitmap' in line and array.name in line and
             'bad-block log' not in line]
    data.holds()
    to_max(array, data)
    # Where only some claim it the others are believed, without a word.
    equal(len(lines), 1 if array.members[which] == array.members else 0, f'lines ({lines})')


@lanes('stock')
def test_header_claims_more_raid1():
    claimed(1, slice(0, 2))


@lanes('long')
def test_header_claims_more_raid5():
    claimed(5, slice(0, 3))


@lanes('long')
def test_one_header_claims_more_raid10():
    claimed(10, slice(1, 2))


@lanes('long')
def test_real_offsets_raid1():
    """Members so large that mdadm leaves 128 MiB before the data."""
    members = sparse(2, 130 << 10)
    array = make(1, '--assume-clean', mib=64, members=members)
    need(all(sup.data_offset * disk.SECTOR >= 128 * MIB for sup in disk.supers(members)),
         'mdadm left less')
    data = Data(array)
    data.fill(0, 8)
    settle(array)
    to_max(array, data)


def moved(level, count, members_mib, *offsets_kib):
    """A reshape for which mdadm moves the data to another offset, without a backup file:
    from the first of these offsets where it does so, smallest first; 0: mdadm's choice. Then
    as large as the members are. Returns where the data is in the end, in sectors."""
    more = 2 if level == 10 else 1
    disks = sparse(count + more, members_mib)
    for kib in offsets_kib:
        array = make(level, '--assume-clean', *((f'--data-offset={kib}',) if kib else ()),
                     mib=24, members=disks[:count])
        data = Data(array)
        data.fill(0, 16)
        data.sprinkle(spread(array), '96')
        settle(array)
        fits(array)
        before = [sup.data_offset for sup in disk.supers(array.members)]
        run('mdadm', array.path, '--add', *disks[count:])
        slow(array, 4000)
        status, said = run('mdadm', '--grow', array.path, f'-n{count + more}', ok=None)
        announced = [int(array.attribute(f'dev-{path.rsplit("/", 1)[1]}/new_offset'))
                     for path in disks[:count]]
        print(f'  data at {before}: {status} {said.strip()}', flush=True)
        if not status and announced != before:
            break
        if not status:  # it keeps a copy on the new members instead
            fast(array)
            reshaped(array)
        data.holds()
        array.stop()
        for path in disks:
            run('mdadm', '--zero-superblock', path)
    need(not status and announced != before, 'mdadm moves from none of these')
    array.members = disks
    announced = [int(array.attribute(f'dev-{path.rsplit("/", 1)[1]}/new_offset'))
                 for path in disks]
    fits(array)
    fast(array)
    reshaped(array)
    array.wait_whole()
    after = [sup.data_offset for sup in disk.supers(array.members)]
    print(f'  {announced} announced, {after} now', flush=True)
    equal(after, announced, 'data offsets after the reshape')
    need(all(old != new for old, new in zip(before, after)), 'mdadm moved no data offset')
    settle(array)
    fits(array)
    data.holds()
    to_max(array, data)
    return min(after)


@lanes('long')
def test_moved_offsets_raid5():
    """Members with mdadm's own offset of more than 128 MiB."""
    need(moved(5, 3, 130 << 10, 0) * disk.SECTOR > 128 * MIB, 'the offset is another')


@lanes('long')
def test_moved_offsets_raid10():
    need(moved(10, 4, 130 << 10, 0) * disk.SECTOR > 128 * MIB, 'the offset is another')


@lanes('long')
def test_moved_close_to_the_bitmap_raid5():
    """mdadm moves the data as near to the bitmap as it thinks that it may."""
    need(moved(5, 3, 256, 202, 204, 206, 208, 212, 216, 224, 236, 248, 280, 300, 330) < 16 + 256,
         'not into the space that the header claims')


@lanes('long')
def test_moved_close_to_the_bitmap_raid10():
    need(moved(10, 4, 256, 74, 76, 78, 80, 84, 88, 92, 100, 112, 136, 160, 192) < 16 + 256,
         'not into the space that the header claims')


@lanes('stock')
def test_bad_log_with_entries():
    """A bad-block log that is in use lies where the bitmap would grow, 8 sectors behind its
    start, where mdadm puts it: it is not written over."""
    array = make(1, '--assume-clean', mib=64, members=sparse(2, 300))
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    array.stop()
    sup = disk.supers(array.members)[0]
    log_at = sup.bitmap + 4096
    entry = struct.pack('<Q', 290 * 2048 << 10 | 7)  # far behind the array's end
    for path in array.members:
        write_at(path, log_at, entry + b'\xff' * (4096 - len(entry)))
        patch(path, 8, '<I', disk.supers([path])[0].features | BAD_BLOCKS)
        patch(path, 185, '<BHI', 0, 8, log_at // disk.SECTOR - sup.super_offset)
    log = kernel_log()
    status, said = run('mdadm', '--assemble', array.path, *array.members, ok=None)
    print(f'  assemble: {status} {said.strip()}', *log(), sep='\n  ', flush=True)
    if not status:
        array.readwrite()
        array.quick()
        data.holds()
        status, said = run('mdadm', '--grow', array.path, '--size=250M', '--assume-clean', ok=None)
        print(f'  grow: {status} {said.strip()}', *log(), sep='\n  ', flush=True)
        data.sprinkle(spread(array), '3c')
        settle(array)
        data.holds()
        array.stop()
    for path in array.members:
        equal(read_at(path, log_at, 512)[:8], entry, f'{path}: the bad-block log')
