"""One use of a module: its place in the line, and its instance."""

from __future__ import annotations

from contextlib import AbstractContextManager

from weighbridge_hookspecs import Gate
from weighbridge_hookspecs.services import Priority

from .instance import Instance
from .registry import Entry


class Use:
    """A ``with`` block that lends an instance, and counts how it ended."""

    __slots__ = ("_entry", "_instance")

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._instance: Instance | None = None

    def __enter__(self) -> Instance:
        try:
            instance = self._instance = self._entry.supply.lend()
        except BaseException as error:
            self._entry.module.end(type(error))
            raise
        return instance

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        instance, self._instance = self._instance, None
        self._entry.module.end(kind)
        if instance is not None:
            self._entry.supply.take_back(instance)


class _Both:
    """Two ``with`` blocks, one in the other."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, outer: AbstractContextManager[None], inner: AbstractContextManager[None]) -> None:
        self._outer = outer
        self._inner = inner

    def __enter__(self) -> None:
        self._outer.__enter__()
        try:
            self._inner.__enter__()
        except BaseException:
            self._outer.__exit__(None, None, None)
            raise

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(None, None, None)
        self._outer.__exit__(None, None, None)


def places(entry: Entry, gate: Gate, priority: Priority, wait_seconds: float) -> AbstractContextManager[None]:
    """What a use has to enter: the door of its module, if that has one instance, and then the gate of all modules.

    In this order, so that those who wait for one busy module take no place of the others.
    """
    place = gate.enter(priority=priority, timeout_seconds=wait_seconds)
    door = entry.supply.door
    return place if door is None else _Both(door.enter(priority=priority, timeout_seconds=wait_seconds), place)
