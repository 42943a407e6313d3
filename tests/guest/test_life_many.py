# SPDX-License-Identifier: GPL-2.0
"""Arrays on arrays, many arrays, and stops in the middle of everything."""

import signal
import subprocess
import tempfile
import time

from llb import disk, fio, pace
from llb.array import RAMDISK_MIB, Array, ramdisks
from llb.lanes import lanes, limit
from llb.arrays import make, settle
from llb.life import MIB, Data, add, lose, running, slow, used, waiting, whole
from llb.sh import Direct, Failure, equal, need, run, wait_until

KIB = 1 << 10


@lanes('long')
def test_raid0_over_lockless():
    """A raid0 over a mirror and a raid5, both lockless, written while each loses a member."""
    disks = ramdisks(5)
    low = [make(1, members=disks[:2], mib=48, number=1),
           make(5, members=disks[2:], mib=24, number=2)]
    top = Array(0, [array.path for array in low])
    run('mdadm', '--create', top.path, '--run', '--level=0', '-n2', '--chunk=64', *top.members)
    data = Data(top)
    data.fill(0, 16)
    writer = fio.Running(top.path, '5a', 24 * MIB, 16 * MIB, '--rate_iops=150')
    try:
        before = top.writes()
        wait_until('fio writes', lambda: top.writes() > before + 60, 60)
        for array in low:
            lose(array, array.members[0])
        before = top.writes()
        wait_until('fio writes', lambda: top.writes() > before + 60, 60)
        for array in low:
            run('mdadm', array.path, '--re-add', array.members[0])
            array.wait_whole()
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('5a', acked, touched)
    for array in low:
        settle(array)
        whole(array)
    data.holds()
    top.stop()
    for array in low:
        array.stop()
        equal(disk.not_clean(array.cells()), set(), 'chunks not clean after a stop')


@lanes('long')
def test_raid1_over_raid5_and_raid10():
    """Lockless over lockless of other levels; the lower one resynchronises meanwhile."""
    disks = ramdisks(7)
    low = [make(5, members=disks[:3], mib=32, number=1),
           make(10, members=disks[3:], mib=32, number=2)]
    top = make(1, members=[array.path for array in low], mib=48)
    data = Data(top)
    data.fill(0, 12)
    for array in low:
        slow(array, 1000)
        array.set('bitmap_set_bits', '0-60')
    running(low[0], 'resync')
    data.fill(8, 12, '3c')
    lose(top, low[1].path)
    data.sprinkle(range(0, 40 * MIB, 400 * KIB), '69')
    run('mdadm', top.path, '--re-add', low[1].path)
    for array in low:
        array.set('sync_speed_max', 2000000)
        array.set('sync_speed_min', 2000000)
    top.wait_whole()
    for array in [top] + low:
        settle(array)
        whole(array)
    data.holds()
    lose(top, low[0].path)
    data.holds()


def stopped_during(array):
    """Stops without waiting for the end of what runs (run() has a limit); then everything is
    where it was, and is finished after the restart."""
    run('mdadm', '--stop', array.path, timeout_s=30)


@lanes('long')
def test_stop_during_resync_recovery_proactive():
    disks = used(5)
    array = make(5, members=disks[:3], mib=32)
    data = Data(array)
    data.sprinkle(range(0, 60 * MIB, 400 * KIB))
    settle(array)
    chunks = array.metadata()['chunks']

    slow(array)
    array.set('bitmap_set_bits', f'0-{chunks // 2}')  # the rest stays Unwritten
    running(array, 'resync')
    stopped_during(array)
    array.assemble()
    need(waiting(array) or array.attribute('sync_action') == 'idle', 'nothing is left of it')
    array.quick()
    settle(array)
    data.holds()
    whole(array)

    slow(array)
    lose(array, disks[1])
    add(array, disks[3])
    array.members = [disks[0], disks[2], disks[3]]
    running(array, 'recover')
    data.sprinkle(range(4 * KIB, 60 * MIB, 3600 * KIB), '3c')
    stopped_during(array)
    array.assemble()
    array.quick()
    array.wait_whole()
    settle(array)
    data.holds()
    whole(array)

    # Another one: a stop while degraded leaves what was covered, and with it all of the
    # bitmap, to be synchronised.
    array.stop()
    array = make(5, members=used(3), mib=32)
    data = Data(array)
    data.sprinkle(range(0, 60 * MIB, 400 * KIB))
    settle(array)
    slow(array)
    array.set('llbitmap/proactive_sync', 1)
    running(array, 'resync')
    stopped_during(array)
    array.assemble()
    array.quick()
    settle(array, also=(disk.CLEAN_UNWRITTEN,))
    data.holds()
    whole(array)

    # Busy: refused while it is written, and unharmed.
    writer = fio.Running(array.path, '5a', 40 * MIB, 8 * MIB)
    try:
        before = array.writes()
        wait_until('fio writes', lambda: array.writes() > before + 50, 60)
        with Direct(array.path):  # fio closes it for a moment, again and again
            need(run('mdadm', '--stop', array.path, ok=None)[0] != 0, 'stopped while it is written')
    finally:
        acked, touched = writer.stop(time.monotonic())
    data.acknowledged('5a', acked, touched)
    array.stop()  # at once after the last write
    left = disk.not_clean(array.cells())
    array.assemble()
    array.quick()
    settle(array, also=(disk.CLEAN_UNWRITTEN,))
    print(f'  {len(left)} chunks waited for parity when it was stopped', flush=True)
    data.holds()
    whole(array)


