# SPDX-License-Identifier: GPL-2.0
"""An administrator who does one thing after the other to an array that is written to (load.py),
drawn from a seed: the same seed does the same things in the same order. What is possible is
decided by what was done, never by how far md has come with it. In the end, and every now and
then: every block is what it was last told to be, the members agree, md's check finds nothing,
and the data is there without any one of the members."""

import contextlib
import itertools
import random
import time

from . import disk
from .array import Array, load, ramdisks, unload
from .arrays import make, settle
from .life import add, freeze, garbage, grow, lose, replace, reshaped, thaw, whole
from .load import Load
from .sh import Failure, copy_device, equal, need, run, wait_until
from .tool import tool

MEMBER_MIB, SIZE_MIB = 72, 32
BACKUP = '/dev/shm/torture-backup'
# What md, mdadm and llbitmap say of an array that synchronises.
BUSY = ('resource busy', 'is performing resync/recovery', ' runs; once it is done',
        'synchronise something')


class Kind:
    """Of an array: its level, members, how many of them may be missing, how mdadm is told."""

    def __init__(self, level, members, spare, *options):
        self.level, self.members, self.spare, self.options = level, members, spare, options
        self.parity = level in (4, 5, 6)


KINDS = {
    'raid1': Kind(1, 2, 1),
    'raid1-3': Kind(1, 3, 2),
    'raid10': Kind(10, 4, 1),
    'raid10-f2': Kind(10, 4, 1, '--layout=f2'),
    'raid10-o2': Kind(10, 3, 1, '--layout=o2'),
    'raid4': Kind(4, 3, 1),
    'raid5': Kind(5, 3, 1),
    'raid5-4': Kind(5, 4, 1),
    'raid6': Kind(6, 4, 2),
}


