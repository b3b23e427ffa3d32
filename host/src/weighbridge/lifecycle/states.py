"""The states of a plugin, and the arrows between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from weighbridge_hookspecs import IllegalTransition


class State(StrEnum):
    """Where a plugin stands."""

    DISCOVERED = "discovered"
    BLOCKED = "blocked"
    INCOMPATIBLE = "incompatible"
    UNRESOLVED = "unresolved"
    ADMITTED = "admitted"
    DEFERRED = "deferred"
    REFUSED = "refused"
    LOADED = "loaded"
    DORMANT = "dormant"
    ACTIVE = "active"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    STRANDED = "stranded"
    FAILED = "failed"


_JUDGED: Final = frozenset({State.ADMITTED, State.DEFERRED, State.REFUSED, State.UNRESOLVED, State.DORMANT})

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.DISCOVERED: _JUDGED | {State.BLOCKED, State.INCOMPATIBLE},
    State.BLOCKED: frozenset(),
    State.INCOMPATIBLE: frozenset(),
    State.UNRESOLVED: _JUDGED,
    State.ADMITTED: frozenset({State.LOADED, State.FAILED}),
    State.DEFERRED: _JUDGED,
    State.REFUSED: _JUDGED,
    State.DORMANT: _JUDGED | {State.UNLOADED},
    State.LOADED: frozenset({State.ACTIVE, State.FAILED}),
    State.ACTIVE: frozenset({State.DRAINING, State.FAILED}),
    State.DRAINING: frozenset({State.ACTIVE, State.UNLOADED, State.STRANDED, State.FAILED}),
    State.UNLOADED: _JUDGED,
    State.STRANDED: _JUDGED | {State.UNLOADED},
    State.FAILED: _JUDGED | {State.DRAINING},
}

HELD: Final = frozenset({State.ADMITTED, State.LOADED, State.ACTIVE, State.DRAINING})
"""States in which a plugin occupies its place. One that failed at work does, too: see ``Plugin.is_held``."""


def check_transition(plugin: str, before: State, after: State) -> None:
    """Refuse an arrow that is not in the table.

    :raises IllegalTransition: names both states and the legal ones.
    """
    if after in TRANSITIONS[before]:
        return
    legal = ", ".join(sorted(TRANSITIONS[before])) or "none; discover again"
    raise IllegalTransition(
        f"cannot go from {before} to {after}", plugin=plugin, step=after.value, advice=f"Legal from here: {legal}"
    )
