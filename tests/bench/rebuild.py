# SPDX-License-Identifier: GPL-2.0
"""(h) What the rebuild of a new disk copies: bytes that reach it, counted by the kernel,
and what they take at 200 MB/s. Ext4 on an array of which a fifth was ever written;
then four fifths were, of which a fifth is left (the rest was removed); then after fstrim.

A rebuild here: a member fails, another disk, which is empty, takes its place. What is
counted is all that was written to it: its superblock and its bitmap too, some tens of KiB.
Sizes are small, since without a bitmap and with the classic one all of the disk is copied;
the share is what carries over to a large one. Times here mean nothing."""

import os
import random

from llb import disk
from llb.sh import Failure, equal, need, run, wait_until, write

from cuts import done, sectors
from measure import emit
from members import empty_ramdisks
from variants import ALL, MEMBERS, Measured, in_turn, use

MIB = 1 << 20
SIZE_MIB = 128 # of each member
FILE_MIB = 1 # many chunks of such an array, as a large file is on a large one
FIFTH, MOST = 0.2, 0.8 # of the file system
COPY_MB_S = 200
MOUNTED = '/tmp/rebuild'
NAMES = ('written', 'removed', 'trimmed')
SAFE = '/sys/module/raid456/parameters/devices_handle_discard_safely'
SECONDS = {'raid1': 18, 'raid10': 30, 'raid5': 30} # of a step


def plan(steps, size):
    levels = ('raid1',) if size.quick else size.levels(*MEMBERS)
    for level in levels:
        for number, variant in in_turn(size.rounds(1), ALL):
            steps.add(SECONDS[level], f'(h) {level} {variant} round {number + 1}',
                      step(level, variant, number), ('h', level), number)


def unmount():
    """What a step that failed has left mounted."""
    if os.path.ismount(MOUNTED):
        run('umount', '--lazy', MOUNTED)


class Disks:
    """Small devices over ramdisks, whose sectors are counted: those of brd are not."""

    def __init__(self, count):
        self.left = empty_ramdisks(0, count)
        self.sources = {}

    def take(self):
        """One that nothing was ever written to."""
        source, name = self.left.pop(0), f'disk{len(self.sources)}'
        run('dmsetup', 'create', name, '--table', f'0 {SIZE_MIB * MIB // 512} linear {source} 0')
        self.sources[f'/dev/mapper/{name}'] = source
        return f'/dev/mapper/{name}'

    def drop(self, path):
        """Its memory is free again."""
        run('blkdiscard', '-f', self.sources[path])


