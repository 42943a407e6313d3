# SPDX-License-Identifier: GPL-2.0
"""(g) Instructions of a write on its whole way through the kernel, fio included: (a)'s
load in a guest with one CPU whose clock counts instructions, one a nanosecond. What the
machine does besides changes nothing; two runs differ by some tenths of a percent. Waiting
for another CPU is not in it: that is (a)'s."""

from measure import emit, fio, random_writes, turns
from members import ramdisks
from steady import LOADS, made
from variants import ALL, MEMBERS, Measured, in_turn

COUNTED = ('1x1', '32x2')
TURNS = 5
FRESH_MIB = 128 # of each member
GROUPS = (('none', 'classic', 'llbitmap'), ('none', 'intree'), ('none', 'nothing'))


def plan(steps, size):
    for level in size.levels(*MEMBERS):
        for group in GROUPS:
            steps.add(8 + 4 * len(group), f'(g) {level} {", ".join(group)}',
                      step(level, group, size.seconds(TURNS)), ('g', level))
        for number, variant in in_turn(size.rounds(5), ALL):
            steps.add(10, f'(g) {level} fresh {variant} round {number + 1}',
                      fresh(level, variant, number), ('g', level, 'fresh'), number)


def fresh(level, variant, number):
    """Arrays as after --assume-clean, where every chunk is touched for the first time:
    random writes for half a second of the guest's, and all in order."""
    def measure(say):
        for pattern in 'random', 'sequential':
            array = Measured(variant, level, ramdisks(MEMBERS[level]))
            array.make(f'--size={FRESH_MIB}M')
            if pattern == 'random':
                iops = random_writes(array, *LOADS['32x2'], run_s='500ms', warm_s=0)
            else:
                iops = fio('sequential', DEVICE=array.path, DEPTH=1, BYTES=array.bytes(),
                           RUN_S=60)['write']['iops']
            emit('g', level, '32x2' if pattern == 'random' else '1x1', variant,
                 f'a write, fresh array, {pattern}', 'instructions', 1e9 / iops, number)
            say(f'{pattern} {1e9 / iops:.0f}')
            array.stop()
    return measure


def step(level, group, count):
    def measure(say):
        arrays = [made(level, variant, at, group[-1]) for at, variant in enumerate(group)]
        for load in COUNTED:
            found = {array.variant: [1e9 / iops for iops in done] for array, done in turns(
                arrays, *LOADS[load], count, 0, '300ms', '50ms').items()}
            for variant, counts in found.items():
                for number, instructions in enumerate(counts):
                    if variant != 'none' or group == GROUPS[0]:
                        emit('g', level, load, variant, 'a write, all of the kernel',
                             'instructions', instructions, number, none=found['none'][number])
                say(f'{variant} QD{load} {min(counts):.0f} to {max(counts):.0f}')
        for array in arrays:
            array.stop()
    return measure
