"""Stages that a plugin lends to the pipelines of others, and that leave with it.

The functions lie in a cache that the contributor leased from its own host: it is the one lease of the contract that
holds objects for a plugin and lets go of them when the plugin goes. A pipeline has stand-ins, which look there at each
call, so that nothing of the contributor hangs on a pipeline, whoever keeps it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, Protocol, TypeAlias

import attrs
from weighbridge_hookspecs import Cache, ContextClosed, PluginContext, StageWithdrawn

from .stage import Stage, is_async

OnUnload: TypeAlias = Literal["wait", "cancel"]


class Cancellable(Protocol):
    """What uses stages of somebody else."""

    def cancel(self) -> None:
        """Call it off."""


class Lent:
    """Stands for one function of a contributed stage. Pickled, it is the function itself."""

    __slots__ = ("_shelf", "contribution", "is_async", "key")

    def __init__(self, contribution: Contribution, shelf: Cache, key: str, function: Callable[..., Any]) -> None:
        self.contribution: Final = contribution
        self.key: Final = key
        self.is_async: Final = is_async(function)
        self._shelf = shelf
        shelf.put(key, function, nbytes=0)

    def __call__(self, argument: Any) -> Any:
        """Call what it stands for."""
        return self.function(argument)

    @property
    def function(self) -> Callable[..., Any]:
        """What it stands for.

        :raises StageWithdrawn: if the contributor has gone.
        """
        function: Callable[..., Any] | None = None
        with suppress(ContextClosed):
            function = self._shelf.get(self.key)
        if function is None:
            raise self.contribution.withdrawn()
        return function

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Callable[..., Any]]]:
        return _itself, (self.function,)


def _itself(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


class Contribution:
    """The stages of one plugin. Thread-safe.

    :param on_unload: what becomes of transactions with these stages if the plugin is to go: they are waited for, or
        called off at once.
    """

    def __init__(self, context: PluginContext, stages: Iterable[Stage], on_unload: OnUnload) -> None:
        self.plugin: Final = context.name
        self.on_unload: Final = on_unload
        given = tuple(stages)
        self._shelf: Final = context.cache(max(3 * len(given), 1), 1)
        self.stages: Final[Mapping[str, Stage]] = {stage.name: self._lend(stage) for stage in given}
        self._users: dict[Cancellable, None] = {}
        self._changed = threading.Condition()
        self._is_open = True
        self._is_released = False

    def __repr__(self) -> str:
        return f"<Contribution of {self.plugin!r}, {len(self.stages)} stages, {len(self._users)} transactions>"

    @property
    def is_there(self) -> bool:
        """Whether the functions can be called."""
        try:
            return not self._is_released and all(self._shelf.get(f"{name}/run") for name in self.stages)
        except ContextClosed:
            return False

    def enter(self, user: Cancellable) -> None:
        """Note a transaction that uses them.

        :raises StageWithdrawn: if the contributor is leaving, or has gone.
        """
        with self._changed:
            if not self._is_open:
                raise self.withdrawn()
            self._users[user] = None

    def leave(self, user: Cancellable) -> None:
        """That transaction is over."""
        with self._changed:
            self._users.pop(user, None)
            self._changed.notify_all()

    def shut(self, seconds: float) -> bool:
        """Let no transaction begin, and see those off that run; false if some still run.

        :param seconds: how long they are waited for; then they are called off, and get as long again to undo.
        """
        with self._changed:
            self._is_open = False
        if self.on_unload == "wait" and self._wait(seconds):
            return True
        with self._changed:
            users = list(self._users)
        for user in users:
            user.cancel()
        return self._wait(seconds)

    def reopen(self) -> None:
        """The contributor stays after all."""
        with self._changed:
            self._is_open = not self._is_released

    def release(self) -> None:
        """Let go of the functions. Releasing twice does nothing."""
        with self._changed:
            self._is_open = False
            self._is_released = True
        self._shelf.release()

    def withdrawn(self) -> StageWithdrawn:
        """The error for who comes too late."""
        return StageWithdrawn(
            f"its stages are no longer there: {', '.join(self.stages)}",
            plugin=self.plugin,
            step="run",
            advice="Load the plugin again, and build the pipeline again with its stages",
        )

    def _lend(self, stage: Stage) -> Stage:
        lent = {
            name: Lent(self, self._shelf, f"{stage.name}/{name}", function)
            for name in ("run", "undo", "capture")
            if (function := getattr(stage, name)) is not None
        }
        return attrs.evolve(stage, **lent)  # type: ignore[arg-type]  # a Lent is called as what it stands for

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._users and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            return not self._users


def contribution_of(function: object) -> Contribution | None:
    """Which contribution a function of a stage is from; None for any other."""
    return function.contribution if isinstance(function, Lent) else None
