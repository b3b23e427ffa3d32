"""One registered module: its program, its configuration, and what became of its calls."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .config import ModuleConfig
from .instance import Instance, Limits
from .program import Program


class Module:
    """A module that can be called. The pool has its instances, by its id."""

    def __init__(
        self, module_id: str, sha256: bytes, program: Program, config: ModuleConfig, owner: str | None
    ) -> None:
        self.module_id: Final = module_id
        self.sha256: Final = sha256
        """Of the module as it was registered; 32 bytes."""
        self.program: Final = program
        self.owner: Final = owner
        self.obstacles = obstacles(program, config)
        self.completed = 0
        """Uses that came to their end."""
        self.config = config
        """What it may take now."""
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
        self.obstacles = obstacles(self.program, config)
        self.config = config

    def make(self) -> Instance:
        """A fresh instance."""
        config = self.config
        return self.program.instantiate(deadline_seconds=config.deadline_seconds, fuel=config.fuel)

    def fitted(self, instance: Instance) -> Instance:
        """An instance with the bounds that are in force."""
        if instance.limits is not self._limits:
            instance.set_limits(self._limits)
        return instance

    def close(self) -> None:
        """Let go of its code and of its host functions, once no instance is left."""
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
