# SPDX-License-Identifier: GPL-2.0
"""How fast this guest is just now, and limits that a slow or a busy machine cannot miss.

A limit is a guard against hanging. It is noted in seconds of the reference, at least five
times what the thing typically takes there; here it is multiplied by how many times slower
than the reference this guest was seen to be: the worst of what was measured since begin(),
by whichever process, and once more before a limit is said to be over.

The work is some of each of what tests do: a loop of Python, and commands started (which is
what is slow where the kernel is). The reference: Debian's kernel under QEMU's TCG on two
idle cores, where 100,000 turns took 80 ms and two commands 50 ms each: 180 ms."""

import mmap
import os
import struct
import subprocess
import time

REFERENCE_S = 0.18
TURNS, COMMANDS = 100_000, 2
EVERY_S = 10  # between two samples, or longer:
SHARE = 0.02  # of the time is spent with them
MOST = 30.0  # a hang has to end some time

# Shared with every child made by fork(): the runner measures while a test runs. One aligned
# double, 0 before the first sample.
_worst = mmap.mmap(-1, mmap.PAGESIZE)


def _turns(count):
    total = 0
    for number in range(count):
        total = total * 31 + number & 0xFFFF
    return total


def work():
    """Does it; returns the seconds that it took."""
    start = time.monotonic()
    _turns(TURNS)
    for _ in range(COMMANDS):
        os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)
    return time.monotonic() - start


def of(seconds):
    """The stretch if the work took so long: 1 to MOST."""
    return min(max(seconds / REFERENCE_S, 1.0), MOST)


def _read():
    return struct.unpack_from('d', _worst, 0)[0]


def measure():
    """Takes a sample, which counts from here on if it is the worst; returns it."""
    now = of(work())
    if now > _read():
        struct.pack_into('d', _worst, 0, now)
    return now


def begin():
    """Forgets what was before; takes a sample and returns it."""
    struct.pack_into('d', _worst, 0, 0.0)
    return measure()


class Sampler:
    """tick() takes a sample every now and then, and few where they take long: they would
    eat up what the machine leaves to the test."""

    def __init__(self):
        self.due = time.monotonic() + EVERY_S

    def tick(self):
        start = time.monotonic()
        if start < self.due:
            return
        measure()
        end = time.monotonic()
        self.due = end + max(EVERY_S, (end - start) / SHARE)


def stretch():
    """How many times as long everything may take."""
    return _read() or measure()


class Limit:
    """So many seconds of the reference from now on."""

    def __init__(self, seconds):
        self.seconds, self.start = seconds, time.monotonic()

    def spent(self):
        return time.monotonic() - self.start

    def left(self):
        """Seconds, as it looks now; not below 0."""
        return max(self.seconds * stretch() - self.spent(), 0)

    def passed(self):
        if self.left():
            return False
        measure()  # the machine may have become busy meanwhile
        return not self.left()

    def __str__(self):
        """For a message: what was allowed."""
        return f'{self.seconds} s' + (f' x {stretch():.1f}' if stretch() >= 1.05 else '')


def note(what, limit):
    """It is done: if it took more than a fifth of its limit, the limit is too narrow for
    what it guards. Left in /out for whoever looks after the limits."""
    if limit.spent() * 5 <= limit.seconds * stretch() or not os.path.isdir('/out'):
        return
    with open('/out/narrow-limits', 'a', encoding='utf-8') as file:
        print(f'{os.environ.get("LLB_TEST", "-")}: {what}: {limit.spent():.1f} s of {limit}',
              file=file)


class Late(Exception):
    """A process that did not end within its limit."""


def communicate(process, seconds):
    """Its output, when it has ended. Else it is killed, and Late is raised; it may be one
    that cannot be killed, and is not waited for then."""
    limit = Limit(seconds)
    while True:
        try:
            said, _ = process.communicate(timeout=limit.left())
        except subprocess.TimeoutExpired:
            if not limit.passed():
                continue
            process.kill()
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                pass
            raise Late(f'not done within {limit}') from None
        note(' '.join(map(str, process.args))[:100], limit)
        return said
