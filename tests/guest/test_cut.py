# SPDX-License-Identifier: GPL-2.0
"""The power cut of the demo; "fast": at once after the first of many writes."""

from llb.cut import Cut
from llb.lanes import lanes

STEPS = ('create', 'write', 'idle', 'cut', 'assemble', 'resync', 'members_equal',
         'acknowledged', 'check')


def cut(level, **how):
    run = Cut(level, **how)
    for step in STEPS:
        print(f'  {step}: {getattr(run, step)()}', flush=True)


@lanes('stock', 'uml-long', 'backports')
def test_raid1():
    cut('raid1')


@lanes('stock', 'backports-long')
def test_raid10():
    cut('raid10')


@lanes('stock', 'backports', 'kcsan-long', 'rt-long')
def test_raid5():
    cut('raid5')


@lanes('long')
def test_raid1_fast():
    cut('raid1', iops=5000, write_s=0, hot_mib=40)


@lanes('stock')
def test_raid10_fast():
    cut('raid10', iops=5000, write_s=0, hot_mib=40)


@lanes('long')
def test_raid5_fast():
    cut('raid5', iops=5000, write_s=0, hot_mib=40)
