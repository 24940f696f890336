"""From a composite command to its branches: which flows and commands, under which paths."""

from __future__ import annotations

from typing import Any

from flowgen.core import semantics
from flowgen.core.branches import Branch, Composite, Names
from flowgen.core.commands import Command
from flowgen.core.frames import dispose, is_unstarted
from flowgen.core.mistakes import no_flow
from flowgen.errors import DefinitionError

__all__ = ["compose"]


def compose(branch: Branch, command: Command[Any], names: Names) -> Composite:
    """The composite that `branch` waits for. Raises DefinitionError, and then closes the flows that nobody drives."""
    join, parts = semantics.open_composite(command)
    composite = Composite(command, join, branch)
    authored = names.authored and command.options.name is not None
    seen: set[int] = set()
    try:
        key = names.key(command)
        for position, (part, inside) in enumerate(parts):
            path = f"{key}/{part}/" if part else f"{key}/"
            if isinstance(inside, Command):
                child = Branch(path, None, inside, composite, position, authored=authored)
            else:
                composite.plain = False
                if not is_unstarted(inside) or id(inside) in seen:
                    raise no_flow(inside, command.kind)
                seen.add(id(inside))
                child = Branch(path, inside, None, composite, position, authored=authored)
            composite.children.append(child)
    except DefinitionError:
        dispose(command)
        raise
    composite.open = len(composite.children)
    return composite
