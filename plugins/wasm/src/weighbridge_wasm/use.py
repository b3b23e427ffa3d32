"""One use of a module: its place in the line, and its instance."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

from weighbridge_hookspecs import ContextClosed, Gate
from weighbridge_hookspecs.services import Priority

from .instance import Instance
from .module import Module
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
        try:
            self._entry.module.end(kind)
        finally:
            if instance is not None:
                self._entry.supply.take_back(instance)


class _Both:
    """The door of a module, and in it a place among all."""

    __slots__ = ("_door", "_module", "_place")

    def __init__(self, module: Module, door: AbstractContextManager[None], place: AbstractContextManager[None]) -> None:
        self._module = module
        self._door = door
        self._place = place

    def __enter__(self) -> None:
        try:
            self._door.__enter__()
        except ContextClosed:
            self._module.check()
            raise
        try:
            self._place.__enter__()
        except BaseException:
            self._door.__exit__(None, None, None)
            raise

    def __exit__(self, *error: object) -> None:
        try:
            self._place.__exit__(None, None, None)
        finally:
            self._door.__exit__(None, None, None)


class Here(threading.local):
    """The keys of the modules that this thread uses now, the one in whose host function it is last."""

    def __init__(self) -> None:
        self.keys: list[str] = []


def places(
    entry: Entry, gate: Gate, here: list[str], priority: Priority, wait_seconds: float
) -> AbstractContextManager[None]:
    """What a use has to enter: the door of its module, if that has one instance, and then the gate of all modules.

    In this order, so that those who wait for one busy module take no place of the others. A thread that has a place
    needs no other: those who have all of them would wait for each other.

    :param here: what this thread uses already.
    :raises RuntimeError: if it waited for itself.
    """
    place = nullcontext() if here else gate.enter(priority=priority, timeout_seconds=wait_seconds)
    door = entry.supply.door
    if door is None:
        return place
    if entry.module.key in here:
        raise RuntimeError(
            f"the module {entry.module.module_id!r} keeps its state in one instance, which this thread has already:"
            " use the session, or the caller of the host function"
        )
    return _Both(entry.module, door.enter(priority=priority, timeout_seconds=wait_seconds), place)
