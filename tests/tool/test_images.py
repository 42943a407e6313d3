#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""The llbitmap tool on image files: python3 tests/tool/test_images.py [TOOL]."""

import contextlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import images as im
from schema import wrong

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(TOP, 'build', 'tool', 'llbitmap')
FUZZ = os.path.join(TOP, 'build', 'tool-fuzz')
DONE, DAMAGED, USAGE, UNREADABLE, REFUSED = range(5)


class Case(unittest.TestCase):
    def setUp(self):
        # In memory nobody waits for a disk.
        where = '/dev/shm' if os.path.isdir('/dev/shm') else None
        self.folder = tempfile.mkdtemp(prefix='llb-images-', dir=where)
        self.limit = None  # bytes of memory

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def pair(self, bitmap=None, bitmap2=None, **fields):
        """The two members of a raid1."""
        fields.setdefault('log_offset', 16)
        return [im.make(self.path(f'm{number}'), dict(fields, number=number),
                        bitmap if not number or bitmap2 is None else bitmap2)
                for number in range(2)]

    def tool(self, *args, status=DONE):
        limit = [] if self.limit is None else ['prlimit', f'--as={self.limit}']
        done = subprocess.run([*limit, TOOL, *args], stdin=subprocess.DEVNULL, text=True, check=False,
                              errors='backslashreplace', stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        if status is not None:
            self.assertEqual(done.returncode, status, f'{args}: {done.stdout}{done.stderr}')
        if status in (USAGE, UNREADABLE, REFUSED):
            self.assertEqual(done.stdout, '')
            lines = done.stderr.splitlines()
            self.assertEqual(len(lines), 1, done.stderr)
            self.assertTrue(lines[0].startswith('llbitmap: '), lines[0])
            return lines[0]
        self.assertEqual(done.stderr, '')
        return done.stdout

    def examine(self, path, status=DONE):
        self.tool('examine', path, status=status)
        got = json.loads(self.tool('examine', '--json', path, status=status))
        self.assertEqual(wrong('examine', got), [])
        self.assertEqual((got['exit_status'], got['unreadable']), (status, []))
        return got['members'][0]

    def untouched(self, paths, *args, status=REFUSED):
        """The tool says why in one line, and writes nothing."""
        for path in paths:
            shutil.copyfile(path, path + '.before')
        said = self.tool(*args, status=status)
        for path in paths:
            self.assertTrue(im.same(path, path + '.before'), f'{path} was written')
        return said

    def refused(self, paths, *words, to='lockless'):
        said = self.untouched(paths, 'convert', '--to', to, *paths)
        for word in words:
            self.assertIn(word, said)

    def converted(self, to, paths, *options):
        before = [im.Found(path) for path in paths]
        planned = json.loads(self.tool('convert', '--to', to, *options, '--dry-run', '--json', *paths))
        copies = {path: bytearray(one.image) for path, one in zip(paths, before)}
        self.tool('convert', '--to', to, *options, *paths)
        after = [im.Found(path) for path in paths]
        self.assertEqual(wrong('phases', planned), [])
        # What was announced is what was done.
        for phase in planned['phases']:
            for write in phase['writes']:
                data = bytes.fromhex(write['hex'])
                copies[write['device']][write['offset']:write['offset'] + len(data)] = data
        for path, old, new in zip(paths, before, after):
            self.assertEqual(bytes(copies[path]), new.image, path)
            self.assertEqual(old.data, new.data)
            self.assertTrue(new.sum_ok)
            self.assertGreater(new.events, old.events)
            self.assertEqual(new.image[2048 * im.SECTOR:], old.image[2048 * im.SECTOR:])
        self.assertEqual(len({(one.events, one.resync, one.cells) for one in after}), 1)
        if to == 'none':
            self.assertEqual({one.features & im.BITMAP for one in after}, {0})
            return after[0]
        for path, one in zip(paths, after):
            self.assertEqual((one.features & im.BITMAP, one.bitmap_offset), (1, 8))
            self.assertEqual((one.uuid, one.head_events, one.cleared, one.nodes),
                             (im.UUID, one.events, one.events, 0))
            self.assertEqual(one.sync_size, one.size)
            self.assertEqual(one.state, 0)
            self.examine(path)
        return after[0]


class Examine(Case):
    def test_lockless(self):
        cells = [0, 1, 2, 3, 4, 5, 6, 7] * 16
        path = self.pair(im.lockless(cells))[0]
        got = self.examine(path)
        bitmap = got['bitmap']
        self.assertEqual((bitmap['kind'], bitmap['version'], bitmap['usable']), ('lockless', 6, True))
        self.assertEqual((bitmap['chunk_sectors'], bitmap['chunk_unit'], bitmap['chunks']),
                         (128, 'sectors', 128))
        self.assertEqual(sorted(bitmap['state_chunks'].items()), sorted(
            [(name, 16) for name in ('unwritten', 'clean', 'dirty', 'need_sync', 'syncing',
                                     'need_sync_unwritten', 'syncing_unwritten',
                                     'clean_unwritten')] + [('invalid', 0)]))
        self.assertEqual((bitmap['resync_chunks'], bitmap['resync_sectors']), (48, 48 * 128))
        self.assertEqual((bitmap['events'], bitmap['events_cleared'], bitmap['stale']), (20, 18, False))
        self.assertEqual((got['array']['level'], got['member']['role'], got['metadata']), (1, 0, '1.2'))

    def test_units(self):
        """The chunk size in bytes means the same."""
        for field, unit in ((128, 'sectors'), (65536, 'bytes')):
            path = self.pair(im.lockless([1] * 128, chunksize=field))[0]
            bitmap = self.examine(path)['bitmap']
            self.assertEqual((bitmap['chunk_sectors'], bitmap['chunk_unit']), (128, unit))

    def test_first_use(self):
        path = self.pair(im.lockless([], chunksize=64 << 20, events=0, cleared=0,
                                     state=im.FIRST_USE | im.MADE_CLEAN))[0]
        bitmap = self.examine(path)['bitmap']
        self.assertEqual((bitmap['flags'], bitmap['chunk_unit']), (['first use', 'made clean'], 'ignored'))

    def test_stale_and_invalid(self):
        path = self.pair(im.lockless([1] * 128, events=19))[0]
        bitmap = self.examine(path, DAMAGED)['bitmap']
        self.assertEqual((bitmap['stale'], bitmap['resync_chunks']), (True, 128))
        path = self.pair(im.lockless([1] * 120 + [255] * 5 + [0x80, 8, 9]))[0]
        bitmap = self.examine(path, DAMAGED)['bitmap']
        self.assertEqual((bitmap['state_chunks']['invalid'], bitmap['resync_chunks']), (8, 8))

    def test_classic(self):
        for version in (3, 4):
            path = self.pair(im.classic({1, 127}, version=version))[0]
            bitmap = self.examine(path)['bitmap']
            self.assertEqual((bitmap['kind'], bitmap['version'], bitmap['chunk_sectors'],
                              bitmap['resync_chunks']), ('internal', version, 128, 2))
        path = self.pair(im.classic(set(), version=5, nodes=3))[0]
        self.assertEqual(self.examine(path)['bitmap']['kind'], 'clustered')

    def test_none(self):
        path = self.pair()[0]
        self.assertIsNone(self.examine(path)['bitmap'])

    def test_places(self):
        for minor, start, data in ((1, 0, 2048), (0, (12 << 11) - 16, 0)):
            path = self.path('other')
            im.make(path, dict(minor=minor, start=start, data_offset=data, log_offset=0,
                               bitmap_offset=-24 if minor == 0 else 8), im.classic({5}))
            got = self.examine(path)
            self.assertEqual((got['metadata'], got['bitmap']['resync_chunks']), (f'1.{minor}', 1))

    def test_damaged_heads(self):
        """Every field wrong in turn: a warning that names it, never trust."""
        for field, value, word in (('magic', 1, 'magic'), ('version', 7, 'version'),
                                   ('uuid', bytes(16), 'uuid'), ('sync_size', 0, 'sync_size'),
                                   ('chunksize', 100, 'chunksize'), ('chunksize', 0, 'chunksize'),
                                   ('reserved', 1, 'sectors_reserved'),
                                   ('reserved', 1 << 30, 'sectors_reserved'),
                                   ('nodes', 3, 'cluster')):
            path = self.pair(im.lockless([1] * 128, **{field: value}))[0]
            got = self.examine(path, DAMAGED)
            self.assertFalse(got['bitmap']['usable'])
            self.assertNotIn('state_chunks', got['bitmap'])
            self.assertIn(word, ' '.join(got['warnings']))
        for field, value in (('uuid', bytes(16)), ('sync_size', 0), ('chunksize', 3),
                             ('sync_size', 1 << 60)):
            path = self.pair(im.classic(set(), **{field: value}))[0]
            self.assertFalse(self.examine(path, DAMAGED)['bitmap']['usable'])

    def test_damaged_supers(self):
        path = self.pair(im.lockless([1] * 128))[0]
        with open(path, 'r+b') as file:
            file.seek(4096 + 40)
            file.write(b'x')
        self.assertFalse(self.examine(path, DAMAGED)['member']['checksum_ok'])
        self.examine(self.pair(im.lockless([1] * 128), features=1 << 20)[0], DAMAGED)
        far = im.make(self.path('far'), dict(features=im.BITMAP, bitmap_offset=1 << 29))
        self.examine(far, DAMAGED)
        for fields in (dict(max_dev=4000), dict(magic=3)):
            path = self.path('bad')
            try:
                im.make(path, fields)
            except struct.error:
                self.fail('the test cannot make it')
            self.tool('examine', path, status=UNREADABLE)

    def names(self, text, *raw):
        """No byte of a name steers a terminal or begins a line; all is told, escaped."""
        for byte in text.replace('\n', ''):
            self.assertTrue(byte.isprintable(), ascii(text))
        for part in raw:
            self.assertIn(part, text)

    def test_names_are_escaped(self):
        evil = b'a\x1b[2J\n  warning x\x7f\xff\xc2\x9b\\'
        path = self.pair(im.lockless([1] * 128), name=evil)[0]
        text = self.tool('examine', path)
        self.names(text, r'a\x1b[2J\x0a  warning x\x7f\xff\xc2\x9b\\')
        self.assertEqual(len(text.splitlines()), len(self.tool('examine', self.pair(
            im.lockless([1] * 128))[0]).splitlines()))
        self.assertNotIn('\x1b', json.dumps(self.examine(path), ensure_ascii=False))
        name = 'tür-面\u202e'.encode()
        path = self.pair(im.lockless([1] * 128), name=name)[0]
        self.names(self.tool('examine', path), 'tür-面\\xe2\\x80\\xae')

    def test_paths_are_escaped(self):
        path = os.fsencode(self.folder) + b'/m\n\x1b[31m\xfe'
        said = self.tool('examine', path, status=UNREADABLE)
        self.names(said, r'm\x0a\x1b[31m\xfe')
        shutil.copyfile(self.pair(im.classic(set()), log_offset=0)[0], path)
        self.names(self.tool('examine', path), r'm\x0a\x1b[31m\xfe: md 1.2')
        said = self.tool('convert', '--to', 'none', path, status=REFUSED)
        self.names(said, 'no member')
        other = im.make(self.path('m1'), dict(number=1, log_offset=16), im.classic(set()))
        self.names(self.tool('convert', '--to', 'lockless', '--dry-run', path, other))
        json.loads(self.tool('convert', '--to', 'lockless', '--dry-run', '--json', path, other))
        self.names(self.tool('convert', '--to', 'a\x1bx', path, status=USAGE), r'a\x1bx')

    def test_huge_classic(self):
        """2^33 chunks on a sparse file: said in one line, not read."""
        path = im.make(self.path('huge'), dict(data_offset=1 << 27, data_size=1 << 20, size=1 << 20),
                       im.classic(set(), sync_size=1 << 33, chunksize=512), data=None, mib=65 << 10)
        with self.limited(512 << 20):
            got = self.examine(path, DAMAGED)
        self.assertFalse(got['bitmap']['usable'])
        self.assertIn('more than the possible', ' '.join(got['warnings']))
        other = im.make(self.path('huge1'), dict(data_offset=1 << 27, data_size=1 << 20, size=1 << 20,
                                                 number=1), im.classic(set()), data=None, mib=65 << 10)
        with self.limited(512 << 20):
            self.tool('convert', '--to', 'lockless', path, other)
        # A large one that is read, a MiB at a time: 2^26 bits, of which the last is set.
        fields = dict(data_offset=1 << 20, data_size=(1 << 32), size=1 << 32)
        bits = im.head_bytes(sync_size=1 << 32, chunksize=1 << 15)
        paths = [im.make(self.path(f'large{number}'), dict(fields, number=number), bits, data=None,
                         mib=3 << 20) for number in range(2)]
        with open(paths[0], 'r+b') as file:
            file.seek(16 * 512 + 256 + (1 << 23) - 1)
            file.write(b'\x80')
        with self.limited(512 << 20):
            self.assertEqual(self.examine(paths[0])['bitmap']['resync_chunks'], 1)
            said = self.tool('convert', '--to', 'lockless', *paths)
        self.assertIn('(1 of 67108864 chunks not clean)', said)

    def limited(self, limit):
        """Commands meanwhile have no more memory than that."""
        @contextlib.contextmanager
        def block():
            self.limit = limit
            yield
            self.limit = None
        return block()

    def test_bad_log_places(self):
        """A log off the member, over data, over the superblock: warned of; a conversion
        neither reads nor writes there."""
        for offset, size, data in ((1 << 30, 8, 2048), (-(1 << 30), 8, 2048), (1 << 14, 0xffff, 2048),
                                   (0, 8, 2048)):
            paths = self.pair(im.classic(set()), features=im.BAD_BLOCKS, log_offset=offset, log_size=size)
            got = self.examine(paths[0], DAMAGED)
            self.assertIn('bad-block log', ' '.join(got['warnings']))
            self.assertTrue(got['bitmap']['usable'])
            self.assertIsNone(got['member']['bad_block_log']['entries'])
            self.refused(paths, 'bad-block log')
        for offset in (3000, 2, 1 << 30):
            paths = self.pair(im.lockless([1] * 128), log_offset=offset)
            self.assertIn('lies over', ' '.join(self.examine(paths[0], DAMAGED)['warnings']))
            before = [im.Found(path) for path in paths]
            self.tool('convert', '--to', 'internal', *paths)
            for path, old in zip(paths, before):
                got = im.Found(path)
                self.assertEqual(got.data, old.data)
                self.assertEqual(len(got.image), len(old.image))
                self.assertEqual((got.log_size, got.log_offset), (0, 0))

    def test_long_bad_log(self):
        """A log of more than 100 sectors has its entries, too."""
        log = struct.pack('<QQ', 77 << 10 | 8, 99 << 10 | 1).ljust(101 * 512, b'\xff')
        for offset, ok in ((300, True), (100, False)):
            paths = self.pair(im.classic(set()), features=im.BAD_BLOCKS, log_offset=offset, log_size=101)
            for path in paths:
                with open(path, 'r+b') as file:
                    file.seek((8 + offset) * 512)
                    file.write(log)
            got = self.examine(paths[0], DAMAGED)
            self.assertEqual(got['member']['bad_block_log']['entries'], 2)
            self.assertIn('4 KiB', ' '.join(got['warnings']))
            if not ok:
                self.refused(paths, 'bad-block log', '2 entries')
                continue
            self.tool('convert', '--to', 'lockless', *paths)
            got = im.Found(paths[0])
            self.assertEqual((got.log_size, got.log_offset), (101, 300))
            self.assertEqual(got.image[308 * 512:409 * 512], log)

    def test_kills_mdadm(self):
        """chunksize 0 is named, whatever the bitmap, also where the module does not mind."""
        for bitmap in (im.lockless([1] * 128, chunksize=0), im.classic(set(), chunksize=0),
                       im.lockless([], chunksize=0, state=im.FIRST_USE, events=0)):
            paths = self.pair(bitmap)
            warnings = ' '.join(self.examine(paths[0], DAMAGED)['warnings'])
            self.assertIn('mdadm 4.6 dies', warnings)
            self.assertIn('llbitmap mend', warnings)
            self.refused(paths, 'llbitmap mend', to='none')
        # Of another array's header mdadm believes nothing, so it lives.
        path = self.pair(im.lockless([1] * 128, chunksize=0, uuid=bytes(16)))[0]
        self.assertNotIn('dies', ' '.join(self.examine(path, DAMAGED)['warnings']))

    def test_reserved_beyond_the_room(self):
        paths = [im.make(self.path(f'm{number}'), dict(number=number, data_offset=64, log_offset=0),
                         im.lockless([1] * 128)) for number in range(2)]
        self.assertIn('only 48 sectors', ' '.join(self.examine(paths[0], DAMAGED)['warnings']))

    def test_fields_out_of_range(self):
        for word, head in (('write_behind', dict(behind=1 << 20)), ('daemon_sleep', dict(sleep=0)),
                           ('daemon_sleep', dict(sleep=1 << 31))):
            paths = self.pair(im.lockless([1] * 128, **head))
            self.assertIn(word, ' '.join(self.examine(paths[0], DAMAGED)['warnings']))
        paths = self.pair(im.lockless([1] * 128, behind=1 << 20))
        self.tool('convert', '--to', 'internal', *paths)
        self.assertEqual(im.Found(paths[0]).behind, 0)  # md refuses a bitmap with more than 16383

    def test_members_disagree(self):
        """Several members: what only one of them says is named."""
        one = dict(cells=[1] * 128)
        for word, other in (('first use', dict(cells=[1] * 128, state=im.FIRST_USE)),
                            ('stale', dict(cells=[1] * 128, state=im.STALE)),
                            ('sync_size', dict(cells=[1] * 128, sync_size=8192)),
                            ('chunksize', dict(cells=[1] * 128, chunksize=256)),
                            ('sectors_reserved', dict(cells=[1] * 128, reserved=128))):
            paths = self.pair(im.lockless(**one), im.lockless(**other))
            said = self.tool('examine', *paths, status=DAMAGED)
            lines = [line for line in said.splitlines() if line.startswith('members disagree')]
            self.assertEqual(len(lines), 1, said)
            self.assertIn(word, lines[0])
            self.assertIn(paths[1], lines[0])
            got = json.loads(self.tool('examine', '--json', *paths, status=DAMAGED))
            self.assertEqual(len(got['disagreements']), 1)
            self.assertEqual(len(got['members']), 2)
            # Nothing is believed of either.
            if word in ('first use', 'stale', 'chunksize'):
                self.assertEqual(im.Found(paths[0]).events, 20)
                self.tool('convert', '--to', 'internal', '--bitmap-chunk', '64', *paths)
                self.assertEqual(len(im.Found(paths[0]).dirty), 128, word)
        paths = self.pair(im.lockless([1] * 128))
        self.assertIn('the members agree', self.tool('examine', *paths))
        im.make(paths[1], dict(number=1, events=27), im.lockless([1] * 128, events=27))
        self.assertIn('events: 20 on', self.tool('examine', *paths, status=DAMAGED))
        im.make(paths[1], dict(number=1, uuid=bytes(16)), im.lockless([1] * 128, uuid=bytes(16)))
        self.assertIn('members disagree: array', self.tool('examine', *paths, status=DAMAGED))

    def test_one_of_several_is_unreadable(self):
        paths = self.pair(im.lockless([1] * 128)) + [self.path('absent')]
        done = subprocess.run([TOOL, 'examine', *paths], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, UNREADABLE)
        self.assertIn('member 1', done.stdout)
        self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_first_use_of_a_used_member(self):
        """mdadm leaves events 0: a mark on a header with more is a flipped bit."""
        head = dict(state=im.FIRST_USE | im.MADE_CLEAN)
        paths = self.pair(im.lockless([2] * 128, **head))
        self.assertIn('never used', ' '.join(self.examine(paths[0], DAMAGED)['warnings']))
        got = self.converted('internal', paths, '--bitmap-chunk', '64')
        self.assertEqual(len(got.dirty), 128)

    def test_logical_blocks(self):
        """What md of 6.19 recorded is told, and a conversion keeps it."""
        paths = self.pair(im.classic(set()), lbs=512)
        for to, oldest in ((None, '6.19'), ('lockless', '6.19'), ('none', '6.19')):
            if to:
                self.tool('convert', '--to', to, *paths)
            got = self.examine(paths[0])
            self.assertEqual((got['array']['logical_block_bytes'], got['array']['oldest_kernel']),
                             (512, oldest))
            self.assertIn('6.19', ' '.join(got['notes']))
            with open(paths[0], 'rb') as file:
                self.assertEqual(file.read(4096 + 228)[-4:], struct.pack('<I', 512))
        got = self.examine(self.pair(im.lockless([1] * 128))[0])
        self.assertEqual((got['array']['logical_block_bytes'], got['array']['oldest_kernel']), (None, '6.18'))
        self.examine(self.pair(im.lockless([1] * 128), lbs=1000)[0], DAMAGED)

    def test_late_states(self):
        """State bytes that the in-tree drivers of 6.18 to 7.0 do not know."""
        for cell in range(8):
            got = self.examine(self.pair(im.lockless([1] * 127 + [cell]))[0])
            self.assertEqual('7.0' in ' '.join(got['notes']), cell >= 5, cell)

    def test_other_superblocks(self):
        """A damaged one elsewhere does not hide the right one; a conversion wants one only."""
        paths = self.pair(im.classic(set()))
        for fields, word in ((dict(max_dev=1700), None), (dict(), 'several')):
            raw = bytearray(im.super_bytes(dict(fields, minor=1, start=0, created=5)))
            if word is None:
                struct.pack_into('<I', raw, 220, 5000)
            with open(paths[0], 'r+b') as file:
                file.write(raw[:4096])
            self.assertEqual(self.examine(paths[0], DAMAGED)['metadata'], '1.2')
            if word:
                self.refused(paths, word)

    def test_not_members(self):
        self.tool('examine', self.path('absent'), status=UNREADABLE)
        self.tool('examine', self.folder, status=UNREADABLE)
        self.tool('examine', '/dev/null', status=UNREADABLE)
        for size in (0, 100, 4096, 20000, 1 << 20):
            path = self.path('empty')
            with open(path, 'wb') as file:
                file.truncate(size)
            self.tool('examine', path, status=UNREADABLE)
        for args in ((), ('examine',), ('look', path), ('convert', path),
                     ('convert', '--to', 'other', path), ('convert', '--to', 'none', '--json', path)):
            self.tool(*args, status=USAGE)

    def test_noise(self):
        """Superblocks with random bytes: an answer each time, and no crash."""
        random.seed(5)
        source = self.pair(im.lockless([1] * 128))[0]
        path = self.path('noise')
        shutil.copyfile(source, path)
        with open(source, 'rb') as file:
            clean = file.read(16 * 512 + 1200)
        seen = set()
        for _ in range(250):
            raw = bytearray(clean)
            for _ in range(random.randint(1, 6)):
                at = random.choice((random.randrange(4096, 4096 + 300),
                                    random.randrange(8192, 8192 + 80)))
                raw[at] = random.randrange(256)
            size = 256 + 2 * min(struct.unpack_from('<I', raw, 4096 + 220)[0], 1900)
            struct.pack_into('<I', raw, 4096 + 216, im.checksum(bytes(raw[4096:4096 + size])))
            with open(path, 'r+b') as file:
                file.write(raw)
            done = subprocess.run([TOOL, 'examine', '--json', path], check=False, timeout=20,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.assertIn(done.returncode, (DONE, DAMAGED, UNREADABLE), done.stderr)
            if done.returncode != UNREADABLE:
                json.loads(done.stdout)
            seen.add(done.returncode)
        self.assertEqual(seen, {DONE, DAMAGED, UNREADABLE})


class Convert(Case):
    def test_internal_to_lockless(self):
        """Dirty bits of any member become NeedSync, all else Clean, nothing Unwritten."""
        paths = self.pair(im.classic({3, 60}, behind=7), im.classic({3, 127}, behind=7), log_offset=16)
        got = self.converted('lockless', paths)
        self.assertEqual((got.version, got.chunk, got.reserved), (6, 128, 256))
        self.assertEqual({chunk for chunk, cell in enumerate(got.cells) if cell == 3}, {3, 60, 127})
        self.assertEqual(set(got.cells), {1, 3})
        self.assertEqual((got.resync, got.sleep, got.behind), (0, 30, 7))
        self.assertEqual((got.log_size, got.log_offset), (0, 0))  # it was in the way
        self.assertEqual(got.events, 22)

    def test_internal_clean(self):
        got = self.converted('lockless', self.pair(im.classic(set(), sleep=9)))
        self.assertEqual((set(got.cells), got.resync, got.sleep), ({1}, im.MAX_SECTOR, 9))

    def test_log_elsewhere_stays(self):
        got = self.converted('lockless', self.pair(im.classic(set()), log_offset=1024))
        self.assertEqual((got.log_size, got.log_offset), (8, 1024))

    def test_coarse_and_odd_chunks(self):
        """Larger chunks and a size that no chunk divides: what overlaps counts."""
        size = 16384 - 8
        head = dict(chunksize=1 << 20, sync_size=size)
        got = self.converted('lockless', self.pair(im.classic({0, 7}, 8, **head), size=size))
        self.assertEqual({chunk for chunk, cell in enumerate(got.cells) if cell == 3},
                         set(range(16)) | set(range(112, 128)))
        back = self.converted('internal', [self.path('m0'), self.path('m1')], '--bitmap-chunk', '512')
        self.assertEqual((back.dirty, back.chunk), ({0, 1, 14, 15}, 512 << 10))

    def test_unclean_internal(self):
        """A crash: the superblock says 0, the bits say what."""
        got = self.converted('lockless', self.pair(im.classic({9}), resync=0))
        self.assertEqual([chunk for chunk, cell in enumerate(got.cells) if cell == 3], [9])
        self.assertEqual(got.resync, 0)

    def test_stale_internal(self):
        got = self.converted('lockless', self.pair(im.classic(set(), events=19)))
        self.assertEqual((set(got.cells), got.resync), ({3}, 0))
        got = self.converted('lockless', self.pair(im.classic(set(), state=im.STALE)))
        self.assertEqual(set(got.cells), {3})
        got = self.converted('lockless', self.pair(im.classic(set(), sync_size=8192)))
        self.assertEqual(set(got.cells), {3})  # the array grew without it

    def test_one_stale_internal(self):
        """A current bitmap of one member is enough, as for md."""
        got = self.converted('lockless', self.pair(im.classic({4}), im.classic(set(), events=3)))
        self.assertEqual([chunk for chunk, cell in enumerate(got.cells) if cell == 3], [4])

    def test_damaged_bitmap(self):
        """Of a bitmap that nobody can read nothing is believed."""
        for bitmap in (im.classic(set(), uuid=bytes(16)), im.lockless([1] * 128, chunksize=7),
                       bytes(4096)):
            got = self.converted('lockless', self.pair(bitmap))
            self.assertEqual((set(got.cells), got.resync), ({3}, 0))
            got = self.converted('none', self.pair(bitmap))
            self.assertEqual(got.resync, 0)
        paths = self.pair(im.classic(set()), im.lockless([1] * 128))
        self.assertEqual(set(self.converted('lockless', paths).cells), {3})

    def test_none_to_lockless(self):
        got = self.converted('lockless', self.pair())
        self.assertEqual((set(got.cells), got.resync, got.events), ({1}, im.MAX_SECTOR, 21))
        got = self.converted('lockless', self.pair(resync=0))
        self.assertEqual((set(got.cells), got.resync), ({3}, 0))
        got = self.converted('lockless', self.pair(resync=1000))
        self.assertEqual([chunk for chunk, cell in enumerate(got.cells) if cell == 1], list(range(7)))
        self.assertEqual((set(got.cells[7:]), got.resync), ({3}, 0))

    def test_lockless_to_internal(self):
        """Clean and CleanUnwritten are clean bits; never written is dirty."""
        cells = [1] * 128
        for chunk, state in enumerate((0, 1, 2, 3, 4, 5, 6, 7, 255)):
            cells[chunk * 8] = state
        paths = self.pair(im.lockless(cells, behind=5))
        got = self.converted('internal', paths, '--bitmap-chunk', '64')
        self.assertEqual((got.version, got.chunk), (4, 65536))
        self.assertEqual(got.dirty, {0, 16, 24, 32, 40, 48, 64})
        self.assertEqual((got.resync, got.sleep, got.behind), (0, 5, 5))
        self.assertEqual((got.log_size, got.log_offset, got.reserved), (8, 16, 8))
        self.assertEqual(got.image[24 * 512:32 * 512], b'\xff' * 4096)

    def test_lockless_to_internal_default(self):
        got = self.converted('internal', self.pair(im.lockless([1] * 128)))
        self.assertEqual((got.dirty, got.chunk, got.resync), (set(), 64 << 20, im.MAX_SECTOR))

    def test_members_that_differ(self):
        """Where their bytes differ, the chunk is not clean."""
        one, two = [1] * 128, [1] * 128
        one[5], two[6], one[7], two[7] = 2, 0, 7, 1
        got = self.converted('internal', self.pair(im.lockless(one), im.lockless(two)),
                             '--bitmap-chunk', '64')
        self.assertEqual(got.dirty, {5, 6, 7})

    def test_to_none(self):
        for cell, resync in ((1, im.MAX_SECTOR), (7, im.MAX_SECTOR), (0, 0), (2, 0), (3, 0)):
            got = self.converted('none', self.pair(im.lockless([1] * 127 + [cell])))
            self.assertEqual((got.resync, got.events), (resync, 21))
        got = self.converted('none', self.pair(im.classic({1})))
        self.assertEqual(got.resync, 0)

    def test_first_use(self):
        head = dict(chunksize=64 << 20, events=0, cleared=0)
        got = self.converted('internal', self.pair(im.lockless([], state=im.FIRST_USE, **head)))
        self.assertEqual((got.dirty, got.resync), ({0}, 0))
        got = self.converted('internal', self.pair(
            im.lockless([], state=im.FIRST_USE | im.MADE_CLEAN, **head)))
        self.assertEqual((got.dirty, got.resync), (set(), im.MAX_SECTOR))

    def test_chunks_grow(self):
        """Little room: larger chunks; no room: refused."""
        fields = dict(data_offset=24, data_size=1 << 14, log_offset=0, size=1 << 14)
        paths = [im.make(self.path(f's{number}'), dict(fields, number=number)) for number in range(2)]
        before = [im.Found(path).data for path in paths]
        self.tool('convert', '--to', 'lockless', *paths)
        self.assertEqual([im.Found(path).data for path in paths], before)
        got = im.Found(paths[0])
        self.assertEqual((got.reserved, got.chunk), (8, 128))
        big = dict(fields, size=1 << 24, data_size=1 << 24)
        paths = []
        for number in range(2):
            path = im.make(self.path(f'b{number}'), dict(big, number=number, data_size=0))
            with open(path, 'r+b') as file:
                file.truncate((1 << 33) + (1 << 20))
                file.seek(4096)
                file.write(im.super_bytes(dict(big, number=number)))
            paths.append(path)
        self.tool('convert', '--to', 'lockless', *paths)
        bitmap = self.examine(paths[1])['bitmap']
        self.assertEqual((bitmap['chunk_sectors'], bitmap['reserved_sectors']), (8192, 8))
        paths = [im.make(self.path(f't{number}'), dict(fields, data_offset=17, number=number))
                 for number in range(2)]
        self.refused(paths, 'no room')
        paths = [im.make(self.path(f't{number}'), dict(fields, data_offset=16, number=number))
                 for number in range(2)]
        self.refused(paths, 'no room')
        self.refused(paths, 'no room', to='internal')

    def test_raid10_covers_the_array(self):
        fields = dict(level=10, chunk=128, disks=4, roles=(0, 1, 2, 3))
        for layout, members, size in ((0x102, 4, 32768), (0x102, 3, 24576), (0x201, 4, 32768),
                                      (0x10201, 3, 24576), (0x103, 4, 21760)):
            roles = tuple(range(members))
            paths = [im.make(self.path(f'r{number}'),
                             dict(fields, layout=layout, disks=members, roles=roles, number=number))
                     for number in range(members)]
            self.tool('convert', '--to', 'lockless', *paths)
            self.assertEqual(im.Found(paths[0]).sync_size, size, hex(layout))

    def test_spares(self):
        roles = (0, 1, im.SPARE)
        paths = [im.make(self.path(f'm{number}'), dict(number=number, roles=roles,
                                                      events=20 if number < 2 else 7), im.classic({1}))
                 for number in range(3)]
        self.tool('convert', '--to', 'lockless', *reversed(paths))
        for path in paths:
            got = im.Found(path)
            self.assertEqual((got.events, got.version, got.cells[1]), (22, 6, 3))
        self.assertEqual(self.examine(paths[2])['member']['role'], 'spare')

    def test_nothing_to_do(self):
        for to, bitmap in (('lockless', im.lockless([1] * 128)), ('internal', im.classic({1})),
                           ('none', None)):
            paths = self.pair(bitmap)
            said = self.untouched(paths, 'convert', '--to', to, *paths, status=DONE)
            self.assertIn('nothing to do', said)

    def test_dry_run(self):
        paths = self.pair(im.classic({1}))
        said = self.untouched(paths, 'convert', '--to', 'lockless', '--dry-run', *paths, status=DONE)
        self.assertIn('nothing was written', said)
        self.assertIn('1 of 128', said)

    def test_refusals(self):
        bitmap = im.classic(set())
        for word, fields in (('reshape', dict(features=im.RESHAPE)),
                             ('reshape', dict(features=im.NEW_OFFSET)),
                             ('journal', dict(features=im.JOURNAL)),
                             ('partial parity', dict(features=im.PPL)),
                             ("cluster's", dict(features=im.CLUSTERED)),
                             ('replace', dict(features=im.REPLACEMENT)),
                             ('recovered', dict(features=im.RECOVERY)),
                             ('raid0', dict(level=0)), ('linear', dict(level=-1)),
                             ('unknown features', dict(features=1 << 30)),
                             ('faulty', dict(roles=(0, im.FAULTY))),
                             ('journal', dict(roles=(0, im.JOURNAL_ROLE))),
                             ('slot 1 of 2', dict(roles=(0, im.SPARE))),
                             ('slot 2 of 3', dict(disks=3)),
                             ('claim slot 1', dict(roles=(1, 1, 0))),
                             ('geometry', dict(size=0))):
            if word == 'claim slot 1':
                fields = dict(roles=(0, 0))
                word = 'claim slot 0'
            self.refused(self.pair(bitmap, **fields), word)
        self.refused(self.pair(im.classic(set(), version=5)), "cluster's")
        self.refused(self.pair(im.lockless([1] * 128, nodes=2), features=im.CLUSTERED), "cluster's",
                     to='none')

    def test_refused_missing(self):
        paths = self.pair(im.classic(set()))
        self.refused(paths[:1], 'no member for slot 1', 'degraded')
        self.refused(paths[1:], 'no member for slot 0')
        self.untouched(paths, 'convert', '--to', 'lockless', paths[0], paths[0], status=USAGE)
        os.link(paths[0], self.path('alias'))
        self.untouched(paths, 'convert', '--to', 'none', paths[0], self.path('alias'), status=USAGE)

    def test_refused_disagreement(self):
        for word, other in (('events', dict(events=21)), ('different arrays', dict(uuid=bytes(16))),
                            ('level', dict(level=5, chunk=8)), ('level', dict(size=8192)),
                            ('bitmap', dict(bitmap_offset=16)), ('bitmap', dict(resync=5))):
            paths = [im.make(self.path('a'), dict(number=0), im.classic(set())),
                     im.make(self.path('b'), dict(other, number=1), im.classic(set()))]
            self.refused(paths, word)
        paths = [im.make(self.path('a'), dict(number=0), im.classic(set())),
                 im.make(self.path('b'), dict(number=1))]
        self.refused(paths, 'bitmap')

    def test_refused_bad_blocks(self):
        """A bad-block log with entries in the way; elsewhere it does no harm."""
        for offset, ok in ((16, False), (1024, True)):
            paths = self.pair(im.classic(set()), features=im.BAD_BLOCKS, log_offset=offset)
            for path in paths:
                with open(path, 'r+b') as file:
                    file.seek((8 + offset) * 512)
                    file.write(struct.pack('<Q', 77 << 10 | 8) + b'\xff' * 4088)
            self.assertEqual(self.examine(paths[0])['member']['bad_block_log']['entries'], 1)
            if ok:
                self.converted('lockless', paths)
            else:
                self.refused(paths, 'bad-block log', '1 entries')

    def test_refused_read_only(self):
        """Before the first write to any member, and by a dry run, too."""
        paths = self.pair(im.classic({1}))
        os.chmod(paths[1], 0o444)
        for to in ('lockless', 'internal', 'none'):
            self.refused(paths, 'read-only', to=to)
            said = self.untouched(paths, 'convert', '--to', to, '--dry-run', *paths)
            self.assertIn('read-only', said)
        self.examine(paths[1])
        os.chmod(paths[1], 0o644)
        self.tool('convert', '--to', 'lockless', *paths)

    def test_refused_impossible(self):
        """What no member can be: beyond its device, in its superblock, near the end of numbers."""
        for word, fields in (('geometry', dict(data_offset=1 << 40)), ('geometry', dict(data_offset=1 << 63)),
                             ('geometry', dict(data_offset=im.MAX_SECTOR)), ('geometry', dict(size=1 << 50)),
                             ('geometry', dict(disks=1 << 31)), ('inside', dict(data_offset=8)),
                             ('events', dict(events=im.MAX_SECTOR)), ('geometry', dict(roles=(0, 7)))):
            paths = [im.make(self.path(f'm{number}'), dict(number=number), im.classic(set()))
                     for number in range(2)]
            for number, path in enumerate(paths):
                raw = im.super_bytes(dict(fields, number=number, features=im.BITMAP, bitmap_offset=8))
                with open(path, 'r+b') as file:
                    file.seek(4096)
                    file.write(raw)
            for to in ('lockless', 'internal', 'none'):
                self.refused(paths, word, to=to)

    def test_refused_cut_file(self):
        """A file that ends before its data, or inside a block, does not grow."""
        paths = self.pair(im.classic(set()))
        os.truncate(paths[1], 1 << 20)
        self.examine(paths[1], DAMAGED)
        self.refused(paths, 'geometry')

    def test_refused_other_metadata(self):
        paths = [im.make(self.path(f'o{number}'), dict(minor=1, start=0, number=number, log_offset=0),
                         im.classic(set())) for number in range(2)]
        self.refused(paths, 'only 1.2')
        self.refused(paths, 'only 1.2', to='internal')
        self.tool('convert', '--to', 'none', *paths)

    def test_in_use(self):
        paths = self.pair(im.classic(set()))
        with open(paths[1], 'rb'):
            self.refused(paths, 'open elsewhere')

    def test_usage(self):
        paths = self.pair(im.classic(set()))
        for args in (('--to', 'lockless', '--bitmap-chunk', '64'), ('--to', 'internal', '--bitmap-chunk', '65'),
                     ('--to', 'internal', '--bitmap-chunk', '2'), ('--bitmap-chunk', 'x', '--to', 'none')):
            self.untouched(paths, 'convert', *args, *paths, status=USAGE)


class Large(Case):
    """Members of real sizes, sparse: the bitmap is as large as small chunks take."""

    TIB = 1 << 31  # sectors
    DISK = 16 * 10**12 // 512
    # By mdadm's arithmetic 64 bytes a chunk, and 8 MiB are left of what is before the data.
    RESERVED = (264192 - 16 - (8 << 11)) // 64

    def members(self, sectors, bitmap=None, *others, **fields):
        """A raid1 whose members have data where mdadm puts it; others: what is different on
        the second one."""
        paths = []
        for number in range(2):
            one = dict(dict(data_offset=264192, log_offset=72), **fields, number=number)
            for other in others if number else ():
                one.update(other)
            size = (sectors - 264192) // 8 * 8
            one.update(size=size, data_size=sectors - one['data_offset'])
            path = im.make(self.path(f'm{number}'), one, bitmap(size) if bitmap else None,
                           data=None, mib=-(-sectors // 2048))
            paths.append(path)
        return paths

    @staticmethod
    def classic(*dirty):
        """Of chunks of 64 MiB, or larger if the bitmap would not fit; these bytes' are dirty."""
        def make(size):
            shift = 17
            while (size >> shift) + 1 > (256 * 512 - 256) * 8:
                shift += 1
            chunks = (size + (1 << shift) - 1) >> shift
            bits = bytearray((chunks + 7) // 8)
            for sector in dirty:
                bits[(sector >> shift) // 8] |= 1 << (sector >> shift) % 8
            return im.head_bytes(sync_size=size, chunksize=512 << shift, reserved=256) + bytes(bits)
        return make

    def head(self, path):
        """(chunk, reserved, cells) of the bitmap, read without the tool."""
        with open(path, 'rb') as file:
            file.seek(16 * im.SECTOR)
            head = file.read(1024)
            size, = struct.unpack_from('<Q', head, 40)
            chunk, = struct.unpack_from('<I', head, 52)
            reserved, = struct.unpack_from('<I', head, 64)
            return chunk, reserved, file.read((size + chunk - 1) // chunk)

    def untouched_data(self, path, before=None):
        """What was put around the data's begin is still there."""
        with open(path, 'r+b') as file:
            file.seek(264192 * im.SECTOR)
            if before is None:
                file.write(b'\xa7' * 65536)
                return
            self.assertEqual(file.read(65536), b'\xa7' * 65536, path)

    def test_both_ways(self):
        for sectors, chunk in ((self.TIB, 2048), (self.DISK, 16384), (15 * self.TIB, 16384),
                               (60 * self.TIB, 65536)):
            dirty = (0, sectors // 3, sectors - 264192 - 9)
            paths = self.members(sectors, self.classic(*dirty))
            for path in paths:
                self.untouched_data(path)
            self.tool('convert', '--to', 'lockless', *paths)
            found = [self.head(path) for path in paths]
            self.assertEqual(found[0], found[1])
            self.assertEqual(found[0][:2], (chunk, self.RESERVED))
            cells = found[0][2]
            coarse = (512 << 17) // 512
            while ((sectors - 264192) // coarse) + 1 > (256 * 512 - 256) * 8:
                coarse *= 2
            size = (sectors - 264192) // 8 * 8
            expected = set()
            for sector in dirty:
                first = sector // coarse * coarse
                expected |= set(range(first // chunk, (min(first + coarse, size) - 1) // chunk + 1))
            self.assertEqual({at for at, cell in enumerate(cells) if cell == 3}, expected)
            self.assertEqual(set(cells), {1, 3})
            bitmap = self.examine(paths[0])['bitmap']
            self.assertEqual((bitmap['chunk_sectors'], bitmap['reserved_sectors'], bitmap['usable'],
                              bitmap['resync_chunks']), (chunk, self.RESERVED, True, len(expected)))
            self.assertIsNone(self.examine(paths[0])['member']['bad_block_log'])
            # And back: the same is dirty.
            self.tool('convert', '--to', 'internal', *paths)
            bitmap = self.examine(paths[1])['bitmap']
            self.assertEqual((bitmap['kind'], bitmap['chunk_sectors'], bitmap['reserved_sectors'],
                              bitmap['resync_chunks']), ('internal', coarse, 256, len(dirty)))
            for path in paths:
                self.untouched_data(path, True)
                os.unlink(path)

    def test_log_that_cells_covered(self):
        """On the way back an empty log that lies where state bytes were is emptied."""
        paths = self.members(self.DISK, lambda size: im.lockless(
            bytes([1]) * -(-size // 16384), sync_size=size, chunksize=16384, reserved=self.RESERVED),
            log_offset=4000)
        for path in paths:
            with open(path, 'r+b') as file:
                file.seek(4008 * im.SECTOR)
                file.write(b'\x01' * 4096)
        self.tool('convert', '--to', 'internal', *paths)
        for path in paths:
            with open(path, 'rb') as file:
                file.seek(4008 * im.SECTOR)
                self.assertEqual(file.read(4096), b'\xff' * 4096)
            self.assertEqual(self.examine(path)['member']['bad_block_log']['offset_sectors'], 4000)

    def test_one_with_less_room(self):
        """The least of the members counts, data or a log with entries."""
        paths = self.members(self.DISK, self.classic(), dict(data_offset=204800))
        self.tool('convert', '--to', 'lockless', *paths)
        chunk, reserved, cells = self.head(paths[1])
        self.assertEqual((chunk, reserved, set(cells)), (32768, (204800 - 16 - 16384) // 64, {1}))
        self.assertEqual(self.head(paths[0]), self.head(paths[1]))
        paths = self.members(self.DISK, self.classic(), dict(data_offset=128))
        self.tool('convert', '--to', 'lockless', *paths)
        self.assertEqual(self.head(paths[0])[1], 128 - 16)

    def test_log_with_entries(self):
        """Behind the usual place: no more space than up to it. In it: refused."""
        entry = struct.pack('<Q', 1 << 30 << 10 | 7)
        for offset, reserved in ((204800, (204800 - 8 - 16384) // 64), (1000, 256), (264, 256),
                                 (263, 0), (72, 0)):
            paths = self.members(self.DISK, self.classic(), dict(
                log_offset=offset, features=im.BAD_BLOCKS))
            with open(paths[1], 'r+b') as file:
                file.seek((8 + offset) * im.SECTOR)
                file.write(entry + b'\xff' * 4088)
                file.seek(16 * im.SECTOR)
            if not reserved:
                self.assertIn('bad-block log', self.tool('convert', '--to', 'lockless', *paths,
                                                         status=REFUSED))
                continue
            self.tool('convert', '--to', 'lockless', *paths)
            self.assertEqual(self.head(paths[0])[1], reserved)
            with open(paths[1], 'rb') as file:
                file.seek((8 + offset) * im.SECTOR)
                self.assertEqual(file.read(4096), entry + b'\xff' * 4088)
            log = self.examine(paths[1])['member']['bad_block_log']
            self.assertEqual((log['offset_sectors'], log['entries']), (offset, 1))

    def test_budget(self):
        """It is shown, and kept by a conversion that writes the bitmap anew."""
        for value, shown, words in ((0, None, 'by default'), (0xFFFFFFFF, 0, 'none'),
                                    (7, 7, '7 MiB')):
            def bitmap(size, value=value):
                raw = bytearray(im.lockless([], sync_size=size, chunksize=16384, reserved=self.RESERVED))
                struct.pack_into('<I', raw, 252, value)
                return bytes(raw)
            path = self.members(self.DISK, bitmap)[0]
            self.assertEqual(self.examine(path)['bitmap']['resync_budget_mib'], shown)
            said = self.tool('examine', path)
            self.assertIn(f'resync_budget {words}', said)
            self.assertIn(f'{self.RESERVED} sectors', said)

    def test_first_use(self):
        """What the module will choose."""
        path = self.members(self.DISK, lambda size: im.lockless(
            [], sync_size=size, chunksize=64 << 20, events=0, cleared=0, state=im.FIRST_USE))[0]
        self.assertEqual(self.examine(path)['bitmap']['chunk_sectors'], 16384)


class Mend(Case):
    def mended(self, paths, *options, kind='lockless', resync=0):
        before = [im.Found(path) for path in paths]
        self.untouched(paths, 'mend', *options, *paths)  # nobody can be asked
        said = self.untouched(paths, 'mend', '--dry-run', *options, *paths, status=DONE)
        self.assertIn('nothing was written', said)
        planned = json.loads(self.untouched(paths, 'mend', '--dry-run', '--json', *options, *paths,
                                            status=DONE))
        self.tool('mend', '--yes', *options, *paths)
        for path, old in zip(paths, before):
            got = im.Found(path)
            self.assertEqual(got.data, old.data)
            self.assertEqual(got.image[2048 * im.SECTOR:], old.image[2048 * im.SECTOR:])
            self.assertTrue(got.sum_ok)
            self.assertEqual((got.events, got.bitmap_offset, got.uuid), (old.events, 8, im.UUID))
            self.assertEqual(got.head_events, max(one.events for one in before))
            self.assertEqual((got.state, got.sync_size), (im.STALE, 16384))
            self.assertEqual(got.resync, old.resync if resync is None else resync)
            if kind == 'lockless':
                self.assertEqual((got.version, set(got.cells)), (6, {3}))
            else:
                self.assertEqual((got.version, got.dirty), (4, {0}))
            bitmap = self.examine(path, DAMAGED)['bitmap']
            self.assertEqual((bitmap['kind'], bitmap['usable'], bitmap['stale']), (kind, True, True))
        self.assertNotIn('dies', self.tool('examine', *paths, status=DAMAGED))
        said = self.untouched(paths, 'mend', '--yes', *paths, status=DONE)
        self.assertIn('nothing to mend', said)
        return planned, before

    def test_chunksize_0(self):
        """On any member, of any kind of bitmap: written anew, everything marked."""
        good, bad = im.lockless([1] * 128), im.lockless([1] * 128, chunksize=0)
        for one, two in ((bad, good), (good, bad), (bad, bad)):
            self.mended(self.pair(one, two))
        self.mended(self.pair(im.classic(set(), chunksize=0)), kind='internal')
        self.mended(self.pair(im.classic(set(), chunksize=0), im.classic(set())), kind='internal')

    def test_other_damage(self):
        good = im.lockless([1] * 128)
        for bad in (im.lockless([1] * 128, magic=0), im.lockless([1] * 128, uuid=bytes(16)),
                    im.lockless([1] * 128, sync_size=0), im.lockless([1] * 128, state=im.FIRST_USE),
                    im.lockless([1] * 128, state=im.STALE), im.lockless([1] * 128, sync_size=8192),
                    im.lockless([1] * 128, chunksize=256), bytes(8192), b'\xff' * 8192):
            self.mended(self.pair(good, bad))
            self.mended(self.pair(bad, good))

    def test_kind(self):
        """What kind it was is told by the headers, else it must be said."""
        paths = self.pair(bytes(8192))
        self.assertIn('--as', self.untouched(paths, 'mend', '--yes', *paths))
        self.mended(paths, '--as', 'lockless')
        self.mended(self.pair(bytes(8192)), '--as', 'internal', kind='internal')
        mixed = im.lockless([1] * 128, version=4, chunksize=65536)
        paths = self.pair(im.lockless([1] * 128), mixed)
        self.assertIn('--as', self.untouched(paths, 'mend', '--yes', *paths))
        planned, _ = self.mended(paths, '--as', 'lockless')
        self.assertEqual(planned['phases'][0]['what'], 'headers of another kind are taken away')

    def test_cut_anywhere(self):
        """After each write: once more, and it is as if nothing had come between."""
        bad = im.lockless([1] * 128, chunksize=0)
        for one, two, options in ((im.lockless([1] * 128), bad, ()),
                                  (bad, im.lockless([1] * 128, version=4, chunksize=65536),
                                   ('--as', 'lockless'))):
            paths = self.pair(one, two)
            for path in paths:
                shutil.copyfile(path, path + '.before')
            planned, _ = self.mended(paths, *options)
            after = [im.Found(path).image for path in paths]
            writes = [write for phase in planned['phases'] for write in phase['writes']]
            for count in range(len(writes)):
                for path in paths:
                    shutil.copyfile(path + '.before', path)
                for write in writes[:count]:
                    with open(write['device'], 'r+b') as file:
                        file.seek(write['offset'])
                        file.write(bytes.fromhex(write['hex']))
                # Until the last header is there, nothing says that anything is in sync.
                for path in paths:
                    got = json.loads(self.tool('examine', '--json', path, status=None))['members'][0]
                    if got['bitmap']['usable'] and count >= 4:
                        self.assertGreaterEqual(got['bitmap']['resync_chunks'], 128)
                self.tool('mend', '--yes', *options, *paths)
                self.assertEqual([im.Found(path).image for path in paths], after, count)

    def test_events_differ_by_one(self):
        """As md takes them: a crash may leave them so. By more: refused."""
        bad = im.lockless([1] * 128, chunksize=0)
        paths = [im.make(self.path(f'm{number}'), dict(number=number, events=20 + number), bad)
                 for number in range(2)]
        self.mended(paths)
        im.make(paths[0], dict(number=0, events=18), bad)
        self.assertIn('older than the others', self.untouched(paths, 'mend', '--yes', *paths))

    def test_missing_members(self):
        bad = im.lockless([1] * 128, chunksize=0)
        paths = self.pair(bad)
        said = self.untouched(paths, 'mend', '--yes', paths[0])
        self.assertIn('no member for slot 1', said)
        self.assertIn('knows of one there', said)
        # The array itself knows that slot 1 is empty.
        im.make(paths[0], dict(number=0, roles=(0, im.FAULTY)), bad)
        self.mended(paths[:1])
        # A raid5 without a member starts only if md's superblock says that it is in sync.
        fields = dict(level=5, chunk=128, disks=3, roles=(0, im.FAULTY, 2))
        paths = [im.make(self.path(f'r{number}'), dict(fields, number=number), bad) for number in (0, 2)]
        self.mended(paths, resync=None)

    def test_spares(self):
        """A spare of which mdadm dies is mended with the others; one without bitmap is left."""
        bad, roles = im.lockless([1] * 128, chunksize=0), (0, 1, im.SPARE)
        paths = [im.make(self.path(f'm{number}'), dict(number=number, roles=roles),
                         bad if number == 2 else im.lockless([1] * 128)) for number in range(3)]
        self.tool('mend', '--yes', *paths)
        self.assertEqual(im.Found(paths[2]).state, im.STALE)
        self.assertEqual(im.Found(paths[2]).resync, im.MAX_SECTOR)
        paths = [im.make(self.path(f'm{number}'), dict(number=number, roles=roles),
                         bad if number < 2 else None) for number in range(3)]
        before = im.Found(paths[2]).image
        self.tool('mend', '--yes', *paths)
        self.assertEqual(im.Found(paths[2]).image, before)

    def test_nothing_to_mend(self):
        for bitmap in (im.lockless([1] * 128), im.classic({1}), None):
            paths = self.pair(bitmap)
            said = self.untouched(paths, 'mend', '--yes', *paths, status=DONE)
            self.assertIn('nothing to mend', said)

    def test_refusals(self):
        bad = im.lockless([1] * 128, chunksize=0)
        for word, fields in (('reshape', dict(features=im.RESHAPE)), ('journal', dict(features=im.JOURNAL)),
                             ("cluster's", dict(features=im.CLUSTERED)), ('faulty', dict(roles=(0, im.FAULTY))),
                             ('claim slot 0', dict(roles=(0, 0))), ('geometry', dict(size=0)),
                             ('no room', dict(data_offset=17)), ('inside itself', dict(bitmap_offset=2))):
            fields.setdefault('log_offset', 0)
            paths = [im.make(self.path(f'm{number}'), dict(fields, number=number), bad, data=None)
                     for number in range(2)]
            self.assertIn(word, self.untouched(paths, 'mend', '--yes', *paths))
        paths = self.pair(bad)
        os.chmod(paths[1], 0o444)
        self.assertIn('read-only', self.untouched(paths, 'mend', '--yes', *paths))
        self.untouched(paths, 'mend', paths[0], paths[0], status=USAGE)
        self.untouched(paths, 'mend', '--as', 'other', *paths, status=USAGE)


class Fuzz(Case):
    SEED, CASES = 20261126, 2000

    def test_mutated_members(self):
        """tests/tool/fuzz.cpp says what is asked of every command."""
        subprocess.run(['make', '-s', '-C', os.path.join(TOP, 'tests', 'tool'), f'BUILD={FUZZ}', 'all'],
                       check=True, stdout=subprocess.DEVNULL)
        fields = dict(size=512, data_size=512, data_offset=80)
        five = dict(level=5, chunk=128, disks=3, roles=(0, 1, 2))
        ten = dict(level=10, chunk=128, disks=4, roles=(0, 1, 2, 3), layout=0x102)
        head = dict(sync_size=512)
        arrays = {
            'lockless': (2, {}, im.lockless([1, 2, 0, 3], **head)),
            'lockless5': (3, five, im.lockless(list(range(4)), **head)),
            'lockless10': (4, ten, im.lockless([1] * 8, sync_size=1024)),
            'late': (2, dict(lbs=512), im.lockless([5, 6, 7, 255], **head)),
            'first': (2, {}, im.lockless([], state=im.FIRST_USE, events=0, **head)),
            'spare': (3, dict(roles=(0, 1, im.SPARE)), im.lockless([1] * 4, **head)),
            'classic': (2, {}, im.classic({1}, 4, **head)),
            'classic5': (3, five, im.classic({1, 2}, 4, **head)),
            'log': (2, dict(features=im.BAD_BLOCKS, log_offset=400, data_offset=600), im.classic({1}, 4, **head)),
            'none': (2, {}, None),
            'v10': (2, dict(minor=0, start=(1 << 11) - 16, data_offset=0, data_size=512, bitmap_offset=-24,
                            log_offset=0), im.classic({1}, 4, **head)),
        }
        for name, (count, extra, bitmap) in arrays.items():
            os.makedirs(self.path(f'f/{name}'))
            for number in range(count):
                im.make(self.path(f'f/{name}/m{number}'), fields | extra | {'number': number},
                        bitmap, mib=1)
        # A sparse one, where every offset is on the device.
        os.makedirs(self.path('f/sparse'))
        for number in range(2):
            im.make(self.path(f'f/sparse/m{number}'),
                    dict(number=number, data_offset=1 << 20, data_size=1 << 34, size=1 << 34),
                    im.classic({1}, sync_size=1 << 34, chunksize=1 << 25), data=None, mib=9 << 20)
        done = subprocess.run([os.path.join(FUZZ, 'fuzz'), self.path('f'), str(self.SEED), '0',
                               str(self.CASES)], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-4000:])
        print(done.stdout.strip(), file=sys.stderr)
        counts = [int(word.split()[-1]) for word in done.stdout.split(': ')[1].split(',')]
        self.assertTrue(all(count > self.CASES // 2 for count in counts), done.stdout)


if __name__ == '__main__':
    if len(sys.argv) > 1 and not sys.argv[1].startswith('-') and os.path.sep in sys.argv[1]:
        TOOL = os.path.abspath(sys.argv.pop(1))
    unittest.main()
