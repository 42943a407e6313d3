# SPDX-License-Identifier: GPL-2.0
"""Members over the network: the kernel's NBD client, over TCP on the loopback device, and a
server here that answers late, or not, or is cut off in the middle of everything.

Why not Debian's nbd-server and nbd-client: the lab's root has neither, and no fault here is one
of theirs. A test has to say what is on its way when a link goes, how much of that still
arrives, and what was lost; nbd-server can be stopped or killed, and nobody knows what it had
done. Of the protocol a kernel that was given a connected socket (ioctl) speaks only the part
behind the handshake: a header of 28 bytes, an answer of 16.

The server's threads share this process with the test: whatever may wait for the member here
(direct I/O, commands, sysfs) does not keep Python's lock."""

import collections
import contextlib
import fcntl
import os
import socket
import struct
import threading
import time

from . import disk, mapped
from .array import RAMDISKS, loaded
from .sh import Direct, need, read, run, wait_until

SET_SOCK, SET_BLKSIZE, DO_IT, CLEAR_SOCK, SET_SIZE_BLOCKS, SET_TIMEOUT, SET_FLAGS = (
    0xAB00 + number for number in (0, 1, 3, 4, 7, 9, 10))
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
READ, WRITE, DISCONNECT, FLUSH = range(4)
REQUEST, REQUEST_MAGIC = struct.Struct('>IHHQQI'), 0x25609513
ANSWER, ANSWER_MAGIC = struct.Struct('>IIQ'), 0x67446698
DATA = mapped.DATA * disk.SECTOR  # from here on a member has data

Request = collections.namedtuple('Request', 'kind cookie offset length content came')


class Server:
    """One connection: a thread receives, another does what has come, each as soon as it may
    be done, in the order in which it came."""

    def __init__(self, lower, link):
        self.lower, self.link = lower, link
        self.waiting, self.changed = [], threading.Condition()
        self.gone, self.lost = False, set()
        self.behave()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.receive, self.serve)]
        for thread in self.threads:
            thread.start()

    def receive(self):
        try:
            with contextlib.suppress(OSError), self.link.makefile('rb') as source:
                while request := self.received(source):
                    with self.changed:
                        self.waiting.append(request)
                        self.changed.notify_all()
        finally:
            self.cut()

    def received(self, source):
        """The next one; None at the end."""
        head = source.read(REQUEST.size)
        if len(head) < REQUEST.size:
            return None
        magic, _, kind, cookie, offset, length = REQUEST.unpack(head)
        need(magic == REQUEST_MAGIC and kind in (READ, WRITE, DISCONNECT, FLUSH), f'no request: {head}')
        content = source.read(length) if kind == WRITE else b''
        if kind == DISCONNECT or kind == WRITE and len(content) < length:
            return None
        return Request(kind, cookie, offset, length, content, time.monotonic())

    def serve(self):
        with Direct(self.lower, writable=True) as device:
            while request := self.next():
                answer = ANSWER.pack(ANSWER_MAGIC, 0, request.cookie)
                if request.kind == READ:
                    answer += device.read(request.offset, request.length)
                elif request.kind == WRITE:
                    device.write(request.offset, request.content)
                else:
                    os.fsync(device.file)
                with contextlib.suppress(OSError):
                    self.link.sendall(answer)

    def next(self):
        """What is to be done now; None when the link is gone."""
        with self.changed:
            while True:
                now = time.monotonic()
                for request in self.waiting:
                    if self.gone or self.may(request, now):
                        self.waiting.remove(request)
                        return request
                if self.gone:
                    return None
                self.changed.wait(self.waiting[0].came + self.late_s - now
                                  if self.waiting and self.late_s and not self.hangs else None)

    def may(self, request, now):
        return not (self.hangs or now < request.came + self.late_s or
                    self.keeps and request.kind == WRITE and request.offset >= DATA)

    def behave(self, hangs=False, keeps=False, late_s=0):
        with self.changed:
            self.hangs, self.keeps, self.late_s = hangs, keeps, late_s
            self.changed.notify_all()

    def cut(self):
        """By whichever side. Of the writes that wait every second one is done all the same,
        though nobody is told; the offsets of the others are in lost."""
        with self.changed:
            if not self.gone:
                writes = [request for request in self.waiting if request.kind == WRITE]
                writes.sort(key=lambda one: one.offset >= DATA)  # of two of data one is lost
                self.waiting = writes[1::2]
                self.lost = {one.offset for one in writes[::2]} - {one.offset for one in self.waiting}
            self.gone = True
            self.changed.notify_all()
        with contextlib.suppress(OSError):
            self.link.shutdown(socket.SHUT_RDWR)

    def end(self):
        for thread in self.threads:
            thread.join()
        self.link.close()


