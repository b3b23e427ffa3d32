"""Who gives memory back when the machine is short of it."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import TypeAlias

import attrs

Handler: TypeAlias = Callable[[int], int]
"""Takes the bytes that are wanted, and gives the bytes that it believes it released."""


class Registration:
    """A lease: the handler is asked for as long as somebody holds this object, and has not released it.

    Nobody else refers to the handler. So a plugin that keeps the registration in itself, and is unloaded, takes its
    handler with it, whether it released it or not.
    """

    __slots__ = ("__weakref__", "handler")

    def __init__(self, handler: Handler) -> None:
        self.handler: Handler | None = handler

    def release(self) -> None:
        """Ask it no more. Releasing twice does nothing."""
        self.handler = None


@attrs.frozen(kw_only=True)
class Effort:
    """What one handler did."""

    handler: str
    """Its name."""
    believed_bytes: int | None
    """What it believes it released; None if it raised, or said nothing that makes sense."""


class Handlers:
    """Handlers in the order in which they came. Thread-safe.

    :param last: who is asked after all others; None: nobody.
    """

    def __init__(self, log: logging.Logger, last: Handler | None = None) -> None:
        self._log = log
        self._last = last
        self._lock = threading.Lock()
        self._known: list[weakref.ref[Registration]] = []

    def __len__(self) -> int:
        return len(self.registered())

    def register(self, handler: Handler) -> Registration:
        """Ask `handler` from now on. Keep what this gives: a registration that nobody holds is none.

        :raises TypeError: if it cannot be called.
        """
        if not callable(handler):
            raise TypeError(f"{handler!r} cannot be called; a handler takes the bytes wanted and gives those released")
        registration = Registration(handler)
        with self._lock:
            self._known = [known for known in self._known if _is_alive(known)] + [weakref.ref(registration)]
        return registration

    def registered(self) -> list[Handler]:
        """Those that would be asked now, without the last one."""
        with self._lock:
            known = list(self._known)
        found = (reference() for reference in known)
        return [one.handler for one in found if one is not None and one.handler is not None]

    def ask(self, missing: Callable[[int], int], *, without_last: bool = False) -> tuple[Effort, ...]:
        """Ask one after the other for what is missing, until nothing is.

        :param missing: given the bytes that were believed to be released so far, how many are missing still.
        :param without_last: whether the last one is left out.
        """
        efforts: list[Effort] = []
        believed = 0
        last = [] if self._last is None or without_last else [self._last]
        for handler in [*self.registered(), *last]:
            wanted = missing(believed)
            if wanted <= 0:
                break
            efforts.append(self._call(handler, wanted))
            believed += efforts[-1].believed_bytes or 0
        return tuple(efforts)

    def _call(self, handler: Handler, wanted: int) -> Effort:
        name = _name(handler)
        try:
            released = handler(wanted)
        except Exception as error:
            # As text: an exception holds its frames, and with them what a plugin left.
            self._log.error("%s raised %s: %s", name, type(error).__name__, error)
            return Effort(handler=name, believed_bytes=None)
        sensible = isinstance(released, int) and not isinstance(released, bool) and released >= 0
        return Effort(handler=name, believed_bytes=released if sensible else None)


def _is_alive(reference: weakref.ref[Registration]) -> bool:
    registration = reference()
    return registration is not None and registration.handler is not None


def _name(handler: Handler) -> str:
    module = getattr(handler, "__module__", None) or type(handler).__module__
    return f"{module}.{getattr(handler, '__qualname__', type(handler).__qualname__)}"
