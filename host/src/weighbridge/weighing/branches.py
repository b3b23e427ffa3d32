"""Chains of survivors as one tree, with the roots at the top."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Final

import attrs

from ..reclaim.receipt import Survivor

_KEY: Final = re.compile(r"""\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\[\]]*)\]""")
_INDEX: Final = re.compile(r"\[\d+\].*")
_ANY: Final = "[...]"


@attrs.define
class Branch:
    """One step that chains have in common, and what hangs on it."""

    text: str = ""
    count: int = 0
    """Survivors on it and on all branches above it."""
    survivors: list[Survivor] = attrs.field(factory=list)
    """Those that it holds itself."""
    branches: dict[str, Branch] = attrs.field(factory=dict)
    hidden: int = 0
    """Survivors on branches that are not shown."""

    def sorted(self) -> list[Branch]:
        """Its branches, the one with most survivors first."""
        return sorted(self.branches.values(), key=lambda branch: (-branch.count, branch.text))

    def joined(self) -> Branch:
        """Itself, or its only branch if that is nothing but a key of it: ``registry['a']`` is one step."""
        if len(self.branches) != 1 or self.survivors or self.hidden:
            return self
        (only,) = self.branches.values()
        if not only.text.startswith("["):
            return self
        return attrs.evolve(only, text=self.text + only.text)


def tree(survivors: Iterable[Survivor], *, limit: int) -> Branch:
    """The chains, merged from their roots; those without a chain are left out.

    A branch ends at the first thing of the plugin's own: what that holds in turn is a survivor because of it.

    :param limit: so many places that hold survivors are shown, those that hold most.
    """
    every = [one for one in survivors if one.chain]
    own = {one.name for one in every}
    held: dict[tuple[str, ...], list[Survivor]] = {}
    for one in every:
        held.setdefault(path(one, own), []).append(one)
    held = _generalised(held)
    top = Branch()
    biggest = sorted(held, key=lambda place: (-len(held[place]), place))
    for number, place in enumerate(biggest):
        _grow(top, place, held[place], shown=number < limit)
    return top


def _grow(top: Branch, place: tuple[str, ...], survivors: list[Survivor], *, shown: bool) -> None:
    branch = top
    branch.count += len(survivors)
    for text in place:
        if not shown and text not in branch.branches:
            branch.hidden += len(survivors)
            return
        branch = branch.branches.setdefault(text, Branch(text))
        branch.count += len(survivors)
    branch.survivors.extend(survivors)


def path(survivor: Survivor, own: Container[str]) -> tuple[str, ...]:
    """The chain of a survivor from its root; a step with keys is two, for containers hold many things.

    :param own: names at which it ends.
    """
    parts: list[str] = []
    for step in reversed(survivor.chain):
        first, *keys = _parts(step)
        parts.append(first)
        if _is_of(first, own):
            break
        parts += keys
    return tuple(parts)


def _is_of(step: str, own: Container[str]) -> bool:
    """Whether it is one of these names, or an attribute of one."""
    words = step.split(".")
    return any(".".join(words[:number]) in own for number in range(len(words), 0, -1))


def _parts(step: str) -> tuple[str, ...]:
    owner, bracket, rest = step.partition("[")
    key = _KEY.match(bracket + rest)
    if not owner or key is None or step.startswith("frame of "):
        return (step,)
    after = (bracket + rest)[key.end() :]
    if after and not after.startswith("["):
        return (step,)
    return owner, key[0] + (_ANY if after else "")


def _generalised(held: Mapping[tuple[str, ...], list[Survivor]]) -> dict[tuple[str, ...], list[Survivor]]:
    """Places of one list become one place: which is at which index says nothing."""
    alike = Counter(_anywhere(place) for place in held)
    merged: dict[tuple[str, ...], list[Survivor]] = {}
    for place, survivors in held.items():
        anywhere = _anywhere(place)
        merged.setdefault(anywhere if alike[anywhere] > 1 else place, []).extend(survivors)
    return merged


def _anywhere(place: tuple[str, ...]) -> tuple[str, ...]:
    return (*place[:-1], _ANY) if _INDEX.fullmatch(place[-1]) else place
