"""What one host lends from, shared by its plugins: each made when it is first asked for, and closed with the host."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weighbridge_hookspecs import ConfigurationError, LeaseError, ServiceUnavailable

from ..leases.schedule import Scheduler
from .words import in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..leases.bus import MessageBus
    from ..leases.secret import SecretVault
    from ..leases.store import StoreFile


class Services:
    """One scheduler, one bus, one vault of secrets and one store. Thread-safe.

    The modules behind them bring sqlite3, mmap and ctypes along, so they are imported on first use. After `close` the
    next use makes new ones, as the host, too, may be used again.

    :param store: the file for what plugins store; their journals are in the folder ``<store>.journals``. Without it
        neither is lent.
    :raises ConfigurationError: if `store` is no path.
    """

    def __init__(self, store: str | os.PathLike[str] | None = None) -> None:
        self.scheduler: Final = Scheduler()
        self._path = None if store is None else _checked(store)
        # The collector may run a finalizer of a plugin, which asks for a service, while its thread makes one.
        self._lock = threading.RLock()
        self._bus: MessageBus | None = None
        self._vault: SecretVault | None = None
        self._store: StoreFile | None = None

    def thread_idents(self) -> frozenset[int]:
        """Identifiers of the threads that the host supervises: of timers, of spawned work, of the bus."""
        with self._lock:
            bus = self._bus
        return self.scheduler.thread_idents() | (bus.thread_idents() if bus is not None else frozenset())

    def bus(self) -> MessageBus:
        """The bus of this host."""
        from ..leases.bus import MessageBus

        with self._lock:
            if self._bus is None:
                self._bus = MessageBus()
            return self._bus

    def vault(self) -> SecretVault:
        """The vault of this host."""
        from ..leases.secret import SecretVault

        with self._lock:
            if self._vault is None:
                self._vault = SecretVault()
            return self._vault

    def store(self, plugin: str) -> StoreFile:
        """The store of this host, opened by the first who asks for it.

        :param plugin: who asks, for the error.
        :raises ServiceUnavailable: if the host was given no file for it.
        :raises ConfigurationError, StorageDamaged, StorageFailed: if the file cannot be opened; the next one who asks
            tries again.
        """
        path = self._given("store", plugin)
        from ..leases.store import StoreFile

        with self._lock:
            if self._store is None:
                self._store = StoreFile(path)
            return self._store

    def journal_folder(self, plugin: str, name: str) -> Path:
        """Where a journal of a plugin is.

        :raises ServiceUnavailable: if the host was given no file for the store, beside which journals are.
        :raises ConfigurationError: if `name` is no text, or empty.
        """
        path = self._given("journal", plugin)
        if not isinstance(name, str) or not name:
            raise ConfigurationError(
                f"a journal cannot be called {name!r}",
                plugin=plugin,
                step="lease",
                advice="Give a text that is not empty",
            )
        return Path(f"{path}.journals", _segment(plugin), _segment(name))

    def close(self) -> list[LeaseError]:
        """End them all, whoever still uses them; what went wrong on the way."""
        with self._lock:
            made = (("bus", self._bus), ("secrets", self._vault), ("store", self._store))
            self._bus = self._vault = self._store = None
        closed = (_attempt(name, service.close) for name, service in made if service is not None)
        return [problem for problem in closed if problem is not None]

    def _given(self, service: str, plugin: str) -> Path:
        if self._path is None:
            raise ServiceUnavailable(
                f"this host lends no {service!r}, for it was given no file to keep things in",
                plugin=plugin,
                step="lease",
                advice='Let the application name one: Host(store="/var/lib/app/plugins.sqlite3")',
            )
        return self._path


def _checked(store: object) -> Path:
    if not isinstance(store, str | os.PathLike) or not isinstance(path := os.fspath(store), str) or not path:
        raise ConfigurationError(
            f"store makes no sense: {store!r}", step="configure", advice="Give the path of a file, or leave it out"
        )
    return Path(os.path.abspath(path))  # the working folder may be another one when it is opened


def _segment(name: str) -> str:
    """A name as one segment of a path, which different names never share and which leads nowhere else."""
    from urllib.parse import quote

    quoted = quote(name, safe="")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def _attempt(name: str, close: Callable[[], object]) -> LeaseError | None:
    try:
        close()
    except (Exception, SystemExit) as error:
        return LeaseError(f"closing the {name} went wrong: {in_words(error)}", step="close")
    return None
