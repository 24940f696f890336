"""The scopes of names of one branch: its own, and one for each definition that runs inline in it.

Nothing is told when a definition is opened or left: what is open is seen from the chain of generators.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowgen.core.branches import Branch, Names, Opened
from flowgen.core.frames import delegates, inline_definitions

__all__ = ["innermost", "reopened"]


def innermost(branch: Branch) -> Names:
    """The names of the innermost definition that runs inline here; it is opened when it is new."""
    if branch.flow is None:
        return Names(branch.path, branch.authored)
    scopes = branch.scopes
    if len(scopes) == 1 and not delegates(branch.flow):
        return scopes[0].names
    depth = 1
    for flow, name in inline_definitions(branch.flow):
        if depth >= len(scopes) or scopes[depth].flow is not flow:
            del scopes[depth:]
            scopes.append(Opened(flow, name, scopes[-1].names.inline(name)))
        depth += 1
    del scopes[depth:]
    return scopes[-1].names


def reopened(scopes: Sequence[Opened], prologue: Sequence[Opened]) -> list[Opened]:
    """The scopes as they are after a restart that comes straight here from the end of the prologue."""
    saved = {id(each.flow): each.names for each in prologue}
    found: list[Opened] = []
    for each in scopes:
        if id(each.flow) in saved:
            names = saved[id(each.flow)].copy()
        else:
            names = found[-1].names.inline(each.name) if found else Names("")
        found.append(Opened(each.flow, each.name, names))
    return found
