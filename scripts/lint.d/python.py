#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Files on stdin, one a line: their syntax, imports that nobody uses, and names that a module of
this tree does not have."""

import ast
import os
import sys

IMPORTS = (ast.Import, ast.ImportFrom)


def parsed(path):
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    compile(tree, path, "exec")
    return tree


def top_names(tree):
    """What a module has once it is imported; names that only a condition gives it, too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, IMPORTS):
            names.update((name.asname or name.name).split(".")[0] for name in node.names)
    return names


def module_file(path, level, dotted):
    """The file of a module as the file at path imports it; None: not of this tree."""
    folder = os.path.dirname(path)
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    found = os.path.join(folder, *dotted.split(".")) if dotted else folder
    return next((one for one in (found + ".py", found) if os.path.exists(one)), None)


def odd_names(path, tree, names_of):
    """(line, what) of each name that an imported module of this tree lacks."""
    here = {}  # what a module is called in this file: the module's file
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        source = module_file(path, node.level, node.module or "")
        for name in node.names if source else ():
            inner = os.path.join(source, name.name + ".py")
            if os.path.isdir(source) and os.path.exists(inner):
                here[name.asname or name.name] = inner
            elif source.endswith(".py") and name.name not in names_of(source):
                yield node.lineno, f"{source} has no {name.name}"
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for name in sorted(own & set(here)):
        yield 1, f"{name} is a module and a function here"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and \
                node.value.id in here and node.attr not in names_of(here[node.value.id]):
            yield node.lineno, f"{here[node.value.id]} has no {node.attr}"


def main():
    bad, known = 0, {}

    def names_of(path):
        if path not in known:
            known[path] = top_names(parsed(path))
        return known[path]

    for path in sys.stdin.read().splitlines():
        try:
            tree = parsed(path)
        except (SyntaxError, ValueError) as odd:
            print(f"{path}: {odd}")
            bad = 1
            continue
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        wrong = [(node.lineno, f"{name.name} is imported and not used")
                 for node in ast.walk(tree) if isinstance(node, IMPORTS) for name in node.names
                 if (name.asname or name.name.split(".")[0]) not in used]
        wrong += odd_names(path, tree, names_of)
        for line, what in wrong:
            print(f"{path}:{line}: {what}")
            bad = 1
    return bad


sys.exit(main())
