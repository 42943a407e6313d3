# SPDX-License-Identifier: GPL-2.0
"""md's calls that hold no lock, and the files in sysfs, against whatever takes the bitmap
away: live removal, a stop, a load that fails, rmmod. What must stay silent is the kernel's
log. By itself this needs luck; the module built with the break "delays" (a sleep in each of
the shim's operations; scripts/guest-mutants) needs none."""

import os
import threading
import time

from llb import disk, fio, mapped
from llb.array import Array, load, loaded, unload
from llb.arrays import DISKS, MIB, make
from llb.lanes import lanes
from llb.sh import need, read, run, wait_until
from test_errors import first_use

# UML, with KASAN and lockdep, is slow, and sees at once what is wrong.
TURNS = 1 if 'User Mode Linux' in read('/proc/cpuinfo') else 3
PAUSE_S = 0.01  # between two reads of a task: the others are to come to something, too


class Readers:
    """Tasks that read and write whatever there is of an array in sysfs and /proc."""

    FILES = ('llbitmap/bits', 'llbitmap/metadata', 'llbitmap/daemon_sleep',
             'llbitmap/barrier_idle', 'llbitmap/resync_budget', 'llbitmap/crash_bytes', 'llbitmap/stats',
             'bitmap_type', '/proc/mdstat')

    def __init__(self, number=0):
        self.folder, self.ended, self.reads = f'/sys/block/md{number}/md', False, 0
        self.tasks = [threading.Thread(target=self.reading, args=(path,), daemon=True)
                      for path in self.FILES]
        self.tasks.append(threading.Thread(target=self.tuning, daemon=True))

    def __enter__(self):
        for task in self.tasks:
            task.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        for task in self.tasks:
            task.join()

    def reading(self, path):
        while not self.ended:
            try:
                with open(os.path.join(self.folder, path), encoding='utf-8') as file:
                    file.read()
                self.reads += 1
            except OSError:
                pass  # it is not there now
            time.sleep(PAUSE_S)

    def tuning(self):
        turn = 0
        while not self.ended:
            try:
                with open(f'{self.folder}/llbitmap/daemon_sleep', 'w', encoding='utf-8') as file:
                    file.write(str(1 + turn % 2))
            except OSError:
                pass
            turn += 1
            time.sleep(PAUSE_S)


def written(array, count=50):
    """Random writes from now on, some of which are acknowledged."""
    before = array.writes()
    writer = fio.Running(array.path, '5a', 0, 16 * MIB)
    try:
        wait_until('fio writes', lambda: array.writes() > before + count, 60, 0.02)
    except BaseException:
        writer.stop(0)
        raise
    return writer


def removed(level):
    with Readers() as readers:
        for _ in range(TURNS):
            array = make(level, mib=32, chunk=512)
            writer = written(array)
            try:
                # raid5 asks for a sync of what is new: then md is busy, and says so.
                wait_until('the bitmap goes', lambda a=array: run(
                    'mdadm', '--grow', a.path, '--bitmap=none', ok=None)[0] == 0, 60)
            finally:
                writer.stop(0)
            array.stop()
    need(readers.reads > TURNS, 'nothing was read meanwhile')


@lanes('long')
def test_removed_raid1():
    removed(1)


@lanes('long')
def test_removed_raid5():
    removed(5)


@lanes('long')
def test_stopped():
    """Stopped and started under writes and readers; the module comes and goes."""
    array = make(5, mib=32, chunk=512)
    with Readers() as readers:
        for _ in range(TURNS):
            writer = written(array)
            run('rmmod', 'llbitmap', ok=False)
            writer.stop(0)
            array.stop()
            unload()
            need(not loaded(), 'the module stays')
            load()
            array.assemble()
            array.quick()
    need(readers.reads > TURNS, 'nothing was read meanwhile')


def load_fails(level):
    """The bitmap is to be made, and no member takes it: md's thread has just been woken by
    the errors when the bitmap goes."""
    members = mapped.members(DISKS[level])
    array = Array(0, [member.path for member in members])
    array.create(level, '--size=32M')
    with Readers():
        for _ in range(TURNS):
            array.stop()
            first_use(members)
            for member in members:
                member.refuse()
            status, _ = run('mdadm', '--assemble', '--run', array.path, *array.members, ok=None)
            if not status:
                run('mdadm', '--readwrite', array.path, ok=None)
            run('mdadm', '--stop', array.path, ok=None)
            for sup in disk.supers(array.members):
                need(sup.state & disk.FIRST_USE, 'FIRST_USE is gone without states')
            for member in members:
                member.heal()
            array.assemble('--force')
    array.wait_idle()


@lanes('long', 'rt-long')
def test_load_fails_raid1():
    load_fails(1)


@lanes('long')
def test_load_fails_raid5():
    load_fails(5)


@lanes('long')
def test_unloaded_while_asked_for():
    """rmmod beside assemblies: one of both is refused, or waits."""
    array = make(1, mib=32)
    array.stop()
    ended = False

    def unloading():
        while not ended:
            run('rmmod', 'llbitmap', ok=None)
            if not loaded():
                load()
    task = threading.Thread(target=unloading, daemon=True)
    task.start()
    done = 0
    try:
        while done < 3 * TURNS:
            if run('mdadm', '--assemble', array.path, *array.members, ok=None)[0] == 0:
                run('mdadm', '--stop', array.path, ok=None)
            done += 1
    finally:
        ended = True
        task.join()
    if not loaded():
        load()
    run('mdadm', '--stop', array.path, ok=None)
    array.assemble()
    array.stop()
