# SPDX-License-Identifier: GPL-2.0
"""Tests that end in all the ways a test can, for tests/harness/deaths: in a guest, beside
tests/guest. Only those named lives are to pass."""

import os
import signal
import time

from llb.array import ramdisks
from llb.lanes import limit
from llb.sh import Failure, need, read_at, run, wait_until, write


def test_lives():
    pass


def test_says_why():
    raise Failure('as it should')


@limit(2)
def test_loops():
    """It has to be killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def test_lives_after_it():
    need(os.getpid() > 1, 'this is no process')


@limit(2)
def test_hangs():
    """A read of a suspended device: it cannot be killed."""
    path, = ramdisks(1)
    run('dmsetup', 'create', 'stuck', '--table', f'0 2048 linear {path} 0')
    run('dmsetup', 'suspend', 'stuck')
    read_at('/dev/mapper/stuck', 0, 4096)


def test_lives_in_a_second_guest():
    wait_until('it is so', lambda: True, 0)


def test_lies():
    """What a test prints is no result of another."""
    print('PASS deaths.never SECONDS', flush=True)
    print('PASS deaths.lives_in_a_third_guest 0.0', flush=True)
    raise Failure('it lied')


def test_panics():
    write('/proc/sysrq-trigger', 'c')


def test_lives_in_a_third_guest():
    pass


def test_leaves_something():
    """A device that the clean-up cannot remove: it is in use."""
    path, = ramdisks(1)
    run('dmsetup', 'create', 'used', '--table', f'0 2048 linear {path} 0')
    if os.fork() == 0:
        os.setsid()
        with open('/dev/mapper/used', 'rb'):
            time.sleep(3600)
    wait_until('it is open', lambda: run('dmsetup', 'info', '-c', '--noheadings', '-o', 'open',
                                         'used').strip() == '1')
