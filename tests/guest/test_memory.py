# SPDX-License-Identifier: GPL-2.0
"""Memory that is not there. Each allocation of a start, a first start, a resize and a live
conversion fails in turn (the kernel's fail-nth, of the task that asks md for it: slabs and pages):
an error and nothing else, the next try works, nothing is left behind. And writes go on where
memory has to be taken back all the time: of a group with a small limit, of a whole machine."""

import errno
import fcntl
import gc
import mmap
import os
import struct
import subprocess
import tempfile
import threading

from llb import disk, life
from llb.array import Array, load, loaded, ramdisks, unload
from llb.arrays import MIB, make, settle
from llb.lanes import lanes, limit
from llb.life import Data, each_missing, sparse
from llb.sh import Direct, KernelLog, device_number, equal, need, read, run, wait_until, write
from llb.tool import tool
from test_live import SIGN, signs
from test_tool import kind

KIB = 1 << 10
STRIDE = 8  # of md's own allocations before it makes the bitmap only some fail: llbitmap has more in a row
GET_ARRAY_INFO, SET_ARRAY_INFO, STATE, PRESENT = 0x80480911, 0x40480923, 11, 1 << 8  # md's ioctls
LIVE_SPACE = 6  # sectors, of what tells a running md of the bitmap
FAILING = {  # else those that may wait, and single pages, never fail
    'failslab': {'ignore-gfp-wait': 'N', 'verbose': 0},
    'fail_page_alloc': {'ignore-gfp-wait': 'N', 'ignore-gfp-highmem': 'N', 'min-order': 0, 'verbose': 0},
}


# ---- one allocation fails ----


def may_fail():
    for what, settings in FAILING.items():
        for name, value in settings.items():
            write(f'/sys/kernel/debug/{what}/{name}', value)


def attempt(number, prepare):
    """What prepare() returns is called in a process of its own, whose allocation of that number
    fails. Returns (the error's number, or 0; whether it came to that allocation)."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            call, word, error = prepare(), b'%d' % number, 0
            nth = os.open('/proc/thread-self/fail-nth', os.O_RDWR)
            gc.disable()
            os.pwrite(nth, word, 0)
            try:
                call()
            except OSError as failed:
                error = failed.errno
            left = os.pread(nth, 16, 0)
            os.pwrite(nth, b'0', 0)
            os.write(sink, b'%d %d' % (error, int(left)))
        finally:
            os._exit(0)
    os.close(sink)
    with open(source, encoding='utf-8') as file:
        said = file.read().split()
    os.waitpid(child, 0)
    need(len(said) == 2, f'with allocation {number}: whoever asked md said nothing')
    return int(said[0]), said[1] == '0'


def writes(path, text):
    file = os.open(path, os.O_WRONLY)
    return lambda: os.write(file, text.encode())


class Tally:
    """Of all attempts of a test."""

    def __init__(self):
        self.errors, self.passed = {}, 0

    def add(self, error):
        if error:
            name = errno.errorcode.get(error, error)
            self.errors[name] = self.errors.get(name, 0) + 1
        else:
            self.passed += 1

    def done(self, number, least):
        """The attempt of that number passed, with nothing that failed."""
        print(f'  {number - 1} allocations; errors: {self.errors}, passed in spite of one: '
              f'{self.passed}', flush=True)
        found = self.errors.get('ENOMEM', 0)
        need(found >= least, f'{found} attempts without memory, {least} at least are expected')


def nothing_left():
    """No worker of an array that is gone, and the module can go."""
    names = []
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                names.append(read(f'/proc/{entry}/comm'))
            except OSError:
                pass  # it ended
    left = [name for name in names if name.startswith('kworker/R-llb')]
    need(not left, f'still there: {left}')
    equal(read('/sys/module/llbitmap/refcnt'), '0', "the module's references")
    # KASAN of User-mode Linux forgets no poison of an unloaded module's globals: whatever else is
    # needed later must not come into its place.
    run('modprobe', 'loop')
    unload()
    need(not loaded(), 'the module stays')
    load()


def by_hand(array):
    """All but the start, through sysfs."""
    def there():
        try:
            if not os.path.exists(array.sysfs):
                write('/sys/module/md_mod/parameters/new_array', array.name)
            array.set('metadata_version', '1.2')
        except OSError:
            return False  # the last one goes just now
        return True
    wait_until(f'{array.name} is there', there, 20)
    array.set('bitmap_type', 'llbitmap')
    for path in array.members:
        array.set('new_dev', '%d:%d' % device_number(path))


def as_created(array):
    """mdadm's header again, as it is before the first start."""
    for path in array.members:
        life.patch(path, 24, '<QQ', 0, 0, bitmap=True)
        life.patch(path, 48, '<I', disk.FIRST_USE, bitmap=True)


