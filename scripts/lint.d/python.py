#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Files on stdin, one a line: their syntax, and imports that nobody uses."""

import ast
import sys

bad = 0
for path in sys.stdin.read().splitlines():
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read(), path)
            compile(tree, path, "exec")
    except (SyntaxError, ValueError) as odd:
        print(f"{path}: {odd}")
        bad = 1
        continue
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        for name in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
            if (name.asname or name.name.split(".")[0]) not in used:
                print(f"{path}:{node.lineno}: {name.name} is imported and not used")
                bad = 1
sys.exit(bad)