"""What a plugin's constructor is given."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

from weighbridge_hookspecs import (
    BudgetView,
    Buffers,
    Bus,
    Cache,
    Capabilities,
    ContextClosed,
    Gate,
    Journal,
    Lease,
    Secret,
    StopToken,
    Store,
)
from weighbridge_hookspecs.records import PressureLevel

from ..leases.capabilities import CapabilityRegistry, OwnedCapabilities
from ..leases.charges import Charges
from ..leases.ledger import Extent, LeaseLedger
from ..reclaim.watch import Watched, watch
from .services import Services
from .words import in_words

if TYPE_CHECKING:
    from ..leases.buffers import BufferPool
    from ..leases.bus import OwnedBus
    from ..leases.store import NamespaceStore

T = TypeVar("T")


class HostContext:
    """A ``PluginContext``: every call is written into the ledger of one plugin."""

    def __init__(
        self,
        name: str,
        *,
        leases: LeaseLedger,
        charges: Charges,
        tracked: list[Watched],
        settings: Mapping[str, Any],
        services: Services,
        capabilities: CapabilityRegistry,
        budget: Callable[[], BudgetView],
        relieve: Callable[[int, PressureLevel, str], int],
    ) -> None:
        self._name: Final = name
        self._leases = leases
        self._charges = charges
        self._tracked = tracked
        self._services = services
        self._scheduler = services.scheduler
        self._budget = budget
        self._relieve = relieve
        self._log = logging.getLogger(f"weighbridge.plugins.{name}")
        leases.lend("log", self._log.name, _way_back(self._log))
        self.settings: Final = settings
        self._capabilities = OwnedCapabilities(capabilities, name, self._lend)
        self._lock = threading.RLock()  # a finalizer that the collector runs may ask for a service as well
        self._buffers: BufferPool | None = None
        self._bus: OwnedBus | None = None
        self._store: NamespaceStore | None = None

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self._name

    @property
    def log(self) -> logging.Logger:
        """A logger of the plugin's own."""
        return self._log

    @property
    def budget(self) -> BudgetView:
        """What it may still take."""
        return self._budget()

    @property
    def capabilities(self) -> Capabilities:
        """What this process is able to do."""
        return self._capabilities

    def track(self, obj: T) -> T:
        """Watch `obj`: if it outlives the plugin, the receipt names it."""
        if self._leases.is_closed:
            raise self._closed("watch of an object", type(obj).__name__)
        try:
            self._tracked.append(watch("tracked", obj))
        except TypeError:
            kind = type(obj).__name__
            problem = f"a {kind} cannot be tracked, for it has no weak references"
            raise TypeError(f"{self._name}: {problem}; track the object that owns it") from None
        return obj

    def charge(self, nbytes: int, label: str) -> Lease:
        """Put `nbytes` of native memory on the account."""
        if isinstance(nbytes, bool) or not isinstance(nbytes, int) or nbytes < 0:
            raise ValueError(f"{self._name}: {nbytes!r} cannot be charged; give a number of bytes from 0 up")
        charges = self._charges
        charges.add(label, nbytes)
        return self._lend("charge", label, lambda: charges.add(label, -nbytes))

    def relieve(self, nbytes: int, *, level: PressureLevel = "elevated") -> int:
        """Have everybody else give memory back, until the process is `nbytes` bytes smaller."""
        if isinstance(nbytes, bool) or not isinstance(nbytes, int) or nbytes < 0:
            raise ValueError(f"{self._name}: {nbytes!r} is nothing to release; give a number of bytes from 0 up")
        if level not in get_args(PressureLevel):
            raise ValueError(f"{self._name}: {level!r} is no level; take one of: {', '.join(get_args(PressureLevel))}")
        self._check_open("release of memory")
        return self._relieve(nbytes, level, self._name)

    def every(self, seconds: float, call: Callable[[], object], *, name: str | None = None) -> Lease:
        """Call `call` every `seconds` on the host's timer thread."""
        label = f"{self._name}.{name or getattr(call, '__name__', 'timer')}"
        return self._lend("timer", label, self._scheduler.every(seconds, call, name=label))

    def spawn(self, run: Callable[[StopToken], object], *, name: str | None = None) -> Lease:
        """Run `run` in a supervised thread."""
        label = f"{self._name}.{name or getattr(run, '__name__', 'thread')}"
        return self._lend("thread", label, self._scheduler.spawn(run, name=label))

    @property
    def buffers(self) -> Buffers:
        """The plugin's own pool of buffers; the same at every access."""
        with self._lock:
            if self._buffers is None:
                from .lent_buffers import extent, take_back

                self._check_open("pool of buffers")
                pool = self._services.buffers(self._name)
                self._lend("buffer", self._name, partial(take_back, pool, self._tracked), partial(extent, pool))
                self._buffers = pool
            return self._buffers

    @property
    def store(self) -> Store:
        """The plugin's namespace in the store of the host; the same handle at every access."""
        with self._lock:
            if self._store is None:
                self._check_open("store")
                found = self._services.store(self._name).namespace(self._name)
                self._lend("store", self._name, found.close)
                self._store = found
            return self._store

    @property
    def bus(self) -> Bus:
        """The bus of the host, as this plugin sees it; the same at every access."""
        with self._lock:
            if self._bus is None:
                from ..leases.bus import OwnedBus

                self._check_open("bus")
                self._bus = OwnedBus(self._services.bus(), self._name, self._lend)
            return self._bus

    def cache(self, max_items: int, max_bytes: int, *, on_evict: Callable[[Any, Any], None] | None = None) -> Cache:
        """A new bounded cache; it is emptied when it comes back."""
        from ..leases.cache import BoundedCache
        from .lent import LentCache

        cache = LentCache(max_items, max_bytes, on_evict)
        cache.lease = self._lend("cache", f"{self._name}.cache", partial(BoundedCache.close, cache), cache.extent)
        return cache

    def gate(self, limit: int, *, max_waiting: int | None = None, reserve: float = 0.0) -> Gate:
        """A new limit on how many may work at once; who waits is sent away when it comes back."""
        from ..leases.gate import ConcurrencyGate
        from .lent import LentGate

        gate = LentGate(limit, max_waiting, reserve=reserve)
        gate.lease = self._lend("gate", f"{self._name}.gate", partial(ConcurrencyGate.close, gate))
        return gate

    def secret(self, content: bytes) -> Secret:
        """Keep `content` in the vault of the host until it is released."""
        from .lent import LentSecret, wipe

        self._check_open("secret")
        secret = self._services.vault().keep(content)
        self._charges.add("secrets", secret.nbytes)
        return LentSecret(secret, self._lend("secret", f"{self._name}.secret", partial(wipe, secret, self._charges)))

    def journal(
        self, name: str = "journal", *, max_bytes: int | None = None, at_cap: Literal["reject", "block"] = "reject"
    ) -> Journal:
        """Open the plugin's journal of this name, beside the store of the host."""
        folder = self._services.journal_folder(self._name, name)
        from ..leases.journal import MAX_BYTES, Journal
        from .lent_journal import LentJournal

        self._check_open("journal")
        journal = LentJournal(folder, max_bytes=MAX_BYTES if max_bytes is None else max_bytes, at_cap=at_cap)
        journal.lease = self._lend("journal", f"{self._name}.{name}", partial(Journal.close, journal))
        return journal

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check_open(self, kind: str) -> None:
        """See to it that nothing is made for a plugin that has gone.

        :raises ContextClosed: if everything was taken back.
        """
        if self._leases.is_closed:
            raise self._closed(kind, self._name)

    def _lend(
        self, kind: str, label: str, undo: Callable[[], object], extent: Callable[[], Extent] | None = None
    ) -> Lease:
        try:
            return self._leases.lend(kind, label, undo, extent=extent)
        except RuntimeError:
            pass
        raise self._closed(kind, label)

    def _closed(self, kind: str, label: str) -> ContextClosed:
        return ContextClosed(
            f"asked for a {kind} ({label!r}) after it was unloaded",
            plugin=self._name,
            step="lease",
            advice="Drop the context in weighbridge_deactivate",
        )


def frozen_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """A read-only copy, tables within tables too."""
    return MappingProxyType(
        {key: frozen_settings(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
    )


def _way_back(log: logging.Logger) -> Callable[[], None]:
    """How to make a logger, which lives for ever, what it is now: without what a plugin hung on it, and as loud."""
    known = [*log.handlers, *log.filters]
    level, propagate, disabled = log.level, log.propagate, log.disabled

    def give_back() -> None:
        strangers = [one for one in log.handlers if not _is_among(one, known)]
        log.handlers = [one for one in log.handlers if _is_among(one, known)]
        log.filters = [one for one in log.filters if _is_among(one, known)]
        log.propagate, log.disabled = propagate, disabled
        log.setLevel(level)
        problems = [problem for handler in strangers if (problem := _close(handler))]
        if problems:
            raise RuntimeError("; ".join(problems))

    return give_back


def _is_among(one: object, known: list[Any]) -> bool:
    return any(one is other for other in known)


def _close(handler: logging.Handler) -> str | None:
    """Close a handler; in words, what it raised."""
    try:
        handler.close()
    except (Exception, SystemExit) as error:
        return in_words(error)
    return None
