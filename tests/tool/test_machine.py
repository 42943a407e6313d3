#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What the llbitmap tool says of running arrays and of the machine, over trees of files that
look like them (system.py): python3 tests/tool/test_machine.py [TOOL]."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import unittest
import uuid
import xml.etree.ElementTree as tree

import images as im
from schema import wrong
from system import KERNEL, STATS, Machine

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(TOP, 'build', 'tool', 'llbitmap')
DONE, SEE_TO, USAGE, UNREADABLE, REFUSED, BROKEN, UNUSABLE = range(7)


class Case(unittest.TestCase):
    def setUp(self):
        where = '/dev/shm' if os.path.isdir('/dev/shm') else None
        self.folder = tempfile.mkdtemp(prefix='llb-machine-', dir=where)
        self.machine = Machine(os.path.join(self.folder, 'root'))
        self.variables = {}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_tool(self, *args, text='', tool=None):
        return subprocess.run(
            [tool or TOOL, *args], input=text, text=True, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={'LLBITMAP_ROOT': self.machine.root, 'PATH': self.machine.path('programs') + ':/usr/bin:/bin',
                 'TERM': 'xterm', **self.variables})

    def tool(self, *args, status=DONE, text=''):
        done = self.run_tool(*args, text=text)
        self.assertEqual(done.returncode, status, f'{args}: {done.stdout}{done.stderr}')
        if status in (USAGE, UNREADABLE, REFUSED, BROKEN) and '--check' not in args:
            lines = done.stderr.splitlines()
            self.assertEqual(len(lines), 1, done.stderr)
            self.assertTrue(lines[0].startswith('llbitmap: '), lines[0])
            return lines[0]
        self.assertEqual(done.stderr, '')
        for line in done.stdout.splitlines():
            if not {'--json', '--svg', '--check', '--help', 'metrics'} & set(args):
                self.assertLessEqual(len(line), 80, line)
        return done.stdout

    def json(self, *args, status=DONE):
        """By its schema, whatever it says."""
        got = json.loads(self.tool(*args, '--json', status=status))
        self.assertEqual(wrong(args[0], got), [])
        self.assertEqual(got['exit_status'], status)
        return got

    def degraded(self, name='md1', **more):
        parts = [(f'sd{letter}1', slot, 'in_sync') for slot, letter in enumerate('abcdef') if slot != 3]
        fields = dict(degraded=1, chunk=65536, counts={'need sync': 600, 'syncing': 11, 'dirty': 214},
                      sync_action='resync', sync_completed='3226562500 / 7812546560', sync_speed='182272')
        self.machine.array(name, 'raid6', 6, parts, **(fields | more))


