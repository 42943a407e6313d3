# SPDX-License-Identifier: GPL-2.0
"""Input that nobody thought of: damaged members under the real mdadm (llb/damage.py)."""

import collections

from llb.damage import OUTCOMES, Damage
from llb.lanes import lanes, limit
from llb.sh import need


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
