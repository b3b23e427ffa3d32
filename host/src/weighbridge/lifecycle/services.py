"""What one host lends from, shared by its plugins: each made when it is first asked for, and closed with the host."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
from weighbridge_hookspecs import ConfigurationError, LeaseError, ServiceUnavailable

from ..leases.schedule import Scheduler
from .words import in_words

if TYPE_CHECKING:
    from ..leases.buffer_ceiling import BufferCeiling, CeilingStatistics, Process
    from ..leases.buffers import BufferPool
    from ..leases.bus import BusStatistics, MessageBus
    from ..leases.schedule import ScheduleStatistics
    from ..leases.secret import SecretStatistics, SecretVault
    from ..leases.store import StoreFile, StoreFileStatistics


@attrs.frozen(kw_only=True)
class BufferTerms:
    """On which terms buffers are lent. As they are by default, each is allocated plainly and without a limit."""

    pool_max_array_bytes: int = 0
    ceiling: Callable[[], int | None] = lambda: None
    process: Process | None = None


@attrs.frozen(kw_only=True)
class ServiceStatistics:
    """What is lent from now; None: nobody has asked for it yet."""

    schedule: ScheduleStatistics
    buffers: CeilingStatistics | None
    """Of all plugins together."""
    bus: BusStatistics | None
    secrets: SecretStatistics | None
    store: StoreFileStatistics | None


class Services:
    """One scheduler, one bus, one vault of secrets, one store and one account of buffers. Thread-safe.

    The modules behind them bring sqlite3, mmap and ctypes along, so they are imported on first use. After `close` the
    next use makes new ones, as the host, too, may be used again.

    :param store: the file for what plugins store; their journals are in the folder ``<store>.journals``. Without it
        neither is lent.
    :raises ConfigurationError: if `store` is no path.
    """

    def __init__(self, store: str | os.PathLike[str] | None = None, terms: BufferTerms | None = None) -> None:
        self.scheduler: Final = Scheduler()
        self._path = None if store is None else _checked(store)
        self._terms = BufferTerms() if terms is None else terms
        # The collector may run a finalizer of a plugin, which asks for a service, while its thread makes one.
        self._lock = threading.RLock()
        self._ceiling: BufferCeiling | None = None
        self._bus: MessageBus | None = None
        self._vault: SecretVault | None = None
        self._store: StoreFile | None = None

    def thread_idents(self) -> frozenset[int]:
        """Identifiers of the threads that the host supervises: of timers, of spawned work, of the bus."""
        with self._lock:
            bus = self._bus
        return self.scheduler.thread_idents() | (bus.thread_idents() if bus is not None else frozenset())

    def buffers(self, plugin: str) -> BufferPool:
        """A new pool for one plugin; all of them have one ceiling."""
        from ..leases.buffer_ceiling import BufferCeiling
        from ..leases.buffers import BufferPool

        terms = self._terms
        with self._lock:
            if self._ceiling is None:
                self._ceiling = BufferCeiling(terms.ceiling(), terms.process)
        return BufferPool(self._ceiling, pool_max_array_bytes=terms.pool_max_array_bytes, owner=plugin)

    def trim_buffers(self, nbytes: int) -> int:
        """Let go of idle buffers until `nbytes` bytes are free; the bytes that went."""
        return self._ceiling.trim(nbytes) if self._ceiling is not None else 0

    def resize_buffers(self, ceiling_bytes: int) -> None:
        """Take another ceiling for buffers."""
        if self._ceiling is not None:
            self._ceiling.resize(ceiling_bytes)

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

    def journal_folder(self, plugin: str, name: str) -> str:
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
        return os.path.join(f"{path}.journals", _segment(plugin), _segment(name))

    def statistics(self) -> ServiceStatistics:
        """What is lent now."""
        with self._lock:
            ceiling, bus, vault, store = self._ceiling, self._bus, self._vault, self._store
        return ServiceStatistics(
            schedule=self.scheduler.statistics(),
            buffers=ceiling.statistics() if ceiling is not None else None,
            bus=bus.statistics() if bus is not None else None,
            secrets=vault.statistics() if vault is not None else None,
            store=store.statistics() if store is not None else None,
        )

    def close(self) -> list[LeaseError]:
        """End them all, whoever still uses them; what went wrong on the way."""
        with self._lock:
            made = (("bus", self._bus), ("secrets", self._vault), ("store", self._store))
            self._bus = self._vault = self._store = None
        closed = (_attempt(name, service.close) for name, service in made if service is not None)
        return [problem for problem in closed if problem is not None]

    def _given(self, service: str, plugin: str) -> str:
        if self._path is None:
            raise ServiceUnavailable(
                f"this host lends no {service!r}, for it was given no file to keep things in",
                plugin=plugin,
                step="lease",
                advice='Let the application name one, Host(store="plugins.sqlite3"), or give weighbridge run --store',
            )
        return self._path


def _checked(store: object) -> str:
    if not isinstance(store, str | os.PathLike) or not isinstance(path := os.fspath(store), str) or not path:
        raise ConfigurationError(
            f"store makes no sense: {store!r}", step="configure", advice="Give the path of a file, or leave it out"
        )
    return os.path.abspath(path)  # the working folder may be another one when it is opened


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
