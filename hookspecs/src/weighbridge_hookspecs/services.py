"""Protocols of what a plugin leases from its host.

A plugin gets everything it holds from its :class:`PluginContext`. Each call below is a lease: the host can take it
back, and does so in reverse order when the plugin is unloaded, whatever the plugin does. Protocols only: the host
builds the objects, and a test may build its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from .records import (
    Backpressure,
    BudgetView,
    Capability,
    GateStatistics,
    PressureLevel,
    ScalingLimits,
    ScalingMetrics,
)

T = TypeVar("T")
Priority: TypeAlias = Literal["low", "normal", "high", "critical"]


class Lease(Protocol):
    """One thing lent to one plugin."""

    def release(self) -> None:
        """Give it back early. Releasing twice does nothing."""


class StopToken(Protocol):
    """Tells a supervised task that it should end; ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """True once the task should end."""

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the task should end or `timeout` seconds have passed; true if it should end."""


class Buffer(Protocol):
    """A block of memory outside of Python's allocator."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    @property
    def node(self) -> int | None:
        """The NUMA node that it was asked for; None where the machine decides."""

    def view(self) -> memoryview:
        """The memory itself, writable."""

    def release(self) -> None:
        """Give it back. Using a view afterwards is an error."""


class ReadsInto(Protocol):
    """A binary file: what ``open(path, "rb")`` and ``io.BytesIO`` give."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer from its beginning; how many bytes it put there."""


class ReceivesInto(Protocol):
    """A connected socket."""

    def recv_into(self, buffer: Any, nbytes: int, flags: int, /) -> int:
        """Fill the buffer from its beginning; how many bytes it put there."""


class Buffers(Protocol):
    """Pooled buffers for reading and writing."""

    def rent(self, nbytes: int, *, clear: bool = False) -> AbstractContextManager[memoryview]:
        """Lend a writable view of exactly `nbytes` bytes; `clear` wipes it when it is returned.

        :raises CeilingExceeded: if there is no room even after others released what they could.
        """

    def read_into(self, file: ReadsInto, nbytes: int, *, clear: bool = False) -> AbstractContextManager[memoryview]:
        """Read once from `file`, at most `nbytes` bytes, and lend the part that was filled; an empty one is the end.

        :raises CeilingExceeded: as `rent` does.
        """

    def recv_into(
        self, connection: ReceivesInto, nbytes: int, *, clear: bool = False
    ) -> AbstractContextManager[memoryview]:
        """Receive once from `connection`, at most `nbytes` bytes, and lend the part that was filled.

        An empty one means that the other end has closed.

        :raises CeilingExceeded: as `rent` does.
        """

    def trim(self, nbytes: int) -> int:
        """Let go of idle buffers until `nbytes` bytes are free; the bytes that went."""


class Cache(Protocol):
    """A bounded least-recently-used cache."""

    def get(self, key: Any, default: Any = None) -> Any:
        """The value, or `default`."""

    def put(self, key: Any, value: Any, *, nbytes: int) -> None:
        """Keep `value`, which weighs `nbytes`; older entries make room."""

    def discard(self, key: Any) -> bool:
        """Take `key` out; whether it was there."""

    def trim(self, nbytes: int) -> int:
        """Let go of what was not used for longest, until `nbytes` bytes are free; the bytes that were let go of."""

    def clear(self) -> None:
        """Drop every entry."""

    def release(self) -> None:
        """Drop every entry and give the cache back. Releasing twice does nothing."""


