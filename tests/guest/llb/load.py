# SPDX-License-Identifier: GPL-2.0
"""Writes, reads and discards of several threads, each of which knows what it must find.

The device is divided into units of 256 KiB, dealt out to the threads; a thread has one request
at a time, so a block of 4 KiB holds exactly what its thread was last told is written. A block's
content is a word and its offset, over and over; the word tells which write it was."""

import array
import fcntl
import mmap
import os
import random
import struct
import threading
import time

from .sh import Direct, need, wait_until

BLOCK = 4096
UNIT = 64  # blocks
ANYTHING = 0  # the word of a block that was never written, or was discarded
BLKDISCARD = 0x1277  # of linux/fs.h
HOT_UNITS = 2  # of each thread, which get a third of the writes


def content(word, block):
    return struct.pack('<QQ', word, block * BLOCK) * (BLOCK // 16)


def word_of(data):
    """The word of a block's content, or None if it is no block that was written whole."""
    word, offset = struct.unpack_from('<QQ', data)
    return word if data == content(word, offset // BLOCK) else None


class Load:
    """Over a device of that many bytes, from a seed. It is made paused."""

    def __init__(self, path, size, seed, threads=4):
        self.path, self.threads = path, threads
        self.words = array.array('Q', bytes(8 * (size // BLOCK)))
        self.blocks = size // BLOCK  # those behind are not used now
        self.discards = True
        self.wrong = None
        self.counts = {'write': 0, 'read': 0, 'discard': 0, 'flush': 0}
        self.gate = threading.Condition()
        self.paused, self.parked, self.ended = True, 0, False
        self.changes = None  # {block: words that it may hold}, between mark() and cut()
        self.current = [None] * threads
        self.tasks = [threading.Thread(target=self.work, args=(number, random.Random(f'{seed} {number}')),
                                       daemon=True) for number in range(threads)]
        for task in self.tasks:
            task.start()

    # What the administrator does with it

    def run(self):
        with self.gate:
            self.paused = False
            self.gate.notify_all()

    def pause(self, limit_s=120):
        """Returns when no request is on its way and no thread has the device open."""
        with self.gate:
            self.paused = True

        def parked():
            with self.gate:
                return self.parked == self.threads
        wait_until(f'{self.path}: the load pauses', parked, limit_s, 0.01)
        self.check()

    def end(self):
        self.pause()
        with self.gate:
            self.ended, self.paused = True, False
            self.gate.notify_all()
        for task in self.tasks:
            task.join()

    def check(self):
        need(not self.wrong, self.wrong)

    def done(self):
        return sum(self.counts.values())

    def go_on(self, requests=40, limit_s=120):
        """Returns after so many more requests."""
        until = self.done() + requests
        wait_until(f'{self.path}: {requests} requests', lambda: self.wrong or self.done() >= until, limit_s,
                   0.02)
        self.check()

    def resize(self, size):
        """While it is paused. What was behind the end is gone; what comes may be anything."""
        blocks = size // BLOCK
        for block in range(blocks, len(self.words)):
            self.words[block] = ANYTHING
        self.words.extend([ANYTHING] * (blocks - len(self.words)))
        self.blocks = blocks

    def verify(self, path=None):
        """While it is paused: every block, on that device."""
        wrong = []
        with Direct(path or self.path) as device:
            for start in range(0, self.blocks, UNIT):
                count = min(UNIT, self.blocks - start)
                if any(self.words[start:start + count]):
                    wrong += self.compared(device.read(start * BLOCK, count * BLOCK), start)
        known = sum(map(bool, self.words[:self.blocks]))
        need(known, f'{self.path}: nothing was written')
        need(not wrong, f'{path or self.path}: {len(wrong)} of {known} blocks are wrong: {wrong[:3]}')
        return known

    def mark(self):
        """From here on, what a block may hold at a power cut is kept: what it held last, and
        whatever is on its way or begun later."""
        self.changes = {}
        for step in list(self.current):
            if step:
                self.may_change(*step)

    def cut(self, path):
        """While it is paused: the device holds what was there at an instant after mark(). Each
        block is what it held then or one of what was written since; what it is, is known now."""
        wrong, changes, self.changes = [], self.changes, None
        with Direct(path) as device:
            for block, words in changes.items():
                data = device.read(block * BLOCK, BLOCK)
                self.words[block] = next((word for word in words if word != ANYTHING and
                                          data == content(word, block)), ANYTHING)
                if self.words[block] == ANYTHING and ANYTHING not in words:
                    wrong.append((block * BLOCK, word_of(data), words))
        need(not wrong, f'{path}: {len(wrong)} of {len(changes)} blocks are neither what they were nor '
                        f'what was being written: {wrong[:2]}')

    def stand_still(self, most_s=5):
        """Returns when each thread waits for a write, or after that time: a read may be what
        hangs, or nothing, if it is paused."""
        start, before = time.monotonic(), None
        while not self.paused and time.monotonic() - start < most_s:
            now = [id(step) if step else None for step in self.current]
            if None not in now and now == before:
                break
            before = now
            time.sleep(0.05)

    # Its threads

    def may_change(self, block, words):
        for at, word in enumerate(words, block):
            self.changes.setdefault(at, [self.words[at]]).append(word)

    def compared(self, data, start):
        """[(offset, the word found, the word expected)] of what is wrong."""
        wrong = []
        for at in range(len(data) // BLOCK):
            word = self.words[start + at]
            found = data[at * BLOCK:(at + 1) * BLOCK]
            if word != ANYTHING and found != content(word, start + at):
                wrong.append(((start + at) * BLOCK, word_of(found), word))
        return wrong

    def work(self, number, draw):
        device = None
        while True:
            with self.gate:
                if self.paused and device is not None:
                    os.close(device)
                    device = None
                self.parked += 1
                self.gate.wait_for(lambda: not self.paused)
                self.parked -= 1
                if self.ended:
                    return
            try:
                if device is None:
                    device = os.open(self.path, os.O_RDWR | os.O_DIRECT)
                    buffer = mmap.mmap(-1, UNIT * BLOCK)
                self.request(number, draw, device, buffer)
            except Exception as failure:  # pylint: disable=broad-except  # else nobody hears of it
                self.wrong = self.wrong or f'{self.path}: {failure!r}'
                self.paused = True

    def request(self, number, draw, device, buffer):
        units = range(number, self.blocks // UNIT, self.threads)
        unit = draw.choice(units[:HOT_UNITS] if draw.random() < 0.33 else units)
        count = draw.choice((1, 1, 1, 1, 2, 4, 16, UNIT))
        start = unit * UNIT + draw.randrange(UNIT - count + 1)
        kind = draw.choices(('write', 'read', 'discard', 'flush'), (55, 35, 7, 3))[0]
        if kind == 'write':
            word = self.word(number, draw)
            self.change(number, start, [word] * count, lambda: self.write(device, buffer, start, word, count))
        elif kind == 'read':
            self.read(device, buffer, start, count)
        elif kind == 'discard':
            if not self.discards:
                return
            self.change(number, start, [ANYTHING] * count, lambda: self.discard(device, start, count))
        else:
            os.fsync(device)
        self.counts[kind] += 1  # near enough: two threads may count as one

    def word(self, number, draw):
        return (draw.getrandbits(48) << 8) + number + 1

    def change(self, number, start, words, request):
        """In this order: whoever calls mark() sees the request in current, or the request sees
        changes."""
        self.current[number] = start, words
        if self.changes is not None:
            self.may_change(start, words)
        request()
        for at, word in enumerate(words, start):
            self.words[at] = word
        self.current[number] = None

    def write(self, device, buffer, start, word, count):
        buffer[:count * BLOCK] = b''.join(content(word, start + at) for at in range(count))
        with memoryview(buffer)[:count * BLOCK] as view:
            done = os.pwritev(device, [view], start * BLOCK)
        need(done == count * BLOCK, f'wrote {done} of {count} blocks at {start * BLOCK}')

    def read(self, device, buffer, start, count):
        with memoryview(buffer)[:count * BLOCK] as view:
            done = os.preadv(device, [view], start * BLOCK)
        need(done == count * BLOCK, f'read {done} of {count} blocks at {start * BLOCK}')
        wrong = self.compared(buffer[:done], start)
        need(not wrong, f'read (offset, found, expected) {wrong[:3]}')

    def discard(self, device, start, count):
        try:
            fcntl.ioctl(device, BLKDISCARD, struct.pack('<QQ', start * BLOCK, count * BLOCK))
        except OSError as failure:
            if failure.errno != 95:  # EOPNOTSUPP
                raise
            self.discards = False
