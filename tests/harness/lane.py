#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""lane --log BASE [--guests N] -- GUEST... -- TEST...: runs tests in a guest, and those that
a guest did not come to in another: one that died, or that a test spent, costs the test that
was running, not the rest. Prints what the job says of each test,
    RUN NAME | PASS NAME SECONDS | FAIL NAME SECONDS: WHY
and then for all guests together
    GUESTS ok SECONDS | GUESTS bad SECONDS: WHY
GUEST... is the lab's command ("scripts/lab guest --suite ..."); it gets --timeout, --silence
and --out BASE, BASE-2, ... and its stderr goes to BASE.err, ... Exit status 0 if every test
passed and every guest ended in an orderly way with a clean kernel log."""

import collections
import subprocess
import sys
import time

GUESTS = 6  # a change that kills every guest must end some time
BOOT_S = 90
PER_TEST_S = 3600  # each has a limit of its own, 3000 s at most: this is only the last guard
SILENCE_S = 150  # the job says something every 10 s
# What the job ends with: all passed, some failed, the guest is spent, and by a test that passed
# (tests/guest/tests).
ORDERLY = ALL_PASSED, SOME_FAILED, SPENT, USED_UP = 0, 1, 3, 4


class Result(collections.namedtuple('Result', 'name passed seconds why')):
    """What the job, or a lane, says of a test: seconds as they were said."""

    @classmethod
    def of(cls, line):
        """None: the line says something else."""
        word, _, rest = line.strip().partition(' ')
        if word not in ('PASS', 'FAIL'):
            return None
        name, _, rest = rest.partition(' ')
        seconds, _, why = rest.partition(' ')
        return cls(name, word == 'PASS', seconds.rstrip(':'), why)


class Lane:
    """What is known of a list of tests. A test passed only if the job said so while it was
    the one that ran."""

    def __init__(self, names, say=lambda line: None):
        self.left, self.results, self.say = list(names), {}, say
        self.running, self.began, self.bad = None, 0.0, []
        self.failed = False  # some test, in the guest that is there now

    def feed(self, line):
        """A line of the job's output."""
        word, _, rest = line.strip().partition(' ')
        name, _, rest = rest.partition(' ')
        if word == 'RUN' and name in self.left and not self.running:
            self.running, self.began = name, time.monotonic()
            self.say(f'RUN {name}')
        elif word in ('PASS', 'FAIL') and name == self.running:
            self.end(word, rest)

    def end(self, word, rest):
        name, self.running = self.running, None
        self.left.remove(name)
        self.results[name] = word == 'PASS'
        self.failed |= word == 'FAIL'
        self.say(f'{word} {name} {rest}')

    def orderly(self, status):
        """Whether the job's last word is what it said before: it came to the end of its list,
        or has a test that failed to show for it."""
        done = not self.left and not self.running
        return {ALL_PASSED: done and not self.failed, SOME_FAILED: done and self.failed,
                SPENT: self.failed or self.running,
                USED_UP: not self.running and not self.failed}.get(status, False)

    def guest_ended(self, status, last_words):
        """status: of the lab; last_words: its verdict."""
        why = last_words.strip().splitlines()[-1] if last_words.strip() else f'status {status}'
        if not self.orderly(status) or 'kernel log:' in last_words.splitlines():
            self.bad.append(why)
        if self.running:
            if status in ORDERLY:
                why = 'the job ended in the middle of it'
            self.end('FAIL', f'{time.monotonic() - self.began:.1f}: its guest did not survive '
                             f'it: {why}')
        self.failed = False

    def give_up(self, guests):
        for name in list(self.left):
            self.left.remove(name)
            self.results[name] = False
            self.say(f'FAIL {name} 0: no result: {guests} guests ended before it')

    def passed(self):
        return bool(self.results) and all(self.results.values()) and not self.left and not self.bad


def run(lane, guest, limit):
    """guest(number, names): yields the job's lines and returns (status, the lab's words)."""
    number = 0
    while lane.left and number < limit:
        number += 1
        lines = guest(number, list(lane.left))
        while True:
            try:
                lane.feed(next(lines))
            except StopIteration as end:
                lane.guest_ended(*end.value)
                break
    if lane.left:
        lane.give_up(number)
    return number


def lab(base, command):
    def guest(number, names):
        out = base if number == 1 else f'{base}-{number}'
        arguments = [*command, '--timeout', str(BOOT_S + PER_TEST_S * len(names)),
                     '--silence', str(SILENCE_S), '--out', out, '--', 'tests', *names]
        with open(f'{out}.err', 'w+', encoding='utf-8', errors='replace') as err:
            with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=err, text=True, errors='replace') as process:
                yield from process.stdout
            err.seek(0)
            return process.returncode, err.read()
    return guest


def main():
    arguments, limit, base = sys.argv[1:], GUESTS, None
    while arguments and arguments[0] != '--':
        if arguments[0] == '--log' and len(arguments) > 1:
            base = arguments[1]
        elif arguments[0] == '--guests' and len(arguments) > 1:
            limit = int(arguments[1])
        else:
            break
        arguments = arguments[2:]
    if base is None or arguments.count('--') != 2 or arguments[0] != '--' or limit < 1:
        sys.exit(__doc__.split(':', maxsplit=1)[0])
    at = arguments.index('--', 1)
    command, names = arguments[1:at], arguments[at + 1:]
    start = time.monotonic()
    lane = Lane(names, lambda line: print(line, flush=True))
    run(lane, lab(base, command), limit)
    took = f'{time.monotonic() - start:.1f}'
    print(f'GUESTS bad {took}: {"; ".join(lane.bad)}' if lane.bad else f'GUESTS ok {took}')
    return 0 if lane.passed() else 1


if __name__ == '__main__':
    sys.exit(main())