class Status(Case):
    def test_healthy(self):
        self.machine.array()
        said = self.tool('status')
        for words in ('md0, raid1, 2 of 2 members in sync, 931.4 GiB', 'HEALTHY (active)',
                      'lockless, 119,221 chunks of 8 MiB; daemon_sleep 30 s', 'dirty 9 (72 MiB)',
                      '0.6 % of that now', 'a power cut now costs a resync of 72 MiB, about 1 s at 195.3 MiB/s'):
            self.assertIn(words, ' '.join(said.split()))
        got = self.json('status')['arrays'][0]
        self.assertEqual(got['uuid'], '00010203:04050607:08090000:00000000')
        self.assertEqual(got['bitmap']['power_cut_bytes'], 9 << 23)
        self.assertEqual(got['bitmap']['resync_budget_bytes'], 12 << 30)
        self.assertEqual((got['health'], got['notices'], got['failures_left']), ('healthy', [], 1))
        self.assertIn('the one array is healthy', self.tool('status', '-x'))
        self.assertEqual(got['bitmap']['stats'], STATS)
        said = ' '.join(self.tool('status', '-v').split())
        for words in ('load: 12 chunks were to be resynchronised; since then 5,120 became dirty, 5,111 clean',
                      'writes: 40 of the bitmap, 44 KiB to each member, 1.5 ms on average, 2.5 ms at most',
                      'waits: 3 of writes for another\'s, 1.5 ms on average'):
            self.assertIn(words, said)
        self.assertEqual(self.tool('status', '--check'), 'LLBITMAP OK - 1 array healthy | '
                         f'md0_power_cut={9 << 23}B;;;0; md0_waiting=0B;;;0;\n')

    def test_named(self):
        """md0, /dev/md0, a link to it, its uuid in either form: the same array, once."""
        self.machine.array()
        self.machine.array('md10')
        self.machine.write('dev/md0', '')
        os.makedirs(self.machine.path('dev/md'))
        os.symlink('../md0', self.machine.path('dev/md/home'))
        for name in ('md0', '/dev/md0', '/dev/md/home', '00010203-0405-0607-0809-000000000000',
                     '00010203:04050607:08090000:00000000'):
            got = self.json('status', name, 'md0')
            self.assertEqual([one['device'] for one in got['arrays']], ['md0'], name)
        self.assertEqual([one['device'] for one in self.json('status')['arrays']], ['md0', 'md10'])
        for name in ('md7', '/dev/sda', '..', '11010203:04050607:08090000:00000000'):
            self.tool('status', name, status=UNREADABLE)

    def test_path_is_no_array(self):
        """Whatever it is called: only a device of md's is an array."""
        self.machine.array()
        for name in ('home/md0', 'dev/disk/md0', 'dev/sub/md0'):
            self.machine.write(name, 'an image')
            self.tool('status', '/' + name, status=UNREADABLE)
        self.json('status', '/dev/md0')  # there may be no node of it

    def test_container(self):
        """Of IMSM: it holds arrays, and is none that does not run."""
        self.machine.array('md127', 'container', 0, [('sda', None, 'spare')], bitmap='none', array_state='inactive',
                           metadata_version='external:imsm')
        self.assertIn('a container (external:imsm)', self.tool('status', 'md127', status=UNREADABLE))
        unknown = self.run_tool('status', '--check', 'md127')
        self.assertEqual(unknown.returncode, 3)
        self.assertIn('UNKNOWN - md127', unknown.stdout)
        self.assertEqual(self.json('status')['arrays'], [])

    def test_degraded_and_syncing(self):
        self.degraded()
        said = ' '.join(self.tool('status', status=SEE_TO).split())
        for words in ('5 of 6 members in sync', 'DEGRADED', 'slot 3: no member in sync. 1 more member may fail.', 'mdadm /dev/md1 --add',
                      'settles nothing while a slot is empty', 'resync, at most 19.1 GiB left, 178 MiB/s, at most 1 min 50 s',
                      'it is 41.3 % of the way', '25.8 GiB of each member, about 2 min 29 s at the present'):
            self.assertIn(words, said)
        got = self.json('status', status=SEE_TO)['arrays'][0]
        # md's own time left would be 3.5 hours.
        self.assertEqual((got['sync']['left_bytes'], got['sync']['left_seconds']), (611 << 25, 110))
        self.assertEqual([one['id'] for one in got['notices']], ['degraded', 'waits_for_whole'])
        self.assertTrue(self.tool('status', '--check', status=1).startswith(
            'LLBITMAP WARNING - md1 degraded (5 of 6), resync, 611 chunks wait | '))
        self.assertIn('array: md1', self.tool('status', '-x', status=SEE_TO))
        # What it has passed goes on waiting: near its end less is left than waits.
        self.degraded(sync_completed='7812546000 / 7812546560')
        got = self.json('status', status=SEE_TO)['arrays'][0]['sync']
        self.assertEqual((got['left_bytes'], got['left_seconds'], got['left_is_upper_bound']), (560 * 512, 1, True))

    def left(self, *args, action='recover', done=0, **fields):
        """Bytes of 1 GiB, or of what is left of it, and whether they are an upper bound."""
        shutil.rmtree(self.machine.path('sys/block'))
        self.machine.array('md0', *args, sync_action=action, sync_speed='100000', sync_completed=f'{done} / {1 << 21}',
                           **fields)
        got = json.loads(self.run_tool('status', '--json').stdout)['arrays'][0]['sync']
        return got['left_bytes'], got['left_is_upper_bound']

    def test_left(self):
        counts = {'unwritten': 126, 'clean': 0, 'dirty': 0, 'clean unwritten': 2}
        # Built before the first write: copied to a new member and read by a check, too.
        for action in ('recover', 'check', 'repair'):
            self.assertEqual(self.left('raid5', 3, action=action, counts=counts), (16 << 20, True), action)
        self.assertEqual(self.left('raid10', 4, counts=counts), (1 << 30, False))  # skips nothing
        self.assertEqual(self.left('raid10', 4, counts=counts, action='check'), (16 << 20, True))
        self.assertEqual(self.left('raid5', 3, counts=counts, action='reshape'), (1 << 30, False))
        self.assertEqual(self.left('raid5', 3, counts={'need sync': 3}, action='resync'), (24 << 20, False))
        # md skips by the classic bitmap as well, but not in a check.
        for bitmap in ('internal', 'file'):
            for action, most in (('resync', True), ('recover', True), ('check', False), ('reshape', False)):
                self.assertEqual(self.left(bitmap=bitmap, action=action, done=1 << 20), (1 << 29, most), (bitmap, action))
        self.assertEqual(self.left(bitmap='none', action='resync'), (1 << 30, False))

    def test_no_speed(self):
        """md subtracts what is on its way from what it counted, which may be less."""
        self.machine.array(sync_action='resync', sync_speed='9223372036854775', sync_completed=f'0 / {1 << 21}')
        self.assertNotIn('EiB', self.tool('status'))
        self.assertIsNone(self.json('status')['arrays'][0]['sync']['speed_bytes_per_second'])

    def test_no_member_to_spare(self):
        self.machine.array(degraded=1, parts=[('sda1', 0, 'in_sync'), ('sdb1', None, 'faulty')])
        got = self.json('status', status=SEE_TO)['arrays'][0]
        self.assertEqual((got['health'], got['failures_left']), ('critical', 0))
        self.assertEqual([(one['id'], one['action']) for one in got['notices']],
                         [('degraded', 'mdadm /dev/md0 --remove failed --add NEW-MEMBER'),
                          ('faulty', 'mdadm /dev/md0 --remove failed')])
        self.assertIn('CRITICAL - md0 critical (1 of 2), faulty', self.tool('status', '--check', status=2))
        self.machine.array('md0', 'raid5', 3, degraded=2, parts=[('sda1', 0, 'in_sync')])
        self.assertEqual(self.json('status', status=UNUSABLE)['arrays'][0]['health'], 'failed')

    def test_mirrors_of_four(self):
        """Which member of raid10 may fail yet depends on which it is."""
        parts = [(f'sd{letter}1', slot, 'in_sync') for slot, letter in enumerate('abcd')]
        for gone, health, status in ((1, 'critical', SEE_TO), (2, 'critical', SEE_TO), (3, 'failed', UNUSABLE)):
            shutil.rmtree(self.machine.path('sys/block'))
            self.machine.array('md0', 'raid10', 4, parts[:4 - gone], degraded=gone)
            self.assertEqual(self.json('status', status=status)['arrays'][0]['health'], health)
            said = ' '.join(self.tool('status', status=status).split())
            self.assertNotIn('No further member may fail', said)
            self.assertEqual('The next one that fails may be one too many' in said, health == 'critical')

    def test_recovery_is_bounded(self):
        """Where the written chunks lie is not known: not more than these, and not more than the rest."""
        parts = [('sda1', 0, 'in_sync'), ('sdb1', 1, 'spare')]
        for done, left in ((0, 45421 << 23), (976629760 * 2 - 2048, 1 << 20)):
            self.machine.array(degraded=1, parts=parts, sync_action='recover', sync_speed='100000',
                               sync_completed=f'{done} / {976629760 * 2}')
            got = self.json('status', status=SEE_TO)['arrays'][0]['sync']
            self.assertEqual((got['left_bytes'], got['left_is_upper_bound']), (left, True))
        self.assertIn('at most', self.tool('status', status=SEE_TO))
        self.machine.array(sync_action='resync', sync_completed='delayed')
        self.assertIn("waits until another array's is done", self.tool('status'))

    def test_other_bitmaps(self):
        self.machine.array('md0', bitmap='internal')
        self.machine.array('md1', bitmap='none')
        self.machine.array('md2', 'raid0', bitmap='none')
        said = ' '.join(self.tool('status').split())
        self.assertIn('this is the CLASSIC bitmap, not a lockless one', said)
        self.assertIn('llbitmap convert --to lockless', said)
        self.assertIn('a power cut now costs a resync of everything', said)
        got = self.json('status')['arrays']
        self.assertEqual([one['bitmap']['kind'] for one in got], ['internal', 'none', 'none'])
        self.assertEqual([[note['id'] for note in one['notices']] for one in got],
                         [['classic_bitmap'], ['no_bitmap'], []])

    def test_no_bitmap(self):
        """A power cut costs a resync only of what is written to, and can be resynchronised."""
        def one(level, policy='resync', degraded=0, state='active', members=3):
            shutil.rmtree(self.machine.path('sys/block'))
            parts = [(f'sd{letter}1', slot, 'in_sync') for slot, letter in enumerate('abc'[:members - degraded])]
            self.machine.array('md0', level, members, parts, bitmap='none', degraded=degraded, array_state=state)
            self.machine.write('sys/block/md0/md/consistency_policy', policy)
            said = ' '.join(self.run_tool('status').stdout.split())
            return ['resync of everything' in said, 'all of it is resynchronised' in said, 'does not start it' in said], said
        for level in ('raid1', 'raid5', 'raid10'):
            self.assertEqual(one(level)[0], [True, True, False], level)
            for state in ('clean', 'readonly', 'read-auto'):
                self.assertEqual(one(level, state=state)[0], [False, True, False], (level, state))
        for policy, words in (('journal', 'none; a journal instead'), ('ppl', 'none; PPL instead')):
            for degraded in (0, 1):
                told, said = one('raid5', policy, degraded)
                self.assertEqual(told, [False] * 3)
                self.assertIn(words, said)
        self.assertEqual(one('raid1', degraded=2)[0], [False] * 3)  # one member: there is nothing to be like
        self.assertEqual(one('raid1', members=1)[0], [False] * 3)
        self.assertEqual(one('raid1', degraded=1)[0], [True, True, False])
        self.assertEqual(one('raid5', degraded=1)[0], [False, False, True])

    def test_read_only(self):
        for state, words in (('readonly', 'when the array is no longer read-only'), ('read-auto', 'after the first write')):
            self.machine.array(array_state=state, counts={'need sync': 5})
            self.assertIn(f'md starts it by itself {words}', ' '.join(self.tool('status').split()))

    def test_own_driver(self):
        """md with a lockless bitmap of its own is no module, and needs none."""
        for types, loaded in (('none [bitmap] llbitmap', True), ('none bitmap [llbitmap] ', True), ('none [bitmap] ', False)):
            self.machine.array(array_state='inactive', parts=[('sda1', None, 'spare')], loaded=False, bitmap_type=types)
            im.make(self.machine.write('dev/sda1', ''), {}, im.lockless([1] * 128), data=None)
            said = ' '.join(self.tool('status', status=UNUSABLE).split())
            self.assertEqual(('is not loaded' in said, '1 of 2 members are here' in said), (not loaded, loaded))
            self.assertEqual(self.json('status', status=UNUSABLE)['module']['loaded'], loaded)
            self.assertIn(f'\nllbitmap_module_loaded {int(loaded)}\n', self.tool('metrics'))

    def test_inactive(self):
        parts = [('sda1', None, 'spare'), ('sdb1', None, 'spare')]
        self.machine.array(array_state='inactive', parts=parts, loaded=False)
        said = ' '.join(self.tool('status', status=UNUSABLE).split())
        self.assertIn('could not be read (', said)
        self.assertIn('No such file or directory', said)
        os.makedirs(self.machine.path('dev'))
        im.make(self.machine.path('dev/sda1'), {'magic': 7}, im.lockless([1] * 128))  # of no metadata 1.x
        said = ' '.join(self.tool('status', status=UNUSABLE).split())
        self.assertIn('could not be read (', said)
        self.assertNotIn('only root', said)
        im.make(self.machine.path('dev/sda1'), {}, im.lockless([1] * 128))
        said = ' '.join(self.tool('status', status=UNUSABLE).split())
        self.assertIn('the module llbitmap is not loaded. Nothing is lost.', said)
        self.assertIn('modprobe llbitmap; mdadm --stop /dev/md0; mdadm --assemble --scan', said)
        self.machine.write('sys/module/llbitmap/version', '0.2.0')
        self.assertIn('dmesg says why', ' '.join(self.tool('status', status=UNUSABLE).split()))
        shutil.rmtree(self.machine.path('sys/block/md0/md/dev-sdb1'))
        self.assertIn('1 of 2 members are here', ' '.join(self.tool('status', status=UNUSABLE).split()))
        self.assertTrue(self.tool('status', '--check', status=2).startswith('LLBITMAP CRITICAL - md0 inactive'))
        self.json('status', status=UNUSABLE)

    def test_inactive_and_forbidden(self):
        """Root is named only where root would see more."""
        self.machine.array(array_state='inactive', parts=[('sda1', None, 'spare')])
        im.make(self.machine.write('dev/sda1', ''), {}, im.lockless([1] * 128))
        os.chmod(self.machine.path('dev/sda1'), 0o600)
        os.chmod(self.folder, 0o755)
        tool = shutil.copy(TOOL, self.folder)
        if os.getuid():
            os.chmod(self.machine.path('dev/sda1'), 0)
        done = subprocess.run([tool, 'status'], text=True, check=False, stdout=subprocess.PIPE,
                              user=None if os.getuid() else 65534, env={'LLBITMAP_ROOT': self.machine.root})
        self.assertIn('only root may', ' '.join(done.stdout.split()))
        self.assertIn('llbitmap status, as root', done.stdout)

    def test_many(self):
        """A table, the worst first, and in full only what needs attention."""
        for number in range(60):
            self.machine.array(f'md{number}')
        said = self.tool('status').splitlines()
        self.assertEqual(len(said), 61)
        self.assertEqual([line.split()[0] for line in said[1:12]], [f'md{number}' for number in range(11)])
        self.machine.array('md41', degraded=1, parts=[('sda1', 0, 'in_sync')])
        said = self.tool('status', status=SEE_TO)
        self.assertEqual((said.splitlines()[1].split()[0], said.count('array: ')), ('md41', 1))
        self.assertEqual(self.tool('status', '-v', status=SEE_TO).count('array: '), 60)
        self.assertIn('59 other arrays are', self.tool('status', '-x', status=SEE_TO))

    def test_odd_machine(self):
        """Nothing there, half there, nonsense there: never a crash, and null in JSON."""
        self.assertEqual(self.tool('status'), 'no md array is running\n')
        self.assertEqual(self.json('status')['arrays'], [])
        unknown = self.run_tool('status', '--check')
        self.assertEqual((unknown.returncode, unknown.stdout, unknown.stderr),
                         (3, 'LLBITMAP UNKNOWN - no md array is running\n', ''))
        self.machine.array('md0', raid_disks='99999999999999999999', component_size='-1', degraded='x',
                           sync_action='resync', sync_completed='7 / 0', sync_speed='18446744073709551615',
                           level='ra\x1b[31mid1', layout='-3', parts=[('sd|\x07a', 7, ',,in_sync,,')])
        self.machine.write('sys/block/md0/md/llbitmap/bits', 'clean 18446744073709551615\nno bitmap')
        self.machine.write('sys/block/md0/md/llbitmap/metadata', 'chunksize 0\nchunks')
        said = self.tool('status', status=SEE_TO)
        self.assertNotIn('\x1b', said)
        self.assertIn('no_counts', [one['id'] for one in self.json('status', status=SEE_TO)['arrays'][0]['notices']])
        os.makedirs(self.machine.path('sys/block/md1/md'))
        self.tool('status', 'md1', status=UNUSABLE)
        self.json('status', 'md1', status=UNUSABLE)

    def test_without_crash_bytes(self):
        """The in-tree driver has no such file: by the counts. Nor stats."""
        self.machine.array(counts={'need sync': 1})
        for name in ('crash_bytes', 'stats'):
            os.remove(self.machine.path(f'sys/block/md0/md/llbitmap/{name}'))
        got = self.json('status')['arrays'][0]['bitmap']
        self.assertEqual((got['power_cut_bytes'], got['stats']), (10 << 23, None))
        self.tool('status', '-v')

    def test_marked_on_disk(self):
        """More than is dirty: it is said why."""
        self.machine.array()
        self.assertNotIn('beside dirty chunks', ' '.join(self.tool('status').split()))
        self.machine.write('sys/block/md0/md/llbitmap/crash_bytes', 1 << 30)
        said = ' '.join(self.tool('status').split())
        self.assertIn('a resync of 1 GiB (what is marked on disk beside dirty chunks included), about 6 s', said)

    def checked(self, *args):
        done = self.run_tool('status', '--check', *args)
        self.assertEqual((done.stderr, len(done.stdout.splitlines())), ('', 1))
        return done.returncode, done.stdout

    def test_limits(self):
        """What a power cut costs, against what it may: as bytes, or as the time of the resync."""
        self.machine.array(counts={'dirty': 256})  # 2 GiB, at 200000 KiB/s 11 s
        for limit, is_over in (('2GiB', False), ('2047MiB', True), ('2097151KiB', True), ('1TiB', False), ('11s', False),
                               ('10s', True), ('1min', False), ('1h', False), ('0s', True)):
            for option, status, word in (('--warning', 1, 'WARNING'), ('--critical', 2, 'CRITICAL')):
                got, said = self.checked(option, limit)
                self.assertEqual((got, said.split()[1]), (status, word) if is_over else (0, 'OK'), (option, limit))
                self.assertEqual(f'md0 healthy, a power cut costs 2 GiB, 11 s (limit {limit})' in said, is_over)
        self.assertEqual(self.checked('--warning', '1GiB', '--critical', '3GiB')[1].split('|')[1],
                         f' md0_power_cut={2 << 30}B;{1 << 30};{3 << 30};0; md0_waiting=0B;;;0;\n')
        got, said = self.checked('--warning', '10s', '--critical', '1min')
        self.assertEqual(got, 1)
        self.assertIn('md0_power_cut_time=11s;10;60;0;', said)
        self.assertEqual(self.checked('--warning', '1s', '--critical', '1GiB')[0], 2)

    def test_limits_unknown(self):
        """A time that nobody can tell is not OK; bytes that are too many are said all the same."""
        self.machine.array(counts={'dirty': 256}, sync_speed_max='none')
        self.assertEqual(self.checked('--warning', '1min')[0], 3)
        self.assertIn('how long a resync takes is not known', self.checked('--critical', '1min')[1])
        self.assertEqual(self.checked('--warning', '1GiB', '--critical', '1min')[0], 1)
        self.machine.array('md0', counts={'dirty': 0}, sync_speed_max='none')
        self.assertEqual(self.checked('--warning', '1min')[0], 0)
        # Without a bitmap it is all of it; of a classic one nothing is known.
        shutil.rmtree(self.machine.path('sys/block/md0'))
        self.machine.array('md0', bitmap='none')
        self.assertEqual(self.checked('--warning', '900GiB')[0], 1)
        self.assertEqual(self.checked('--warning', '1TiB')[0], 0)
        shutil.rmtree(self.machine.path('sys/block/md0'))
        self.machine.array('md0', bitmap='internal')
        self.assertEqual(self.checked('--warning', '0GiB')[0], 0)

    def test_limits_wrong(self):
        self.machine.array()
        for limit in ('5', '5GB', 'GiB', '-1GiB', '1.5GiB', '99999999999TiB', '5 min'):
            self.assertEqual(self.run_tool('status', '--check', '--warning', limit).returncode, USAGE, limit)
        self.assertEqual(self.run_tool('status', '--warning', '1GiB').returncode, USAGE)

    def test_colour(self):
        """Only where it is asked for: stdout is no terminal here."""
        self.machine.array()
        self.assertNotIn('\x1b', self.tool('status'))
        self.assertIn('\x1b[32mHEALTHY', self.tool('status', '--color=always'))
        script = ['script', '-qec', f'{TOOL} status', '/dev/null']
        variables = {'LLBITMAP_ROOT': self.machine.root, 'PATH': '/usr/bin:/bin', 'TERM': 'xterm'}
        for more, colour in (({}, True), ({'NO_COLOR': '1'}, False), ({'NO_COLOR': ''}, True), ({'TERM': 'dumb'}, False)):
            said = subprocess.run(script, env=variables | more, check=True, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE).stdout
            self.assertEqual('\x1b[32m' in said, colour, (more, said))
        done = self.run_tool('status', '--color=sometimes')
        self.assertEqual((done.returncode, done.stdout), (USAGE, ''))
        self.assertEqual(done.stderr, 'llbitmap: --color: sometimes not in {auto,always,never} (llbitmap status --help)\n')
        self.assertEqual(self.run_tool('status', '--check', '--json').returncode, USAGE)

    def test_no_such_command(self):
        for args, word in ((('frob',), 'frob: no such command (llbitmap --help)'), (('status', '--jsn'), '(llbitmap status --help)')):
            done = self.run_tool(*args)
            self.assertEqual((done.returncode, done.stdout), (USAGE, ''))
            self.assertIn(word, done.stderr)

    def test_long_names(self):
        """Columns stay columns, and what matters stays in sight."""
        member = 'a-' * 16
        self.machine.array(parts=[(member, 0, 'in_sync'), ('sdb', 1, 'in_sync')])
        said = self.tool('status', '-v').splitlines()
        head = next(line for line in said if 'MEMBER' in line)
        for line in said[said.index(head) + 1:]:
            self.assertEqual(line[head.index('STATE'):], 'in sync', line)

    def test_below_the_table(self):
        """Of many arrays, what has no column: a sync, and that there is a note."""
        for number in range(12):
            self.machine.array(f'md{number}', bitmap='internal' if number == 3 else 'lockless',
                               sync_action='check' if number == 5 else 'idle',
                               sync_completed='488314880 / 976629760' if number == 5 else 'none')
        said = self.tool('status')
        self.assertIn('\n   sync: md5: check, ', said)
        self.assertIn('\n  notes: on md3 (llbitmap status ARRAY)\n', said)

    def test_check_names_some(self):
        for number in range(11):
            self.degraded(f'md{number}')
        said = self.run_tool('status', '--check').stdout.split('|', maxsplit=1)
        self.assertEqual(said[0].count('degraded ('), 8, said)
        self.assertIn('; and 3 more', said[0])
        self.assertEqual(said[1].count('_power_cut='), 11)
        # The worst is named, also if it is bad for its cost only.
        self.machine.array('md11', counts={'dirty': 5000})
        cost = self.run_tool('status', '--check', '--critical', '30GiB').stdout
        self.assertTrue(cost.startswith('LLBITMAP CRITICAL - md11 healthy, a power cut costs '), cost)
        self.assertIn('; and 4 more', cost)


