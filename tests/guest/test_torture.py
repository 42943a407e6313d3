# SPDX-License-Identifier: GPL-2.0
"""Some seeds of llb/torture.py of each kind of array; `scripts/torture` runs others."""

from llb.lanes import lanes, limit
from llb.torture import Torture


@lanes('stock')
def test_raid5_short():
    Torture('raid5', 1).run(10)


@lanes('long', 'uml-long', 'kcsan-long', 'rt-long')
@limit(2000)
def test_raid1():
    Torture('raid1', 1).run(50)


@lanes('long')
@limit(2000)
def test_raid1_3():
    Torture('raid1-3', 1).run(50)


@lanes('long', 'uml-long', 'kcsan-long', 'rt-long')
@limit(2000)
def test_raid10():
    Torture('raid10', 1).run(50)


@lanes('long')
@limit(2000)
def test_raid10_far():
    Torture('raid10-f2', 1).run(50)


@lanes('long')
@limit(2000)
def test_raid10_offset():
    Torture('raid10-o2', 1).run(50)


@lanes('long', 'uml-long', 'kcsan-long', 'rt-long')
@limit(2000)
def test_raid5():
    Torture('raid5', 2).run(50)


@lanes('long')
@limit(2000)
def test_raid6():
    Torture('raid6', 1).run(50)
