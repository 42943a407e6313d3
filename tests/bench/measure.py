# SPDX-License-Identifier: GPL-2.0
"""Running fio's job files, saying what was measured, and how long it will take yet."""

import json
import os
import re
import subprocess
import time

from llb import pace
from llb.sh import Failure, need

HERE = os.path.dirname(os.path.abspath(__file__))


def fio(name, limit_s=120, **variables):
    """Runs NAME.fio with these variables; returns the JSON of its only job."""
    found = fio_jobs(f'{HERE}/{name}.fio', limit_s, variables)
    need(len(found) == 1, f'fio {name} ran {len(found)} jobs')
    return found[0]


def fio_jobs(path, limit_s, variables):
    name = os.path.basename(path)
    environment = dict(os.environ, **{key: str(value) for key, value in variables.items()})
    try:
        # pylint: disable=consider-using-with
        process = subprocess.Popen(['fio', '--output-format=json', path],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, cwd='/tmp',
                                   env=environment)
        text = pace.communicate(process, limit_s)
        found = json.loads(text[text.index('{'):])['jobs']
    except pace.Late as late:
        raise Failure(f'fio {name}: {late}') from late
    except (ValueError, LookupError) as odd:
        raise Failure(f'fio {name}: {text.strip()[-300:]}') from odd
    need(process.returncode == 0 and not any(job['error'] for job in found),
         f'fio {name}: status {process.returncode}: {text.strip()[:300]}')
    return found


def random_writes(array, depth, jobs, run_s, warm_s=1):
    """4 KiB random writes per second; times in fio's form."""
    return fio('steady', DEVICE=array.path, DEPTH=depth, JOBS=jobs, RUN_S=run_s,
               WARM_S=warm_s, limit_s=120)['write']['iops']


def turns(arrays, depth, jobs, count, first, run, warm):
    """4 KiB random writes on each array for a time (fio's form) after another to warm up,
    count times in turn, in one fio. Returns {array: writes per second, each time}."""
    order = [array for turn in range(count) for at in [(first + turn) % len(arrays)]
             for array in arrays[at:] + arrays[:at]]
    with open(f'{HERE}/steady.fio', encoding='utf-8') as file:
        head, _ = file.read().split('[steady]')
    with open('/tmp/turns.fio', 'w', encoding='utf-8') as file:
        file.write(head)
        for number, array in enumerate(order):
            file.write(f'[turn{number}]\nstonewall\nfilename={array.path}\n')
    done = fio_jobs('/tmp/turns.fio', 60 + 5 * len(order), {
        'DEPTH': depth, 'JOBS': jobs, 'RUN_S': run, 'WARM_S': warm})
    need([job['jobname'] for job in done] == [f'turn{number}' for number in range(len(order))],
         f'fio ran {[job["jobname"] for job in done]}')
    found = {array: [] for array in arrays}
    for array, job in zip(order, done):
        found[array].append(job['write']['iops'])
    return found


def fill(path, size):
    fio('fill', DEVICE=path, BYTES=size)


class Size:
    """How much of it: quick, try or full; and a number of rounds for all, or 0."""

    def __init__(self, name, rounds):
        self.quick, self.trying, self.given = name == 'quick', name == 'try', rounds

    def levels(self, *names):
        return [name for name in names if name == 'raid1'] if self.trying else names

    def seconds(self, count):
        return 1 if self.trying else count

    def rounds(self, count):
        return self.given or (1 if self.trying else count)


WAITED = 1 / 3 # of a step: fio's times, which are the same on any machine


class Step:
    """seconds: on the reference. group: (the bench's letter, what is measured). Steps of one
    group and number are compared to each other: all are measured, or none. number: of the
    round, from 0."""

    def __init__(self, seconds, name, function, group, number):
        self.reference_s, self.name, self.function = seconds, name, function
        self.group, self.number = group, number

    def seconds(self, slower):
        """On a machine so many times slower."""
        return self.reference_s * (WAITED + (1 - WAITED) * slower)


class Plan:
    """What is to be measured, in steps of about known length. What this machine has no time
    for is left out before the first one begins."""

    def __init__(self):
        self.steps, self.left_out, self.failed, self.slower = [], [], 0, 1.0

    def add(self, seconds, name, function, group, number=0):
        """function(say): say(text) adds to the step's line."""
        self.steps.append(Step(seconds, name, function, group, number))

    def only(self, regex):
        """Those whose name matches: asked for, so the others are not left out."""
        self.steps = [step for step in self.steps if re.search(regex, step.name)]

    def total_s(self):
        return sum(step.seconds(self.slower) for step in self.steps)

    def fit(self, budget_s, slower):
        """For a machine so many times slower than the reference: the last rounds go first,
        of every kind in turn; then whole kinds, the last first, but one of each bench as long
        as there is another to leave out. One is always left."""
        self.slower = slower
        while self.steps and self.total_s() > budget_s:
            sets = list(dict.fromkeys((step.number, step.group) for step in self.steps))
            if len(sets) == 1:
                break
            most = max(number for number, _ in sets)
            letters = [group[0] for _, group in sets]
            open_to_it = [one for one in sets if one[0] == most]
            last = next((one for one in reversed(open_to_it) if letters.count(one[1][0]) > 1),
                        open_to_it[-1])
            self.left_out += [step.name for step in self.steps if (step.number, step.group) == last]
            self.steps = [step for step in self.steps if (step.number, step.group) != last]

    def run(self, clean_up):
        """Every step that is planned, however long it takes."""
        print(f'{len(self.steps)} steps, some {self.total_s() / 60:.0f} min: this machine takes '
              f'{self.slower:.1f} times as long as the reference' +
              ''.join(f'\nleft out by plan: {name}' for name in self.left_out), flush=True)
        total, done, start = self.total_s(), 0, time.monotonic()
        for number, step in enumerate(self.steps, 1):
            said, why, began = [], None, time.monotonic()
            try:
                step.function(said.append)
            except Failure as failure:
                why = str(failure)
            except Exception as odd:  # pylint: disable=broad-except
                why = f'{type(odd).__name__}: {odd}'
            try:
                clean_up()
            except Failure as failure:
                why = f'{why or ""} {failure}'.strip()
            done += step.seconds(self.slower)
            spent = time.monotonic() - start
            # As fast as so far; the plan's own figures for the start.
            rate = (spent + 30) / (done + 30)
            left = (total - done) * rate
            if why:
                self.failed += 1
                said.append(f'FAILED: {why}')
            print(f'[{number}/{len(self.steps)}, {left / 60:.0f} min left] {step.name}: '
                  f'{", ".join(said)} ({time.monotonic() - began:.0f} s of '
                  f'{step.seconds(self.slower):.0f})', flush=True)

    def facts(self):
        """For the report."""
        return {'steps': len(self.steps), 'failed': self.failed, 'left out': self.left_out,
                'slower': round(self.slower, 2)}


def emit(bench, level, load, variant, metric, unit, value, number, none=None):
    """One measured value, for the host (tests/bench/report); none: what it is to be
    compared to, if that is not the round's value of the variant none."""
    print('DATA ' + json.dumps({
        'bench': bench, 'level': level, 'qd': load, 'variant': variant, 'metric': metric,
        'unit': unit, 'value': value, 'round': number, 'none': none}), flush=True)