def starts(before):
    """Each allocation from the bitmap's first on, and some of those before, fails while the
    array starts; then it is started without that."""
    may_fail()
    array = make(1, mib=24)
    data = Data(array)
    data.fill(0, 4)
    data.sprinkle(range(6 * MIB, 20 * MIB, MIB))
    settle(array)
    array.stop()
    number, step, tally, refused = 1, STRIDE, Tally(), 0
    while True:
        before(array)
        log = KernelLog()
        by_hand(array)
        error, used = attempt(number, lambda: writes(f'{array.sysfs}/array_state', 'active'))
        of_bitmap = any('failed to create bitmap' in line for line in log.lines())
        log.close()
        if of_bitmap and step > 1:  # it begins somewhere since the last attempt
            number, step = max(1, number - STRIDE), 1
        refused += of_bitmap
        tally.add(error)
        # md starts it without its own files, too, says so in its log, and nobody can look at it.
        if error or not os.path.exists(f'{array.sysfs}/degraded'):
            array.stop()
            array.assemble()
        equal(kind(array), 'llbitmap', f'bitmap_type after allocation {number}')
        equal(array.missing(), 0, f'members missing after allocation {number}')
        array.wait_idle()
        data.holds()
        array.stop()
        if not used:
            break
        number += step
    equal(step, 1, 'the steps with which the bitmap was passed')
    equal(error, 0, 'the error without a failure')
    need(refused > 10, f'only {refused} starts failed at the bitmap')
    print(f'  {refused} failed in the making of the bitmap', flush=True)
    tally.done(number, 10)
    nothing_left()
    array.assemble()
    array.quick()
    data.sprinkle(range(64 * KIB, 24 * MIB, MIB), '3c')
    settle(array)
    data.holds()
    life.whole(array)
    each_missing(array, data)


@lanes('uml-long')
@limit(3000)
def test_start_raid1():
    starts(lambda array: None)


@lanes('uml-long')
@limit(3000)
def test_first_start_raid1():
    starts(as_created)


# ---- resize ----


def bits_agree(array, chunk):
    """The bitmap speaks of all of the array."""
    sup = disk.supers(array.members)[0]
    equal(sup.sync_size * disk.SECTOR, array.bytes(), "the header's size")
    equal(sum(array.bits().values()), sup.chunks, 'chunks in memory and on disk')
    need(sup.chunk >= chunk, f'chunks of {sup.chunk} sectors, smaller than {chunk}')
    return sup.chunk


def grows(array, data, small, large, again):
    """again(): the array as it was before, after it became larger."""
    number, tally, chunk = 1, Tally(), bits_agree(array, 0)
    while True:
        before = array.bytes()
        error, used = attempt(number, lambda: writes(f'{array.sysfs}/component_size', str(large * KIB)))
        tally.add(error)
        array.wait_idle()
        if error:
            equal(array.bytes(), before, f'bytes after allocation {number}')
            equal(bits_agree(array, chunk), chunk, f'sectors of a chunk after allocation {number}')
        else:
            equal(array.bytes(), large * MIB, f'bytes after allocation {number}')
            bits_agree(array, chunk)
            data.sprinkle([(large - 1) * MIB], '3c')
        data.sprinkle([(small - 1) * MIB + number % 16 * 64 * KIB], '%02x' % (number % 200 + 16))
        data.holds()
        if not used:
            break
        if not error:
            array, data = again(array, data)
            chunk = bits_agree(array, 0)
        number += 1
    equal(error, 0, 'the error without a failure')
    settle(array)
    data.holds()
    life.whole(array, check=large < KIB)
    each_missing(array, data)
    tally.done(number, 2)
    array.stop()
    nothing_left()


def smaller(array, data, mib):
    run('mdadm', '--grow', array.path, f'--array-size={mib * KIB}')
    run('mdadm', '--grow', array.path, f'--size={mib}M')
    array.set('array_size', 'default')  # else it keeps that size
    data.cut_to(array.bytes())
    equal(array.bytes(), mib * MIB, 'bytes, smaller again')
    return array, data


@lanes('uml-long')
@limit(2000)
def test_resize_raid1():
    """Chunks keep their size."""
    may_fail()
    array = make(1, mib=24)
    data = Data(array)
    data.fill(0, 4)
    settle(array)
    grows(array, data, 24, 96, lambda *of: smaller(*of, 24))


