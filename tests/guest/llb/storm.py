# SPDX-License-Identifier: GPL-2.0
"""Many processes that write anything at all into the files of an array's bitmap, and read them, while it
starts, is written and stops; and what each file says of such a value when nobody else is there."""

import contextlib
import errno
import mmap
import os
import random
import signal
import struct
import time

from . import disk
from .sh import Failure, equal, need, wait_until

PROCESSES, PAUSE_S = 16, 0.03  # between two steps of one; there are no more than two processors
HIGHEST_NICE = 10  # who starts and stops the array goes first
NUMBER_FILES = {  # what they take
    'llbitmap/daemon_sleep': range(1, 86401),
    'llbitmap/barrier_idle': range(1, 86401),
    'llbitmap/resync_budget': range(0xFFFFFFFF)}
DEFAULTS = ('30', '5')  # of what is not kept, and of nobody's choice
READ_ONLY = ('llbitmap/bits', 'llbitmap/metadata', 'llbitmap/crash_bytes', 'llbitmap/stats', 'llbitmap/cells')
OTHERS = ('llbitmap/proactive_sync', 'bitmap_type', 'bitmap_set_bits')
VALUES = (
    b'0', b'-1', b'1', b'7\n', b'3600', b'86400', b'86401', b'4294967294', b'4294967295', b'4294967296',
    b'18446744073709551615', b'18446744073709551616', b'9' * 40 + b'\n', b'1' * 4096, b'0' * 4095 + b'9', b'',
    b'\n', b' ', b' 5', b'5 ', b'+6', b'++6', b'0x10', b'1e3', b'1.5', b'text', b'none', b'text' * 1024, b'%s%n',
    b'1\n2\n', b'4\0junk', b'\0' * 64, bytes(range(256)), b'\xff' * 4096, 'zw\u00f6lf'.encode(), b'0-99999999999')
# Of VALUES: what names no chunk of a small array.
NO_CHUNK = (b'', b'-1', b'86400', b'4294967294', b'4294967296', b'18446744073709551615', b'9' * 40 + b'\n', b'text',
            b'none', b'%s%n', b'\xff' * 4096, b'0-99999999999')
REFUSALS = {errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.EOPNOTSUPP, errno.ENODEV, errno.ENOENT, errno.EACCES,
            errno.EROFS}


def number(value):
    """What the kernel's kstrtou64() makes of it; None: it refuses it."""
    text = value.split(b'\0')[0].removesuffix(b'\n').removeprefix(b'+')
    return int(text) if text.isdigit() and int(text) < 1 << 64 else None


def taken(name, value):
    """What a file of numbers says after that; None: what it said before."""
    found = number(value)
    return None if found is None or found not in NUMBER_FILES[name] else str(found)


def fetch(path):
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 65536)
    finally:
        os.close(file)


def store(path, value):
    file = os.open(path, os.O_WRONLY)
    try:
        return os.write(file, value)
    finally:
        os.close(file)