class Metrics(Case):
    def test_text(self):
        """Every line is a comment or a sample, every family is declared once, before its samples."""
        self.machine.array()
        self.degraded()
        self.machine.array('md2', bitmap='internal')
        self.machine.array('md3', array_state='inactive', parts=[('sdx1', None, 'spare')])
        said = self.tool('metrics')
        found, family = {}, None
        for line in said.splitlines():
            if line.startswith('# HELP '):
                family = line.split()[2]
                self.assertNotIn(family, found)
                found[family] = {}
            elif line.startswith('# TYPE '):
                self.assertEqual(line, f'# TYPE {family} ' + ('counter' if family.endswith('_total') else 'gauge'))
            else:
                name, labels, value = re.fullmatch(
                    r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\\]|\\\\.)*",?)+)\})? (\d+(?:\.\d{9})?)', line).groups()
                self.assertEqual(name, family)
                found[name][labels] = float(value)
        self.assertEqual(found['llbitmap_power_cut_bytes'],
                         {'device="md0"': 9 << 23, 'device="md1"': 825 << 25})
        self.assertEqual(found['llbitmap_waiting_bytes'], {'device="md0"': 0, 'device="md1"': 611 << 25})
        self.assertEqual(found['llbitmap_chunks']['device="md1",state="need_sync"'], 600)
        self.assertEqual(found['llbitmap_arrays_inactive'], {None: 1})
        self.assertEqual(found['llbitmap_health'], {'device="md0"': 0, 'device="md1"': 2, 'device="md2"': 0,
                                                    'device="md3"': 5})
        self.assertEqual(found['llbitmap_sync_left_bytes'], {'device="md1"': 611 << 25})
        both = ('device="md0"', 'device="md1"')  # md2 has another bitmap
        self.assertEqual(found['llbitmap_batches_total'], dict.fromkeys(both, 40))
        self.assertEqual(found['llbitmap_batch_seconds_total'], dict.fromkeys(both, 0.06))
        self.assertEqual(found['llbitmap_wait_seconds_total'], dict.fromkeys(both, 0.0045))

    def test_no_utf8(self):
        """One such name, and Prometheus takes nothing of the file."""
        self.machine.array()
        block = self.machine.path('sys/block').encode()
        os.rename(block + b'/md0', block + b'/md_\xff\xc3"\xc3\xa9')
        done = subprocess.run([TOOL, 'metrics'], check=True, stdout=subprocess.PIPE,
                              env={'LLBITMAP_ROOT': self.machine.root})
        self.assertIn('{device="md_\\\\xff\\\\xc3\\"\u00e9"} 0\n', done.stdout.decode())

    def test_rules_and_dashboard(self):
        """They name nothing that is not printed, and all that may alarm."""
        self.machine.array()
        self.degraded()
        printed = set(re.findall(r'^# TYPE (\w+)', self.tool('metrics'), re.M))
        for name, least in (('llbitmap.rules.yml', 4), ('grafana.json', 6)):
            with open(os.path.join(TOP, 'src', 'tool', 'monitoring', name), encoding='utf-8') as file:
                text = file.read()
            if name.endswith('.json'):
                text = json.dumps(json.loads(text)['panels'])
            named = set(re.findall(r'\bllbitmap_[a-z_]+\b', text))
            self.assertGreaterEqual(len(named), least, name)
            self.assertEqual(named - printed, set(), name)

    def test_file(self):
        self.machine.array()
        path = os.path.join(self.folder, 'llbitmap.prom')
        self.assertEqual(self.tool('metrics', '--output', path), '')
        with open(path, encoding='utf-8') as file:
            self.assertEqual(file.read(), self.tool('metrics'))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o644)
        self.assertEqual(sorted(os.listdir(self.folder)), ['llbitmap.prom', 'root'])
        self.tool_fails(BROKEN, 'metrics', '--output', os.path.join(self.folder, 'not', 'there'))
        # Whatever name another file has, it is not written to.
        with open(os.path.join(self.folder, 'another'), 'w', encoding='utf-8') as file:
            file.write('precious')
        os.link(file.name, path + '.llbitmap-new')
        self.tool('metrics', '--output', path)
        with open(file.name, encoding='utf-8') as file:
            self.assertEqual(file.read(), 'precious')

    def tool_fails(self, status, *args):
        done = self.run_tool(*args)
        self.assertEqual((done.returncode, done.stdout), (status, ''))
        self.assertEqual(len(done.stderr.splitlines()), 1)


