# SPDX-License-Identifier: GPL-2.0
"""(a) Steady state: random writes over arrays that were written before. No bit
changes any more, so that what differs from no bitmap is the cost of having one.

A machine's speed may change twofold from one minute to the next. The variants of the
stock md therefore exist side by side, and a round takes short turns on them; the
others need other modules and are measured before or after."""

from statistics import mean

from measure import emit, fill, random_writes
from members import some_ramdisks
from variants import LOCKLESS, MEMBERS, Measured

SIZE_MIB = 128 # of each member
LOADS = {'1x1': (1, 1), '32x2': (32, 2), '128x2': (128, 2)}
TOGETHER = ('none', 'classic', 'llbitmap')
TURNS = 2
REST_S = 60 # a chunk that waits for its array's next turn does not become clean


def plan(steps, size):
    loads = ('32x2',) if size.quick else tuple(LOADS)
    turn_s = size.seconds(2)
    for level in size.levels(*MEMBERS):
        # raid5 takes another path as soon as there is a bitmap, whatever it does.
        own = ('nothing',) if level == 'raid5' and not size.quick else ()
        groups = [TOGETHER, ('intree',)] + [(name,) for name in own]
        for number in range(size.rounds(3 if size.quick else 5)):
            for group in (groups if number % 2 == 0 else reversed(groups)):
                steps.add(len(group) * (3 + len(loads) * TURNS * (turn_s + 1)),
                          f'(a) {level} {", ".join(group)} round {number + 1}',
                          step(level, group, number, loads, turn_s))


def made(level, variant, at):
    count = MEMBERS[level]
    array = Measured(variant, level, some_ramdisks(at * count, count), number=at)
    array.make(f'--size={SIZE_MIB}M')
    if variant in LOCKLESS:
        array.set('llbitmap/barrier_idle', REST_S)
    elif variant == 'classic':
        array.set('bitmap/time_base', REST_S)
    fill(array.path, array.bytes())
    return array


def step(level, group, number, loads, turn_s):
    def measure(say):
        # In this order: making one without a bitmap takes llbitmap's module away.
        arrays = [made(level, variant, at) for at, variant in enumerate(group)]
        for load in loads:
            found = {array.variant: [] for array in arrays}
            for turn in range(TURNS):
                first = (number + turn) % len(arrays)
                for array in arrays[first:] + arrays[:first]:
                    found[array.variant].append(
                        random_writes(array, *LOADS[load], turn_s, warm_s='500ms'))
            for variant, iops in found.items():
                emit('a', level, load, variant, 'randwrite', 'IOPS', mean(iops), number)
                say(f'{variant} QD{load} {mean(iops) / 1000:.1f}k')
        for array in arrays:
            array.stop()
    return measure
