# SPDX-License-Identifier: GPL-2.0
"""Where a test runs, and how long it may take; said above it:

    @lanes('stock', 'uml')
    @limit(600)
    def test_name(): ...

scripts/test says which kernel each lane is. Read by tests/harness/names.py, on the host, from
the source: the names must stand there as they are. A file's LIMIT_S is the limit of all of
its tests that have none of their own."""

LANES = ('stock', 'uml', 'backports', 'peer', 'long', 'uml-long', 'backports-long', 'peer-long',
         'kcsan-long', 'rt-long')


def lanes(*names):
    """What scripts/test runs the test in: by default those without long."""
    if not names or set(names) - set(LANES):
        raise ValueError(f'no such lanes: {names}')

    def mark(test):
        test.lanes = names
        return test
    return mark


def limit(seconds):
    """Of the reference machine (llb/pace.py): a guard against hanging."""
    def mark(test):
        test.limit_s = seconds
        return test
    return mark


def uses_up(test):
    """Those after it get another guest: it leaves what cannot be undone without a boot."""
    test.uses_up = True
    return test
