# SPDX-License-Identifier: GPL-2.0
"""Commands, sysfs, direct I/O and waiting, for code that runs in a guest."""

import mmap
import os
import subprocess
import time

from . import pace

IO_BYTES = 1 << 20  # of one direct read or write; also its buffer's size


class Failure(Exception):
    """What a test found wrong, in one line."""


def need(condition, why):
    if not condition:
        raise Failure(why)


def equal(found, expected, what):
    need(found == expected, f'{what}: {found!r}, not {expected!r}')


def run(*args, ok=True, timeout_s=60):
    """Runs a command; returns its output, or (ok=None) its status and output. The limit
    is stretched (pace.py)."""
    # pylint: disable=consider-using-with
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        text = pace.communicate(process, timeout_s)
    except pace.Late as late:
        raise Failure(f'{" ".join(args)}: {late}') from late
    if ok is None:
        return process.returncode, text
    if (process.returncode == 0) != ok:
        said = ' / '.join(text.strip().splitlines()[-4:])
        raise Failure(f'{" ".join(args)}: status {process.returncode}: {said}')
    return text


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read().strip()


def write(path, text):
    """One write(2), as the kernel's attributes want it. Raises OSError."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, str(text).encode())
    finally:
        os.close(file)


def wait_until(what, condition, limit_s=60, step_s=0.1, exact=False):
    """Waits until condition() is true; returns the seconds that it took. The limit is
    a guard against hanging, and stretched (pace.py); exact: it is part of what is
    measured, in real seconds."""
    limit = pace.Limit(limit_s)
    while not condition():
        if limit.spent() > limit_s and (exact or limit.passed()):
            # Once more: this process may not have run for a long time.
            if condition():
                break
            raise Failure(f'{what}: not within {limit}')
        time.sleep(step_s)
    pace.note(what, limit)
    return limit.spent()


class Direct:
    """A device's content, past the page cache: a cached page of a ramdisk is
    not what md wrote. Offsets and lengths are bytes, multiples of its blocks."""

    def __init__(self, path, writable=False):
        flags = os.O_DIRECT | (os.O_RDWR if writable else os.O_RDONLY)
        self.file = os.open(path, flags)
        self.buffer = mmap.mmap(-1, IO_BYTES)
        self.bytes = os.lseek(self.file, 0, os.SEEK_END)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.file)
        self.buffer.close()

    def read(self, offset, length):
        parts = []
        while length:
            part = min(length, IO_BYTES)
            with memoryview(self.buffer)[:part] as view:  # else an error hides behind close()'s
                done = os.preadv(self.file, [view], offset)
            need(done == part, f'read {done} of {part} bytes at {offset}')
            parts.append(self.buffer[:part])
            offset, length = offset + part, length - part
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def write(self, offset, data):
        while data:
            part = min(len(data), IO_BYTES)
            self.buffer[:part] = data[:part]
            with memoryview(self.buffer)[:part] as view:
                done = os.pwritev(self.file, [view], offset)
            need(done == part, f'wrote {done} of {part} bytes at {offset}')
            offset, data = offset + part, data[part:]


def read_at(path, offset, length):
    with Direct(path) as device:
        return device.read(offset, length)


def write_at(path, offset, data):
    with Direct(path, writable=True) as device:
        device.write(offset, data)


def copy_device(source, target):
    """The target is all zero so far."""
    zero = bytes(IO_BYTES)
    with Direct(source) as old, Direct(target, writable=True) as new:
        for offset in range(0, old.bytes, IO_BYTES):
            data = old.read(offset, min(IO_BYTES, old.bytes - offset))
            if data != zero:
                new.write(offset, data)


class KernelLog:
    """The kernel's messages from now on."""

    def __init__(self):
        self.file = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.file, 0, os.SEEK_END)

    def lines(self):
        """Those that came since the last call. Some may be missing: the kernel writes over
        its oldest ones, says so once, and goes on with what is left."""
        while True:
            try:
                line = os.read(self.file, 8192)
            except BrokenPipeError:
                continue
            except BlockingIOError:
                return
            yield line.decode(errors='replace').split(';', 1)[-1].splitlines()[0]

    def close(self):
        os.close(self.file)


def device_number(path):
    """(major, minor) of a device node."""
    number = os.stat(path).st_rdev
    return os.major(number), os.minor(number)
