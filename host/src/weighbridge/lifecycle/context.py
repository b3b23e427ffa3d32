"""What a plugin's constructor is given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

from weighbridge_hookspecs import (
    BudgetView,
    Buffers,
    Bus,
    Cache,
    Capabilities,
    ContextClosed,
    Gate,
    Lease,
    Secret,
    ServiceUnavailable,
    StopToken,
    Store,
)

from ..leases.capabilities import CapabilityRegistry, OwnedCapabilities
from ..leases.charges import Charges
from ..leases.ledger import LeaseLedger
from ..leases.schedule import Scheduler
from ..reclaim.watch import Watched, watch
from .words import in_words

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
        scheduler: Scheduler,
        capabilities: CapabilityRegistry,
        budget: Callable[[], BudgetView],
    ) -> None:
        self._name: Final = name
        self._leases = leases
        self._charges = charges
        self._tracked = tracked
        self._scheduler = scheduler
        self._budget = budget
        self._log = logging.getLogger(f"weighbridge.plugins.{name}")
        leases.lend("log", self._log.name, _way_back(self._log))
        self.settings: Final = settings
        self._capabilities = OwnedCapabilities(capabilities, name, self._lend)

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

    def every(self, seconds: float, call: Callable[[], object], *, name: str | None = None) -> Lease:
        """Call `call` every `seconds` on the host's timer thread."""
        label = f"{self._name}.{name or getattr(call, '__name__', 'timer')}"
        return self._lend("timer", label, self._scheduler.every(seconds, call, name=label))

    def spawn(self, run: Callable[[StopToken], object], *, name: str | None = None) -> Lease:
        """Run `run` in a supervised thread."""
        label = f"{self._name}.{name or getattr(run, '__name__', 'thread')}"
        return self._lend("thread", label, self._scheduler.spawn(run, name=label))

    def _lend(self, kind: str, label: str, undo: Callable[[], object]) -> Lease:
        try:
            return self._leases.lend(kind, label, undo)
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

    # --- services that this version of the host does not lend -------------------------------------------------------

    @property
    def buffers(self) -> Buffers:
        """Not lent yet."""
        self._unavailable("buffers")

    @property
    def store(self) -> Store:
        """Not lent yet."""
        self._unavailable("store")

    @property
    def bus(self) -> Bus:
        """Not lent yet."""
        self._unavailable("bus")

    def cache(self, max_items: int, max_bytes: int, *, on_evict: Callable[[Any, Any], None] | None = None) -> Cache:
        """Not lent yet."""
        self._unavailable("cache")

    def gate(self, limit: int, *, max_waiting: int | None = None) -> Gate:
        """Not lent yet."""
        self._unavailable("gate")

    def secret(self, content: bytes) -> Secret:
        """Not lent yet."""
        self._unavailable("secret")

    def _unavailable(self, service: str) -> NoReturn:
        raise ServiceUnavailable(
            f"this host lends no {service!r}",
            plugin=self._name,
            step="lease",
            advice="It lends track, charge, every, spawn, log, settings, budget and capabilities",
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
