"""A plugin goes from one state to the next, and the observers are told."""

from __future__ import annotations

from weighbridge_hookspecs import Event

from ..hooks import Hooks
from .plugin import Plugin
from .states import State


def move(hooks: Hooks, plugin: Plugin, state: State, reason: str) -> None:
    """Let `plugin` go on to `state`, and tell it to whoever observes.

    :raises IllegalTransition: if there is no such arrow.
    """
    before = plugin.move(state, reason)
    hooks.event(
        Event(kind="state", plugin=plugin.name, state=state.value, previous=before.value, reason=reason or None)
    )
