# SPDX-License-Identifier: GPL-2.0
"""(a) Steady state: random writes over arrays that were written before. No bit
changes any more, so that what differs from no bitmap is the cost of having one.

An emulated machine's speed may change twofold from one minute to the next. Variants
therefore exist side by side, and a round takes short turns on them. Those that need
other modules have an array without a bitmap of their own beside them: it is what they
are compared to. A second array without a bitmap tells how much of a difference is chance;
what that hides, (g) counts."""

from statistics import mean

from measure import emit, fill, turns
from members import some_ramdisks
from variants import LOCKLESS, MEMBERS, Measured

SIZE_MIB = 128 # of each member
LOADS = {'1x1': (1, 1), '32x2': (32, 2), '128x2': (128, 2)}
TOGETHER = ('none', 'none-again', 'classic', 'llbitmap')
TURNS = 5 # a fifth of a turn's speed is chance: many short ones
TURN, WARM = '400ms', '100ms'
TURN_S = 0.9 # with what fio needs besides
REST_S = 60 # a chunk that waits for its array's next turn does not become clean


def plan(steps, size):
    loads = ('32x2',) if size.quick else tuple(LOADS)
    count = size.seconds(TURNS)
    for level in size.levels(*MEMBERS):
        groups = [TOGETHER, ('none', 'intree')]
        # What md does as soon as there is a bitmap; raid5 takes another path then.
        if not size.quick:
            groups.append(('none', 'nothing'))
        for number in range(size.rounds(3 if size.quick else 5)):
            for group in (groups if number % 2 == 0 else reversed(groups)):
                steps.add(len(group) * (3 + len(loads) * count * TURN_S),
                          f'(a) {level} {", ".join(group)} round {number + 1}',
                          step(level, group, number, loads, count), ('a', level, group), number)


def made(level, variant, at, beside):
    count = MEMBERS[level]
    array = Measured(variant, level, some_ramdisks(at * count, count), number=at)
    array.make(f'--size={SIZE_MIB}M', modules=beside)
    if variant in LOCKLESS:
        array.set('llbitmap/barrier_idle', REST_S)
    elif variant == 'classic':
        array.set('bitmap/time_base', REST_S)
    fill(array.path, array.bytes())
    return array


def step(level, group, number, loads, count):
    def measure(say):
        # Arrays that differ in nothing but their ramdisks were seen 5 % apart.
        at = number % len(group)
        arrays = [made(level, variant, place, group[-1])
                  for place, variant in enumerate(group[at:] + group[:at])]
        for load in loads:
            found = {array.variant: mean(iops) for array, iops in
                     turns(arrays, *LOADS[load], count, number, TURN, WARM).items()}
            for variant, iops in found.items():
                if variant != 'none' or group == TOGETHER:
                    emit('a', level, load, variant, 'randwrite', 'IOPS', iops, number,
                         none=found['none'])
                say(f'{variant} QD{load} {iops / 1000:.1f}k')
        for array in arrays:
            array.stop()
    return measure
