# SPDX-License-Identifier: GPL-2.0
"""Input that nobody thought of: damaged members under the real mdadm (llb/damage.py), and storms in sysfs
(llb/storm.py)."""

import collections

from llb import disk
from llb.arrays import MIB, make, settle
from llb.damage import OUTCOMES, Damage
from llb.lanes import lanes, limit
from llb.life import BLOCK, Data, whole
from llb.sh import equal, need
from llb.storm import Storm, alone, resting

ROUNDS, STEPS_A_ROUND, AREA_MIB = 12, 60, 8


def damaged(**seeds):
    """Some are refused, some start, some with everything to be resynchronised: else the damage is none."""
    counts = collections.Counter()
    for kind, some in seeds.items():
        counts.update(Damage(kind).run(some))
    most = sum(map(len, seeds.values()))
    need(all(counts[what] * 20 >= most for what in OUTCOMES), f'of {most} cases: {dict(counts)}')


@lanes('stock')
@limit(600)
def test_mutated_slice():
    """Of the seeds of mutated_raid1 and mutated_raid5, those with some of each."""
    damaged(raid1=range(1, 29), raid5=range(57, 69))


@lanes('long')
@limit(3000)
def test_mutated_raid1():
    damaged(raid1=range(1, 301))


@lanes('long')
@limit(3000)
def test_mutated_raid5():
    damaged(raid5=range(1, 251))


def storm(level):
    """Sixteen processes write and read all of the bitmap's files while the array starts, is written, and
    stops. Then it works as before, and each file takes what it should, and nothing else."""
    array = make(level, mib=16)
    data = Data(array)
    data.fill(0, AREA_MIB)
    settle(array)
    chunks = array.metadata()['chunks']
    budget = array.attribute('llbitmap/resync_budget')
    with Storm(array, chunks, level) as running:
        for number in range(ROUNDS):
            running.beside(STEPS_A_ROUND)
            data.sprinkle(range(number * BLOCK, AREA_MIB * MIB, 37 * BLOCK), f'{16 + number:02x}')
            data.holds()
            array.stop()
            array.assemble()
    alone(array)
    defaults = {'daemon_sleep': '30', 'barrier_idle': '5', 'resync_budget': budget}
    for name, value in defaults.items():
        array.set(f'llbitmap/{name}', value)
        equal(array.attribute(f'llbitmap/{name}'), value, f'{name}, set back')
    data.holds()
    array.stop()
    array.assemble()
    for name, value in defaults.items():
        equal(array.attribute(f'llbitmap/{name}'), value, f'{name} after a restart')
    array.quick()
    settle(array, also=(disk.CLEAN_UNWRITTEN,))  # parity that somebody asked for
    resting(array, level == 5)
    data.holds()
    whole(array)


@lanes('stock')
def test_storm_raid1():
    storm(1)


@lanes('long')
def test_storm_raid5():
    storm(5)
