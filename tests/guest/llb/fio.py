# SPDX-License-Identifier: GPL-2.0
"""fio: patterned writes, fio's own verification, and a list of what it had been
told was written at some instant. A block's content is 16 bytes over and over: a
tag of 8 and the offset of the write; so a block tells which job wrote it, and where.
Areas are filled with writes of 64 KiB, random writes are of 4 KiB."""

import json
import os
import signal
import struct
import subprocess
import tempfile

from . import pace
from .sh import Direct, Failure, IO_BYTES, need, run

BLOCK, FILL = 4096, 65536
MIB = 1 << 20
FOREVER_S = 86400  # it is ended by stop(), or with the test


def pattern(tag):
    return f'0x{tag * 8}%o'


def block(tag, offset):
    """What a random write leaves at an offset."""
    return (bytes.fromhex(tag * 8) + struct.pack('<Q', offset)) * (BLOCK // 16)


def filled(tag, offset):
    """The 4 KiB that fill() leaves at an offset."""
    return block(tag, offset - offset % FILL)


def arguments(device, rw, tag, offset, size, extra):
    return ['fio', '--name=job', f'--filename={device}', '--direct=1', f'--rw={rw}',
            f'--bs={BLOCK if rw == "randwrite" else FILL}', '--ioengine=libaio', '--iodepth=8', f'--offset={offset}', f'--size={size}',
            '--verify=pattern', f'--verify_pattern={pattern(tag)}', '--randseed=7',
            *extra]


def job(device, rw, tag, offset, size, *extra, timeout_s=120):
    """Runs fio to its end; returns its JSON's only job."""
    status, text = run(*arguments(device, rw, tag, offset, size, extra),
                       '--output-format=json', ok=None, timeout_s=timeout_s)
    try:
        found = json.loads(text[text.index('{'):])['jobs'][0]
    except (ValueError, LookupError) as odd:
        raise Failure(f'fio: status {status}: {text.strip()[-300:]}') from odd
    found['status'] = status
    return found


def fill(device, tag, offset, size, *extra, rw='write'):
    """Writes the area; every block must have been acknowledged."""
    done = job(device, rw, tag, offset, size, '--do_verify=0', *extra)
    need(done['status'] == 0 and done['error'] == 0, f'fio failed to write: {done["error"]}')
    need(rw != 'write' or done['write']['io_bytes'] == size,
         f'fio wrote {done["write"]["io_bytes"]} of {size} bytes')


def verify(device, tag, offset, size):
    """fio reads the area back; how many blocks were wrong."""
    done = job(device, 'read', tag, offset, size, '--verify_fatal=0',
               '--continue_on_error=verify')
    need(done['read']['io_bytes'] == size, f'fio read {done["read"]["io_bytes"]} of {size} bytes')
    need((done['status'] == 0) == (done['total_err'] == 0),
         f'fio read back with status {done["status"]}, error {done["error"]}, '
         f'{done["total_err"]} wrong blocks')
    return done['total_err']


class Running:
    """fio writing random blocks until it is stopped, with a log of when each
    write was acknowledged."""

    def __init__(self, device, tag, offset, size, *extra):
        self.folder = tempfile.mkdtemp(prefix='fio-')
        self.process = subprocess.Popen(
            arguments(device, 'randwrite', tag, offset, size, (
                '--do_verify=0', '--time_based', f'--runtime={FOREVER_S}', '--write_lat_log=log',
                '--log_offset=1', '--log_alternate_epoch=1',
                '--log_alternate_epoch_clock_id=1', *extra)),
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def stop(self, acked_before_s):
        """Ends it; returns two sets of offsets: acknowledged before that time
        of the monotonic clock, and written or perhaps written at some time.
        self.acked_s: when each of the former was, for the last time before."""
        self.process.send_signal(signal.SIGINT)
        try:
            said = pace.communicate(self.process, 60)
        except pace.Late as late:
            raise Failure(f'fio does not end: {late}') from late
        limit_ms = int(acked_before_s * 1000)
        touched, self.acked_s = set(), {}
        try:
            with open(os.path.join(self.folder, 'log_clat.1.log'), encoding='utf-8') as log:
                for line in log:
                    field = line.split(',')
                    offset = int(field[4])
                    touched.add(offset)
                    if int(field[0]) < limit_ms:
                        self.acked_s[offset] = int(field[0]) / 1000
        except (OSError, ValueError, IndexError) as odd:
            raise Failure(f'fio left no log: {said.strip()[-300:]}') from odd
        return set(self.acked_s), touched


def wrong_blocks(device, offset, size, expected):
    """Offsets of the blocks that are none of expected(offset), a list of
    contents; the blocks whose list is empty may be anything."""
    wrong = []
    with Direct(device) as disk:
        for start in range(offset, offset + size, IO_BYTES):
            data = disk.read(start, min(IO_BYTES, offset + size - start))
            for at in range(0, len(data), BLOCK):
                allowed = expected(start + at)
                if allowed and data[at:at + BLOCK] not in allowed:
                    wrong.append(start + at)
    return wrong
