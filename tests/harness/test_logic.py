#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What runs and judges the tests, without a guest: results of a lane whose guests die,
limits, plans."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path[:0] = [f'{ROOT}/tests/guest', f'{ROOT}/tests/bench', f'{ROOT}/tests/harness', f'{ROOT}/tests/fs']
import crash_cost_check  # noqa: E402  pylint: disable=wrong-import-position
import demo_report  # noqa: E402  pylint: disable=wrong-import-position
import fs_suite  # noqa: E402  pylint: disable=wrong-import-position
import guest_mutants  # noqa: E402  pylint: disable=wrong-import-position
import guests  # noqa: E402  pylint: disable=wrong-import-position
import lane  # noqa: E402  pylint: disable=wrong-import-position
import matrix  # noqa: E402  pylint: disable=wrong-import-position
import mdadm_report  # noqa: E402  pylint: disable=wrong-import-position
import names  # noqa: E402  pylint: disable=wrong-import-position
import peer_report  # noqa: E402  pylint: disable=wrong-import-position
import test_fs  # noqa: E402  pylint: disable=wrong-import-position
from measure import Plan, Size  # noqa: E402  pylint: disable=wrong-import-position
from llb import faults, leaks, pace, sh  # noqa: E402  pylint: disable=wrong-import-position
from llb.sh import Failure, run, wait_until  # noqa: E402  pylint: disable=wrong-import-position

DIED = (122, 'guest forky/stock tcg: ended without a final word: Kernel panic')
FINE = (0, 'guest forky/stock tcg: job passed')
SOME_FAILED = (1, 'guest forky/stock tcg: job failed with status 1')
SPENT = (3, 'guest forky/stock tcg: job failed with status 3')
USED_UP = (4, 'guest forky/stock tcg: job failed with status 4')
UNCLEAN = (121, 'kernel log:\n[ 1.0] WARNING: x\nguest: kernel log has a line')


class Guests:
    """A guest for each of these: the job's lines, and how it ended."""

    def __init__(self, *script_of_each):
        self.scripts, self.asked = script_of_each, []

    def __call__(self, number, names):
        self.asked.append(names)
        lines, end = self.scripts[min(number, len(self.scripts)) - 1]
        yield from lines
        return end


class Results(unittest.TestCase):
    def lane(self, names, *guests, limit=6):
        said = []
        found = lane.Lane(names, said.append)
        self.guests = Guests(*guests)
        self.count = lane.run(found, self.guests, limit)
        self.said = said
        return found

    def test_all_pass(self):
        found = self.lane(['a.b', 'a.c'], (
            ['RUN a.b', 'PASS a.b 1.0', 'noise', 'RUN a.c', 'ALIVE a.c pace 1.0', 'PASS a.c 2.5'],
            FINE))
        self.assertTrue(found.passed())
        self.assertEqual(found.results, {'a.b': True, 'a.c': True})
        self.assertEqual(self.said, ['RUN a.b', 'PASS a.b 1.0', 'RUN a.c', 'PASS a.c 2.5'])
        self.assertEqual(self.count, 1)

    def test_a_failure_says_why(self):
        found = self.lane(['a.b'], (['RUN a.b', 'FAIL a.b 1.0: as it is'], SOME_FAILED))
        self.assertFalse(found.passed())
        self.assertFalse(found.bad)
        self.assertEqual(self.said[-1], 'FAIL a.b 1.0: as it is')

    def test_a_panic_costs_the_test_that_ran(self):
        found = self.lane(['a.b', 'a.c', 'a.d'],
                          (['RUN a.b', 'PASS a.b 1.0', 'RUN a.c'], DIED),
                          (['RUN a.d', 'PASS a.d 1.0'], FINE))
        self.assertEqual(found.results, {'a.b': True, 'a.c': False, 'a.d': True})
        self.assertEqual(self.guests.asked, [['a.b', 'a.c', 'a.d'], ['a.d']])
        self.assertFalse(found.passed())
        self.assertEqual(len(found.bad), 1)
        self.assertIn('did not survive', self.said[3])
        self.assertIn('Kernel panic', self.said[3])

    def test_a_spent_guest_is_followed_by_another(self):
        found = self.lane(['a.b', 'a.c'],
                          (['RUN a.b', 'FAIL a.b 9.0: cannot be ended'], SPENT),
                          (['RUN a.c', 'PASS a.c 1.0'], FINE))
        self.assertEqual(found.results, {'a.b': False, 'a.c': True})
        self.assertFalse(found.bad)
        self.assertFalse(found.passed())

    def test_a_test_may_use_up_its_guest(self):
        found = self.lane(['a.b', 'a.c'], (['RUN a.b', 'PASS a.b 1.0'], USED_UP),
                          (['RUN a.c', 'PASS a.c 1.0'], USED_UP))
        self.assertEqual(self.guests.asked, [['a.b', 'a.c'], ['a.c']])
        self.assertTrue(found.passed())
        for lines in (['RUN a.b', 'FAIL a.b 1.0: x'], ['RUN a.b']):
            self.assertEqual(len(self.lane(['a.b'], (lines, USED_UP), limit=1).bad), 1, lines)
        unclean = (4, 'kernel log:\n[ 1.0] WARNING: x\nguest: status 4')
        self.assertFalse(self.lane(['a.b'], (['RUN a.b', 'PASS a.b 1.0'], unclean)).passed())

    def test_a_guest_that_dies_between_tests(self):
        found = self.lane(['a.b', 'a.c'], (['RUN a.b', 'PASS a.b 1.0'], DIED),
                          (['RUN a.c', 'PASS a.c 1.0'], FINE))
        self.assertEqual(found.results, {'a.b': True, 'a.c': True})
        self.assertFalse(found.passed())

    def test_a_guest_that_dies_after_all(self):
        found = self.lane(['a.b'], (['RUN a.b', 'PASS a.b 1.0'], DIED))
        self.assertFalse(found.passed())

    def test_a_log_that_is_not_clean(self):
        found = self.lane(['a.b'], (['RUN a.b', 'PASS a.b 1.0'], UNCLEAN))
        self.assertFalse(found.passed())
        # The job's own status takes precedence over the log in the lab's.
        found = self.lane(['a.b'], (['RUN a.b', 'FAIL a.b 1.0: x'],
                                    (1, 'kernel log:\n[ 1.0] WARNING: x\nguest: status 1')))
        self.assertEqual(len(found.bad), 1)

    def test_guests_are_bounded(self):
        names = [f'a.t{number}' for number in range(9)]
        found = self.lane(names, *[([f'RUN {name}'], DIED) for name in names], limit=3)
        self.assertEqual(self.count, 3)
        self.assertEqual(set(found.results), set(names))
        self.assertFalse(any(found.results.values()))
        self.assertEqual(len(self.said), 3 + 9)

    def test_a_guest_that_never_starts(self):
        found = self.lane(['a.b'], ([], DIED), limit=4)
        self.assertEqual(self.count, 4)
        self.assertEqual(found.results, {'a.b': False})

    def test_only_the_one_that_runs_has_a_result(self):
        found = self.lane(['a.b', 'a.c'], (
            ['PASS a.b 1.0', 'RUN a.b', 'PASS a.c 1.0', 'RUN a.c', 'PASS x 1', 'FAIL a.b 1.0: no',
             'PASS a.b 1.0'], FINE), ([], FINE), limit=2)
        self.assertEqual(found.results, {'a.b': False, 'a.c': False})
        self.assertIn('no result', self.said[-1])

    def test_a_job_that_ends_in_the_middle(self):
        found = self.lane(['a.b'], (['RUN a.b'], FINE))
        self.assertEqual(found.results, {'a.b': False})

    def test_the_last_word_fits_what_was_said(self):
        passed = ['RUN a.b', 'PASS a.b 1.0']
        for lines, status, bad in (
                (passed, FINE, 0), (passed, SOME_FAILED, 1), (passed, SPENT, 1),
                (['RUN a.b', 'FAIL a.b 1.0: x'], SOME_FAILED, 0),
                (['RUN a.b', 'FAIL a.b 1.0: x'], FINE, 1), ([], SOME_FAILED, 1), ([], FINE, 1)):
            found = self.lane(['a.b'], (lines, status), limit=1)
            self.assertEqual(len(found.bad), bad, (lines, status))

    def test_nothing_is_no_success(self):
        self.assertFalse(lane.Lane([]).passed())