@lanes('uml-long')
@limit(2000)
def test_resize_to_larger_chunks_raid1():
    """All of the bitmap gets another meaning."""
    may_fail()
    small, large = 4 * KIB, 20 * KIB
    members = sparse(2, 21 * KIB)

    def made(*_):
        for name in [name for name in os.listdir('/sys/block') if name == 'md0']:
            run('mdadm', '--stop', f'/dev/{name}')
        array = make(1, members=members, mib=small)
        data = Data(array)
        data.fill(0, 4)
        return array, data
    array, data = made()
    was = disk.supers(members)[0].chunk
    grows(array, data, small, large, made)
    need(disk.supers(members)[0].chunk > was, f'chunks of {was} sectors as before')


# ---- a running array gets a bitmap ----


def given(array):
    """Asks md to add what the members say."""
    file = os.open(array.path, os.O_RDONLY)
    info = bytearray(72)
    fcntl.ioctl(file, GET_ARRAY_INFO, info)
    state, = struct.unpack_from('<i', info, 4 * STATE)
    need(not state & PRESENT, 'it has a bitmap')
    struct.pack_into('<i', info, 4 * STATE, state | PRESENT)
    return lambda: fcntl.ioctl(file, SET_ARRAY_INFO, info)


def put(paths, sectors):
    for path, data in zip(paths, sectors):
        with Direct(path, writable=True) as device:
            device.write(SIGN, data)


@lanes('uml-long')
@limit(2000)
def test_live_addition_raid1():
    """As llbitmap convert does it: a sector behind md's superblock on each member, md is asked,
    and the sector is as before."""
    may_fail()
    array = Array(0, ramdisks(2)).create(1, '--size=48M', bitmap='none')
    data = Data(array)
    data.fill(0, 4)
    array.wait_idle()
    none = signs(array)
    tool('convert', '--to', 'lockless', array.path)
    with Direct(array.members[0]) as device:
        sign = bytearray(device.read(disk.supers(array.members)[0].bitmap, disk.SECTOR))
    struct.pack_into('<QQ', sign, 24, 1, 1)
    struct.pack_into('<I', sign, 48, disk.FIRST_USE)
    struct.pack_into('<I', sign, 64, LIVE_SPACE)
    array.quick()
    settle(array)
    number, tally = 1, Tally()
    while True:
        tool('convert', '--to', 'none', array.path)
        equal(kind(array), 'none', 'bitmap_type')
        array.wait_idle()
        put(array.members, [bytes(sign)] * 2)
        error, used = attempt(number, lambda: given(array))
        put(array.members, [one[:disk.SECTOR] for one in none])
        if error == errno.EBUSY:
            continue  # md looks just now whether something is to be synchronised
        tally.add(error)
        equal(kind(array), 'none' if error else 'llbitmap', f'bitmap_type after allocation {number}')
        data.sprinkle([8 * MIB + number % 512 * 64 * KIB], '%02x' % (number % 200 + 16))
        if error:
            equal(array.attribute('array_state') in ('active', 'clean', 'active-idle', 'write-pending'),
                  True, f'it runs on after allocation {number}')
            tool('convert', '--to', 'lockless', array.path)
            equal(kind(array), 'llbitmap', 'bitmap_type after another try')
        equal(array.attribute('sync_action'), 'idle', 'sync_action')
        data.holds()
        if not used:
            break
        number += 1
    equal(error, 0, 'the error without a failure')
    tally.done(number, 10)
    array.quick()
    settle(array)
    data.holds()
    life.whole(array)
    each_missing(array, data)
    array.stop()
    nothing_left()


# ---- hardly any memory ----

COPIES, COPY_MIB = 10, 8
MOUNT, GROUP = '/mnt', '/tmp/cgroup'
LIMIT_MIB = 8  # of the group: a shell, cp, and little cache
LEAST_MIB, MOST_MIB = 24, 40  # what the machine is left with


class Files:
    """Copies of what is in memory, on a file system over the array."""

    def __init__(self, array):
        self.array, self.file = array, tempfile.TemporaryFile(dir='/dev/shm')
        self.file.write(os.urandom(COPY_MIB * MIB))
        self.file.flush()
        self.source = f'/proc/{os.getpid()}/fd/{self.file.fileno()}'
        run('mkfs.ext4', '-q', '-E', 'nodiscard,lazy_itable_init=0,lazy_journal_init=0', array.path)
        os.makedirs(MOUNT, exist_ok=True)

    def copy(self, before=''):
        """Returns a process that writes them, through the cache."""
        return subprocess.Popen(['sh', '-c', f'{before}for n in $(seq {COPIES}); do '
                                 f'cp {self.source} {MOUNT}/$n || exit; done; sync -f {MOUNT}'],
                                stdin=subprocess.DEVNULL)

    def holds(self):
        with open(self.source, 'rb') as file:
            content = file.read()
        run('mount', '-o', 'ro,noload', self.array.path, MOUNT)
        try:
            for number in range(1, COPIES + 1):
                with open(f'{MOUNT}/{number}', 'rb') as file:
                    need(file.read() == content, f'{self.array.name}: copy {number} is wrong')
        finally:
            run('umount', MOUNT)


