# SPDX-License-Identifier: GPL-2.0
"""(b) Fresh arrays: random writes while the initial sync of those that have one runs,
and after --assume-clean. The lockless ones build nothing on raid1 and raid10."""

from measure import emit, random_writes
from members import ramdisks
from variants import ALL, LOCKLESS, MEMBERS, Measured, in_turn


def plan(steps, size):
    run_s = size.seconds(2)
    for level in size.levels(*MEMBERS):
        for state in ('initial sync', 'assume clean'):
            # where a target stands: raid5 while it builds, the others where nothing needs to
            target = (state == 'initial sync') == (level == 'raid5')
            for number, variant in in_turn(size.rounds(5 if target else 3), ALL):
                steps.add(run_s + 5, f'(b) {level} {state} {variant} round {number + 1}',
                          step(level, state, variant, number, run_s), ('b', level, state), number)


def step(level, state, variant, number, run_s):
    def measure(say):
        array = Measured(variant, level, ramdisks(MEMBERS[level]))
        array.make(fresh=state == 'initial sync')
        iops = random_writes(array, 128, 2, run_s)
        action = array.attribute('sync_action')
        if state == 'initial sync' and variant not in LOCKLESS and action == 'idle':
            # Then the figure says less than it should.
            say('THE SYNC WAS OVER BEFORE THE WRITES WERE')
        emit('b', level, '128x2', variant, f'randwrite, {state}', 'IOPS', iops, number)
        say(f'{iops / 1000:.1f}k, {action} at the end')
        array.stop()
    return measure