class Leaks(unittest.TestCase):
    def test_ours(self):
        one = ('unreferenced object 0xffff888 (size 64):\n  comm "mdadm", pid 1\n  backtrace (crc 1):\n'
               '    kmalloc+0x1/0x2\n    {}\n')
        self.assertIsNone(leaks.ours(''))
        self.assertIsNone(leaks.ours(one.format('raid1_run+0x1/0x2 [raid1]')))
        for frame in 'llb_create+0x1/0x2 [llbitmap]', '0xffffffffc0123456':
            found = leaks.ours(one.format('raid1_run+0x1/0x2 [raid1]') + 2 * one.format(frame))
            self.assertEqual((found.count('leaked:'), 'raid1' in found), (2, False), frame)

    def test_lane(self):
        self.assertTrue(leaks.is_lane('7.2.12-rt-69338af6'))
        for other in '7.3.4+deb13-rt-amd64', '7.2.12-kcsan-69338af6', '7.2.12+deb14-amd64':
            self.assertFalse(leaks.is_lane(other), other)


class KernelLog(unittest.TestCase):
    def races(self, *lines):
        return list(faults.without_others_races(lines))

    def test_races(self):
        ruler = '[ 1.0] ' + faults.RULER
        others = [ruler, '[ 1.0] BUG: KCSAN: data-race in a [raid1] / b [md_mod]', 'a+0x1/0x2 [raid1]', ruler]
        first = [ruler, '[ 1.0] BUG: KCSAN: data-race in a [llbitmap] / b [md_mod]', 'a+0x1/0x2 [llbitmap]', ruler]
        under = [ruler, '[ 1.0] BUG: KCSAN: data-race in memcmp / b', 'memcmp+0x1/0x2', 'a+0x1/0x2 [llbitmap]', ruler]
        flags = [ruler, '[ 1.0] BUG: KCSAN: data-race in kthread_is_per_cpu / plat_alloc [llbitmap]', ruler]
        kasan = [ruler, 'BUG: KASAN: x', 'a+0x1/0x2 [raid1]', ruler]
        self.assertEqual(self.races('x', *others, 'y', *flags, *others, *first, *others, *under, 'z'),
                         ['x', 'y', *first, *under, 'z'])
        self.assertEqual(self.races(*kasan, 'x', *others), [*kasan, 'x'])

        def two_sided(ours, theirs, module='md_mod'):
            return [ruler, '[ 1.0] BUG: KCSAN: data-race in a [llbitmap] / b [md_mod]',
                    f'[ 1.0] read{ours} to 0xff35 of 8 bytes by task 205 on cpu 1:', '[ 1.0]  a+0x31/0x360 [llbitmap]', '[ 1.0] ',
                    f'[ 1.0] write{theirs} to 0xff35 of 8 bytes by task 175 on cpu 0:', f'[ 1.0]  b+0x58/0x109 [{module}]', ruler]
        self.assertEqual(self.races(*two_sided(' (marked)', '')), [])
        self.assertEqual(self.races(*two_sided(' (marked)', ' (reordered)')), [])
        bare = [line.removeprefix('[ 1.0] ') for line in two_sided(' (marked)', '')]  # as a guest reads them
        self.assertEqual(self.races(*bare), [])
        unknown = [ruler, '[ 1.0] BUG: KCSAN: data-race in a [llbitmap]', '[ 1.0] race at unknown origin, with read (marked) to 0xff35',
                   '[ 1.0]  a+0x31/0x360 [llbitmap]', ruler]
        self.assertEqual(self.races(*unknown), unknown)
        for found in (two_sided('', ''), two_sided('', ' (marked)'), two_sided(' (marked, reordered)', ''),
                      two_sided(' (marked)', '', module='llbitmap')):
            self.assertEqual(self.races(*found), found)
        self.assertEqual(self.races(*others[:2]), others[:2])

    def test_what_was_asked_for_is_no_fault_of_a_test(self):
        asked = ['lab: the job may time out now: ' + faults.BLOCKED, ' Call Trace:', faults.END_OF_BLOCKED]
        self.assertEqual(list(faults.bad_lines(['x', *asked, 'y'])), [])
        self.assertEqual(list(faults.bad_lines(['x', *asked, ' Call Trace:'])), [' Call Trace:'])
        self.assertEqual(list(faults.bad_lines(asked[:2])), asked[1:2])

    def left(self, *lines):
        return list(faults.without_blocked_tasks(lines))

    def found(self, log):
        """By the command, in a log of these bytes."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(log)
            file.flush()
            return subprocess.run([f'{ROOT}/tests/guest/llb/faults.py', file.name], check=True,
                                  stdout=subprocess.PIPE, env={'LC_ALL': 'C'}).stdout.decode()

    def test_faults(self):
        self.assertEqual(self.found(
            b'[0] Command line: slub_debug lockdep\r\n[1] \xff KASAN: x\0\r\n[2] rcu: INFO: rcu_sched '
            b'self-detected stall\n[3] mdadm: WARNING\n[4] a: lab: blocked tasks:\nCall Trace:\n'
            b'[5] lab: end of blocked tasks\n[6] list_del corruption'),
            '[1] \ufffd KASAN: x\n[2] rcu: INFO: rcu_sched self-detected stall\n'
            '[6] list_del corruption\n')
        self.assertEqual(self.found(b'[0] Linux version\n'), '')

    def test_a_log_that_cannot_be_read_is_not_clean(self):
        """judge() of the lab, with a log that is not there."""
        said = subprocess.run(
            ['bash', '-c', f'source {ROOT}/scripts/lab.d/guest.sh; repo={ROOT} out=/nowhere\n'
             'say() { echo "$*"; }; job_status() { echo 0; }; elapsed() { :; }; judge'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        self.assertEqual((said.returncode, 'kernel log has a line' in said.stdout), (121, True))

    def test_blocked_tasks_that_were_asked_for(self):
        shown = ['x is not done: lab: blocked tasks:', 'Call Trace:', 'lab: end of blocked tasks']
        self.assertEqual(self.left('a', *shown, 'BUG: b', *shown, 'c'), ['a', 'BUG: b', 'c'])

    def test_messages_that_are_gone_are_no_end(self):
        log = sh.KernelLog.__new__(sh.KernelLog)
        log.file = -1
        with unittest.mock.patch('os.read', side_effect=[
                BrokenPipeError(), b'4,7,9,-;WARNING: x\n SUBSYSTEM=y\n', BlockingIOError()]):
            self.assertEqual(list(log.lines()), ['WARNING: x'])

    def test_blocked_tasks_without_an_end_hide_nothing(self):
        lines = ['a', 'x: lab: blocked tasks:', 'Call Trace:', 'BUG: b']
        self.assertEqual(self.left(*lines), lines)


class Pace(unittest.TestCase):
    def setUp(self):
        self.work = pace.work
        self.slow(1)

    def tearDown(self):
        pace.work = self.work

    def slow(self, times):
        pace.work = lambda: pace.REFERENCE_S * times

    def test_bounds(self):
        self.assertEqual(pace.of(0), 1)
        self.assertEqual(pace.of(pace.REFERENCE_S / 3), 1)
        self.assertAlmostEqual(pace.of(pace.REFERENCE_S * 2.5), 2.5)
        self.assertEqual(pace.of(1e9), pace.MOST)

    def test_the_worst_counts_until_it_begins_anew(self):
        self.assertEqual(pace.begin(), 1)
        self.slow(4)
        self.assertEqual(pace.measure(), 4)
        self.slow(2)
        self.assertEqual(pace.measure(), 2)
        self.assertEqual(pace.stretch(), 4)
        self.assertEqual(pace.begin(), 2)
        self.assertEqual(pace.stretch(), 2)

    def test_a_child_sees_what_its_parent_measures(self):
        pace.begin()
        child = os.fork()
        if child == 0:
            end = time.monotonic() + 60
            while pace.stretch() < 7 and time.monotonic() < end:
                time.sleep(0.01)
            os._exit(0 if pace.stretch() == 7 else 1)
        self.slow(7)
        pace.measure()
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_a_limit_is_stretched(self):
        self.slow(3)
        pace.begin()
        limit = pace.Limit(10)
        limit.start -= 29
        self.assertFalse(limit.passed())
        limit.start -= 2
        self.assertTrue(limit.passed())
        self.assertEqual(str(limit), '10 s x 3.0')

    def test_a_machine_that_becomes_busy_later(self):
        pace.begin()
        limit = pace.Limit(10)
        limit.start -= 15
        self.slow(2)
        self.assertFalse(limit.passed())
        limit.start -= 6
        self.assertTrue(limit.passed())

    def test_samples_are_few_where_they_take_long(self):
        pace.begin()
        sampler = pace.Sampler()
        self.slow(3)
        sampler.tick()
        self.assertEqual(pace.stretch(), 1)
        sampler.due = 0
        sampler.tick()
        self.assertAlmostEqual(pace.stretch(), 3)
        self.assertLess(sampler.due, time.monotonic() + pace.EVERY_S + 1)
        pace.work = lambda: time.sleep(0.5) or pace.REFERENCE_S
        sampler.due = 0
        sampler.tick()
        self.assertGreater(sampler.due, time.monotonic() + 20)

    def test_wait_until(self):
        pace.begin()
        self.slow(1)
        with self.assertRaisesRegex(Failure, 'never: not within 0.05 s$'):
            wait_until('never', lambda: False, 0.05, 0.01)
        start = time.monotonic()
        self.slow(20)
        with self.assertRaisesRegex(Failure, 'not within 0.05 s x 20'):
            wait_until('never', lambda: False, 0.05, 0.01)
        self.assertGreaterEqual(time.monotonic() - start, 1)
        start = time.monotonic()
        with self.assertRaises(Failure):
            wait_until('never', lambda: False, 0.05, 0.01, exact=True)
        self.assertGreaterEqual(wait_until('late', lambda: time.monotonic() > start + 0.2, 0.05), 0.1)

    def test_run(self):
        pace.begin()
        self.assertEqual(run('echo', 'a'), 'a\n')
        self.assertEqual(run('sh', '-c', 'echo b; exit 3', ok=None), (3, 'b\n'))
        with self.assertRaisesRegex(Failure, 'sleep 100: not done within 0.2 s'):
            run('sleep', '100', timeout_s=0.2)
        self.slow(20)
        # It would be late without being slow.
        pace.begin()
        self.assertEqual(run('sh', '-c', 'sleep 0.5; echo c', timeout_s=0.2), 'c\n')


def shell(text):
    done = subprocess.run(['bash', '-euc', f'source {ROOT}/scripts/lab.d/pace.sh; {text}'],
                          stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


class HostPace(unittest.TestCase):
    def test_bounds(self):
        self.assertEqual(shell('for us in 0 10000 50000 75000 500000 99999999; do pace_of $us;'
                               ' echo $pace; done'),
                         ['100', '100', '100', '150', '1000', '3000'])

    def test_time_is_divided(self):
        self.assertEqual(shell('pace_spend 1000000 100; echo $paced_us;'
                               ' pace_spend 1000000 400; echo $paced_us'), ['1000000', '1250000'])

    def test_a_sample_is_taken_anew(self):
        self.assertEqual(shell('''pace_sample() { pace=${next:-100}; }
            pace_start; next=1000 pace_next_us=0 pace_at_us=$((pace_at_us - 10000000))
            pace_tick; echo $pace $((paced_us / 100000))'''), ['1000', '10'])

    def test_within(self):
        within = f'{ROOT}/scripts/lab.d/within'
        self.assertEqual(subprocess.run([within, '60', 'sh', '-c', 'exit 7'], check=False).returncode, 7)
        self.assertEqual(subprocess.run([within, '60', 'cat'], input='x', text=True, check=True,
                                        stdout=subprocess.PIPE).stdout, 'x')
        late = subprocess.run([within, '1', 'sh', '-c', 'sleep 3600 & sleep 3600'], check=False,
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(late.returncode, 124)
        self.assertIn('ended after 1 s', late.stderr)
        self.assertEqual(subprocess.run([within, 'x', 'true'], check=False,
                                        stderr=subprocess.DEVNULL).returncode, 2)


class Plans(unittest.TestCase):
    def plan(self, kinds=3, rounds=3, seconds=10, each=2):
        steps, self.done = Plan(), []
        for kind in range(kinds):
            for number in range(rounds):
                for part in range(each):
                    name = f'{kind}.{number}.{part}'
                    steps.add(seconds, name, lambda say, name=name: self.done.append(name),
                              ('a', kind), number)
        return steps

    def names(self, steps):
        return [step.name for step in steps.steps]

    def test_all_of_it_on_the_reference(self):
        steps = self.plan()
        steps.fit(180, 1)
        self.assertEqual(len(steps.steps), 18)
        self.assertEqual(steps.left_out, [])

    def test_the_last_rounds_go_first(self):
        steps = self.plan()
        steps.fit(180, 1.3)  # 216 s of it
        self.assertEqual(steps.left_out, ['2.2.0', '2.2.1', '1.2.0', '1.2.1'])
        self.assertLessEqual(steps.total_s(), 180)
        self.assertEqual(len(steps.steps), 14)

    def test_then_whole_kinds(self):
        steps = self.plan()
        steps.fit(180, 7)
        self.assertEqual(self.names(steps), ['0.0.0', '0.0.1'])
        self.assertEqual(len(steps.left_out), 16)

    def test_one_is_always_left(self):
        steps = self.plan()
        steps.fit(180, 1000)
        self.assertEqual(self.names(steps), ['0.0.0', '0.0.1'])

    def test_all_that_is_planned_is_done(self):
        steps = self.plan()
        steps.fit(180, 1.3)
        planned, cleaned = self.names(steps), []
        steps.run(lambda: cleaned.append(1))
        self.assertEqual(self.done, planned)
        self.assertEqual(len(cleaned), len(planned))
        self.assertEqual(steps.facts(), {'steps': 14, 'failed': 0, 'slower': 1.3,
                                         'left out': ['2.2.0', '2.2.1', '1.2.0', '1.2.1']})

    def test_a_step_that_fails_is_counted(self):
        steps = self.plan(1, 1, each=1)

        def fails(say):
            raise Failure('no')
        steps.add(1, 'fails', fails, ('x',))
        steps.run(lambda: None)
        self.assertEqual(steps.facts()['failed'], 1)
        self.assertEqual(self.done, ['0.0.0'])

    def test_the_quick_bench(self):
        """All of its groups have a first round as long as the machine is at most 2.5
        times slower."""
        import cuts  # pylint: disable=import-outside-toplevel
        import steady  # pylint: disable=import-outside-toplevel
        for slower in (1, 1.2, 1.6, 2, 2.5):
            steps, size = Plan(), Size('quick', 0)
            steady.plan(steps, size)
            cuts.plan(steps, size)
            groups = {step.group for step in steps.steps}
            steps.fit(510, slower)
            self.assertEqual({step.group for step in steps.steps}, groups, slower)
            self.assertLessEqual(steps.total_s(), 510)
            self.assertEqual(bool(steps.left_out), slower > 1.15, slower)
        steps = Plan()
        steady.plan(steps, size)
        cuts.plan(steps, size)
        steps.fit(510, 10)
        self.assertEqual({step.group[:2] for step in steps.steps}, {('a', 'raid1'), ('f', 'raid1')})


class Reports(unittest.TestCase):
    def test_result(self):
        self.assertEqual(lane.Result.of('FAIL a.b 1.5: it: lied\n'), ('a.b', False, '1.5', 'it: lied'))
        self.assertEqual(lane.Result.of('PASS a.b 0.1'), ('a.b', True, '0.1', ''))
        self.assertIsNone(lane.Result.of('RUN a.b'))
        self.assertIsNone(lane.Result.of('GUESTS bad 1: x'))

    def test_a_guest_that_came_to_no_test(self):
        checked = guests.started(Guests(([], DIED)))
        with self.assertRaisesRegex(guests.NotStarted, 'ended without a final word'):
            lane.run(lane.Lane(['a.b', 'a.c']), checked, 5)

    def test_guests_that_die_in_a_test(self):
        results = []
        checked = guests.started(Guests((['RUN a.b'], DIED), (['RUN a.c', 'PASS a.c 1'], FINE)))
        lane.run(lane.Lane(['a.b', 'a.c'], lambda line: results.append(lane.Result.of(line))), checked, 5)
        self.assertEqual([(one.name, one.passed) for one in results if one],
                         [('a.b', False), ('a.c', True)])

    def test_properties(self):
        """All of them are tests that there are."""
        texts = peer_report.properties()
        known = {f'{module}.{name}' for path in names.GUEST.glob('test_*.py')
                 for module in [path.stem.removeprefix('test_')]
                 for name, _, _ in names.tests(path.read_text(encoding='utf-8'))}
        self.assertEqual(set(texts) - known, set())
        self.assertEqual(texts['log.raid10'], texts['log.raid1'].replace('raid1:', 'raid10:'))

    def test_rows(self):
        seen = {'intree': {'a.b': lane.Result('a.b', False, '1', 'x | y')},
                'llbitmap': {'a.b': lane.Result('a.b', True, '1', '')}}
        table = peer_report.rows({'a.b': 'it holds'}, seen)
        self.assertEqual(table, [{'property': 'it holds', 'test': 'a.b', 'intree': 'fail',
                                  'llbitmap': 'pass', 'observed': 'intree: x | y'}])
        self.assertIn('| it holds | fail | pass | intree: x / y |', peer_report.markdown(table, 'k'))

    def test_mdadm(self):
        one = {'test': 'a', 'result': 'pass', 'reason': ''}
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder)
            (out / 'report-1.json').write_text(json.dumps([one]), encoding='utf-8')
            self.assertEqual(mdadm_report.merged(out, ['a', 'b']),
                             [one, {'test': 'b', 'result': 'fail', 'reason': 'no result'}])

    def test_file_systems(self):
        said = ('stress-ng: fail:  [2] hdd: data read back differs\n'
                'stress-ng: info:  [3] verity: verity is not supported, skipping stressor\n'
                'stress-ng: info:  [1] skipped: 1: verity (1)\n'
                'stress-ng: info:  [1] passed: 2: dentry (1) copy-file (1)\n'
                'stress-ng: info:  [1] failed: 1: hdd (1)\n')
        found = test_fs.judged(2, said, ['hdd', 'verity', 'dentry', 'copy-file', 'aio'])
        self.assertEqual(found.pop('aio').split(':')[:2], ['fail', ' no word of it, status 2'])
        self.assertEqual(found, {'hdd': 'fail: hdd: data read back differs', 'dentry': 'pass',
                                 'verity': 'skipped: verity: verity is not supported, skipping stressor',
                                 'copy-file': 'pass'})
        for odd in (said, 'value 8.0MB is out of range'):
            with self.assertRaises(Failure):
                test_fs.judged(2, odd, ['dentry'])
        row = {'fs': 'xfs', 'level': 'raid5', 'stressor': 'hdd', 'llbitmap': 'fail: x', 'none': 'pass'}
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder, 'job.log')
            log.write_text(f'RUN fs.xfs_raid5\nROW {json.dumps(row)}\n', encoding='utf-8')
            table = fs_suite.report(['xfs/raid5/hdd', 'xfs/raid5/aio'], fs_suite.rows([log]))
        self.assertEqual(table[0], row)
        self.assertEqual(table[1]['llbitmap'], 'fail: no result')
        text = fs_suite.markdown(table, 'v')
        for line in ('| hdd | fail / pass |', '| aio | fail / fail |', '* hdd, xfs raid5: llbitmap: fail: x'):
            self.assertIn(line, text)
        self.assertEqual(fs_suite.tests(['xfs/raid5/hdd', 'xfs/raid5/aio']), ['fs.xfs_raid5'])
        for name in fs_suite.tests(fs_suite.everything()):
            self.assertTrue(callable(getattr(test_fs, f'test_{name[3:]}')))

    def test_crash_cost(self):
        said = subprocess.CompletedProcess([], 0, 'x: mean 1.5 GB  max 20 MB\n')
        with unittest.mock.patch('subprocess.run', return_value=said):
            self.assertEqual(crash_cost_check.predicted('a50', 'classic', '9'), (1.5e9, 20e6))

    def test_mutants(self):
        self.assertEqual(guest_mutants.read_line('+delays@uml race.a race.b\n'),
                         ('delays@uml', 'delays', True, 'uml', ['race.a', 'race.b']))
        self.assertEqual(guest_mutants.read_line('no-flush log.raid1'),
                         ('no-flush', 'no-flush', False, 'stock', ['log.raid1']))
        for nothing in ('# no-flush log.raid1', 'no-flush', ''):
            self.assertIsNone(guest_mutants.read_line(nothing))


class Demo(unittest.TestCase):
    FACTS = {'level': 'raid1', 'chunks': 9, 'dirty_at_cut': 3, 'resynced': 3, 'mismatch_cnt': 0,
             'verify_errors': 0, 'seconds': 1.5}

    def judge(self, log=None, ok=True, **facts):
        log = log or ''.join(f'ok: raid1: {step}: x\n' for step in demo_report.STEPS)
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder)
            (out / 'job.log').write_text(log, encoding='utf-8')
            (out / 'report.json').write_text(
                json.dumps({'ok': ok, 'levels': [{**self.FACTS, **facts}]}), encoding='utf-8')
            return demo_report.judge(out, ['raid1'])

    def test_all_is_well(self):
        self.assertEqual(self.judge(), '')

    def test_not_ok(self):
        for ok in (False, 'true', 1):
            self.assertEqual(self.judge(ok=ok), 'the report does not say ok')

    def test_a_step_is_missing(self):
        for step in demo_report.STEPS:
            log = ''.join(f'ok: raid1: {one}: {"" if one == step else "x"}\n' for one in demo_report.STEPS)
            self.assertEqual(self.judge(log), f'raid1: no word of the step {step}')

    def test_numbers(self):
        for name in demo_report.NUMBERS:
            for odd in ('3', None, True):
                self.assertEqual(self.judge(**{name: odd}), f'raid1: the report has no {name}')
        for odd in ({'dirty_at_cut': 0, 'resynced': 0}, {'resynced': 2}, {'mismatch_cnt': 8},
                    {'verify_errors': 1}):
            self.assertIn('tells of a failure', self.judge(**odd))
        self.assertEqual(self.judge(level='raid10'), 'raid1 is not in the report')

    def test_no_report(self):
        self.assertIn('left no report', demo_report.judge(pathlib.Path('/nowhere'), ['raid1']))


class Matrix(unittest.TestCase):
    OFFERS = """\