class Watch(Case):
    def test_screens(self):
        self.machine.array()
        self.assertEqual(self.tool('watch', '-n', '1', '--count', '2'), '\n'.join([self.tool('status')] * 2))

    def test_fits_the_terminal(self):
        """The worst comes first, and stays there: what does not fit is left out below."""
        for number in range(12):
            self.machine.array(f'md{number}')
        for number in 4, 6, 8:
            self.degraded(f'md{number}')
        command = f'stty rows %d cols %d; {TOOL} watch --count 1'
        for rows, columns, whole in ((24, 80, False), (24, 40, False), (2000, 80, True)):
            said = subprocess.run(['script', '-qc', command % (rows, columns), '/dev/null'], check=False, text=True,
                                  env={'LLBITMAP_ROOT': self.machine.root, 'PATH': '/usr/bin:/bin', 'TERM': 'dumb'},
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
            lines = said.replace('\r', '').split('\x1b[2J')[1].splitlines()
            used = sum(max(1, -(-len(line) // columns)) for line in lines)
            self.assertEqual(lines[1].split()[0], 'md4', said)
            self.assertLess(used, rows)
            self.assertEqual('more lines' in lines[-1], not whole, said)
            if not whole:
                self.assertGreater(used, rows - 4, 'room was left')
                left = int(lines[-1].strip('(').split()[0])
                self.assertEqual(len(lines) - 1 + left, len(self.run_tool('status').stdout.splitlines()))

    def test_until(self):
        self.machine.array()
        self.tool('watch', '--until', 'synced')
        self.tool('watch', '--until', 'whole')
        done = self.run_tool('watch', '--until', 'clean', '--timeout', '1')
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (SEE_TO, '', 'llbitmap: after 1 s it is not clean yet\n'))
        self.machine.array(counts={'dirty': 0})
        self.tool('watch', '--until', 'clean', '--timeout', '1')
        self.degraded('md0')
        for what in ('synced', 'whole'):
            self.assertEqual(self.run_tool('watch', '--until', what, '--timeout', '1').returncode, SEE_TO)

    def test_until_replaced(self):
        """md counts no member as missing while one is being replaced."""
        for states, ends in ((('in_sync', 'in_sync,want_replacement', 'spare'), SEE_TO),
                             (('in_sync', 'in_sync,want_replacement', 'spare,replacement'), SEE_TO),
                             (('in_sync', 'faulty,want_replacement', 'in_sync,replacement'), DONE),
                             (('in_sync', 'in_sync', 'faulty,replacement'), DONE)):
            shutil.rmtree(self.machine.path('sys/block'))
            self.machine.array(parts=[(f'sd{name}1', slot, state) for name, slot, state in
                                      zip('abc', ('0', '1', '1' if 'replacement' in states[2] else 'none'), states)])
            self.assertEqual(self.until('whole'), ends, states)

    def until(self, what):
        done = self.run_tool('watch', '--until', what, '--timeout', '1')
        self.assertEqual((done.stdout, len(done.stderr.splitlines())), ('', int(done.returncode != DONE)))
        return done.returncode

    def test_until_unknown(self):
        """What is not known was not reached: llbitmap watch --until clean && poweroff."""
        for what in ('clean', 'synced', 'whole'):
            self.assertEqual(self.until(what), UNREADABLE, what)  # no array
        self.machine.array(counts={'dirty': 0})
        self.assertEqual([self.until(what) for what in ('clean', 'synced', 'whole')], [DONE] * 3)
        self.machine.write('sys/block/md0/md/llbitmap/bits', 'no bitmap')
        self.assertEqual([self.until(what) for what in ('clean', 'synced', 'whole')], [UNREADABLE, UNREADABLE, DONE])
        shutil.rmtree(self.machine.path('sys/block/md0/md/llbitmap'))
        self.assertEqual(self.until('clean'), UNREADABLE)
        os.remove(self.machine.path('sys/block/md0/md/degraded'))
        self.assertEqual(self.until('whole'), UNREADABLE)

    def test_until_other_bitmaps(self):
        """They have no counts: md's own state says whether a power cut would cost something."""
        for bitmap, state, ends in (('internal', 'active', SEE_TO), ('none', 'write-pending', SEE_TO), ('internal', 'clean', DONE),
                                    ('file', 'readonly', DONE), ('none', 'read-auto', DONE)):
            shutil.rmtree(self.machine.path('sys/block'))
            self.machine.array(bitmap=bitmap, array_state=state, resync_start='none')
            self.assertEqual((self.until('clean'), self.until('synced')), (ends, DONE), (bitmap, state))
        self.machine.write('sys/block/md0/md/resync_start', 2048)  # it begins with the first write
        self.assertEqual((self.until('clean'), self.until('synced')), (SEE_TO, SEE_TO))
        shutil.rmtree(self.machine.path('sys/block'))
        self.machine.array('md0', 'raid0', bitmap='none')
        self.assertEqual((self.until('clean'), self.until('whole')), (DONE, DONE))

    def test_events(self):
        """A line for each change: what it was, what it is."""
        self.machine.array()
        with subprocess.Popen([TOOL, 'watch', '--events', '-n', '1'], stdout=subprocess.PIPE, text=True,
                              env={'LLBITMAP_ROOT': self.machine.root}) as watching:
            # It says nothing before a change, so change until it says something.
            degraded = False
            while True:
                degraded = not degraded
                self.machine.write('sys/block/md0/md/degraded', int(degraded))
                self.machine.write('sys/block/md0/md/dev-sdb0/state', 'faulty' if degraded else 'in_sync')
                if select.select([watching.stdout], [], [], 3)[0]:
                    break
            said = [watching.stdout.readline() for _ in range(2)]
            watching.terminate()
        self.assertTrue(any(re.fullmatch(r'\d\d:\d\d:\d\d md0 (health: \w+ -> \w+|member sdb0: \w+ -> \w+)\n', line)
                            for line in said), said)


    def test_json(self):
        """A line for each look, as status --json has it."""
        self.machine.array()
        lines = self.tool('watch', '--json', '-n', '1', '--count', '2').splitlines()
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertEqual(wrong('status', json.loads(line)), [])
            self.assertEqual(json.loads(line), self.json('status'))
        self.degraded()
        self.tool('watch', '--json', '--count', '1', status=SEE_TO)
        self.assertEqual(self.run_tool('watch', '--json', '--until', 'clean').returncode, USAGE)

    def test_json_events(self):
        """A line for each change, by its schema: also of what comes and goes."""
        self.machine.array()
        with subprocess.Popen([TOOL, 'watch', '--events', '--json', '-n', '1'], stdout=subprocess.PIPE, text=True,
                              env={'LLBITMAP_ROOT': self.machine.root}) as watching:
            there = True
            found = set()
            while not {'member', 'gone', 'came'} <= found:  # it says nothing before a change
                there = not there
                if there:
                    self.machine.write('sys/block/md0/md/dev-sdb0/state', 'in_sync')
                    self.machine.files('sys/block/md0/md/dev-sdb0', slot=1, errors=0)
                else:
                    shutil.rmtree(self.machine.path('sys/block/md0/md/dev-sdb0'))
                while select.select([watching.stdout], [], [], 2)[0]:
                    got = json.loads(watching.stdout.readline())
                    self.assertEqual(wrong('watch', got), [])
                    self.assertEqual((got['array'], got['what'] == 'member'), ('md0', got['member'] is not None))
                    if got['member'] == 'sdb0':
                        found.add('gone' if got['after'] is None else 'came' if got['before'] is None else 'changed')
                    found.add(got['what'])
            watching.terminate()


class Map(Case):
    def setUp(self):
        super().setUp()
        self.machine.array(counts=dict.fromkeys(('unwritten', 'clean', 'dirty'), 0) | {'clean': 128}, chunk=128)
        os.makedirs(self.machine.path('dev'))
        self.cells = [1] * 60 + [0, 2, 3, 4, 5, 6, 7, 0] + [0] * 60
        im.make(self.machine.path('dev/sda0'), {}, im.lockless(self.cells))

    def test_one_each(self):
        said = self.tool('map', 'md0').splitlines()
        self.assertEqual(said[1].split(), ['0', 'bytes', '=' * 60 + '.#!>'])
        self.assertEqual(said[2].split(), ['4', 'MiB', '?+-' + '.' * 61])
        self.assertIn('128 chunks of 64 KiB', said[0])
        self.assertEqual(re.findall(r'(\S) (\D+) (\d+)', ' '.join(said[3:-1]))[0], ('!', 'need sync', '1'))
        self.assertIn('from /dev/sda0 (as on this member', said[-1])

    def test_worst_wins(self):
        got = self.json('map', 'md0', '--rows', '2', '--width', '8')
        self.assertEqual((got['cell_chunks'], got['cells']), (8, '=======!?.......'))
        self.assertEqual(got['state_chunks']['clean'], 60)
        got = self.json('map', 'md0', '--range', '60-67')
        self.assertEqual((got['cell_chunks'], got['cells'], got['first_chunk']), (1, '.#!>?+-.', 60))
        for bad in ('3-1', ''):
            self.tool('map', 'nosuch', '--range', bad, status=USAGE)
        for bad in ('1-128', '3-1', '', '640KiB-128KiB', 'x-y', '-', '60-', '9999999999999999999999-1'):
            self.tool('map', 'md0', '--range', bad, status=USAGE)
        for one in ('5', '5-5', '320KiB', '320KiB-384KiB'):
            self.assertEqual(self.json('map', 'md0', '--range', one)['cells'], '=')

    def test_members_and_memory(self):
        path = self.machine.path('dev/sda0')
        self.assertEqual(self.json('map', path)['cells'], self.json('map', 'md0')['cells'])
        im.make(path, {}, im.classic({1, 127}))
        self.assertEqual(self.json('map', path)['cells'], '=#' + '=' * 125 + '#')
        # What the running array itself says comes first.
        with open(self.machine.path('sys/block/md0/md/llbitmap/cells'), 'wb') as file:
            file.write(bytes([1] * 127 + [3]))
        got = self.json('map', 'md0')
        self.assertEqual((got['cells'], got['from']),
                         ('=' * 127 + '!', '/sys/block/md0/md/llbitmap/cells'))
        with open(self.machine.path('sys/block/md0/md/llbitmap/cells'), 'wb') as file:
            file.write(bytes([1] * 60))
        said = self.tool('map', 'md0').splitlines()
        self.assertEqual((said[1].split(), said[2].split()), (['0', 'bytes', '=' * 60], ['4', 'MiB']))
        self.assertIn('chunks from 60 on could not be read', said[-1])
        self.assertEqual(self.json('map', 'md0')['cells'], '=' * 60 + ' ' * 68)
        os.remove(self.machine.path('sys/block/md0/md/llbitmap/cells'))
        self.tool('map', self.machine.path('nothing'), status=UNREADABLE)
        im.make(path, {})
        self.tool('map', path, status=UNREADABLE)
        image = self.machine.path('images/md0')
        os.makedirs(os.path.dirname(image))
        im.make(image, {}, im.classic({1}))
        self.assertEqual(self.json('map', '/images/md0')['from'], image)

    def test_svg(self):
        picture = tree.fromstring(self.tool('map', 'md0', '--svg'))
        names = [one.get('class') for one in picture.iter('{http://www.w3.org/2000/svg}rect')]
        for name in ('clean', 'dirty', 'need_sync', 'unwritten', 'syncing_unwritten'):
            self.assertIn(name, names)
        clean = [one for one in picture.iter('{http://www.w3.org/2000/svg}rect') if one.get('class') == 'clean'][0]
        self.assertEqual(clean.get('width'), '600')  # 60 cells, one rectangle


class Live(Case):
    """convert of an array that runs, as far as it goes without md: what is refused, in one line,
    and that nothing is written then."""

    def running(self, members=None, **fields):
        """Its members are images below dev/, of 12 MiB."""
        self.machine.array(**(dict(bitmap='none', uuid=str(uuid.UUID(bytes=im.UUID))) | fields))
        self.paths = []
        for role, letter in enumerate('ab'):
            path = self.machine.path(f'dev/sd{letter}0')
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.paths.append(im.make(path, dict(number=role) | (members or {})))
        self.before = [im.Found(path).image for path in self.paths]

    def refused(self, why, to='lockless', **fields):
        self.running(**fields)
        self.assertIn(why, self.tool('convert', '--to', to, 'md0', status=REFUSED))
        self.assertEqual([im.Found(path).image for path in self.paths], self.before)

    def test_dry_run(self):
        self.running()
        for name in ('md0', '/dev/md0'):
            done = self.run_tool('convert', '--to', 'lockless', '--dry-run', name)
            self.assertEqual((done.returncode, done.stderr), (DONE, ''))
            said = done.stdout
            self.assertEqual(said.splitlines()[0], 'md0, raid1, running: no bitmap -> lockless')
            self.assertEqual(said.count('the empty bad-block log is'), 2)
            self.assertEqual(said.splitlines()[-1], 'dry run: nothing was written')
        self.assertEqual([im.Found(path).image for path in self.paths], self.before)
        self.tool('convert', '--to', 'lockless', '--dry-run', '--json', 'md0', status=USAGE)

    def test_done_already(self):
        self.running(bitmap='lockless')
        self.assertIn('nothing to do', self.tool('convert', '--to', 'lockless', 'md0'))

    def test_state(self):
        self.refused('does not run', array_state='inactive')
        self.refused('a member is missing', degraded=1)
        self.refused('a resync runs; once it is done: llbitmap watch md0', sync_action='resync')
        self.refused('sync_action is frozen', sync_action='frozen')
        self.refused('is read-only (readonly)', array_state='readonly')
        self.refused('raid0 has no bitmap', level='raid0')
        self.refused('only 1.2', metadata_version='1.0')
        self.refused('is about to replace', parts=[('sda0', 0, 'in_sync'), ('sdb0', 1, 'in_sync,replacement')])
        self.refused('a journal, which goes with no bitmap', consistency_policy='journal', bitmap='internal')
        self.refused('not in sync', resync_start='4096')

    def test_kernel(self):
        self.machine.write('proc/sys/kernel/osrelease', '7.0.9-amd64')
        self.refused('7.2 does: stop the array')
        self.machine.write('proc/sys/kernel/osrelease', KERNEL)
        shutil.rmtree(self.machine.path('sys/module'))
        self.refused('modprobe llbitmap', loaded=False)

    def test_members(self):
        """Where md's superblock reaches to where md looks for a bitmap; bad blocks; another array."""
        self.refused("md's superblock is for 400 devices", members=dict(max_dev=400))
        self.refused('bad-block log', members=dict(features=8, log_offset=16))
        self.refused('is not what the array has under that name', uuid='00010203-0405-0607-0809-000000000000')
        self.running()
        with open(self.paths[1], 'r+b') as file:
            file.seek(8 * 512 + 20)
            file.write(b'z')
        self.assertIn('wrong checksum', self.tool('convert', '--to', 'lockless', 'md0', status=REFUSED))

    def test_way_back(self):
        """Chunks that were never written: md would be busy for hours before it takes the internal one."""
        self.refused('73,800 chunks were never written', to='internal', bitmap='lockless')
        self.assertIn('73,800 chunks were never written, or wait: md resynchronises everything',
                      self.tool('convert', '--to', 'none', '--dry-run', 'md0'))
        self.running(bitmap='lockless', counts={'unwritten': 0})
        self.assertEqual(self.tool('convert', '--to', 'internal', '--dry-run', 'md0'),
                         'md0, raid1, running: lockless -> internal\ndry run: nothing was written\n')

    def test_leftover_files(self):
        """md may leave llbitmap/ behind: it says itself what the array has."""
        self.running(bitmap='lockless', bitmap_type='[none] bitmap llbitmap ')
        self.machine.write('sys/block/md0/md/bitmap/location', 'none')
        self.machine.write('sys/block/md0/md/consistency_policy', 'resync')
        self.assertIn('no bitmap', self.tool('status', 'md0'))


class Resync(Case):
    SET = 'sys/block/md0/md/bitmap_set_bits'
    MARKED = dict(counts={'unwritten': 0, 'clean': 0, 'dirty': 21, 'need sync': 119200})  # as it is afterwards

    def setUp(self):
        super().setUp()
        self.machine.array(**self.MARKED)
        self.machine.write(self.SET, '')

    def asked(self, *args, status=DONE, text=''):
        self.machine.write(self.SET, '')
        said = self.tool('resync', *args, status=status, text=text)
        return self.machine.read(self.SET).strip(), said

    def test_all_and_range(self):
        self.assertEqual(self.asked('md0', '--yes')[0], '0-119220')
        for words, written in (('7-9', '7-9'), ('0-0', '0-0'), ('8MiB-24MiB', '1-2'), ('0MiB-1GiB', '0-127'),
                               ('7', '7-7'), ('9MiB', '1-1'), ('1-24MiB', '1-2'),
                               ('119220-119220', '119220-119220')):
            self.assertEqual(self.asked('md0', '--range', words, '--yes')[0], written)
        for words in ('9-7', '0-119221', '0KiB-1TiB', '', '15MiB-9MiB', '9MiB-9MiB', '119221', '7-', 'KiB', '0-8MiB-', 'a-b', '1MB-2MB', '0KiB-0KiB', '99999999TiB-1TiB'):
            self.assertEqual(self.asked('md0', '--range', words, '--yes', status=USAGE)[0], '')

    def test_plain_file(self):
        """An image that is called like an array: the array is not touched."""
        self.machine.write('home/md0', 'an image')
        self.assertEqual(self.asked('/home/md0', '--yes', status=UNREADABLE)[0], '')

    def test_question(self):
        """Nobody there to ask: refused. Nothing is written before."""
        self.assertEqual(self.asked('md0', status=REFUSED, text='y\n')[0], '')
        written, said = self.asked('md0', '--dry-run')
        self.assertEqual(written, '')
        self.assertIn('931.4 GiB of each member', said)
        self.assertIn("about 1 h 21 min at 195.3 MiB/s (md's limit; disks may be slower)", ' '.join(said.split()))
        self.assertIn('The first member is copied over the others', ' '.join(said.split()))
        for answer, written, status in (('n', '', REFUSED), ('', '', REFUSED), ('y', '0-119220', DONE)):
            self.machine.write(self.SET, '')
            got = self.on_terminal('resync', 'md0', answer=answer)
            self.assertEqual((self.machine.read(self.SET).strip(), got), (written, status), answer)

    def on_terminal(self, *args, answer):
        ours, theirs = pty.openpty()
        with subprocess.Popen([TOOL, *args], stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={'LLBITMAP_ROOT': self.machine.root}) as running:
            os.close(theirs)
            os.write(ours, answer.encode() + b'\n')
            status = running.wait()
        os.close(ours)
        return status

    def test_refused(self):
        for fields, word in ((dict(bitmap='internal'), 'echo repair'), (dict(array_state='readonly'), '--readwrite'),
                             (dict(array_state='read-auto'), '--readwrite'), (dict(array_state='inactive'), 'does not run'),
                             (dict(sync_action='frozen'), 'echo idle'), (dict(sync_action='reshape'), 'a reshape runs')):
            shutil.rmtree(self.machine.path('sys/block/md0'))
            self.machine.array(**fields)
            written, said = self.asked('md0', '--yes', status=REFUSED)
            self.assertEqual(written, '')
            self.assertIn(word, said)
        shutil.rmtree(self.machine.path('sys/block/md0'))
        self.machine.array()
        self.tool('resync', 'md0', '--yes', status=REFUSED)  # no bitmap_set_bits
        self.machine.array(degraded=1, **self.MARKED)
        self.assertIn('begins when the array is whole', self.asked('md0', '--yes')[1])

    def test_not_marked(self):
        """md takes all that is written to the file, and says nothing."""
        self.machine.array()
        for action, status in (('idle', BROKEN), ('check', BROKEN), ('resync', DONE)):
            self.machine.write('sys/block/md0/md/sync_action', action)
            written, said = self.asked('md0', '--yes', '--range', '7-99', status=status)
            self.assertEqual((written, 'dmesg' in said), ('7-99', status == BROKEN), action)
        self.machine.write('sys/block/md0/md/sync_action', 'idle')
        self.asked('md0', '--yes', '--range', '1-9')  # nine are dirty: it may be over already
        self.machine.write('sys/block/md0/md/llbitmap/bits', 'no bitmap')
        self.asked('md0', '--yes', '--range', '0-0', status=BROKEN)


class Doctor(Case):
    def setUp(self):
        super().setUp()
        self.variables = {'PATH': self.machine.path('programs')}
        self.machine.array()
        self.machine.boots()

    def found(self, *args, status=SEE_TO):
        got = self.json('doctor', *args, status=status)
        return {one['id']: one for one in got['notices']}

    def only(self, name, *words, severity='critical', status=SEE_TO, args=()):
        """It finds this and nothing else, and names the cure."""
        got = self.found(*args, status=status)
        self.assertEqual(list(got), [name])
        self.assertEqual(got[name]['severity'], severity)
        for word in words:
            self.assertIn(word, f"{got[name]['text']} {got[name]['action']}")
        said = self.tool('doctor', *args, status=status)
        self.assertIn(f'[{name}]', ' '.join(said.split()))
        return got[name]

    def test_healthy(self):
        self.assertEqual(self.found(status=DONE), {})
        said = self.tool('doctor')
        self.assertIn('nothing to see to', said)
        for words in ('kernel 7.2.12+deb14-amd64 (running): updates/dkms/llbitmap.ko.xz', 'mdadm 4.6',
                      'softdep and udev rule', 'llbitmap 0.2.0 is loaded'):
            self.assertIn(words, ' '.join(said.split()))

    def test_modules(self):
        lib = f'lib/modules/{KERNEL}'
        self.machine.kernel('7.3.4+deb14-amd64', module=False, headers=False, initramfs=False)
        self.only('module_missing', '7.3.4+deb14-amd64 (the newest)', 'apt install linux-headers-7.3.4+deb14-amd64',
                  'make install KVER=7.3.4')
        self.machine.write('usr/src/llbitmap-0.2.0/dkms.conf', '')
        self.only('module_missing', 'dkms install llbitmap/0.2.0 -k 7.3.4+deb14-amd64')
        self.only('module_missing', args=('--kernel', '7.3.4+deb14-amd64'))
        self.assertEqual(self.found('--kernel', KERNEL, status=DONE), {})
        self.tool('doctor', '--kernel', '6.6.6', status=UNREADABLE)
        self.machine.write('boot/config-7.3.4+deb14-amd64', '#\nCONFIG_MD_LLBITMAP=y')
        self.assertEqual(self.found(status=DONE), {})
        shutil.rmtree(self.machine.path('lib/modules/7.3.4+deb14-amd64'))
        self.machine.kernel('6.12.117+deb13-amd64', module=False, initramfs=False)
        self.only('kernel_old', '6.12.117', severity='warning')
        shutil.rmtree(self.machine.path('lib/modules/6.12.117+deb13-amd64'))
        self.machine.write(f'{lib}/updates/llbitmap.ko', 'another')
        self.only('module_two', 'updates/llbitmap.ko', severity='warning')
        os.remove(self.machine.path(f'{lib}/updates/llbitmap.ko'))
        self.machine.write(f'{lib}/modules.dep', 'nothing')
        self.only('depmod', f'depmod {KERNEL}')

    def test_built(self):
        self.machine.modinfo(vermagic='7.2.11+deb14-amd64 SMP')
        self.only('module_foreign', 'built for 7.2.11+deb14-amd64')
        self.machine.modinfo(vermagic=' ')
        self.only('module_unread', 'is not known', severity='info', status=DONE)
        self.machine.program('modinfo', 'exit 1')
        self.only('module_unread', severity='info', status=DONE)
        self.machine.modinfo()
        self.warns('modinfo')
        self.assertEqual(self.found(status=DONE), {})
        self.machine.modinfo(version='0.3.0')
        self.only('module_old', 'loaded is llbitmap 0.2.0, installed is 0.3.0', 'reboot', severity='warning')
        self.machine.modinfo()
        os.rename(self.machine.path('usr/bin/x86_64-linux-gnu-g++-16'), self.machine.path('usr/bin/g++-15'))
        self.only('compiler', 'apt install g++-16', severity='warning')
        self.machine.write('usr/bin/g++-17', '')
        self.assertEqual(self.found(status=DONE), {})
        shutil.rmtree(self.machine.path(f'lib/modules/{KERNEL}/build'))
        self.only('headers_missing', 'apt install linux-headers-amd64', severity='warning')

    def warns(self, name):
        """That program says something on stderr as well."""
        self.machine.program(name, 'echo "modinfo: WARNING: a line" >&2\n' + self.machine.read(f'programs/{name}'))

    def test_newest(self):
        """As sort -V and apt have it."""
        for release in ('7.3~rc5+1-amd64', '7.3+1-amd64', '7.3~rc10+1-amd64', '7.3~~a-amd64', '7.2.9-amd64'):
            self.machine.kernel(release)
        got = self.json('doctor', '--skip-initramfs')['kernels']
        self.assertEqual([one['release'] for one in got], ['7.2.9-amd64', KERNEL, '7.3~~a-amd64', '7.3~rc5+1-amd64',
                                                           '7.3~rc10+1-amd64', '7.3+1-amd64'])
        self.assertEqual([one['newest'] for one in got], [False] * 5 + [True])

    def test_initramfs(self):
        md = f'usr/lib/modules/{KERNEL}/kernel/drivers/md/md-mod.ko.xz'
        module = f'usr/lib/modules/{KERNEL}/updates/dkms/llbitmap.ko.xz'
        self.machine.listed(KERNEL, [md, 'usr/sbin/mdadm'])
        self.only('initramfs_without_module', f'update-initramfs -u -k {KERNEL}')
        self.assertEqual(self.found('--skip-initramfs', status=DONE), {})
        self.machine.listed(KERNEL, [md, module])
        self.only('initramfs_without_softdep')
        self.machine.listed(KERNEL, ['bin', 'init'])
        self.assertEqual(self.found(status=DONE), {})
        self.machine.listed(KERNEL, [md, module, 'usr/sbin/mdadm', 'usr/lib/modprobe.d/llbitmap.conf'])
        made = os.stat(self.machine.path(f'boot/initrd.img-{KERNEL}')).st_mtime
        installed = self.machine.write('var/lib/dpkg/info/mdadm.list', '/usr/sbin/mdadm')
        self.machine.program('dpkg-query', 'echo /var/lib/dpkg/info/mdadm.list')
        os.utime(installed, (1, made - 10))
        self.assertEqual(self.found(status=DONE), {})
        os.utime(installed, (1, made + 10))
        self.only('initramfs_mdadm_old', f'update-initramfs -u -k {KERNEL}', severity='warning')
        self.machine.listed(KERNEL, [md, module, 'usr/lib/modprobe.d/llbitmap.conf'])
        os.utime(self.machine.path(f'boot/initrd.img-{KERNEL}'), (1, 1))
        self.only('initramfs_old', severity='warning')
        self.machine.program('lsinitramfs', 'echo cannot; exit 1')
        self.only('initramfs_unread', severity='info', status=DONE)
        os.remove(self.machine.path(f'boot/initrd.img-{KERNEL}'))
        self.only('initramfs_unread', 'no initramfs of it is known by name', severity='info', status=DONE)
        self.assertEqual(self.found('--skip-initramfs', status=DONE), {})
        self.machine.write('etc/machine-id', '0123456789abcdef')
        self.machine.write(f'boot/efi/0123456789abcdef/{KERNEL}/initrd', 'an initramfs')
        self.machine.program('lsinitramfs', f'echo {md}')
        self.only('initramfs_without_module', '/boot/efi/0123456789abcdef/')

    def test_loading(self):
        os.remove(self.machine.path('lib/modprobe.d/llbitmap.conf'))
        self.assertEqual(self.found(status=DONE), {})  # the rule is enough
        self.machine.write('etc/udev/rules.d/63-llbitmap.rules', '')
        self.assertEqual(list(self.found()), ['softdep_missing', 'udev_rule_hidden'])
        self.machine.write('lib/modprobe.d/llbitmap.conf', '# softdep md_mod post: llbitmap\n#')
        self.assertIn('softdep_missing', self.found())
        self.machine.write('lib/modprobe.d/llbitmap.conf', 'softdep raid1 pre: llbitmap')
        self.only('udev_rule_hidden', severity='warning')
        os.remove(self.machine.path('etc/udev/rules.d/63-llbitmap.rules'))
        os.remove(self.machine.path('lib/udev/rules.d/63-llbitmap.rules'))
        self.assertEqual(self.found(status=DONE), {})
        self.machine.write(f'lib/modules/{KERNEL}/modules.builtin', 'kernel/drivers/md/md-mod.ko')
        self.only('udev_rule_missing', 'built into the kernel', severity='warning')
        self.machine.write('proc/cmdline', 'root=/dev/md0 module_blacklist=nouveau,llbitmap quiet')
        self.assertIn('module_blacklist', self.found()['module_blocked']['text'])
        self.machine.write('proc/cmdline', 'root=/dev/md0 module_blacklist=nollbitmap quiet')
        self.assertNotIn('module_blocked', self.found(status=SEE_TO))
        self.machine.write('etc/modprobe.d/local.conf', 'install llbitmap /bin/false')
        self.assertIn('module_blocked', self.found())
        self.machine.write('etc/modprobe.d/local.conf', '')
        self.machine.write('lib/modprobe.d/local.conf', 'install llbitmap /bin/false')
        self.only('udev_rule_missing', severity='warning')  # hidden by the empty one

    def test_softdep(self):
        """Only one that md's own loading follows, of a file that no other hides."""
        os.remove(self.machine.path('lib/udev/rules.d/63-llbitmap.rules'))
        for name, good in (('md-mod', True), ('raid456', True), ('foo', False), ('llbitmap', False)):
            self.machine.write('lib/modprobe.d/llbitmap.conf', f'softdep {name} post: llbitmap')
            self.assertEqual(list(self.found(status=DONE if good else SEE_TO)), [] if good else ['softdep_missing'], name)
        self.machine.write('lib/modprobe.d/llbitmap.conf', 'softdep md_mod post: llbitmap')
        self.assertEqual(self.found(status=DONE), {})
        os.makedirs(self.machine.path('etc/modprobe.d'))
        os.symlink('/dev/null', self.machine.path('etc/modprobe.d/llbitmap.conf'))
        self.only('softdep_missing')

    def test_rules_of_others(self):
        """They neither load the module nor hide the rule that does."""
        self.machine.write('etc/udev/rules.d/99-my-llbitmap-perms.rules', 'KERNEL=="md*", MODE="0660"')
        self.assertEqual(self.found(status=DONE), {})
        os.remove(self.machine.path('lib/modprobe.d/llbitmap.conf'))
        os.symlink('/dev/null', self.machine.path('etc/udev/rules.d/63-llbitmap.rules'))
        self.assertEqual(list(self.found()), ['softdep_missing', 'udev_rule_hidden'])

    def test_mdadm(self):
        self.machine.program('mdadm', 'echo "mdadm - v4.4 - 2024-11-07" >&2')
        self.only('mdadm_old', 'mdadm is 4.4')
        os.remove(self.machine.path('programs/mdadm'))
        self.only('mdadm_missing')

    def test_secure_boot(self):
        variable = self.machine.path('sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c')
        os.makedirs(os.path.dirname(variable))
        with open(variable, 'wb') as file:
            file.write(bytes((6, 0, 0, 0, 1)))
        self.machine.modinfo(signer='')
        self.assertEqual(self.found(status=DONE), {})  # it is loaded: it was accepted
        self.machine.kernel('7.3.4+deb14-amd64')
        self.only('secure_boot_unsigned', '7.3.4+deb14-amd64')
        self.warns('modinfo')
        self.only('secure_boot_unsigned', '7.3.4+deb14-amd64')
        self.machine.modinfo()
        self.machine.write('var/lib/dkms/mok.pub', 'a key')
        self.machine.program('mokutil', 'echo "$2 is not enrolled"')
        self.only('secure_boot_key', 'mokutil --import /var/lib/dkms/mok.pub')
        self.machine.program('mokutil', 'echo "$2 is already enrolled"; exit 1')
        self.assertEqual(self.found(status=DONE), {})
        with open(variable, 'wb') as file:
            file.write(bytes((6, 0, 0, 0, 0)))
        self.machine.modinfo(signer='')
        self.assertEqual(self.found(status=DONE), {})

    def test_arrays(self):
        self.machine.array('md1', bitmap='internal')
        self.only('classic_bitmap', '--grow --bitmap=lockless', severity='info', status=DONE)
        self.only('classic_bitmap', severity='warning', args=('md1',))
        shutil.rmtree(self.machine.path('sys/block/md1'))
        self.machine.write('etc/fstab', '/dev/md0 / ext4 defaults 0 1\n/dev/md0 /srv ext4 defaults 0 2\n'
                           '/dev/md0 /mnt ext4 nofail 0 2')
        self.only('fstab', '/srv', severity='info', status=DONE)
        self.fstab_above_the_array()
        os.remove(self.machine.path('etc/fstab'))
        self.degraded()
        self.assertEqual(list(self.found()), ['degraded', 'waits_for_whole'])
        self.machine.array('md1', array_state='inactive', parts=[('sda1', None, 'spare')])
        self.assertEqual(list(self.found(status=UNUSABLE)), ['inactive'])

    def fstab_above_the_array(self):
        """By the names that fstab has for them: a partition of the array, and a logical volume on it."""
        disk = self.machine.path('sys/devices/virtual/block/md0/md0p1')
        os.makedirs(self.machine.path('sys/class/block'), exist_ok=True)
        self.machine.write('sys/devices/virtual/block/md0/md0p1/partition', '1')
        os.symlink(disk, self.machine.path('sys/class/block/md0p1'))
        os.makedirs(self.machine.path('sys/class/block/dm-3/slaves/md0p1'))
        os.makedirs(self.machine.path('sys/class/block/dm-4/slaves/sdz'))
        for folder, name, to in (('disk/by-partuuid', 'aa-01', 'md0p1'), ('disk/by-partlabel', 'my\\x20data', 'md0p1'),
                                 ('mapper', 'vg-data', 'dm-3'), ('mapper', 'vg-other', 'dm-4')):
            self.machine.write(f'dev/{to}', '')
            os.makedirs(self.machine.path(f'dev/{folder}'), exist_ok=True)
            os.symlink(self.machine.path(f'dev/{to}'), self.machine.path(f'dev/{folder}/{name}'))
        for spec, words in (('PARTUUID=aa-01', 'md0p1, which is on md0,'), ('PARTUUID="aa-01"', 'md0p1'), ('PARTLABEL=my\\040data', 'md0p1, which is on md0,'),
                            ('/dev/mapper/vg-data', 'dm-3, which is on md0,')):
            self.machine.write('etc/fstab', f'{spec} /srv ext4 defaults 0 2\n')
            self.only('fstab', '/srv', words, severity='info', status=DONE)
        for line in ('/dev/mapper/vg-other /srv ext4 defaults 0 2', 'nas:/md0 /srv nfs defaults 0 0',
                     '//nas/md0 /srv cifs defaults 0 0', '/export/md0 /srv none bind 0 0', '/md0 /srv none bind 0 0',
                     '/dev/md0 /srv ext4 _netdev 0 2', '/dev/md0 /srv ext4 ro,x-systemd.automount 0 2'):
            self.machine.write('etc/fstab', line + '\n')
            self.assertEqual(self.found(status=DONE), {}, line)
        shutil.rmtree(self.machine.path('dev'))

    def test_members_of_no_array(self):
        self.machine.write('sys/class/block/sdx1/dev', '8:17')
        self.machine.write('run/udev/data/b8:17', 'E:ID_FS_TYPE=linux_raid_member')
        os.makedirs(self.machine.path('sys/class/block/sdx1/holders'))
        self.only('member_unread', severity='info', status=DONE)
        os.makedirs(self.machine.path('dev'))
        im.make(self.machine.path('dev/sdx1'), {}, im.lockless([1] * 128))
        self.only('array_absent', '/dev/sdx1', 'host:0', 'modprobe llbitmap')
        im.make(self.machine.path('dev/sdx1'), {}, im.classic({1}))
        self.assertEqual(self.found(status=DONE), {})
        im.make(self.machine.path('dev/sdx1'), {}, im.lockless([1] * 128))
        os.makedirs(self.machine.path('sys/class/block/sdx1/holders/md0'))
        self.assertEqual(self.found(status=DONE), {})

    def test_no_array_yet(self):
        """What would be lost at the next boot if there were one is a warning then."""
        shutil.rmtree(self.machine.path('sys/block/md0'))
        os.remove(self.machine.path('programs/mdadm'))
        self.only('mdadm_missing', severity='warning')
        self.machine.array(array_state='inactive', parts=[('sda1', None, 'spare')])
        for bitmap, needed in ((im.classic({1}), False), (im.lockless([1] * 128), True)):
            im.make(self.machine.write('dev/sda1', ''), {}, bitmap, data=None)
            self.assertEqual(self.json('doctor', status=UNUSABLE)['needed'], needed)


class Fix(Case):
    """doctor --fix: it says what it will do, asks, does that and nothing else, and looks again."""

    def setUp(self):
        super().setUp()
        self.variables = {'PATH': self.machine.path('programs')}
        self.machine.array()
        self.machine.boots()
        self.machine.write('usr/src/llbitmap-0.2.0/dkms.conf', '')
        for name in ('dkms', 'depmod', 'update-initramfs', 'modprobe', 'rm'):
            self.logs(name)

    def logs(self, name, then=''):
        """A program of that name, which writes down how it was called; here is what it does."""
        self.machine.program(name, f'echo "{name} $*" >>{self.machine.path("log")}\n{then}')

    def ran(self):
        try:
            return self.machine.read('log').splitlines()
        except FileNotFoundError:
            return []

    def fixed(self, *args, status=DONE):
        done = self.run_tool('doctor', '--fix', '--yes', *args)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout

    def asked(self, answers, status):
        """On a terminal; returns what it said."""
        ours, theirs = pty.openpty()
        with subprocess.Popen([TOOL, 'doctor', '--fix'], stdin=theirs, stdout=subprocess.PIPE, text=True,
                              env={'LLBITMAP_ROOT': self.machine.root, **self.variables}) as running:
            os.close(theirs)
            os.write(ours, answers.encode())
            said = running.stdout.read()
            self.assertEqual(running.wait(), status, said)
        os.close(ours)
        return said

    def test_healthy(self):
        self.assertIn('nothing to see to', self.fixed())
        self.assertEqual(self.ran(), [])

    def test_nobody_to_ask(self):
        self.machine.write(f'lib/modules/{KERNEL}/modules.dep', 'nothing')
        self.assertIn('say --yes', self.tool('doctor', '--fix', status=REFUSED, text='y\n'))
        self.assertEqual(self.run_tool('doctor', '--yes').returncode, USAGE)
        self.assertEqual(self.run_tool('doctor', '--fix', '--json').returncode, USAGE)
        self.assertEqual(self.ran(), [])

    def test_not_root(self):
        self.machine.array(array_state='inactive', parts=[('sda1', None, 'spare')])
        os.chmod(self.folder, 0o755)
        tool = shutil.copy(TOOL, self.folder)
        done = subprocess.run([tool, 'doctor', '--fix', '--yes'], check=False, text=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              stdout=subprocess.PIPE, user=None if os.getuid() else 65534, env={})
        self.assertEqual((done.returncode, done.stdout, done.stderr), (REFUSED, '', 'llbitmap: --fix is for root\n'))

    def test_question(self):
        """Each is named, and asked about; what is declined is left, and is found again."""
        dep = f'lib/modules/{KERNEL}/modules.dep'
        self.machine.write(dep, 'nothing')
        os.utime(self.machine.path(f'boot/initrd.img-{KERNEL}'), (1, 1))
        self.logs('depmod', f'echo "llbitmap.ko:" >{self.machine.path(dep)}')
        for answers, ran in (('n\nn\n', []), ('n\ny\n', [f'update-initramfs -u -k {KERNEL}']), ('y\nn\n', [f'depmod {KERNEL}'])):
            self.machine.write('log', '')
            said = self.asked(answers, SEE_TO)
            self.assertEqual([line for line in self.ran() if line], ran, answers)
            for words in (f'\nfix [depmod]: depmod {KERNEL}\n', f'\nfix [initramfs_old]: update-initramfs -u -k {KERNEL}\n'):
                self.assertEqual(said.count(words), 1, said)
            self.assertEqual(said.count('left as it is'), answers.count('n\n'))

    def test_one_after_the_other(self):
        """A module is built, and then it is in no initramfs: the next look finds that."""
        new = '7.3.4+deb14-amd64'
        self.machine.kernel(new, module=False)
        built = self.machine.path(f'lib/modules/{new}/updates/dkms/llbitmap.ko.xz')
        os.makedirs(os.path.dirname(built))
        listed = self.machine.path(f'listed/initrd.img-{new}')
        self.logs('dkms', f'echo >{built}; echo llbitmap.ko: >{self.machine.path(f"lib/modules/{new}/modules.dep")}')
        self.logs('update-initramfs', f'echo usr/llbitmap.ko >>{listed}')
        self.machine.modinfo(vermagic=f'{KERNEL} SMP')
        self.machine.modinfo(vermagic='$kernel SMP')
        said = self.fixed()
        self.assertEqual(self.ran(), [f'dkms install llbitmap/0.2.0 -k {new}', f'update-initramfs -u -k {new}'])
        self.assertTrue(said.rstrip().endswith('nothing to see to'), said)

    def test_dracut(self):
        os.remove(self.machine.path('programs/update-initramfs'))
        self.machine.listed(KERNEL, ['usr/sbin/mdadm'])
        self.assertIn('there is nothing in it that --fix does', self.fixed(status=SEE_TO))
        self.logs('dracut')
        self.fixed(status=SEE_TO)
        self.assertEqual(self.ran(), [f'dracut --force /boot/initrd.img-{KERNEL} {KERNEL}'])

    def test_failure(self):
        """What fails is said, ends with 5, and is not tried again and again."""
        self.machine.write(f'lib/modules/{KERNEL}/modules.dep', 'nothing')
        self.logs('depmod', 'exit 3')
        done = self.run_tool('doctor', '--fix', '--yes')
        self.assertEqual((done.returncode, done.stderr), (BROKEN, 'llbitmap: depmod: ended with status 3\n'))
        self.assertEqual(self.ran(), [f'depmod {KERNEL}'])

    def test_dkms_off(self):
        self.machine.write('etc/dkms/no-autoinstall', '')
        self.assertEqual([one['id'] for one in self.json('doctor', status=SEE_TO)['notices']], ['dkms_off'])
        os.remove(self.machine.path('programs/rm'))
        os.symlink('/bin/rm', self.machine.path('programs/rm'))
        self.assertIn('fix [dkms_off]: rm ', self.fixed())
        self.assertFalse(os.path.exists(self.machine.path('etc/dkms/no-autoinstall')))

    def inactive(self, count=2, **fields):
        shutil.rmtree(self.machine.path('sys/block'))
        self.machine.array(array_state='inactive', parts=[(f'sd{letter}1', None, 'spare') for letter in 'ab'[:count]], **fields)
        os.makedirs(self.machine.path('dev'), exist_ok=True)
        for letter in 'ab':
            im.make(self.machine.path(f'dev/sd{letter}1'), {}, im.lockless([1] * 128))

    def test_inactive(self):
        """Stopped and assembled only if it can come back: its module is there, and all its members are."""
        self.machine.program('mdadm', f'[ "$1" != --version ] || exec echo "mdadm - v4.6"\n'
                             f'echo "mdadm $*" >>{self.machine.path("log")}')
        shutil.rmtree(self.machine.path('sys/module'))
        self.inactive(loaded=False)
        self.fixed(status=UNUSABLE)
        self.assertEqual(self.ran(), ['modprobe llbitmap', 'mdadm --stop /dev/md0', 'mdadm --assemble /dev/md0 /dev/sda1 /dev/sdb1'])
        self.machine.write('log', '')
        self.logs('modprobe', 'exit 1')
        self.fixed(status=BROKEN)
        self.assertEqual(self.ran()[1:], ['modprobe llbitmap'])
        os.remove(self.machine.path('log'))
        self.inactive(count=1, loaded=False)
        self.fixed(status=UNUSABLE)
        self.assertEqual(self.ran(), [])
        self.inactive()  # it is loaded by now
        self.fixed(status=UNUSABLE)
        self.assertEqual(self.ran(), ['mdadm --stop /dev/md0', 'mdadm --assemble /dev/md0 /dev/sda1 /dev/sdb1'])
        os.remove(self.machine.path('log'))
        for letter in 'ab':
            im.make(self.machine.path(f'dev/sd{letter}1'), {}, im.classic({1}))
        self.fixed(status=UNUSABLE)
        self.assertEqual(self.ran(), [])

    def test_running_kernel_without_module(self):
        """Then nothing is stopped: modprobe would fail, and the array is no better."""
        shutil.rmtree(self.machine.path('sys/module'))
        shutil.rmtree(self.machine.path(f'lib/modules/{KERNEL}'))
        self.machine.kernel(module=False, headers=False)
        self.machine.listed(KERNEL, ['bin', 'init'])
        self.inactive(loaded=False)
        self.fixed(status=UNUSABLE)
        self.assertEqual(self.ran(), [])


if __name__ == '__main__':
    if len(sys.argv) > 1 and not sys.argv[1].startswith('-') and os.path.sep in sys.argv[1]:
        TOOL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
