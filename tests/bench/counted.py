# SPDX-License-Identifier: GPL-2.0
"""(g) Instructions of a write on its whole way through the kernel, fio included: (a)'s
load in a guest with one CPU whose clock counts instructions, one a nanosecond. What the
machine does besides changes nothing; two runs differ by some tenths of a percent. Waiting
for another CPU is not in it: that is (a)'s."""

from measure import emit, turns
from steady import LOADS, made
from variants import MEMBERS

COUNTED = ('1x1', '32x2')
TURNS = 5
GROUPS = (('none', 'classic', 'llbitmap'), ('none', 'intree'), ('none', 'nothing'))


def plan(steps, size):
    for level in size.levels(*MEMBERS):
        for group in GROUPS:
            steps.add(8 + 4 * len(group), f'(g) {level} {", ".join(group)}',
                      step(level, group, size.seconds(TURNS)))


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
