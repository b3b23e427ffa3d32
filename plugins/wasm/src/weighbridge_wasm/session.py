"""Several calls on one instance, with its memory in reach."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final

from .instance import Instance
from .registry import Entry
from .use import Here, Use
from .values import Value


class Session:
    """One instance, for as long as the ``with`` block lasts. To be used by one thread at a time.

    :param entry: the module.
    :param here: what a thread uses already.
    :param place: gives what has to be entered first, if this is used already.
    """

    def __init__(self, entry: Entry, here: Here, place: Callable[[list[str]], AbstractContextManager[None]]) -> None:
        self._module: Final = entry.module
        self._here: Final = here
        self._place_beside: Final = place
        self._use: Final = Use(entry)
        self._leave: Callable[..., object] | None = None
        self._instance: Instance | None = None

    def __enter__(self) -> Session:
        if self._leave is not None:
            raise RuntimeError("this session was entered before: ask for another one")
        key, keys = self._module.key, self._here.keys
        with ExitStack() as stack:
            stack.enter_context(self._place_beside(keys))
            keys.append(key)
            stack.callback(keys.remove, key)  # whichever thread leaves
            self._instance = stack.enter_context(self._use)
            self._leave = stack.pop_all().__exit__
        return self

    def __exit__(self, *error: Any) -> None:
        self._instance = None
        if self._leave is not None:
            self._leave(*error)

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
