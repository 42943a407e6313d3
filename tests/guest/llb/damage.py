# SPDX-License-Identifier: GPL-2.0
"""Members whose bitmap, or what md's own superblock says of it, was changed by a seed, and then
the real mdadm --assemble. It assembles, and then what was written is there, on every member, and what
the bitmap can no longer vouch for was resynchronised; or it is refused, in a line that says why, and
nothing was written to any member. What must be resynchronised is said here again, by the table of
include/llbitmap/README.md, and not asked of the module.

Two images of each array, each of all its members: "stopped", after an orderly stop; "cut", with
chunks dirty, as a power cut leaves it. Pages of some chunks differ between the members of both: of
dirty ones, of clean ones, and of one that was never written, where only a resync of everything looks."""

import contextlib
import os
import random
import re
import struct

from . import disk, faults
from .array import ramdisks
from .arrays import DISKS, MIB, make, settle
from .life import BLOCK, Data, kernel_log, seal
from .sh import Direct, Failure, device_number, need, read_at, run, wait_until, write, write_at

LEVELS = {'raid1': 1, 'raid5': 5}
SIZE_MIB = 8  # of a member
# Bytes of the array. Only what is in the first is read through md.
CONTENT = (0, 3 * MIB)
CLEAN_AT = (4 * MIB, 5 * MIB)
DIRTY_AT = (6 * MIB, 7 * MIB)
UNWRITTEN_AT = 7 * MIB + 512 * 1024
REWRITTEN = 256 * 1024  # of what is at DIRTY_AT, before the cut
FREE_SECTOR, DATA_AT = 512, 7 * MIB + 768 * 1024  # of a member: in no use; of its data, never written

STALE, HEADER_BYTES, RESERVED_MAX = 1 << 1, 1024, 131072
CHUNK_LEAST, CHUNK_MOST = 128, 1 << 31  # sectors
LIKELY_CHUNK = 128  # what this array has
# name: (byte, struct's letter)
FIELDS = {
    'magic': (0, 'I'), 'version': (4, 'I'), 'uuid': (8, '16s'), 'events': (24, 'Q'),
    'events_cleared': (32, 'Q'), 'sync_size': (40, 'Q'), 'state': (48, 'I'), 'chunksize': (52, 'I'),
    'daemon_sleep': (56, 'I'), 'write_behind': (60, 'I'), 'sectors_reserved': (64, 'I'),
    'nodes': (68, 'I'), 'resync_budget': (252, 'I')}
FEATURES_AT, OFFSET_AT = 8, 96  # of md's superblock
FEATURE_BITMAP, FEATURE_RECOVERY_BITMAP, FEATURE_CLUSTERED, FEATURE_PPL = 1, 1 << 7, 1 << 8, 1 << 10
SEEDS_OF_AN_IMAGE = 8  # one after the other, since a change of the image costs time

# Who refuses says why: md in a line that is more than its last word on any bitmap, mdadm in one that is more
# than the kernel's answer.
REASON = re.compile(r'^md\S*:? (?!.*not clean|.*failed to create bitmap).*(invalid|fail|cannot|could not|not |no |'
                    r'bad|error|differ|too |unsupported|unknown|incompatible|wrong|does)', re.I)
SAID = re.compile(r'^mdadm: (?!.*RUN_ARRAY)')
EVERYTHING = 'everything is resynchronised'
OUTCOMES = ('assembled', 'refused', 'resynchronised')  # the last: all of it


