"""One registered module: its program, its configuration, and what became of its calls."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from itertools import count
from types import MappingProxyType
from typing import Final

from weighbridge_hookspecs import UnknownModule

from .config import ModuleConfig
from .instance import Instance, Limits
from .program import Program

_NUMBERS: Final = count(1)


class Module:
    """A module that can be called. The pool has its instances, by its key."""

    def __init__(self, module_id: str, sha256: bytes, program: Program, config: ModuleConfig) -> None:
        self.module_id: Final = module_id
        self.key: Final = f"{module_id}#{next(_NUMBERS)}"
        """Under which the pool has its instances: whoever has the id later gets none of them."""
        self.sha256: Final = sha256
        """Of the module as it was registered; 32 bytes."""
        self.program: Final = program
        self.obstacles = obstacles(program, config)
        self.completed = 0
        """Uses that came to their end."""
        self.config = config
        """What it may take now."""
        self.is_gone = False
        """Whether it was let go of: nothing begins in it any more."""
        self._limits = program.limits
        self._failed: Counter[str] = Counter()
        self._lock: Final = threading.RLock()  # the collector may run a finalizer that calls a module

    @property
    def failed(self) -> Mapping[str, int]:
        """Uses that ended with an exception, by its class."""
        with self._lock:
            return MappingProxyType(dict(self._failed))

    def configure(self, config: ModuleConfig) -> None:
        """Take other bounds: each instance has them from its next use on.

        :raises InvalidModule: if the module begins above them; nothing has changed then.
        """
        limits = Limits(max_pages=config.max_pages, max_table_elements=config.max_table_elements)
        if limits != self._limits:
            self.program.set_limits(limits)
            self._limits = limits
        with self._lock:
            self.config = config
            self.obstacles = obstacles(self.program, config)

    def make(self, deadline_seconds: float | None = None, fuel: int | None = None) -> Instance:
        """A fresh instance.

        :param deadline_seconds: what its start may take; by default what a call may.
        :param fuel: what its start may use; likewise.
        :raises UnknownModule: if it was let go of.
        """
        self.check()
        config = self.config
        instance = self.program.instantiate(
            deadline_seconds=config.deadline_seconds if deadline_seconds is None else deadline_seconds,
            fuel=config.fuel if fuel is None else fuel,
        )
        if instance.has_asked and not self.obstacles:
            with self._lock:
                self.obstacles = obstacles(self.program, self.config)
        return instance

    def check(self) -> None:
        """Whether something may begin in it.

        :raises UnknownModule: if it was let go of.
        """
        if self.is_gone:
            raise UnknownModule(
                f"the module {self.module_id!r} was unregistered meanwhile", step="call", advice="Register it again"
            )

    def fitted(self, instance: Instance) -> Instance:
        """An instance with the bounds that are in force."""
        if instance.limits is not self._limits:
            instance.set_limits(self._limits)
        return instance

    def close(self) -> None:
        """Let go of its code and of its host functions: what runs still cannot call them any more."""
        self.program.close()

    def end(self, failure: type[BaseException] | None) -> None:
        """A use has ended, with an exception of this class or without."""
        with self._lock:
            if failure is None:
                self.completed += 1
            else:
                self._failed[failure.__name__] += 1


def obstacles(program: Program, config: ModuleConfig) -> tuple[str, ...]:
    """Why an instance of it cannot serve twice."""
    unwanted = ("its configuration says so: reset is 'never'",) if config.reset == "never" else ()
    return (*program.obstacles, *unwanted)