def ended(process, what):
    """With writes reaching the array meanwhile: what hangs, does not get here."""
    wait_until(what, lambda: process.poll() is not None, 240)
    equal(process.returncode, 0, f'{what}: the status')


def under_pressure(copies):
    """copies(files, array): writes them all, and has a limit of its own."""
    members = ramdisks(2, 120)
    for path in members:
        with Direct(path, writable=True) as device:
            device.write(0, bytes(device.bytes))  # a ramdisk that is full needs no more memory
    array = make(1, members=members, mib=112)
    files = Files(array)
    settle(array)
    before = array.bits()['unwritten']
    run('mount', array.path, MOUNT)
    try:
        copies(files, array)
    finally:
        run('umount', MOUNT)
    touched = before - array.bits()['unwritten']
    need(touched >= COPIES * COPY_MIB * MIB // (64 * KIB) * 9 // 10,
         f'only {touched} chunks were written for the first time')
    settle(array)
    files.holds()
    life.whole(array)
    each_missing(array, files)


@lanes('long')
def test_small_group():
    """The writing processes may have little more than their own pages."""
    def copies(files, _):
        group = f'{GROUP}/small'
        os.makedirs(GROUP, exist_ok=True)
        run('mount', '-t', 'cgroup2', 'none', GROUP)
        try:
            write(f'{GROUP}/cgroup.subtree_control', '+memory')
            os.mkdir(group)
            write(f'{group}/memory.max', LIMIT_MIB * MIB)
            ended(files.copy(f'echo $$ >{group}/cgroup.procs; '), 'all copies are written')
            events = dict(line.split() for line in read(f'{group}/memory.events').splitlines())
            print(f'  {events}', flush=True)
            need(int(events['max']) > 50, f'the limit was met {events["max"]} times only')
            equal(events['oom_kill'], '0', 'processes that were killed')
            wait_until('the group is empty', lambda: not read(f'{group}/cgroup.procs'), 20)
        finally:
            if os.path.isdir(group):
                os.rmdir(group)
            run('umount', GROUP)
    under_pressure(copies)


def mib_of(name):
    with open('/proc/meminfo', encoding='utf-8') as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f'{name}:')) // KIB


def scanned():
    """Pages that somebody looked at to take them back."""
    with open('/proc/vmstat', encoding='utf-8') as file:
        found = dict(line.split() for line in file)
    return int(found['pgscan_kswapd']) + int(found['pgscan_direct']), int(found['pgscan_direct'])


class Hog:
    """Takes memory until little is left, and gives some back when that becomes less."""

    def __init__(self):
        self.parts, self.least, self.over = [], None, threading.Event()
        while mib_of('MemAvailable') > MOST_MIB:
            self.take()
        self.task = threading.Thread(target=self.hold, daemon=True)
        self.task.start()

    def take(self):
        part = mmap.mmap(-1, 4 * MIB)  # no swap: touched is taken
        for at in range(0, 4 * MIB, mmap.PAGESIZE):
            part[at] = 1
        self.parts.append(part)

    def hold(self):
        while not self.over.wait(0.05):
            left = mib_of('MemAvailable')
            self.least = min(left, self.least or left)
            if left > MOST_MIB:
                self.take()
            elif left < LEAST_MIB and self.parts:
                self.parts.pop().close()

    def release(self):
        self.over.set()
        self.task.join()
        for part in self.parts:
            part.close()
        self.parts = []


@lanes('long')
def test_machine_almost_full():
    """Cached writes of more than is free: pages are taken back while they go on."""
    def copies(files, array):
        write('/proc/sys/vm/drop_caches', 3)
        ratio = read('/proc/sys/vm/dirty_ratio'), read('/proc/sys/vm/dirty_background_ratio')
        hog = Hog()
        try:
            write('/proc/sys/vm/dirty_ratio', 80)
            write('/proc/sys/vm/dirty_background_ratio', 70)
            before, count = scanned(), array.writes()
            ended(files.copy(), 'all copies are written')
            need(array.writes() > count, 'no write reached the array')
            after = scanned()
            looked, direct = after[0] - before[0], after[1] - before[1]
            print(f'  {len(hog.parts) * 4} MiB taken, at least {hog.least} MiB were left; {looked} pages '
                  f'were looked at, {direct} of them by who wanted one', flush=True)
            need(looked > 1000, f'only {looked} pages were looked at')
        finally:
            hog.release()
            write('/proc/sys/vm/dirty_ratio', ratio[0])
            write('/proc/sys/vm/dirty_background_ratio', ratio[1])
    under_pressure(copies)
