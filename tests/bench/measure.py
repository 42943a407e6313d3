# SPDX-License-Identifier: GPL-2.0
"""Running fio's job files, saying what was measured, and how long it will take yet."""

import json
import os
import subprocess
import time

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
        done = subprocess.run(['fio', '--output-format=json', path], check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=limit_s, cwd='/tmp',
                              env=environment)
        found = json.loads(done.stdout[done.stdout.index('{'):])['jobs']
    except subprocess.TimeoutExpired as late:
        raise Failure(f'fio {name}: not done within {limit_s} s') from late
    except (ValueError, LookupError) as odd:
        raise Failure(f'fio {name}: {done.stdout.strip()[-300:]}') from odd
    need(done.returncode == 0 and not any(job['error'] for job in found),
         f'fio {name}: status {done.returncode}: {done.stdout.strip()[:300]}')
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


class Plan:
    """What is to be measured, in steps of about known length."""

    def __init__(self):
        self.steps, self.failed = [], 0

    def add(self, seconds, name, function):
        """function(say): say(text) adds to the step's line."""
        self.steps.append((seconds, name, function))

    def run(self, clean_up, budget_s):
        total = sum(step[0] for step in self.steps)
        done, start = 0, time.monotonic()
        for number, (seconds, name, function) in enumerate(self.steps, 1):
            said, why, began = [], None, time.monotonic()
            if began - start + seconds > budget_s:
                self.failed += len(self.steps) - number + 1
                print(f'{len(self.steps) - number + 1} steps are left out: the time is up',
                      flush=True)
                return
            try:
                function(said.append)
            except Failure as failure:
                why = str(failure)
            except Exception as odd:  # pylint: disable=broad-except
                why = f'{type(odd).__name__}: {odd}'
            try:
                clean_up()
            except Failure as failure:
                why = f'{why or ""} {failure}'.strip()
            done += seconds
            spent = time.monotonic() - start
            # As fast as so far; the plan's own figures for the start.
            rate = (spent + 30) / (done + 30)
            left = (total - done) * rate
            if why:
                self.failed += 1
                said.append(f'FAILED: {why}')
            print(f'[{number}/{len(self.steps)}, {left / 60:.0f} min left] {name}: '
                  f'{", ".join(said)} ({time.monotonic() - began:.0f} s)', flush=True)


def emit(bench, level, load, variant, metric, unit, value, number, none=None):
    """One measured value, for the host (tests/bench/report); none: what it is to be
    compared to, if that is not the round's value of the variant none."""
    print('DATA ' + json.dumps({
        'bench': bench, 'level': level, 'qd': load, 'variant': variant, 'metric': metric,
        'unit': unit, 'value': value, 'round': number, 'none': none}), flush=True)
