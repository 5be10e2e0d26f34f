"""What a stage's mapping is made of, as a short hash: Dagster's code version of its assets.

Nobody has to remember to raise a number: whatever changes in a stage's object classes, in its mapping or in the
parsers that the mapping uses changes the version. A changed comment does so too, which costs a run that writes nothing.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from functools import cache

from proxbox_dagster.netbox.spec import ObjectClass
from proxbox_dagster.stages.stage import Stage

MAPPING = ("proxbox_dagster.stages.", "proxbox_dagster.proxmox.parse.")
"""The packages that say what becomes of what; whatever else a stage imports is machinery."""


def code_version(stage: Stage, item: ObjectClass) -> str:
    """The version of one object class: its declaration, and the sources of its stage's mapping."""
    digest = hashlib.sha256(repr((item.name, item.spec, item.only, item.fixed)).encode())
    for name in sorted(_modules(stage.build.__module__)):
        digest.update(_source(name).encode())
    return digest.hexdigest()[:10]


@cache
def _modules(name: str) -> frozenset[str]:
    """A module of the mapping with all those that it imports, directly or not."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(module)
    return frozenset(found)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules of the mapping that a module imports; the table of all stages is none of them."""
    names: list[str] = []
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom):
            above = module.rsplit(".", node.level)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith(MAPPING) and name in sys.modules)


@cache
def _source(name: str) -> str:
    try:
        return inspect.getsource(sys.modules[name])
    except OSError:  # installed without its sources
        return ""
