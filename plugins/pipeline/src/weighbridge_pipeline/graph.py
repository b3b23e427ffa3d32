"""A pipeline: a graph of stages that was found to be sound."""

from __future__ import annotations

import attrs

from .contribution import Contribution
from .mermaid import draw
from .stage import Stage


@attrs.frozen(eq=False, repr=False)
class Pipeline:
    """Stages in an order in which they can run. It never changes, and serves any number of transactions.

    The tuples of numbers are what a transaction counts with: stages by their place in `stages`.
    """

    name: str
    stages: tuple[Stage, ...]
    """Each behind those that it needs."""
    needs: tuple[tuple[int, ...], ...]
    needed_by: tuple[tuple[int, ...], ...]
    roots: tuple[int, ...]
    longest_path: tuple[str, ...]
    contributions: tuple[Contribution, ...]
    """Those of other plugins that stages came from."""
    runs_async: tuple[bool, ...]
    """Of each stage, whether its function is a coroutine function."""
    undoes_async: tuple[bool, ...]
    """Of each stage, whether its undo is one."""

    @property
    def depth(self) -> int:
        """How many stages the longest path has."""
        return len(self.longest_path)

    def __len__(self) -> int:
        return len(self.stages)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r} of {len(self.stages)} stages, {self.depth} deep>"

    def to_mermaid(self) -> str:
        """The graph as text, for https://mermaid.js.org/syntax/flowchart.html; a stage with an undo has two borders."""
        return draw(self.stages, self.needs)
