# SPDX-License-Identifier: GPL-2.0
"""A file system on a lockless array, under other people's stressors (tests/fs/README.md). The job
of scripts/fs-suite: beside tests/guest in it are this file, the stressors, the commands and their
libraries in tools/, and in wanted what is looked at: "ext4/raid1/hdd", a line for each."""

import contextlib
import json
import os
import random
import re

from llb import disk
from llb.array import JOB, Array
from llb.arrays import DISKS, settle
from llb.life import each_missing, sparse
from llb.sh import equal, need, read, run

MIB = 1 << 20
MEMBER_MIB = 512
NOISE_EVERY = 256 << 10
SECONDS = {'stress-ng': 6, 'dbench': 5}
LIMIT_S = 1800
MOUNT, TOOLS = '/tmp/fs', f'{JOB}/tools'
# How each is made, asked whether it is sound, and mounted without a write.
KINDS = {
    'ext4': (('mkfs.ext4', '-q', '-F'), ('e2fsck', '-f', '-n'), 'ro,noload'),
    'xfs': (('mkfs.xfs', '-q', '-f'), ('xfs_repair', '-n'), 'ro,norecovery'),
}


def tool(name, *arguments, ok=True, timeout_s=120):
    """One of tools/, or of the root."""
    path = f'{TOOLS}/{name}'
    return run('env', f'LD_LIBRARY_PATH={TOOLS}', path if os.path.exists(path) else name, *arguments,
               ok=ok, timeout_s=timeout_s)