@lanes('long')
def test_stop_again_and_again_raid10():
    """Written and stopped at once, twenty times: an orderly stop leaves nothing to do."""
    array = make(10, mib=24)
    data = Data(array)
    for turn in range(20):
        data.sprinkle(range(turn * 4 * KIB, 40 * MIB, 2 * MIB), '%02x' % (turn + 16))
        array.stop()
        equal(disk.not_clean(array.cells()), set(), f'chunks not clean after stop {turn}')
        array.assemble()
    data.holds()
    whole(array)


def slices(count, mib):
    """Members of mib each: slices of the ramdisks."""
    disks = ramdisks(8)
    each = RAMDISK_MIB // mib
    need(count <= each * len(disks), f'no {count} slices of {mib} MiB')
    for number in range(count):
        run('dmsetup', 'create', f'slice{number}', '--table',
            f'0 {mib * 2048} linear {disks[number // each]} {number % each * mib * 2048}')
    return [f'/dev/mapper/slice{number}' for number in range(count)]


class Writers:
    """One fio for all arrays, a thread for each: 64 of them would take the guest for
    themselves. Otherwise as fio.Running."""

    def __init__(self, arrays, tag, size):
        self.arrays, self.folder = arrays, tempfile.mkdtemp(prefix='fio-')
        lines = ['[global]', 'thread', 'direct=1', 'rw=randwrite', f'bs={fio.BLOCK}',
                 'ioengine=libaio', 'iodepth=2', f'size={size}', 'rate_iops=10', 'randseed=7',
                 'verify=pattern', f'verify_pattern={fio.pattern(tag)}', 'do_verify=0',
                 'time_based', f'runtime={fio.FOREVER_S}', 'log_offset=1']
        for array in arrays:
            lines += [f'[{array.name}]', f'filename={array.path}', f'write_lat_log={array.name}']
        with open(f'{self.folder}/jobs', 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')
        self.process = subprocess.Popen(['fio', 'jobs'], cwd=self.folder,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)

    def stop(self):
        """Ends them; returns for each array the offsets that were acknowledged: all that
        were written."""
        self.process.send_signal(signal.SIGINT)
        try:
            said = pace.communicate(self.process, 120)
        except pace.Late as late:
            raise Failure(f'fio does not end: {late}') from late
        found = []
        for number, array in enumerate(self.arrays, 1):
            try:
                with open(f'{self.folder}/{array.name}_clat.{number}.log', encoding='utf-8') as log:
                    found.append({int(line.split(',')[4]) for line in log})
            except (OSError, ValueError, IndexError) as odd:
                raise Failure(f'fio left no log: {said.strip()[-300:]}') from odd
        return found


def settle_all(arrays, limit_s=120):
    """As settle(), for all of them in one wait."""
    for _ in range(2):  # also after md had time to start a sync that is owed
        for array in arrays:
            wait_until(f'{array.name}: idle', array.idle, limit_s)
        time.sleep(0.5)
    for array in arrays:
        array.wait_clean(limit_s)


@lanes('long')
@limit(1000)
def test_64_arrays():
    """All are written at once, some lose and get back members meanwhile; all are clean
    after that, all stop, all come back."""
    start = time.monotonic()

    def done(what):
        print(f'  {time.monotonic() - start:.0f} s: {what}', flush=True)

    members = slices(128, 8)
    arrays = []
    for number in range(64):
        array = Array(number, members[2 * number:2 * number + 2])
        run('mdadm', '--create', array.path, '--run', '--level=1', '-n2', '--bitmap=lockless',
            '--size=4M', *array.members)
        array.quick()
        arrays.append(array)
    done('made')
    writers = Writers(arrays, '5a', 2 * MIB)
    try:
        for array in arrays:
            wait_until(f'{array.name} is written', lambda a=array: a.writes() > 10, 120)
        done('all are written')
        for array in arrays[::8]:
            lose(array, array.members[1])
            missed = array.writes()
            wait_until(f'{array.name} is written while degraded',
                       lambda a=array, n=missed: a.writes() > n + 3, 60)
            run('mdadm', array.path, '--re-add', array.members[1])
        for array in arrays[::8]:
            array.wait_whole()
        written = [array.writes() for array in arrays]
        for array, before in zip(arrays, written):
            wait_until(f'{array.name} is written', lambda a=array, n=before: a.writes() > n, 60)
        done('eight lost a member and have it again, all are still written')
    finally:
        acked = writers.stop()
    done(f'stopped: {sum(len(found) for found in acked)} blocks were written')
    settle_all(arrays)
    done('all clean')
    datas = []
    for array, found in zip(arrays, acked):
        data = Data(array)
        data.acknowledged('5a', found, ())
        data.holds()
        whole(array, check=False)
        datas.append(data)
    done('compared')
    for array in arrays:
        array.stop()
        equal(disk.not_clean(array.cells()), set(), f'{array.name}: chunks not clean')
    done('stopped')
    for array in arrays:
        array.assemble()
    done('assembled')
    for data in datas:
        data.holds()
    for array in arrays[::16]:
        equal(array.sync('check'), 0, f'{array.name}: mismatch_cnt')
    done('compared')