trixie linux-headers-6.12.9+deb13-amd64 6.12.9-1 linux-headers-6.12.9+deb13-common
trixie linux-headers-6.12.9+deb13-common 6.12.9-1
trixie linux-image-6.12.9+deb13-amd64 6.12.9-1
trixie linux-image-6.12.9+deb13-amd64-unsigned 6.12.9-1
trixie linux-image-6.12.8+deb13-amd64-dbg 6.12.8-1
trixie-backports linux-image-7.1.3+deb13-rt-amd64 7.1.3-1
trixie-backports linux-binary-7.1.3+deb13-rt-amd64 7.1.3-1
forky linux-headers-7.2.12+deb14-cloud-amd64 7.2.12-1
forky linux-modules-7.2.12+deb14-cloud-amd64 7.2.12-1
forky linux-binary-unsigned-7.2.12+deb14-cloud-amd64 7.2.12-1
sid linux-headers-7.2.12+deb14-cloud-amd64 7.2.12-1
sid linux-headers-7.10.1+deb14-cloud-amd64 7.10.1-1
experimental linux-headers-8.0-rt-amd64 8.0~rc1-1~exp1
experimental linux-image-8.0-powerpc64le 8.0~rc1-1~exp1
""".splitlines()
    DONE = {'builds': True, 'warnings': 0, 'gate': True, 'refused': None, 'why': None}
    RAN = {'loads': True, 'tests_passed': 8, 'tests_failed': 0, 'why': None}

    def kernels(self):
        return {kernel.name: kernel for kernel in matrix.offered(self.OFFERS)}

    def test_offered(self):
        self.assertEqual([(name, kernel.flavour, kernel.headers, kernel.image, kernel.root)
                          for name, kernel in self.kernels().items()], [
            ('trixie/6.12.9+deb13-amd64', 'amd64', True, True, 'trixie-backports'),
            ('trixie-backports/7.1.3+deb13-rt-amd64', 'rt-amd64', False, False, 'trixie-backports'),
            ('forky/7.2.12+deb14-cloud-amd64', 'cloud-amd64', True, True, 'forky'),
            ('sid/7.10.1+deb14-cloud-amd64', 'cloud-amd64', True, False, 'forky'),
            ('experimental/8.0-rt-amd64', 'rt-amd64', True, False, 'forky')])

    def test_chosen(self):
        kernels = list(self.kernels().values())
        self.assertEqual([kernel.name for kernel in matrix.newest(kernels)],
                         ['trixie/6.12.9+deb13-amd64', 'sid/7.10.1+deb14-cloud-amd64'])

    def test_clang(self):
        """One more row, for the newest cloud kernel; built apart, and kept apart."""
        kernels = list(self.kernels().values())
        with_clang, = matrix.clanged(kernels)
        self.assertEqual(with_clang.name, 'sid/7.10.1+deb14-cloud-amd64/clang')
        with_gcc = kernels[3]
        self.assertEqual(with_gcc, with_clang._replace(compiler='gcc'))
        self.assertEqual(matrix.built_in(with_gcc), 'forky+7.10.1+deb14-cloud-amd64')
        self.assertEqual(matrix.built_in(with_clang), 'forky+7.10.1+deb14-cloud-amd64+clang')
        self.assertIn('| sid | clang | yes | 0 | yes | – | – |',
                      matrix.markdown([matrix.row(with_clang, self.DONE)]))
        with unittest.mock.patch.object(matrix.guests, 'last_line', lambda *words: '/'.join(words)):
            work = matrix.Work([])
            one, other = work.keys(with_gcc), work.keys(with_clang)
            self.assertFalse(set(one) & set(other))
            self.assertEqual((one, other), (work.keys(with_gcc), work.keys(with_clang)))
            self.assertEqual(work.clangs, {'forky': 'scripts/lab/clang/forky'})
            work.clangs['forky'] = 'a newer one'
            self.assertEqual(one, work.keys(with_gcc))
            self.assertFalse(set(other) & set(work.keys(with_clang)))
        self.assertEqual(matrix.clanged(kernels[:2]), [])

    def test_another_compiler_is_no_warning(self):
        log = f'{matrix.OTHER_COMPILER}\n  The kernel was built by: gcc\n  You are using: clang\n'
        self.assertEqual(matrix.warnings(log), 0)
        self.assertEqual(matrix.warnings(f'{log}a.c:1: warning: {matrix.OTHER_COMPILER}\n'), 1)

    def test_what_a_build_said(self):
        log = ('make: Entering\nMakefile:30: *** llbitmap: the md of kernel 6.12 is old: needs 7.2 '
               '(Debian: x).  Stop.\nlab: build forky: make failed\n')
        self.assertEqual(matrix.refusal(log),
                         'llbitmap: the md of kernel 6.12 is old: needs 7.2 (Debian: x)')
        self.assertIsNone(matrix.refusal('make[2]: *** [x.o] Error 1\n'))
        self.assertEqual(matrix.last_error('CC x\na.c:1: error: no\nmake: *** [x] Error 1\n'),
                         'a.c:1: error: no')
        log = 'a.c:1: warning: x\nWARNING: modpost: "y" [z.ko] undefined!\nfine\n'
        self.assertEqual(matrix.warnings(log), 2)

    def test_rows(self):
        old, bare, stock, _, _ = self.kernels().values()
        nothing = matrix.row(stock)
        self.assertEqual([nothing[key] for key in (
            'kernel', 'suite', 'flavour', 'arch', 'headers', 'builds', 'warnings', 'gate', 'loads',
            'tests_passed', 'tests_failed')],
            ['7.2.12+deb14-cloud-amd64', 'forky', 'cloud-amd64', 'amd64', True] + [None] * 6)
        self.assertFalse(matrix.sound(stock, nothing))
        self.assertFalse(matrix.sound(stock, matrix.row(stock, self.DONE)))  # it was not tried
        self.assertTrue(matrix.sound(stock, matrix.row(stock, self.DONE, self.RAN)))
        for step, wrong in ((0, {'warnings': 1}), (0, {'gate': False}), (0, {'builds': False}),
                            (1, {'loads': None}), (1, {'tests_failed': 1})):
            results = [self.DONE, self.RAN]
            results[step] = {**results[step], **wrong}
            self.assertFalse(matrix.sound(stock, matrix.row(stock, *results)), wrong)
        refused = {'builds': False, 'refused': f'llbitmap: {old.release} is old', 'why': None}
        self.assertTrue(matrix.sound(old, matrix.row(old, refused)))
        self.assertFalse(matrix.sound(stock, matrix.row(stock, refused)))
        self.assertFalse(matrix.sound(old, matrix.row(old, self.DONE, self.RAN)))
        said = matrix.markdown([matrix.row(old, refused), matrix.row(bare), matrix.row(
            stock, self.DONE, {**self.RAN, 'tests_failed': 2})])
        self.assertIn('| 6.12.9+deb13-amd64 | trixie | gcc | refused (1) | – | – | – | – |', said)
        self.assertIn('| forky | gcc | yes | 0 | yes | yes | 8 passed, **2 failed** |', said)
        self.assertIn('\n1. llbitmap: … is old\n', said)
        self.assertIn('1 more are in the archive without headers, so nobody can build for them: '
                      '7.1.3+deb13 (rt-amd64).', said)

    def test_what_a_lane_came_to(self):
        found = lane.Lane([])
        found.results = {matrix.LOADS: True, 'a.b': False}
        self.assertEqual(matrix.judged(found), {'loads': True, 'tests_passed': 2,
                                                'tests_failed': 1, 'why': None})
        found.bad = ['a line in the log']
        self.assertEqual(matrix.judged(found), {'loads': True, 'tests_passed': 1, 'tests_failed': 2,
                                                'why': 'a line in the log'})
        self.assertIsNone(matrix.judged(lane.Lane([]))['loads'])

    def test_another_architecture(self):
        for status, last, builds, gate in ((0, '', True, True), (1, 'a warning', True, None),
                                           (1, 'the object gate', True, False),
                                           (1, 'fences', True, True), (1, 'make failed', False, None)):
            found = matrix.cross_judged(status, f'CC x\nlab: arm64: {last}\n' if last else 'CC x\n')
            self.assertEqual((found['builds'], found.get('gate')), (builds, gate), last)
        # One that would be booted, and was not, is not as it should be.
        kernel = matrix.Kernel('7.2.12+deb14-arm64-16k', 'forky', 'arm64-16k', 'arm64-16k', 'gcc-16',
                               True, True, 'gcc')
        self.assertEqual(matrix.row(kernel)['arch'], 'arm64')
        self.assertFalse(matrix.sound(kernel, matrix.row(kernel, self.DONE)))
        self.assertTrue(matrix.sound(kernel, matrix.row(kernel, self.DONE, self.RAN)))

    def test_the_lane_has_the_test_that_loads(self):
        tests = matrix.tests_of(subprocess.run([f'{ROOT}/tests/harness/names.py'], check=True,
                                               text=True, stdout=subprocess.PIPE).stdout)
        self.assertEqual(tests[0], matrix.LOADS)
        self.assertGreater(len(tests), 4)

    def test_what_is_kept(self):
        with tempfile.TemporaryDirectory() as folder, \
                unittest.mock.patch.object(matrix, 'CACHE', pathlib.Path(folder, 'a')):
            self.assertEqual(matrix.kept('x'), (None, None))
            matrix.keep('x', self.DONE, __file__)
            matrix.keep('x', {'builds': False})  # the first stays, whole
            result, where = matrix.kept('x')
            self.assertEqual(result, self.DONE)
            self.assertTrue((where / os.path.basename(__file__)).exists())
            self.assertEqual(os.listdir(matrix.CACHE), ['x'])
        first = matrix.made_from('a', pathlib.Path('scripts/build'))
        self.assertEqual(first, matrix.made_from('a', pathlib.Path('scripts/build')))
        self.assertNotEqual(first, matrix.made_from('b', pathlib.Path('scripts/build')))
        self.assertNotEqual(first, matrix.made_from('a', pathlib.Path('scripts/lab.d')))


class Names(unittest.TestCase):
    SOURCE = ("@lanes('stock', 'uml')\n@limit(2)\ndef test_two():\n    pass\n\n\n"
              "def helper():\n    pass\n\n\n"
              "# @lanes('stock')\ndef test_none():\n    pass\n\n\n"
              "@limit(2)\n@lanes('stock', SOME)\ndef test_odd():\n    pass\n")

    def test_read(self):
        self.assertEqual([(name, lanes) for name, _, lanes in names.tests(self.SOURCE)],
                         [('two', ['stock', 'uml']), ('none', []), ('odd', ['stock', 'SOME'])])

    def test_complaints(self):
        self.assertEqual([names.complaint(lanes) for _, _, lanes in names.tests(self.SOURCE)],
                         ['', 'runs in no lane', 'no such lane: SOME'])

    def test_every_lane_is_run(self):
        """scripts/test has a list of its own, for it knows their kernels."""
        said = subprocess.run([f'{ROOT}/scripts/test', '--long', '--list'], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.splitlines()
        wanted = subprocess.run([f'{ROOT}/tests/harness/names.py'], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.splitlines()
        self.assertEqual({line.replace(' ', '/', 1) for line in wanted} - set(said), set())


if __name__ == '__main__':
    unittest.main(verbosity=2)