class Kept:
    """Files that nobody else touches; what is in them is known."""

    def __init__(self, folder, seed=1):
        self.folder, self.random, self.files = folder, random.Random(seed), {}

    def change(self):
        """Some more of them, and some of the old ones in part."""
        old = sorted(self.files)
        for name in self.random.sample(old, len(old) // 2):
            content = self.files[name]
            at = self.random.randrange(len(content))
            part = self.random.randbytes(self.random.randrange(1, 64 << 10))[:len(content) - at]
            content[at:at + len(part)] = part
            self.store(name, at, part)
        for number in range(len(old), len(old) + 8):
            content = bytearray(self.random.randbytes(self.random.randrange(1, MIB)))
            self.files[f'{number:03}'] = content
            self.store(f'{number:03}', 0, content)

    def store(self, name, at, part):
        file = os.open(f'{self.folder}/{name}', os.O_CREAT | os.O_WRONLY)
        try:
            os.pwrite(file, part, at)
            if self.random.random() < 0.5:
                os.fsync(file)
        finally:
            os.close(file)

    def holds(self):
        need(self.files, 'nothing was kept')
        equal(sorted(os.listdir(self.folder)), sorted(self.files), f'files in {self.folder}')
        for name, content in self.files.items():
            with open(f'{self.folder}/{name}', 'rb') as file:
                need(file.read() == content, f'{name} does not hold what was written')


class FileSystem:
    """On an array; what is kept in it is in the folder kept."""

    def __init__(self, array, kind):
        self.array = array
        self.making, self.asking, self.untouched = KINDS[kind]
        self.kept = Kept(f'{MOUNT}/kept')
        os.makedirs(MOUNT, exist_ok=True)

    @contextlib.contextmanager
    def mounted(self, options):
        run('mount', '-o', options, self.array.path, MOUNT)
        try:
            yield
        finally:
            run('umount', MOUNT, timeout_s=120)

    def make(self):
        tool(*self.making, self.array.path)
        with self.mounted('discard'):
            os.mkdir(self.kept.folder)
            self.kept.change()

    def holds(self):
        """It is sound, as its own checker says, and has what is kept. Nothing is written."""
        tool(*self.asking, self.array.path)
        with self.mounted(self.untouched):
            self.kept.holds()


def stressors():
    """{group: [(command, stressor, options)]}, as in the file."""
    found = {}
    for line in read(f'{JOB}/stressors').splitlines():
        if not line.startswith('#'):
            group, command, name, *options = line.split()
            found.setdefault(group, []).append((command, name, options))
    return found


def wanted(kind, level):
    """The same, without what was not asked for."""
    names = read(f'{JOB}/wanted').split()
    found = {group: [one for one in members if f'{kind}/raid{level}/{one[1]}' in names]
             for group, members in stressors().items()}
    return {group: members for group, members in found.items() if members}


def stress(members):
    """Runs a group; returns {stressor: what it came to}."""
    command = members[0][0]
    folder = f'{MOUNT}/stress'
    os.mkdir(folder)
    found = (stress_ng if command == 'stress-ng' else dbench)(folder, members)
    run('rm', '-rf', folder, timeout_s=120)
    return found


def stress_ng(folder, members):
    arguments = [word for _, name, options in members for word in (f'--{name}', '1', *options)]
    status, said = tool('stress-ng', '--temp-path', folder, '--verify', '--timeout',
                        str(SECONDS['stress-ng']), *arguments, ok=None, timeout_s=240)
    return judged(status, said, [name for _, name, _ in members])


def judged(status, said, names):
    """What stress-ng said at its end of each of them."""
    need('] passed: ' in said, f'stress-ng did not run: status {status}: {said.strip()[-300:]}')
    lists = {}
    for what, listed in re.findall(r'\] (skipped|passed|failed): \d+:(.*)', said):
        lists[what] = re.findall(r'(\S+) \(\d+\)', listed)
    found = {}
    for name in names:
        why = next((line.split('] ', 1)[1] for line in said.splitlines() if f' {name}: ' in line and
                    ('fail:' in line or 'error:' in line or 'skip' in line)), f'status {status}')
        if name in lists.get('failed', ()):
            found[name] = f'fail: {why}'
        elif name in lists.get('passed', ()):
            found[name] = 'pass'
        elif name in lists.get('skipped', ()):
            found[name] = f'skipped: {why}'
        else:
            found[name] = f'fail: no word of it, {why}'
    need(status == 0 or any(result.startswith('fail') for result in found.values()),
         f'stress-ng: status {status}, and none failed: {said.strip()[-300:]}')
    return found


def dbench(folder, members):
    (_, name, options), = members
    status, said = tool('dbench', '--loadfile', f'{TOOLS}/client.txt', '--directory', folder,
                        '--timelimit', str(SECONDS['dbench']), *options, '2', ok=None, timeout_s=240)
    if status == 0 and re.search(r'^Throughput [0-9.]*[1-9]', said, re.M):
        return {name: 'pass'}
    last = [line.strip() for line in said.splitlines() if line.strip()][-3:]
    return {name: f'fail: status {status}: {" / ".join(last)}'}


def noise(paths):
    """Members that were used: their parity does not fit."""
    for path in paths:
        with open(path, 'r+b', buffering=0) as device:
            for at in range(0, MEMBER_MIB * MIB, NOISE_EVERY):
                os.pwrite(device.fileno(), os.urandom(4096), at)
            os.fsync(device.fileno())


def made(kind, level, bitmap):
    members = sparse(DISKS[level], MEMBER_MIB)
    extra = ['--chunk=64'] if level != 1 else []
    if bitmap == 'none':
        extra += ['--assume-clean']  # all are zero
    elif level == 5:
        noise(members)
    array = Array(0, members).create(level, *extra, bitmap=bitmap)
    array.readwrite()
    return array, FileSystem(array, kind)


def ran(kind, level, bitmap):
    """Everything that is wanted on a new array; returns it, its file system, and what each
    stressor came to."""
    array, files = made(kind, level, bitmap)
    files.make()
    found = {}
    with files.mounted('discard'):
        for members in wanted(kind, level).values():
            found.update(stress(members))
            files.kept.change()
        files.kept.holds()
    files.holds()
    return array, files, found


def put_away(array):
    array.stop()
    run('losetup', '-d', *array.members)


def whole_and_clean(array, files):
    """After the stressors: the array is idle, all of its chunks are Clean, its members agree, and
    each of them can be missed."""
    settle(array)
    chunks = len(disk.written(array.cells()))
    need(chunks, 'nothing was ever written')
    equal(array.sync('check', 300), 0, 'mismatch_cnt')
    each_missing(array, files)
    settle(array)
    array.stop()
    equal(disk.not_clean(array.cells()), set(), 'chunks not clean after a stop')
    return chunks


def suite(kind, level):
    array, _, without = ran(kind, level, 'none')
    put_away(array)
    array, files, found = ran(kind, level, 'lockless')
    for name, result in found.items():
        print('ROW', json.dumps({'fs': kind, 'level': f'raid{level}', 'stressor': name,
                                 'llbitmap': result, 'none': without[name]}), flush=True)
    chunks = whole_and_clean(array, files)
    print(f'  {chunks} chunks were written', flush=True)
    worse = [f'{name}: {result}' for name, result in found.items()
             if result != 'pass' and without[name] == 'pass']
    need(not worse, f'passes without a bitmap: {"; ".join(worse)}')
    need('pass' in found.values(), 'nothing passed')


def test_ext4_raid1():
    suite('ext4', 1)


def test_ext4_raid10():
    suite('ext4', 10)


def test_ext4_raid5():
    suite('ext4', 5)


def test_xfs_raid1():
    suite('xfs', 1)


def test_xfs_raid10():
    suite('xfs', 10)


def test_xfs_raid5():
    suite('xfs', 5)