class Header:
    """The bitmap's on one member, as its table says. Sectors."""

    def __init__(self, page):
        for name, (at, letter) in FIELDS.items():
            setattr(self, name, struct.unpack_from('<' + letter, page, at)[0])
        self.first_use, self.stale = bool(self.state & disk.FIRST_USE), bool(self.state & STALE)
        self.cells = page[disk.CELLS_OFFSET:]

    def suits(self):
        """Whether the chunk size is one for that array, in sectors or in bytes."""
        least = CHUNK_LEAST
        while disk.CELLS_OFFSET + -(-self.sync_size // least) > (self.sectors_reserved + 2) * disk.SECTOR:
            least *= 2
            if least > CHUNK_MOST:
                return False
        size = self.chunksize
        return size.bit_count() == 1 and (least <= size <= CHUNK_MOST or size == least * disk.SECTOR)

    def valid(self, uuid):
        """md says nothing of the space, where the header does not: too small."""
        return (self.magic == disk.BITMAP_MAGIC and self.version == disk.BITMAP_VERSION and
                self.uuid == uuid and not self.nodes and self.sectors_reserved <= RESERVED_MAX and
                self.sectors_reserved * disk.SECTOR > disk.CELLS_OFFSET and
                (self.first_use or self.sync_size > 0 and self.suits()))


class Verdict:
    """What the bitmaps on all members allow: is there one that can be used, must everything be
    resynchronised, and if not, which of these chunks."""

    def __init__(self, headers, uuid, events, chunks):
        def seen(one):
            return one.events if one.events <= events + 1 else 0
        valid = [one for one in headers if one.valid(uuid)]
        self.usable, self.everything, self.chunks = bool(valid), False, set()
        self.invalid = len(headers) - len(valid)
        if not valid:
            return
        newest = max(map(seen, valid))
        current = [one for one in valid if seen(one) >= min(events, newest)]
        used = [one for one in current if not one.first_use]
        if not used:
            self.everything = any(one.events or one.events_cleared for one in current)
            return
        self.everything = (any(one.stale for one in current) or all(seen(one) < events for one in used) or
                           len({one.chunksize for one in used}) > 1)
        if used[0].chunksize == LIKELY_CHUNK:
            self.chunks = {chunk for chunk in chunks for one in current
                           if one.chunksize == LIKELY_CHUNK and disk.must_resync(one.cells[chunk])}


class Image:
    """All members' bytes, and what differs between them: [(member, chunk, byte of the member)]."""

    def __init__(self, array, planted):
        self.sups = disk.supers(array.members)
        self.start = self.sups[0].data_offset * disk.SECTOR
        self.end = self.start + SIZE_MIB * MIB
        self.bytes = [bytearray(read_at(path, 0, self.end)) for path in array.members]
        self.cut, self.layout, self.planted = not self.sups[0].resync_offset, disk.Layout(self.sups[0]), []
        order, _ = disk.by_role(array.members)
        for chunk in planted:
            sector = chunk * self.layout.chunk + 8
            role = self.layout.parity(sector) if self.layout.parities else 1
            member = array.members.index(order[role])
            at = self.start + sector * disk.SECTOR
            self.bytes[member][at:at + 4096] = bytes([0xE0 + chunk % 16]) * 4096
            self.planted.append((member, chunk, at))

    def head(self, member):
        return self.bytes[member][:self.start]

    def page(self, member):
        sup = self.sups[member]
        return self.bytes[member][sup.bitmap:sup.bitmap + 4096]


class Plan:
    """What the seed changes: heads (the bytes of each member before its data), inside (what it writes
    among the data: member, byte, bytes), and how to say it."""

    def __init__(self, draw, image, old_pages):
        self.draw, self.image, self.old_pages = draw, image, old_pages
        self.heads = [bytearray(image.head(member)) for member in range(len(image.bytes))]
        self.inside, self.said, self.of_md, self.where = [], [], False, None
        count = len(self.heads)
        self.members = [draw.randrange(count)] if draw.random() < 0.4 else list(range(count))
        self.alike = draw.random() < 0.7  # all of these get the same
        kinds = (self.one_field, self.one_field, self.one_field, self.one_field, self.fields, self.bits,
                 self.bits, self.random_bytes, self.tail_zero, self.all_zero, self.noise, self.behind_identity,
                 self.cells, self.cells, self.cells_and_field, self.old, self.doubt, self.doubt, self.doubt,
                 self.md_field, self.md_field, self.md_field, self.md_field, self.moved)
        kind = draw.choice(kinds)
        if kind == self.moved:  # md looks at one of them
            self.members, self.alike = list(range(count)), True
        elif kind in (self.doubt, self.old) and draw.random() < 0.5:  # one that is believed makes up for it
            self.members = list(range(count))
        self.kind, seed = kind.__name__, draw.random()
        for member in self.members:
            if self.alike:
                draw.seed(seed)
            kind(member)

    def __str__(self):
        which = 'all members' if len(self.members) == len(self.heads) else f'member {self.members[0]}'
        words = list(dict.fromkeys(self.said))
        return f'{self.kind} of {which}{"" if self.alike else ", each its own"}: {"; ".join(words)[:300]}'

    # Where it is

    def base(self, member):
        return self.image.sups[member].bitmap

    def put(self, member, at, data):
        """Into the bitmap of that member."""
        start = self.base(member) + at
        self.heads[member][start:start + len(data)] = data

    def get(self, member, name):
        at, letter = FIELDS[name]
        return struct.unpack_from('<' + letter, self.heads[member], self.base(member) + at)[0]

    # Kinds

    def extreme(self, name, now):
        draw = self.draw
        if name == 'uuid':
            return draw.choice((bytes(16), b'\xff' * 16, now[:15] + bytes([now[15] ^ 1]), draw.randbytes(16)))
        top = 1 << (64 if FIELDS[name][1] == 'Q' else 32)
        values = [0, 1, 2, 3, top - 1, top // 2, top // 2 - 1, now + 1, now - 1, now * 2, now // 2, now + 2,
                  now ^ 1 << draw.randrange(top.bit_length() - 1), draw.randrange(top)]
        values += {'version': [3, 4, 5, 7], 'state': [2, 8, 16, 24, 10, 26, ~26], 'sectors_reserved': [
            131072, 131073, 4, 256 * 1024], 'chunksize': [64, 127, 192, 256, 65536, 1 << 31, 1 << 30],
            'events': [now - 2, now + 100], 'sync_size': [8, 1 << 40, 1 << 62]}.get(name, [])
        return draw.choice(values) % top

    def one_field(self, member, name=None):
        name = name or self.draw.choice(list(FIELDS))
        value = self.extreme(name, self.get(member, name))
        at, letter = FIELDS[name]
        self.put(member, at, struct.pack('<' + letter, value))
        self.said.append(f'{name} = {value.hex() if name == "uuid" else hex(value)}')

    def fields(self, member):
        for name in self.draw.sample(list(FIELDS), self.draw.randint(2, 5)):
            self.one_field(member, name)

    def bits(self, member):
        for _ in range(self.draw.randint(1, 8)):
            at, bit = self.draw.randrange(256), self.draw.randrange(8)
            self.heads[member][self.base(member) + at] ^= 1 << bit
            self.said.append(f'bit {bit} of byte {at}')

    def random_bytes(self, member):
        for _ in range(self.draw.randint(1, 16)):
            at, value = self.draw.randrange(256), self.draw.randrange(256)
            self.put(member, at, bytes([value]))
            self.said.append(f'byte {at} = {value}')

    def tail_zero(self, member):
        at = self.draw.choice((0, 4, 8, 24, 32, 40, 48, 52, 64, 72, self.draw.randrange(256)))
        end = self.draw.choice((256, HEADER_BYTES, 4096))
        self.put(member, at, bytes(end - at))
        self.said.append(f'zero from {at} to {end}')

    def all_zero(self, member):
        end = self.draw.choice((512, HEADER_BYTES, 4096, 65536))
        self.put(member, 0, bytes(end))
        self.said.append(f'zero to {end}')

    def noise(self, member):
        at, end = self.draw.choice(((0, 256), (0, HEADER_BYTES), (0, 4096), (HEADER_BYTES, 4096), (0, 65536)))
        self.put(member, at, self.draw.randbytes(end - at))
        self.said.append(f'noise from {at} to {end}')

    def behind_identity(self, member):
        """Magic, version and uuid stay: what is checked first says nothing."""
        end = self.draw.choice((40, 48, 52, 56, 72, 256))
        self.put(member, 24, self.draw.randbytes(end - 24))
        self.said.append(f'noise from 24 to {end}')

    def cells(self, member):
        chunks = self.image.layout.chunks
        first = self.draw.randrange(chunks)
        count = self.draw.randint(1, chunks - first)
        if self.draw.random() < 0.3:
            first, count = 0, chunks
        states = self.draw.choice((range(256), range(8, 256), range(8), (self.draw.randrange(256),), (255,),
                                   (0,), (1,), (4, 5, 6, 7)))
        self.put(member, disk.CELLS_OFFSET + first, bytes(self.draw.choices(list(states), k=count)))
        self.said.append(f'cells {first} to {first + count - 1} of {min(states)} to {max(states)}')

    def cells_and_field(self, member):
        self.cells(member)
        self.one_field(member)

    def old(self, member):
        """What was there before anything was written, or its header alone."""
        end = self.draw.choice((256, 4096))
        self.put(member, 0, self.old_pages[member][:end])
        self.said.append(f'of an older time to {end}')

    def doubt(self, member):
        """What is readable and not to be believed: behind, ahead, stale, new although it was used."""
        name, change = self.draw.choice((
            ('events', lambda now: max(now - 1, 0)), ('events', lambda now: now // 2), ('events', lambda now: 0),
            ('events', lambda now: now + 2), ('events', lambda now: (1 << 64) - 1),
            ('state', lambda now: now | STALE), ('state', lambda now: now | disk.FIRST_USE),
            ('state', lambda now: now | disk.FIRST_USE | disk.MADE_CLEAN)))
        at, letter = FIELDS[name]
        value = change(self.get(member, name))
        self.put(member, at, struct.pack('<' + letter, value))
        self.said.append(f'{name} = {value:#x}')

    def md_field(self, member):
        """Of md's superblock. Its checksum fits again, or does not."""
        self.of_md = True
        if self.draw.random() < 0.5:
            at, letter, values = OFFSET_AT, '<i', (
                0, 1, 7, 9, -8, -1, -7, -9, 16, 2032, 2040, 2047, 4096, 1 << 20, (1 << 31) - 1, -1 << 31,
                self.draw.randrange(-1 << 31, 1 << 31), self.draw.randrange(4096))
        else:
            now, = struct.unpack_from('<I', self.heads[member],
                                     disk.MD_SUPER_SECTOR * disk.SECTOR + FEATURES_AT)
            at, letter, values = FEATURES_AT, '<I', (
                0, now & ~FEATURE_BITMAP, now | FEATURE_CLUSTERED, now | FEATURE_RECOVERY_BITMAP,
                now | FEATURE_PPL, now & ~FEATURE_BITMAP | FEATURE_CLUSTERED, now | 1 << 13, now | 1 << 31,
                (1 << 32) - 1)
        value = self.draw.choice(values)
        checksum = self.draw.random() < 0.7
        self.md_patch(member, at, letter, value, checksum)
        self.said.append(f'{"bitmap_offset" if at == OFFSET_AT else "feature_map"} = {value:#x}'
                         f'{"" if checksum else ", checksum wrong"}')

    def md_patch(self, member, at, letter, value, checksum=True):
        page = self.heads[member][disk.MD_SUPER_SECTOR * disk.SECTOR:][:4096]
        struct.pack_into(letter, page, at, value)
        if checksum:
            seal(page)
        start = disk.MD_SUPER_SECTOR * disk.SECTOR
        self.heads[member][start:start + 4096] = page

    def moved(self, member):
        """The bitmap as it was, elsewhere: in free room, across the begin of the data, or in it."""
        self.of_md = True
        self.where = self.draw.choice(('before', 'across', 'in'))
        at = {'before': FREE_SECTOR * disk.SECTOR, 'across': self.image.start - 2 * disk.SECTOR,
              'in': self.image.start + DATA_AT}[self.where]
        page, head = self.image.page(member), self.heads[member]
        if self.where == 'in':
            self.inside.append((member, at, page))
        else:
            head[at:at + len(page)] = page[:len(head) - at]
        self.md_patch(member, OFFSET_AT, '<i', at // disk.SECTOR - disk.MD_SUPER_SECTOR)
        self.said.append(f'the bitmap is at sector {at // disk.SECTOR}, {self.where} the data')

    # What it may lead to

    def verdict(self, chunks):
        """None: md's superblock is another, and what then is read is not known here."""
        if self.of_md:
            return None
        sups = self.image.sups
        return Verdict([Header(head[sup.bitmap:sup.bitmap + 4096]) for head, sup in zip(self.heads, sups)],
                       sups[0].uuid, sups[0].events, chunks)

    def kills_mdadm(self):
        """K19: a chunksize of 0, where mdadm looks for the bitmap of a member."""
        for head in self.heads:
            offset, = struct.unpack_from('<i', head, disk.MD_SUPER_SECTOR * disk.SECTOR + OFFSET_AT)
            at = (disk.MD_SUPER_SECTOR + offset) * disk.SECTOR + FIELDS['chunksize'][0]
            if not 0 <= at <= len(head) - 4 or head[at:at + 4] == bytes(4):
                return True
        return False


class Outcome:
    """What became of an assembly."""

    def __init__(self, started, said, lines, died):
        self.started, self.said, self.lines, self.died = started, said.strip().splitlines(), lines, died

    def reason(self):
        """Why it was refused, in one line: of the kernel, where mdadm only says that it failed."""
        lines = self.ours() + [line for line in self.lines if REASON.match(line)]
        return next(iter(lines + [line for line in self.said if SAID.match(line)]), '')

    def ours(self):
        """Of the module, but for what it says of any array of mdadm's."""
        return [line for line in self.lines if line.startswith('llbitmap: ') and 'empty bad-block log' not in line]


class Damage:
    """An array whose members are damaged, assembled, and made whole again, seed after seed."""

    def __init__(self, name):
        self.name, self.level = name, LEVELS[name]
        self.array = make(self.level, members=ramdisks(DISKS[self.level]), mib=SIZE_MIB)
        self.old_pages = [bytes(read_at(path, sup.bitmap, 4096)) for path, sup in zip(
            self.array.members, disk.supers(self.array.members))]
        data = Data(self.array)
        for start, end in (CONTENT, CLEAN_AT, DIRTY_AT):
            data.fill(start // MIB, (end - start) // MIB)
        settle(self.array)
        layout = disk.layout_of(self.array)
        dirty = layout.chunks_at(range(DIRTY_AT[0], DIRTY_AT[0] + REWRITTEN, BLOCK))
        planted = sorted(dirty)[:2] + [layout.chunk_at(CLEAN_AT[0]), layout.chunk_at(CLEAN_AT[1] - BLOCK),
                                       layout.chunk_at(UNWRITTEN_AT)]
        self.array.stop()
        self.images = {'stopped': Image(self.array, planted)}
        self.array.assemble()
        self.array.set('safe_mode_delay', 0)  # md calls no array clean that is running
        self.array.set('llbitmap/daemon_sleep', 600)
        data.sprinkle(range(DIRTY_AT[0], DIRTY_AT[0] + REWRITTEN, BLOCK))
        self.images['cut'] = Image(self.array, planted)
        sups = self.images['cut'].sups
        need(all(disk.must_resync(sup.cells[chunk]) for sup in sups for chunk in dirty) and
             self.images['cut'].cut and not self.images['stopped'].cut, 'the array was not cut off in the middle')
        self.array.stop()
        self.content = b''.join(data.blocks[at] for at in range(*CONTENT, BLOCK))
        self.there, self.counts = None, dict.fromkeys(OUTCOMES, 0)

    def run(self, seeds):
        for seed in seeds:
            self.case(seed)
        print(f'  {self.name}: {self.counts}', flush=True)
        return self.counts

    def case(self, seed):
        # A string: the same with each version of Python.
        draw = random.Random(f'{self.name} {seed}')
        kind = ('cut', 'stopped')[seed // SEEDS_OF_AN_IMAGE % 2]
        image = self.images[kind]
        plan = Plan(draw, image, self.old_pages)
        what = f'{self.name} seed {seed} ({kind}): {plan}'
        try:
            self.put(image, plan.heads)
            for member, at, data in plan.inside:
                write_at(self.array.members[member], at, bytes(data))
            became = self.judged(image, plan)
        except (Failure, OSError) as failure:
            raise Failure(f'{what}: {failure}') from failure
        print(f'  {what}: {became}', flush=True)

    def put(self, image, heads):
        """Onto the members: all of the image if another is there, else what a case may have changed."""
        for number, path in enumerate(self.array.members):
            with Direct(path, writable=True) as device:
                device.write(0, bytes(heads[number]))
                if self.there is not image:
                    device.write(image.start, bytes(image.bytes[number][image.start:]))
                for member, _, at in image.planted:
                    if member == number:
                        device.write(at, bytes(image.bytes[number][at:at + BLOCK]))
                at = image.start + DATA_AT
                device.write(at, bytes(image.bytes[number][at:at + BLOCK]))
                device.write(image.start, bytes(image.bytes[number][image.start:image.start + BLOCK]))
        self.there = image

    # Assembly

    def assembled(self, plan=None):
        """By mdadm; or, if it dies of what it is known to die of, as mdadm would."""
        log = kernel_log()
        status, said = run('mdadm', '--assemble', self.array.path, *self.array.members, ok=None)
        if status < 0:
            need(plan and plan.kills_mdadm(), f'mdadm died of signal {-status}: {said.strip()}')
            with contextlib.suppress(OSError):
                self.by_hand()
        started = self.state() not in ('clear', 'inactive')
        need(started or status, f'mdadm says that it has assembled what is {self.state()}: {said.strip()}')
        return Outcome(started, said, log(), status < 0), log

    def state(self):
        try:
            return self.array.attribute('array_state')
        except (FileNotFoundError, OSError):
            return 'clear'

    def by_hand(self):
        """Through sysfs."""
        if not os.path.exists(self.array.sysfs):
            write('/sys/module/md_mod/parameters/new_array', self.array.name)
        self.array.set('metadata_version', '1.2')
        self.array.set('bitmap_type', 'llbitmap')
        for path in self.array.members:
            self.array.set('new_dev', '%d:%d' % device_number(path))
        self.array.set('array_state', 'active')

    def stopped(self):
        wait_until(f'{self.array.name} stops', lambda: self.state() == 'clear' or run(
            'mdadm', '--stop', self.array.path, ok=None)[0] == 0, 20)

    def synced(self):
        """Nothing is owed, to the bitmap or to md."""
        def done():
            return self.array.idle() and (self.array.attribute('resync_start') == 'none' or
                                          self.array.attribute('degraded') != '0')
        wait_until(f'{self.array.name}: nothing is left to resynchronise', done, 120)

    def read_back(self, when):
        found = read_at(self.array.path, CONTENT[0], len(self.content))
        the_same(found, self.content, f'{self.array.name}, {when}')

    # Judgement

    def judged(self, image, plan):
        verdict = plan.verdict({chunk for _, chunk, _ in image.planted})
        outcome, log = self.assembled(plan)
        if outcome.started:
            became = self.accepted(image, plan, verdict, outcome)
        else:
            became = self.refused(image, plan, outcome)
        became += ' (mdadm died: K19)' if outcome.died else ''
        line = next((line for line in [*outcome.lines, *log()] if faults.bad(line)), None)
        need(not line, f'kernel log: {line}')
        return became

    def accepted(self, image, plan, verdict, outcome):
        array = self.array
        kind = array.attribute('bitmap_type').split('[')[1].split(']')[0]
        self.read_back('as assembled')
        array.readwrite()
        self.synced()
        self.read_back('when synchronised')
        degraded = array.attribute('degraded') != '0'
        need(not degraded or outcome.reason(), 'a member is missing, and nobody says why')
        if kind == 'llbitmap':
            need(plan.where not in ('across', 'in'), 'the bitmap lies where the data is, and is used')
            need(not verdict or verdict.usable, 'the bitmap of no member can be right, and is used')
            need(not verdict or not verdict.invalid or outcome.ours(),
                 'a header is bad, and nothing is said of it')
        self.stopped()
        everything = any(EVERYTHING in line for line in outcome.lines)
        if kind == 'llbitmap' and verdict:
            everything, chunks = everything or verdict.everything, verdict.chunks
        elif kind == 'llbitmap':
            chunks = {chunk for _, chunk, _ in image.planted if disk.must_resync(image.sups[0].cells[chunk])}
        else:  # what a classic one knows is not looked at; without any, md does all after a cut
            everything, chunks = everything or kind == 'none' and image.cut, set()
        if everything:
            chunks = {chunk for _, chunk, _ in image.planted}
        self.members_hold(image, plan, set() if degraded else chunks)
        self.counts['assembled'] += 1
        self.counts['resynchronised'] += everything
        return f'assembled, {kind}, {"everything" if everything else sorted(chunks)} resynchronised: ' \
               f'{" / ".join(outcome.ours())}'

    def refused(self, image, plan, outcome):
        reason = outcome.reason()
        need(reason, f'refused without a reason: {outcome.said} {outcome.lines}')
        need(len(set(outcome.ours())) <= 1, f'refused in more than one line: {outcome.ours()}')
        self.stopped()
        for number, path in enumerate(self.array.members):
            found = read_at(path, 0, image.start)
            the_same(found, plan.heads[number], f'{path}, refused')
        self.members_hold(image, plan, set())
        self.put(image, [image.head(number) for number in range(len(self.array.members))])
        again, _ = self.assembled()
        need(again.started, f'refused, and then the undamaged members, too: {again.reason()}')
        self.read_back('assembled from the undamaged members')
        self.stopped()
        self.counts['refused'] += 1
        return f'refused: {reason}'

    def members_hold(self, image, plan, agreeing):
        """The data of each is what it was, but for what was planted; in these chunks, too, they agree."""
        odd = [at for _, _, at in image.planted] + [at // BLOCK * BLOCK for _, at, _ in plan.inside]
        found = [bytearray(read_at(path, image.start, image.end - image.start)) for path in self.array.members]
        for _, chunk, at in image.planted:
            at -= image.start
            need(chunk not in agreeing or image.layout.agree(
                chunk * image.layout.chunk, [bytes(one[at:at + BLOCK]) for one in found]),
                 f'chunk {chunk} was to be resynchronised, and differs between the members')
        for number, one in enumerate(found):
            wanted = image.bytes[number][image.start:]
            for at in odd:
                at -= image.start
                one[at:at + BLOCK] = wanted[at:at + BLOCK]
            the_same(one, wanted, f'the data of {self.array.members[number]}')


def the_same(found, wanted, what):
    if found != wanted:
        at = next(at for at, (one, other) in enumerate(zip(found, wanted)) if one != other)
        raise Failure(f'{what}: byte {at} is not what it was')
