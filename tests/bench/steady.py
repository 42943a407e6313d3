# SPDX-License-Identifier: GPL-2.0
"""(a) Steady state: random writes over arrays that were written before. No bit
changes any more, so that what differs from no bitmap is the cost of having one."""

from measure import emit, fill, random_writes
from members import ramdisks
from variants import ALL, MEMBERS, Measured, in_turn

SIZE_MIB = 128 # of each member
LOADS = {'1x1': (1, 1), '32x2': (32, 2), '128x2': (128, 2)}


def plan(steps, size):
    loads = ('32x2',) if size.quick else tuple(LOADS)
    run_s = size.seconds(4 if size.quick else 5)
    for level in size.levels(*MEMBERS):
        # raid5 takes another path as soon as there is a bitmap, whatever it does.
        variants = ALL + ('nothing',) if level == 'raid5' else ALL
        for number, variant in in_turn(size.rounds(3 if size.quick else 5), variants):
            steps.add(3 + len(loads) * (run_s + 1), f'(a) {level} {variant} round {number + 1}',
                      step(level, variant, number, loads, run_s))


def step(level, variant, number, loads, run_s):
    def measure(say):
        array = Measured(variant, level, ramdisks(MEMBERS[level]))
        array.make(f'--size={SIZE_MIB}M')
        fill(array.path, array.bytes())
        for load in loads:
            iops = random_writes(array, *LOADS[load], run_s)
            emit('a', level, load, variant, 'randwrite', 'IOPS', iops, number)
            say(f'QD{load} {iops / 1000:.1f}k')
        array.stop()
    return measure