class Torture:
    """Each of its ACTIONS returns False if it is not possible now, and has done nothing then."""

    def __init__(self, name, seed):
        self.kind, self.name, self.seed = KINDS[name], name, seed
        self.draw = random.Random(f'{name} {seed}')
        self.number, self.start = 0, time.monotonic()
        self.free = ramdisks(8, MEMBER_MIB)
        if self.kind.parity:  # a disk of a mirror that was used holds what no copy has
            for path in self.free:
                garbage(path)
        members = [self.free.pop(0) for _ in range(self.kind.members)]
        self.size, self.away, self.coming, self.bitmap = SIZE_MIB, [], [], 'lockless'
        self.array = make(self.kind.level, *self.kind.options, members=members, mib=self.size)
        self.load = Load(self.array.path, self.array.bytes(), seed)
        self.load.discards = not self.kind.parity  # K26
        self.load.run()

    # What it is made of

    def say(self, what):
        print(f'  {self.name} seed {self.seed} step {self.number} ({time.monotonic() - self.start:.0f} s): '
              f'{what}', flush=True)

    def redundant(self):
        """How many more members may go."""
        return self.kind.spare - len(self.away) - len(self.coming)

    def some(self, paths):
        return self.draw.choice(sorted(paths))

    def be_whole(self):
        """Everybody who is away comes back, and md has done what it owes."""
        for path in list(self.away):
            self.take_back(path)
        self.array.wait_whole(300)
        self.coming.clear()

    def take_back(self, path):
        self.away.remove(path)
        self.array.members.append(path)
        self.coming.append(path)
        if run('mdadm', self.array.path, '--re-add', path, ok=None)[0] != 0:
            add(self.array, path)

    def idle(self):
        self.array.wait_idle(300)

    def once_idle(self, what, action):
        """md refuses it while it synchronises something, and the writes make it do that."""
        def done():
            try:
                action()
            except (OSError, Failure) as failure:
                if any(word in str(failure) for word in BUSY):
                    return False
                raise
            return True
        wait_until(f'{self.array.name}: {what}', done, 300)

    def mdadm(self, *change):
        self.once_idle(' '.join(change), lambda: run('mdadm', '--grow', self.array.path, *change))

    def discards(self, on):
        self.load.pause()
        self.load.discards = on and not self.kind.parity
        self.load.run()

    @contextlib.contextmanager
    def no_discards(self):
        self.discards(False)
        yield
        self.discards(True)

    def convert_to(self, to):
        self.once_idle(f'convert --to {to}', lambda: tool('convert', '--to', to, self.array.path))
        self.bitmap = to
        self.tuned()

    def closed(self):
        self.load.pause()
        self.array.stop()

    def opened(self):
        self.array.assemble('--run')
        equal(self.array.bytes(), self.load.blocks * 4096, 'the size of the array')
        self.tuned()
        self.load.run()

    def tuned(self):
        if self.bitmap == 'lockless':
            need('[llbitmap]' in self.array.attribute('bitmap_type'), self.array.attribute('bitmap_type'))
            self.array.quick()

    # What it does

    def lose_one(self):
        gone = self.some(self.array.members)
        if self.redundant() < 1 and gone not in self.coming or len(self.away) >= self.kind.spare:
            return False
        self.say(f'fail and remove {gone}')
        lose(self.array, gone)
        self.array.members.remove(gone)
        self.away.append(gone)
        if gone in self.coming:
            self.coming.remove(gone)
        self.load.go_on(self.draw.randrange(60))
        return True

    def take_one_back(self):
        if not self.away:
            return False
        path = self.some(self.away)
        self.say(f're-add {path}')
        self.take_back(path)
        return True

    def add_a_new_one(self):
        if not self.away or not self.free:
            return False
        path, old = self.some(self.free), self.some(self.away)
        self.say(f'add {path} for {old}')
        self.away.remove(old)
        self.free.remove(path)
        self.free.append(old)
        self.array.members.append(path)
        self.coming.append(path)
        add(self.array, path)
        return True

    def replace_one(self):
        if not self.free:
            return False
        self.be_whole()
        old, new = self.some(self.array.members), self.some(self.free)
        self.say(f'replace {old} by {new}')
        add(self.array, new)
        replace(self.array, old, new)
        wait_until(f'{old} is replaced', lambda: run(
            'mdadm', self.array.path, '--remove', old, ok=None)[0] == 0, 300)
        self.array.members[self.array.members.index(old)] = new
        self.free.remove(new)
        self.free.append(old)
        self.array.wait_whole(300)
        return True

    def wait(self):
        self.say('wait until it is whole')
        self.be_whole()
        return True

    def check_or_repair(self):
        action, abort = self.draw.choice(('check', 'repair')), self.draw.random() < 0.5
        self.idle()
        self.say(f'{action}{", broken off" if abort else ""}')
        self.once_idle(action, lambda: self.array.set('sync_action', action))
        if abort:
            self.load.go_on(self.draw.randrange(30))
            self.array.set('sync_action', 'idle')
        else:
            self.idle()
        return True

    def frozen(self):
        self.say('frozen for a while')
        freeze(self.array)
        self.load.go_on(60)
        thaw(self.array)
        return True

    def suspended(self):
        self.say('suspended for a moment')
        self.array.set('suspend_lo', 0)
        self.array.set('suspend_hi', self.draw.randrange(1, self.array.bytes() // 512))
        self.array.set('suspend_hi', 0)
        return True

    def tune(self):
        if self.bitmap != 'lockless':
            return False
        name, good = self.draw.choice((('daemon_sleep', (1, 2, 30)), ('barrier_idle', (1, 2, 60)),
                                       ('resync_budget', (0, 1, 8, 12288))))
        value = self.draw.choice(good)
        bad = self.draw.choice((-1, 'text', '', 2 ** 64, '0x', '1 2'))
        self.say(f'{name} {value}, then {bad!r}')
        self.array.set(f'llbitmap/{name}', value)
        before = self.array.attribute(f'llbitmap/{name}')
        try:
            self.array.set(f'llbitmap/{name}', bad)
        except OSError:
            pass
        else:
            need(bad == '', f'llbitmap/{name} took {bad!r}')  # a write of nothing reaches nobody
        equal(self.array.attribute(f'llbitmap/{name}'), before, f'llbitmap/{name}')
        self.load.go_on(60)
        self.array.quick()
        return True

    def set_bits(self):
        if self.bitmap != 'lockless':
            return False
        chunks = self.array.metadata()['chunks']
        first = self.draw.randrange(chunks)
        last = self.draw.randrange(first, chunks)
        self.say(f'bitmap_set_bits {first}-{last}')
        self.once_idle('bitmap_set_bits', lambda: self.array.set('bitmap_set_bits', f'{first}-{last}'))
        return True

    def proactive(self):
        if self.bitmap != 'lockless' or not self.kind.parity or self.away or self.coming:
            return False
        self.say('proactive_sync')
        self.once_idle('proactive_sync', lambda: self.array.set('llbitmap/proactive_sync', 1))
        return True

    def resize(self):
        if self.kind.options or self.bitmap != 'lockless':  # md cannot where copies lie apart
            return False
        mib = self.draw.choice((24, 32, 48))
        self.be_whole()
        self.say(f'--size={mib}M')
        if mib < self.size:
            self.load.pause()
            self.load.resize(self.array.bytes() // self.size * mib)
            run('mdadm', '--grow', self.array.path, f'--array-size={self.load.blocks * 4}')
            self.load.run()
        self.mdadm(f'--size={mib}M')
        self.mdadm('--array-size=max')
        self.size = mib
        self.load.pause()
        self.load.resize(self.array.bytes())
        self.load.run()
        return True

    def reshape(self):
        """Mirrors: one copy more or less; parity: one disk more, or another chunk size."""
        if self.bitmap != 'lockless' or self.kind.level == 10:
            return False
        self.be_whole()
        if self.kind.level == 1:
            self.one_copy_less() if len(self.array.members) == 3 else self.one_copy_more()
            self.kind = Kind(1, len(self.array.members), len(self.array.members) - 1)
            return True
        self.reshape_parity()
        self.load.pause()
        self.load.resize(self.array.bytes())
        self.load.run()
        return True

    def reshape_parity(self):
        if self.draw.random() < 0.5 and len(self.array.members) < 5:
            new = self.some(self.free)
            self.say(f'one disk more: {new}')
            self.free.remove(new)
            add(self.array, new)
            self.array.members.append(new)
            change = (f'-n{len(self.array.members)}',)
        else:
            kib = 64 + 128 - int(self.array.attribute('chunk_size').split()[0]) // 1024
            self.say(f'chunks of {kib} KiB')
            change = (f'--chunk={kib}', f'--backup-file={BACKUP}')
        run('rm', '-f', BACKUP)
        self.load.pause()  # while a reshape is started, md reads where the new geometry has it (K25)
        self.once_idle(' '.join(change), lambda: grow(self.array, *change))
        self.load.run()
        reshaped(self.array, 600)
        self.array.wait_whole(300)

    def one_copy_less(self):
        gone = self.some(self.array.members)
        self.say(f'one copy less: {gone}')
        lose(self.array, gone)
        self.mdadm('-n2')
        self.array.members.remove(gone)
        self.free.append(gone)

    def one_copy_more(self):
        new = self.some(self.free)
        self.say(f'one copy more: {new}')
        add(self.array, new)
        self.mdadm('-n3')
        self.free.remove(new)
        self.array.members.append(new)
        self.array.wait_whole(300)

    def convert(self):
        to = self.draw.choice([name for name in ('lockless', 'none', 'internal') if name != self.bitmap])
        self.be_whole()
        self.say(f'convert --to {to}')
        if to == 'internal' and self.bitmap == 'lockless':  # only what is synchronised wholly
            with self.no_discards():
                last = self.array.metadata()['chunks'] - 1
                self.once_idle('bitmap_set_bits', lambda: self.array.set('bitmap_set_bits', f'0-{last}'))
                self.idle()
                self.convert_to(to)
        else:
            self.convert_to(to)
        return True

    def stop_and_start(self):
        module = self.draw.random() < 0.3
        self.say('stop, assemble' + (', another load of the module between' if module else ''))
        self.closed()
        if module:
            unload()
            load()
        self.opened()
        return True

    def power_cut(self):
        """Not of parity that lacks a member: what is on its way then can take old data with it."""
        if len(self.free) < len(self.array.members) or self.kind.parity and (self.away or self.coming):
            return False
        again = self.draw.random() < 0.3
        self.load.go_on(20)
        self.say('power cut' + (', and another one while it synchronises' if again else ''))
        self.load.mark()
        self.load.go_on(self.draw.randrange(20))
        self.crash()
        if again:
            self.crash()
        self.idle()
        self.load.cut(self.array.path)
        self.load.run()
        return True

    def crash(self):
        """The members as they are at one instant, on other disks, in their place. One of them has
        not got what the others have, of as many writes as there can be."""
        targets = self.free[:len(self.array.members)]
        for path in targets:
            run('blkdiscard', '-f', path)
        late = self.some(self.array.members)
        freeze_io = 'dmsetup', 'suspend', '--noflush', '--nolockfs'
        try:
            run(*freeze_io, late)
            self.load.stand_still()
            for path in self.array.members:
                if path != late:
                    run(*freeze_io, path)
            for source, target in zip(self.array.members, targets):
                copy_device(source.replace('mapper/', ''), target.replace('mapper/', ''))
        finally:
            for path in self.array.members:
                run('dmsetup', 'resume', path)
        self.closed()
        self.free = self.free[len(targets):] + self.array.members
        self.coming = [targets[self.array.members.index(path)] for path in self.coming]
        self.array = Array(0, targets)
        self.array.assemble('--run')
        self.tuned()

    ACTIONS = ((lose_one, 8), (take_one_back, 8), (add_a_new_one, 3), (replace_one, 2), (wait, 3),
               (check_or_repair, 3), (frozen, 2), (suspended, 2), (tune, 3), (set_bits, 3),
               (proactive, 2), (resize, 2), (reshape, 1), (convert, 2), (stop_and_start, 4),
               (power_cut, 4))

    def prove(self):
        """While nothing is written. Mirrors are compared by what was written: where it was
        not, copies need not agree."""
        self.load.pause()
        self.be_whole()
        if self.bitmap != 'lockless':
            self.convert_to('lockless')
        settle(self.array, 300, also=(disk.CLEAN_UNWRITTEN,))
        count = self.load.verify()
        if self.kind.parity:
            whole(self.array)
        self.array.stop()
        equal(disk.not_clean(self.array.cells()), set(), 'chunks not clean after a stop')
        for gone in itertools.combinations(self.array.members, self.kind.spare):
            run('mdadm', '--assemble', '--readonly', '--run', self.array.path,
                *[path for path in self.array.members if path not in gone])
            try:
                self.load.verify()
            except Failure as wrong:
                raise Failure(f'without {" and ".join(gone)}: {wrong}') from wrong
            self.array.stop()
        self.array.assemble()
        self.tuned()
        self.say(f'{count} blocks are right, whichever {self.kind.spare} of the members are away; '
                 f'{self.load.counts}')

    def step(self):
        self.number += 1
        done = False
        while not done:
            action, = self.draw.choices([action for action, _ in self.ACTIONS],
                                        [weight for _, weight in self.ACTIONS])
            done = action(self)
        self.load.check()

    def ended(self):
        self.load.end()
        self.array.stop()

    @contextlib.contextmanager
    def told(self):
        """A failure says where it was."""
        try:
            yield
        except (OSError, Failure) as failure:
            raise Failure(f'{self.name} seed {self.seed} step {self.number}: {failure}; the load: '
                          f'{self.load.wrong or "no complaint"}') from failure

    def run(self, steps, prove_every=25):
        with self.told():
            for number in range(1, steps + 1):
                self.step()
                if number == steps or number % prove_every == 0:
                    self.prove()
                    self.load.run()
            self.ended()

    def soak(self, minutes):
        """Nobody does anything to it, but that it is written, and cut each minute."""
        with self.told():
            for self.number in range(1, minutes + 1):
                until = time.monotonic() + 60
                while time.monotonic() < until:
                    self.load.go_on(100)
                need(self.power_cut(), 'there are no disks for a cut')
                self.prove()
                self.load.run()
            self.ended()
