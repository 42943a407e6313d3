# SPDX-License-Identifier: GPL-2.0
"""(e) Latency of writes under a mixed load, with the daemon passing every second and
chunks for it to clean and to be touched again."""

from measure import emit, fill, fio
from members import ramdisks
from variants import ALL, MEMBERS, Measured, in_turn

SIZE_MIB = 256 # of each member
DEPTH, JOBS = 8, 2
PERCENTILES = {'p50': '50.000000', 'p99': '99.000000', 'p99.9': '99.900000',
               'p99.99': '99.990000'}
RUN_S = {'raid1': 7, 'raid10': 7, 'raid5': 14} # a million writes and more in the rounds


def plan(steps, size):
    for level in size.levels(*MEMBERS):
        run_s = size.seconds(RUN_S[level])
        for number, variant in in_turn(size.rounds(5), ALL):
            steps.add(run_s + 7, f'(e) {level} {variant} round {number + 1}',
                      step(level, variant, number, run_s), ('e', level), number)


def step(level, variant, number, run_s):
    def measure(say):
        array = Measured(variant, level, ramdisks(MEMBERS[level]))
        array.make(f'--size={SIZE_MIB}M')
        array.sleep(1)
        fill(array.path, array.bytes())
        done = fio('mixed', DEVICE=array.path, DEPTH=DEPTH, JOBS=JOBS, RUN_S=run_s, WARM_S=2)
        clat = done['write']['clat_ns']
        values = {name: clat['percentile'][key] for name, key in PERCENTILES.items()}
        values['max'] = clat['max']
        for name, value in values.items():
            emit('e', level, f'{DEPTH}x{JOBS}', variant, name, 'µs', value / 1000, number)
            say(f'{name} {value / 1e6:.2f} ms')
        emit('e', level, f'{DEPTH}x{JOBS}', variant, 'samples', 'writes', clat['N'], number)
        array.stop()
    return measure
