# SPDX-License-Identifier: GPL-2.0
"""Jobs of tests/guest for the lab's guests, and what their tests came to."""

import pathlib
import shutil
import subprocess

import lane

ROOT = pathlib.Path(__file__).resolve().parents[2]


class NotBuilt(Exception):
    """Why there is no module."""


def last_line(*command, log=None, cwd=ROOT):
    """Of what a command of the lab prints; its stderr goes to the file log."""
    with open(log or '/dev/null', 'w', encoding='utf-8') as err:
        said = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=err if log else None, text=True, check=False)
    lines = said.stdout.splitlines()
    if said.returncode or not lines:
        raise NotBuilt(f'{" ".join(map(str, command))}: status {said.returncode}' +
                       (f', see {log}' if log else ''))
    return lines[-1]


def module(*what, log=None, tree=ROOT):
    """The module of a tree, built for what "scripts/lab build" takes: its path."""
    return last_line(tree / 'scripts/lab', 'build', *what, log=log, cwd=tree)


def peer(suite='forky'):
    """The md with the in-tree driver: its path."""
    return last_line('scripts/lab', 'peer', suite)


def job(folder, files):
    """A folder to give to a guest: tests/guest, and files, a path for each name in it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / 'tests/guest', folder, symlinks=True)
    for name, path in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, folder / name)


def run(names, log, options, say=lambda result: None, guests=lane.GUESTS, needs_one=False):
    """Runs these tests in as many guests as it takes; their logs go to log, log-2, ... Tells
    say() of each result as it comes, and returns them by name, and what was wrong with guests
    otherwise: a bad line after the last test's look, an end in disorder. options: of "scripts/lab
    guest". needs_one: NotStarted is raised when a guest came to no test at all."""
    results = {}

    def heard(line):
        result = lane.Result.of(line)
        if result:
            results[result.name] = result
            say(result)
    guest = lane.lab(str(log), [str(ROOT / 'scripts/lab'), 'guest', *options])
    tests = lane.Lane(names, heard)
    lane.run(tests, started(guest) if needs_one else guest, guests)
    return results, tests.bad


class NotStarted(Exception):
    """A guest's last words."""


def started(guest):
    """The same, for which it is an error to come to no test."""
    def checked(number, names):
        lines, came = guest(number, names), False
        while True:
            try:
                line = next(lines)
            except StopIteration as end:
                if not came:
                    raise NotStarted(end.value[1].strip().rpartition('\n')[2]) from None
                return end.value
            came |= line.startswith('RUN ')
            yield line
    return checked