class Store(Protocol):
    """A key-value store for bytes, in a namespace of the plugin's own."""

    def get(self, key: str) -> bytes | None:
        """The value, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Keep `value`; when this returns it survives a crash."""

    def delete(self, key: str) -> None:
        """Forget `key`; an unknown key is fine."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""


class Gate(Protocol):
    """A limit on how many may work at once."""

    def enter(
        self,
        *,
        priority: Priority = "normal",
        timeout_seconds: float | None = None,
        on_preempt: Callable[[], object] | None = None,
    ) -> AbstractContextManager[None]:
        """Wait for a place, first come first served within a priority.

        :param on_preempt: called at most once, in another thread, if somebody of high or critical priority wants the
            place; set an event in it, and look at that while you work.
        :raises Saturated: if the queue is full or `timeout_seconds` have passed.
        """

    def resize(self, limit: int, *, max_waiting: int | None = None) -> None:
        """Set the limit while the gate is in use; nobody inside is thrown out.

        :param max_waiting: how many may wait from now on; None leaves it as it is.
        :raises ConfigurationError: if `limit` is no whole number from 1 up, or `max_waiting` none from 0 up.
        """

    def statistics(self) -> GateStatistics:
        """How it stands, all of one moment."""

    def release(self) -> None:
        """Send everybody away who waits, and give the gate back. Releasing twice does nothing."""


class Bus(Protocol):
    """Messages between plugins that hold no references to each other."""

    def publish(self, topic: str, message: Any) -> None:
        """Put `message` into the queue of every subscriber of `topic`; it never waits.

        :raises Saturated: if a subscriber with the policy ``"reject"`` has a full queue; all others have the message.
        """

    def subscribe(
        self,
        topic: str,
        receive: Callable[[Any], object],
        *,
        max_pending: int = 10_000,
        policy: Literal["drop_oldest", "reject"] = "drop_oldest",
    ) -> Lease:
        """Have `receive` called with every message of `topic`, in a thread of the host, until the lease is released.

        :param max_pending: messages that wait at most.
        :param policy: whether a full queue lets its oldest message go, or does not take the new one.
        """


class Journal(Protocol):
    """An append-only buffer on disk: what was appended survives a crash, within a fixed number of bytes."""

    def append(self, payload: bytes, *, timeout_seconds: float | None = None) -> int:
        """Append a record; when this returns it survives a crash. Gives its sequence, counted from 1.

        :raises Saturated: if there is no room, or none within `timeout_seconds` where the journal waits for some.
        :raises CeilingExceeded: if it can never fit.
        """

    def replay(self, receive: Callable[[int, bytes], object], *, after: int = 0) -> object:
        """Call `receive` with sequence and payload of every record that was not acknowledged, in order.

        What it gives says how far it came, and why it stopped.
        """

    def truncate(self, up_to: int) -> int:
        """Acknowledge every record up to this sequence: it is not replayed again. Gives the bytes of disk freed."""

    def release(self) -> None:
        """Write what is pending and close the files; the records stay. Releasing twice does nothing."""


class Secret(Protocol):
    """Bytes kept in locked memory."""

    def view(self) -> AbstractContextManager[memoryview]:
        """The bytes, for as long as the ``with`` block lasts."""

    def release(self) -> None:
        """Wipe them."""


class Capabilities(Protocol):
    """Names of what this process is able to do, each with its evidence and its owner."""

    def register(
        self, name: str, provided: object = None, *, evidence: str, details: Mapping[str, str] | None = None
    ) -> None:
        """Announce `name`; `provided` is what ``capabilities[name]`` gives to others.

        It leaves with the plugin. A name that another plugin has taken raises :class:`ConfigurationError`.
        """

    def __getitem__(self, name: str) -> Any:
        """What was provided under `name`; KeyError if nobody did."""

    def __contains__(self, name: object) -> bool:
        """Whether somebody registered `name`."""

    def describe(self) -> tuple[Capability, ...]:
        """Every capability, sorted by name."""


class Terminal(Protocol):
    """Where a command of a plugin shows its result: as the other commands do, for people and for programs."""

    def say(self, text: str = "") -> None:
        """Print a line of the result on standard output."""

    def complain(self, text: object) -> None:
        """Print a line about what went wrong on standard error."""

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; a column whose name begins with ``>`` is aligned to the right."""

    def print_json(self, document: Mapping[str, Any]) -> None:
        """Print one JSON document; attrs records in it become objects."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
        """A progress bar where a person looks on; the function given names each of `total` steps as it begins."""


class PluginContext(Protocol):
    """What the host gives to a plugin's constructor: its only door to the outside."""

    @property
    def name(self) -> str:
        """The plugin's name: that of its entry point."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plugin's own settings, read-only."""

    @property
    def log(self) -> logging.Logger:
        """A logger named ``weighbridge.plugins.<name>``; handlers added to it leave with the plugin."""

    @property
    def budget(self) -> BudgetView:
        """What it may still take, drawn at every access."""

    @property
    def capabilities(self) -> Capabilities:
        """What others provide. To provide something, implement ``weighbridge_capabilities``."""

    @property
    def buffers(self) -> Buffers:
        """Pooled buffers."""

    @property
    def store(self) -> Store:
        """A durable store, in a namespace of the plugin's own.

        :raises ServiceUnavailable: if the application gave its host no file for it.
        """

    @property
    def bus(self) -> Bus:
        """Messages to and from other plugins."""

    def cache(self, max_items: int, max_bytes: int, *, on_evict: Callable[[Any, Any], None] | None = None) -> Cache:
        """A new bounded cache."""

    def gate(self, limit: int, *, max_waiting: int | None = None, reserve: float = 0.0) -> Gate:
        """A new limit on how many may work at once.

        :param max_waiting: how many may wait; 1,000 if it is None.
        :param reserve: share of the places for high and critical priority alone, from 0 to below 1.
        """

    def secret(self, content: bytes) -> Secret:
        """Keep `content` in locked memory until it is released."""

    def journal(
        self, name: str = "journal", *, max_bytes: int | None = None, at_cap: Literal["reject", "block"] = "reject"
    ) -> Journal:
        """Open the plugin's journal of this name. It is there again at the next load.

        :param max_bytes: what it may take at most, on disk and in memory together; 1 GiB if it is None.
        :param at_cap: whether an append that finds no room raises, or waits until something was acknowledged.
        :raises ServiceUnavailable: if the application gave its host no file for the store, beside which journals are.
        :raises LeaseError: if it is open already.
        """

    def relieve(self, nbytes: int, *, level: PressureLevel = "elevated") -> int:
        """Have everybody else give memory back, until the process is `nbytes` bytes smaller; by how many it shrank.

        For whoever knows of pressure that the host does not see. Garbage is collected, idle buffers go, and every other
        plugin with ``weighbridge_release_memory`` is asked, the biggest first. It runs in the caller's thread; while
        another attempt is under way nothing is done.

        :raises ValueError: if `nbytes` is no whole number from 0 up, or `level` is none.
        """

    def every(self, seconds: float, call: Callable[[], object], *, name: str | None = None) -> Lease:
        """Call `call` every `seconds` (above 0) on the host's timer thread, until released.

        An exception is logged and counted, and the next call comes all the same.
        """

    def spawn(self, run: Callable[[StopToken], object], *, name: str | None = None) -> Lease:
        """Run `run` in a supervised thread. It has to return soon after its token is set.

        An exception is logged and counted. Releasing sets the token and joins the thread.
        """

    def track(self, obj: T) -> T:
        """Watch `obj` with a weak reference: if it outlives the plugin, the receipt names it. Gives `obj` back.

        :raises TypeError: if `obj` has no weak references (a list, a dict, an int).
        """

    def charge(self, nbytes: int, label: str) -> Lease:
        """Put `nbytes` of memory that Python cannot see on the account, until released.

        :raises ValueError: if `nbytes` is below 0.
        """


@runtime_checkable
class ScalableSubsystem(Protocol):
    """A part of a plugin that scales with load: what ``weighbridge_scalable`` returns."""

    @property
    def limits(self) -> ScalingLimits:
        """The bounds in force."""

    def metrics(self) -> ScalingMetrics:
        """What it is doing now."""

    def reconfigure(self, limits: ScalingLimits) -> None:
        """Take new bounds; what runs already goes on."""

    def backpressure(self) -> Backpressure:
        """Whether it takes more work now."""