class Storm:
    """with Storm(array, chunks) as storm: the array may start and stop meanwhile. At its end: each
    process ended as it should, and all files were met."""

    STEPS, REFUSED, TAKEN, READ = range(4)

    def __init__(self, array, chunks, seed):
        self.root, self.chunks, self.seed, self.children, self.old = array.sysfs, chunks, seed, [], None
        for name in (*NUMBER_FILES, *READ_ONLY, *OTHERS):
            need(os.path.exists(f'{self.root}/{name}'), f'there is no {name}')
        # How often each process did what; it alone counts there.
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.found, self.tell = os.pipe()
        os.set_blocking(self.found, False)
        self.said = {name: {value for value in (taken(name, one) for one in VALUES) if value} | {
            fetch(f'{self.root}/{name}').decode().strip(), *DEFAULTS} for name in NUMBER_FILES}

    def count(self, what):
        return sum(struct.unpack_from('Q', self.shared, (process * 4 + what) * 8)[0] for process in range(PROCESSES))

    def __enter__(self):
        for process in range(PROCESSES):
            child = os.fork()
            if child == 0:
                os._exit(self.child(process))
            self.children.append(child)
        return self

    def __exit__(self, kind, *_):
        for child in self.children:
            os.kill(child, signal.SIGTERM)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]
        print(f'  steps {self.count(self.STEPS)}, refused {self.count(self.REFUSED)}, '
              f'taken {self.count(self.TAKEN)}, read {self.count(self.READ)}', flush=True)
        self.look()
        need(kind or not any(statuses), f'the storm: its processes ended with {statuses}')

    def look(self):
        """What one of them found, and ended with."""
        try:
            found = os.read(self.found, 4096).decode(errors='replace')
        except BlockingIOError:
            return
        raise Failure(f'the storm: {found}')

    def beside(self, steps, limit_s=120):
        """Until so many more were taken or read: files were there, and met."""
        before = self.count(self.TAKEN) + self.count(self.READ)

        def met():
            self.look()
            return self.count(self.TAKEN) + self.count(self.READ) >= before + steps
        wait_until(f'{steps} steps of the storm', met, limit_s)

    # A process of it

    def child(self, process):
        done = []
        signal.signal(signal.SIGTERM, lambda *_: done.append(1))
        os.nice(HIGHEST_NICE)
        draw, self.old = random.Random(f'storm {self.seed} {process}'), None
        try:
            while not done:
                self.add(process, self.STEPS)
                name = draw.choice([*NUMBER_FILES, *READ_ONLY, *OTHERS])
                try:
                    self.step(process, draw, name)
                except OSError as error:
                    if error.errno not in REFUSALS:
                        raise Failure(f'{name}: {error}') from error
                    self.add(process, self.REFUSED)
                time.sleep(PAUSE_S * draw.random())
        except BaseException as failure:  # whatever else happens is a failure too  pylint: disable=broad-except
            os.write(self.tell, f'{failure!r:.200} '.encode())
            return 1
        return 0

    def add(self, process, what):
        at = (process * 4 + what) * 8
        struct.pack_into('Q', self.shared, at, struct.unpack_from('Q', self.shared, at)[0] + 1)

    def step(self, process, draw, name):
        path = f'{self.root}/{name}'
        if draw.random() < 0.5 and name not in READ_ONLY:
            # The number or the name of a type is a choice, before a start.
            value = draw.choice([one for one in VALUES if name != 'bitmap_type' or
                                 number(one) is None and one != b'none'])
            store(path, value)
            if name in NUMBER_FILES:
                need(value == b'' or taken(name, value), f'{name}: {value[:20]} was taken')
            self.add(process, self.TAKEN)
            return
        if name in READ_ONLY and draw.random() < 0.1:
            store(path, draw.choice(VALUES))  # root may open it, and nothing takes it
            raise Failure(f'{name} was written')
        if self.old is not None:  # of an array that may be gone
            old, self.old = self.old, None
            with contextlib.suppress(OSError):
                os.pread(old, 65536, 0)
            os.close(old)
        if name in ('llbitmap/proactive_sync', 'bitmap_set_bits'):  # only to be written
            fetch(path)
            raise Failure(f'{name} was read')
        self.old = os.open(path, os.O_RDONLY)
        self.plausible(name, os.read(self.old, 65536))
        self.add(process, self.READ)

    def plausible(self, name, found):
        if name == 'llbitmap/cells':  # a page at a time at most; nothing is there of a bitmap that went
            need(len(found) in (0, self.chunks) and all(state <= disk.CLEAN_UNWRITTEN for state in found),
                 f'{name}: {len(found)} bytes, {found[:8]}')
            return
        text = found.decode().strip()
        if text == 'no bitmap' or name == 'bitmap_type':
            return
        if name in NUMBER_FILES:
            need(text in self.said[name], f'{name} says {text!r}, which nobody wrote')
        elif name == 'llbitmap/bits':
            numbers = {line.rsplit(' ', 1)[0]: int(line.rsplit(' ', 1)[1]) for line in text.splitlines()}
            equal(list(numbers), list(disk.NAMES), name)
            equal(sum(numbers.values()), self.chunks, f'all {name}')
        elif name == 'llbitmap/crash_bytes':
            need(int(text) >= 0, text)
        else:
            need(all(int(line.split()[1]) >= 0 for line in text.splitlines()), f'{name}: {text!r}')


def alone(array):
    """Each value into each file, with nobody else there: it is refused and changes nothing, or the file
    says it again."""
    for name in NUMBER_FILES:
        path = f'{array.sysfs}/{name}'
        for value in VALUES:
            store(path, b'2')  # a bound that is set instead of what is beyond it is another
            expected = taken(name, value)
            try:
                store(path, value)
            except OSError as error:
                need(error.errno in (errno.EINVAL, errno.ERANGE), f'{name} = {value[:20]}: {error}')
                need(expected is None, f'{name} = {value[:20]} was refused')
            else:
                need(expected is not None or not value, f'{name} = {value[:20]} was taken')
            equal(fetch(path).decode().strip(), expected or '2', f'{name} after {value[:20]}')
    kind = fetch(f'{array.sysfs}/bitmap_type')
    for value in VALUES:
        try:
            store(f'{array.sysfs}/bitmap_type', value)
        except OSError as error:
            need(error.errno in REFUSALS, f'bitmap_type = {value[:20]}: {error}')
        else:
            need(not value, f'bitmap_type = {value[:20]} of a running array was taken')
        equal(fetch(f'{array.sysfs}/bitmap_type'), kind, f'bitmap_type after {value[:20]}')


def resting(array, parity):
    """The files that change the chunks, of an array where nothing else does."""
    cells = fetch(f'{array.sysfs}/llbitmap/cells')
    for value in NO_CHUNK:
        with contextlib.suppress(OSError):
            store(f'{array.sysfs}/bitmap_set_bits', value)
        equal(fetch(f'{array.sysfs}/llbitmap/cells'), cells, f'the chunks after bitmap_set_bits = {value[:20]}')
    for value in VALUES:
        if not value or parity and number(value) == 1:
            continue
        try:
            store(f'{array.sysfs}/llbitmap/proactive_sync', value)
        except OSError as error:
            need(error.errno in REFUSALS, f'proactive_sync = {value[:20]}: {error}')
        else:
            raise Failure(f'proactive_sync = {value[:20]} was taken')
    equal(fetch(f'{array.sysfs}/llbitmap/cells'), cells, 'the chunks after proactive_sync')
