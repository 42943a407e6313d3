# SPDX-License-Identifier: GPL-2.0
"""Commands, sysfs, direct I/O and waiting, for code that runs in a guest."""

import mmap
import os
import subprocess
import time

IO_BYTES = 1 << 20  # of one direct read or write; also its buffer's size


class Failure(Exception):
    """What a test found wrong, in one line."""


def need(condition, why):
    if not condition:
        raise Failure(why)


def equal(found, expected, what):
    need(found == expected, f'{what}: {found!r}, not {expected!r}')


def run(*args, ok=True, timeout_s=60):
    """Runs a command; returns its output, or (ok=None) its status and output."""
    try:
        done = subprocess.run(args, stdin=subprocess.DEVNULL, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout_s)
    except subprocess.TimeoutExpired as late:
        raise Failure(f'{" ".join(args)}: not done within {timeout_s} s') from late
    if ok is None:
        return done.returncode, done.stdout
    if (done.returncode == 0) != ok:
        said = ' / '.join(done.stdout.strip().splitlines()[-4:])
        raise Failure(f'{" ".join(args)}: status {done.returncode}: {said}')
    return done.stdout


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


def wait_until(what, condition, limit_s=60, step_s=0.1):
    """Waits until condition() is true; returns the seconds that it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > limit_s:
            raise Failure(f'{what}: not within {limit_s} s')
        time.sleep(step_s)
    return time.monotonic() - start


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
            view = memoryview(self.buffer)[:part]
            done = os.preadv(self.file, [view], offset)
            view.release()
            need(done == part, f'read {done} of {part} bytes at {offset}')
            parts.append(self.buffer[:part])
            offset, length = offset + part, length - part
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def write(self, offset, data):
        while data:
            part = min(len(data), IO_BYTES)
            self.buffer[:part] = data[:part]
            view = memoryview(self.buffer)[:part]
            done = os.pwritev(self.file, [view], offset)
            view.release()
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


def device_number(path):
    """(major, minor) of a device node."""
    number = os.stat(path).st_rdev
    return os.major(number), os.minor(number)
