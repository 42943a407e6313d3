# SPDX-License-Identifier: GPL-2.0
"""What a command prints as JSON, by its schema in src/tool/schema."""

import json
import os
import re

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(TOP, 'src', 'tool', 'schema')


def wrong(command, value):
    """In what it is not what the command's schema says: a list of lines."""
    with open(os.path.join(FOLDER, f'{command}.json'), encoding='utf-8') as file:
        schema = json.load(file)
    return odd(schema, value, schema)


def odd(schema, value, whole, where='$'):
    """Knows only the keywords that the schemas use; another one is an error, not ignored."""
    kinds = dict(object=dict, array=list, string=str, boolean=bool, null=type(None), integer=int)
    bad = []
    for key, rule in schema.items():
        if key == '$ref':
            bad += odd(whole['$defs'][rule.removeprefix('#/$defs/')], value, whole, where)
        elif key == 'type':
            names = [rule] if isinstance(rule, str) else rule
            if not any(isinstance(value, kinds[name]) and (name != 'integer' or not isinstance(value, bool))
                       for name in names):
                bad.append(f'{where}: {value!r} is no {rule}')
        elif key == 'required' and isinstance(value, dict):
            bad += [f'{where}: no {name}' for name in rule if name not in value]
        elif key == 'properties' and isinstance(value, dict):
            for name, inner in rule.items():
                if name in value:
                    bad += odd(inner, value[name], whole, f'{where}.{name}')
        elif key == 'additionalProperties' and isinstance(value, dict):
            assert rule is False
            bad += [f'{where}: {name} is not in the schema' for name in value
                    if name not in schema.get('properties', {})]
        elif key == 'items' and isinstance(value, list):
            for number, one in enumerate(value):
                bad += odd(rule, one, whole, f'{where}[{number}]')
        elif (key == 'enum' and value not in rule) or (key == 'const' and value != rule):
            bad.append(f'{where}: {value!r} is not in {rule}')
        elif key == 'pattern' and isinstance(value, str) and not re.search(rule, value):
            bad.append(f'{where}: {value!r} does not match {rule}')
        elif key == 'minimum' and isinstance(value, int) and value < rule:
            bad.append(f'{where}: {value} < {rule}')
        else:
            assert key in ('required', 'properties', 'additionalProperties', 'items', 'enum', 'const',
                           'pattern', 'minimum', '$defs', '$comment'), key
    return bad
