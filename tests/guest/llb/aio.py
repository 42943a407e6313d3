# SPDX-License-Identifier: GPL-2.0
"""Asynchronous direct writes, several with one io_submit(2) (64-bit x86, as the guests are)."""

import ctypes
import mmap
import os
import struct
import threading

from .sh import need

SETUP, DESTROY, GETEVENTS, SUBMIT = range(206, 210)
PWRITE = 1
IOCB, EVENT = struct.Struct('<QIIHhIQQqQII'), struct.Struct('<QQqq')
PLUGGED = 3  # from so many on, fs/aio.c holds them in a plug until the last was handed over

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number, *args):
    done = _libc.syscall(ctypes.c_long(number), *args)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


class Batch:
    """Writes of 4 KiB each that md gets one after the other from a task with a plug: none
    goes to any member before all bios of it were made. Without a plug raid1 hands a first
    touch to its thread bio by bio; where the fast member's copy then ends before the
    write-mostly member's was made, raid1 does not see that it could acknowledge the write,
    and does so only when the late copy ends. On a busy machine that happens."""

    def __init__(self, path, writes):
        """writes: {offset: content}. Returns when they were handed over; who hands them
        over may have to wait."""
        need(len(writes) >= PLUGGED, f'{len(writes)} writes get no plug')
        size = len(next(iter(writes.values())))
        self.offsets, self.acked, self.lock = list(writes), set(), threading.Lock()
        self.file = os.open(path, os.O_DIRECT | os.O_WRONLY)
        self.buffer = mmap.mmap(-1, size * len(writes))
        self.buffer[:] = b''.join(writes.values())
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.blocks = ctypes.create_string_buffer(b''.join(
            IOCB.pack(at, 0, 0, PWRITE, 0, self.file, start + number * size, size, offset, 0, 0, 0)
            for number, (at, offset) in enumerate(enumerate(writes))), IOCB.size * len(writes))
        first = ctypes.addressof(self.blocks)
        pointers = (ctypes.c_void_p * len(writes))(
            *(first + number * IOCB.size for number in range(len(writes))))
        self.context = ctypes.c_ulong(0)
        _call(SETUP, ctypes.c_long(len(writes)), ctypes.byref(self.context))
        done = _call(SUBMIT, self.context, ctypes.c_long(len(writes)), pointers)
        need(done == len(writes), f'{done} of {len(writes)} writes were handed over')

    def done(self):
        """How many were acknowledged until now; a write that failed is an error."""
        with self.lock:
            room = ctypes.create_string_buffer(EVENT.size * len(self.offsets))
            none = (ctypes.c_long * 2)(0, 0)
            got = _call(GETEVENTS, self.context, ctypes.c_long(0),
                        ctypes.c_long(len(self.offsets)), room, none)
            for number in range(got):
                at, _, result, _ = EVENT.unpack_from(room, number * EVENT.size)
                need(result > 0, f'the write at {self.offsets[at]} failed: {result}')
                self.acked.add(at)
            return len(self.acked)

    def all_done(self):
        if self.done() < len(self.offsets):
            return False
        self.close()
        return True

    def close(self):
        """Once; waits for what is under way."""
        if self.file >= 0:
            _call(DESTROY, self.context)
            os.close(self.file)
            self.file = -1
