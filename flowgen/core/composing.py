"""From a composite command to its branches: which flows and commands, under which paths."""

from __future__ import annotations

from typing import Any

from flowgen.core import semantics
from flowgen.core.branches import Branch, Composite, Names, Part
from flowgen.core.commands import Command
from flowgen.core.commands.command import CompositeCommand, out_of_graph
from flowgen.core.frames import dispose, is_unstarted
from flowgen.core.mistakes import no_flow
from flowgen.errors import DefinitionError

__all__ = ["compose", "misplaced", "opened"]


def compose(branch: Branch, command: CompositeCommand[Any], names: Names) -> Composite:
    """The composite that `branch` waits for. Raises DefinitionError, and then closes the flows that nobody drives."""
    seen: set[int] = set()
    try:
        key = names.key(command)
        for inside in command.given:
            if not isinstance(inside, Command):
                if not is_unstarted(inside) or id(inside) in seen:
                    raise no_flow(inside, command.kind)
                seen.add(id(inside))
        join = semantics.open_composite(command)
    except DefinitionError:
        dispose(command)
        raise
    return Composite(command, join, branch, key, names.authored and command.options.name is not None)


def misplaced(command: Command[Any]) -> DefinitionError:
    """The error for a command with options of a node of a Graph that is none; the flows inside of it are closed."""
    dispose(command)
    return out_of_graph(command)


def opened(composite: Composite, part: Part) -> Branch:
    """A branch of the composite, counted as open."""
    position, name, inside = part
    path = f"{composite.key}/{name}/" if name else f"{composite.key}/"
    if isinstance(inside, Command):
        composite.plain = composite.plain and not isinstance(inside, CompositeCommand)
        child = Branch(path, None, inside, composite, position, authored=composite.authored)
    else:
        composite.plain = False
        child = Branch(path, inside, None, composite, position, authored=composite.authored)
    composite.children[position] = child
    return child