class Files:
    """Ext4 over the whole array, and files of one size in it with known content."""

    def __init__(self, array):
        self.array, self.count = array, 0
        self.data = random.Random(1).randbytes(FILE_MIB * MIB)
        run('mkfs.ext4', '-q', '-F', '-m', '0', '-J', 'size=4', '-E', 'lazy_itable_init=1',
            array.path, timeout_s=120)
        os.makedirs(MOUNTED, exist_ok=True)
        self.mount()
        found = os.statvfs(MOUNTED)
        self.bytes = found.f_blocks * found.f_frsize
        self.umount()

    def mount(self):
        # Else a thread of ext4's own writes all inode tables some time.
        run('mount', '-o', 'noinit_itable', self.array.path, MOUNTED)

    @staticmethod
    def umount():
        run('umount', MOUNTED)

    def grow_to(self, share):
        while self.count * FILE_MIB * MIB < share * self.bytes:
            with open(f'{MOUNTED}/{self.count:06}', 'wb') as file:
                file.write(self.data)
            self.count += 1
        os.sync()

    def shrink_to(self, share):
        """What is left is all over what there was."""
        names = self.names()
        keep = int(share * self.bytes / (FILE_MIB * MIB))
        kept = {names[number * len(names) // keep] for number in range(keep)}
        for name in names:
            if name not in kept:
                os.unlink(f'{MOUNTED}/{name}')
        self.count = keep
        os.sync()

    @staticmethod
    def names():
        return sorted(name for name in os.listdir(MOUNTED) if name.isdigit())

    def wrong(self):
        """How many do not hold what was written, past the page cache: it went with the
        mount."""
        wrong = self.count - len(self.names())
        for name in self.names():
            with open(f'{MOUNTED}/{name}', 'rb') as file:
                wrong += file.read() != self.data
        return wrong


def rebuilt(array, disks, key, say):
    """The last member fails; another disk takes its place."""
    level, variant, load, number = key
    gone = array.members[-1]
    run('mdadm', array.path, '--fail', gone)
    wait_until('the member is gone', lambda: run('mdadm', array.path, '--remove', gone,
                                                 ok=None)[0] == 0, 20)
    new = array.members[-1] = disks.take()
    before = sectors([new]), sectors(array.members[:-1])
    run('mdadm', array.path, '--add', new)
    done(array, variant)
    equal(array.attribute('degraded'), '0', 'degraded')
    written = (sectors([new])[1] - before[0][1]) * 512
    fetched = (sectors(array.members[:-1])[0] - before[1][0]) * 512
    for metric, unit, value in (
            ('copied to the new disk', 'MiB', written / MIB),
            ('read from the others', 'MiB', fetched / MIB),
            (f'at {COPY_MB_S} MB/s', 's', written / COPY_MB_S / 1e6),
            (f'of 16 TB in proportion, at {COPY_MB_S} MB/s', 'hours',
             written / (SIZE_MIB * MIB) * 16e12 / COPY_MB_S / 1e6 / 3600)):
        emit('h', level, load, variant, metric, unit, value, number)
    say(f'{load}: {written / MIB:.1f} MiB')
    disks.drop(gone)


def all_there(array, files, key, say):
    """Counts the files that do not read back where the new disk is the only one that has
    them. A rebuild that copies too little is no good one: that fails the step, but for the
    in-tree driver, of which it is a figure."""
    level, variant, number = key
    if variant == 'llbitmap':
        chunks = disk.unequal(array.members, disk.written(array.cells()))
        need(not chunks, f'{len(chunks)} chunks differ after the rebuild')
    run('mdadm', array.path, '--fail', array.members[-2])
    try:
        files.mount()
        wrong = files.wrong()
        files.umount()
    except Failure as failure:
        say(f'does not mount: {failure}')
        wrong = files.count
    emit('h', level, 'trimmed', variant, 'files that do not read back from it', 'files', wrong,
         number)
    say(f'{wrong} of {files.count} files wrong')
    need(not wrong or variant == 'intree', f'{wrong} files do not read back from the new disk')
    if wrong:
        cells, count = array.cells(), len(array.cells()[0])
        lost = disk.unequal(array.members, range(count)) - disk.written(cells)
        say(f'{len(lost)} chunks differ that its bitmap calls unwritten, the first is '
            f'{min(lost, default=None)}')


def step(level, variant, number):
    def measure(say):
        use(variant)
        if level == 'raid5':  # what was discarded on a ramdisk reads as zero
            run('modprobe', 'raid456')
            write(SAFE, 'Y')
        disks = Disks(MEMBERS[level] + len(NAMES))
        array = Measured(variant, level, [disks.take() for _ in range(MEMBERS[level])])
        array.make(fresh=True)
        array.set('sync_speed_max', 10**7)
        done(array, variant)
        array.sleep(1)
        files = Files(array)
        for name in NAMES:
            files.mount()
            if name == 'written':
                files.grow_to(FIFTH)
            elif name == 'removed':
                files.grow_to(MOST)
                files.shrink_to(FIFTH)
            else:
                say(run('fstrim', '-v', MOUNTED).strip().split(': ')[-1])
            files.umount()
            done(array, variant)
            rebuilt(array, disks, (level, variant, name, number), say)
        all_there(array, files, (level, variant, number), say)
        array.stop()
    return measure
