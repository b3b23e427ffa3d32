"""Several calls on one instance, with its memory in reach."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final

from .instance import Instance
from .registry import Entry
from .use import Use
from .values import Value


class Session:
    """One instance, for as long as the ``with`` block lasts. To be used by one thread at a time.

    :param entry: the module.
    :param place: what has to be entered first.
    """

    def __init__(self, entry: Entry, place: AbstractContextManager[None]) -> None:
        self._module: Final = entry.module
        self._place: Final = place
        self._use: Final = Use(entry)
        self._instance: Instance | None = None

    def __enter__(self) -> Session:
        self._place.__enter__()
        try:
            self._instance = self._use.__enter__()
        except BaseException:
            self._place.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._instance = None
        try:
            self._use.__exit__(kind)
        finally:
            self._place.__exit__(None, None, None)

    @property
    def memory_bytes(self) -> int:
        """Size of the linear memory in bytes."""
        return self._living().memory_bytes

    def call(
        self, function: str, *arguments: Value, deadline_seconds: float | None = None, fuel: int | None = None
    ) -> Any:
        """Call an export; parameters and errors as of :meth:`.WasmScaling.call`, but for those of waiting."""
        config = self._module.config
        return self._living().call(
            function,
            arguments,
            deadline_seconds=config.deadline_seconds if deadline_seconds is None else deadline_seconds,
            fuel=config.fuel if fuel is None else fuel,
        )

    def read(self, address: int, nbytes: int) -> bytes:
        """A copy of `nbytes` bytes of the memory.

        :raises IndexError: if they are not all inside of it.
        """
        return self._living().read(address, nbytes)

    def write(self, address: int, content: bytes | bytearray | memoryview) -> None:
        """Put bytes into the memory.

        :raises IndexError: if they do not all fit into it.
        """
        self._living().write(address, content)

    def grow(self, pages: int) -> bool:
        """Add pages of 64 KiB to the memory; false if its limit forbids it."""
        return self._living().grow(pages)

    def _living(self) -> Instance:
        if self._instance is None:
            raise RuntimeError(f"no session of {self._module.module_id!r} is open: use it in a with block")
        return self._instance
