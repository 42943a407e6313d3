# SPDX-License-Identifier: GPL-2.0
"""Level and size change while a member is away, or one fails in what follows: what the
bitmap remembers of it is right, or it is not taken by the bitmap."""

from llb import fio
from llb.array import ramdisks
from llb.lanes import lanes
from llb.arrays import DISKS, make, settle
from llb.life import (MIB, Data, add, each_missing, fail, fail_in_reshape, fast, grow, lose,
                      remove, reshaped, running, slow, used, whole)
from llb.sh import equal, need, run, wait_until

KIB = 1 << 10
LIMIT_S = 500  # of a test, which takes 15 to 100
BACKUP = '/tmp/backup'


def parts(array, step=1232 * KIB):
    return [offset // fio.BLOCK * fio.BLOCK for offset in range(0, array.bytes() - MIB, step)]


def prepared(level, count, more, mib=24):
    disks = ramdisks(count + more) if level in (1, 10) else used(count + more)
    array = make(level, members=disks[:count], mib=mib)
    data = Data(array)
    data.fill(0, 8)
    data.sprinkle(parts(array))
    settle(array)
    return array, disks, data


def back(array, gone, data):
    """By the bitmap if md takes it so, else as a new one; then all is on every member."""
    status, said = run('mdadm', array.path, '--re-add', gone, ok=None)
    print(f'  --re-add: {status} {said.strip()}', flush=True)
    if status:
        add(array, gone)
    array.members.append(gone)
    array.wait_whole()
    settle(array)
    data.holds()
    # Mirrors: the rest of a chunk that was written in part is what the disks held before.
    whole(array, check=array.attribute('level') not in ('raid1', 'raid10'))
    each_missing(array, data)


def size_while_away(level, restart):
    array, disks, data = prepared(level, DISKS[level], 0)
    gone = disks[1]
    lose(array, gone)
    array.members.remove(gone)
    data.sprinkle([offset + 4 * KIB for offset in parts(array)], '69')
    run('mdadm', '--grow', array.path, '--size=56M')
    array.wait_idle()
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    if restart:
        array.stop()
        array.assemble('--run')
        array.quick()
    data.sprinkle([offset + 16 * KIB for offset in parts(array)], '5a')
    data.holds()
    back(array, gone, data)


@lanes('long')
def test_size_while_away_raid1():
    size_while_away(1, restart=False)


@lanes('long')
def test_size_while_away_raid5():
    size_while_away(5, restart=True)


@lanes('long')
def test_size_while_away_raid6():
    size_while_away(6, restart=False)


@lanes('long')
def test_size_while_away_raid10():
    size_while_away(10, restart=True)


def two_to_three(away):
    """A mirror becomes raid5 of two, then of three. away: one of the two is not there when
    the level changes; else it fails when the third comes."""
    array, disks, data = prepared(1, 2, 1)
    gone = disks[1]
    if away:
        lose(array, gone)
        array.members.remove(gone)
        data.sprinkle([offset + 4 * KIB for offset in parts(array)], '69')
    run('mdadm', '--grow', array.path, '--level=5')
    equal(array.attribute('level'), 'raid5', 'level')
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    data.holds()
    if away:
        back(array, gone, data)
    add(array, disks[2])
    run('rm', '-f', BACKUP)
    array.wait_idle()
    slow(array, 400)
    grow(array, '-n3')
    array.members.append(disks[2])
    running(array, 'reshape')
    start = array.attribute('reshape_position')
    wait_until('data moves', lambda: array.attribute('reshape_position') != start, 60)
    fail_in_reshape(array, gone)  # md may let it go only when the reshape is over
    array.members.remove(gone)
    data.sprinkle([offset + 12 * KIB for offset in parts(array)], '96')
    fast(array)
    reshaped(array)
    remove(array, gone)
    array.wait_idle()
    data.holds()
    need(run('mdadm', array.path, '--re-add', gone, ok=None)[0], '--re-add was taken')
    back(array, gone, data)


@lanes('long')
def test_two_to_three():
    two_to_three(away=False)


@lanes('long')
def test_two_to_three_away():
    two_to_three(away=True)


def in_place_5_to_6(away):
    """Raid5 becomes raid6 with all of Q on the new member: no data moves. away: with a
    member not there, which returns in the end."""
    array, disks, data = prepared(5, 3, 1)
    gone = disks[1]
    if away:
        lose(array, gone)
        array.members.remove(gone)
        array.set('sync_action', 'frozen')
        data.sprinkle([offset + 4 * KIB for offset in parts(array)], '69')
    add(array, disks[3])
    status, said = run('mdadm', '--grow', array.path, '--level=6', '--layout=preserve',
                       *(('--force',) if away else ()), ok=None)
    print(f'  level 6: {status} {said.strip()}', flush=True)
    if not status:
        equal(array.attribute('level'), 'raid6', 'level')
    array.members.append(disks[3])
    array.set('sync_action', 'idle')
    reshaped(array)
    data.sprinkle([offset + 8 * KIB for offset in parts(array)], '3c')
    data.holds()
    if array.attribute('level') == 'raid6' and not away:
        array.wait_whole()
        settle(array)
        each_missing(array, data)
        fail(array, gone)
        remove(array, gone)
        array.members.remove(gone)
        data.sprinkle([offset + 12 * KIB for offset in parts(array)], '5a')
    if array.attribute('level') == 'raid6':
        array.wait_idle()
        run('mdadm', array.path, '--re-add', gone, ok=None)
        if array.attribute('degraded') != '0':
            run('mdadm', array.path, '--add', gone, ok=None)
        array.members.append(gone)
        array.wait_whole()
        settle(array)
        data.holds()
        each_missing(array, data)


@lanes('long')
def test_in_place_5_to_6():
    in_place_5_to_6(away=False)


@lanes('long')
def test_in_place_5_to_6_away():
    in_place_5_to_6(away=True)


def fewer(level, count, left, *change, fails):
    """The array is made to have fewer members; fails: one fails meanwhile, one that was given
    up takes its place, and it does not come back by the bitmap."""
    array, disks, data = prepared(level, count, 0)
    gone = disks[1]
    parity = {5: 1, 6: 2}.get(level, 0)
    size = array.bytes() // (count - parity) * (left - parity)
    run('mdadm', '--grow', array.path, f'--array-size={size // KIB}')
    data.cut_to(size)
    run('rm', '-f', BACKUP)
    slow(array, 400)
    grow(array, f'-n{left}', *change)
    running(array, 'reshape')
    start = array.attribute('reshape_position')
    wait_until('data moves', lambda: array.attribute('reshape_position') != start, 60)
    if fails:
        fail_in_reshape(array, gone)
    data.sprinkle([offset + 12 * KIB for offset in parts(array)], '96')
    fast(array)
    reshaped(array)
    if fails:
        remove(array, gone)
    data.holds()
    array.wait_whole()
    array.members = [path for path in disks if 'in_sync' in state(array, path)]
    equal(len(array.members), left, 'members in sync')
    settle(array)
    data.holds()
    need(not fails or run('mdadm', array.path, '--re-add', gone, ok=None)[0],
         '--re-add was taken')
    each_missing(array, data)


def state(array, path):
    try:
        return array.attribute(f'dev-{path.rsplit("/", 1)[1]}/state')
    except FileNotFoundError:
        return ''


@lanes('long')
def test_fewer_raid5():
    """None fails: md's own raid5 loses data then (K21)."""
    fewer(5, 4, 3, f'--backup-file={BACKUP}', fails=False)


@lanes('long')
def test_fewer_raid10():
    fewer(10, 6, 4, fails=True)