class Remote:
    """/dev/nbdNUMBER: lower, by default the ramdisk of that number, over the network."""

    def __init__(self, number, lower=None):
        self.name, self.path = f'nbd{number}', f'/dev/nbd{number}'
        self.lower = lower or f'/dev/ram{number}'
        if not loaded('nbd'):
            run('modprobe', 'nbd', f'nbds_max={RAMDISKS}', 'max_part=0')
        run('ip', 'link', 'set', 'lo', 'up')
        self.connect()

    def connect(self):
        """Again, when the array has let go of the device: the kernel keeps what a link was set
        up with for as long as somebody has it open."""
        running = f'/sys/block/{self.name}/pid'
        wait_until(f'nobody has {self.path}', lambda: not os.path.exists(running), 60, 0.02)
        with Direct(self.lower) as device:
            self.sectors = device.bytes // disk.SECTOR
        with socket.create_server(('127.0.0.1', 0)) as port:
            end = socket.create_connection(port.getsockname())
            link, _ = port.accept()
        self.server = Server(self.lower, link)
        self.client = threading.Thread(target=self.attach, args=(end,), daemon=True)
        self.client.start()
        wait_until(f'{self.path} is connected', lambda: os.path.exists(running) and
                   int(read(f'/sys/block/{self.name}/size')) == self.sectors, 60, 0.02)

    def attach(self, end):
        """As long as the link is there; what nbd-client does."""
        device = os.open(self.path, os.O_RDWR)
        try:
            with end:
                for what, value in ((SET_BLKSIZE, disk.SECTOR), (SET_SIZE_BLOCKS, self.sectors),
                                    (SET_FLAGS, HAS_FLAGS | SEND_FLUSH | SEND_FUA),
                                    (SET_SOCK, end.fileno())):
                    fcntl.ioctl(device, what, value)
                with contextlib.suppress(OSError):  # how it ended
                    fcntl.ioctl(device, DO_IT)
                fcntl.ioctl(device, CLEAR_SOCK)  # what has no answer fails now
        finally:
            os.close(device)

    def cut(self):
        """The link is gone, and what was under way. Returns where the writes belonged that did
        not arrive, as offsets of the data of a raid1."""
        self.server.cut()
        self.server.end()
        self.client.join()
        start = disk.supers([self.lower])[0].data_offset * disk.SECTOR
        return {offset - start for offset in self.server.lost if offset >= start}

    def give_up(self, seconds):
        """From now on the kernel takes a link that does not answer for so long for dead."""
        device = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(device, SET_TIMEOUT, seconds)
        finally:
            os.close(device)

    def hang(self):
        """Nothing is done or answered until let_go(); requests still come."""
        self.server.behave(hangs=True)

    def keep(self, _ms=None):
        """Writes of data wait until let_go(), all else is done."""
        self.server.behave(keeps=True)

    def late(self, ms):
        """Everything is done that long after it came."""
        self.server.behave(late_s=ms / 1000)

    def let_go(self):
        self.server.behave()

    def kept(self):
        """How many writes of data wait."""
        with self.server.changed:
            return sum(request.kind == WRITE and request.offset >= DATA for request in self.server.waiting)

    def waits(self):
        """How many requests of whatever kind wait."""
        return len(self.server.waiting)

    def attribute(self, array):
        """md's folder of this member in sysfs."""
        return f'{array.sysfs}/dev-{self.name}'
