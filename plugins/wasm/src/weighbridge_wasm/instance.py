"""One instance of a program in a store of its own: calls, its memory, its globals, and the way back to pristine."""

from __future__ import annotations

import ctypes
import difflib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import wasmtime
from weighbridge_hookspecs import DeadlineExceeded, UnknownFunction

from .access import ENDLESS_FUEL, ENDLESS_TICKS, MemoryAccess, Run
from .binary import ModuleFacts
from .config import PAGE_BYTES
from .engine import TICK_SECONDS, Engine
from .failures import Exited
from .functions import Current, HostFunctions, Place
from .reset import Baseline, Resetter
from .signals import defer, ensure_room
from .values import Signature, Value

__all__ = ["Exited", "Instance", "Limits", "Linked", "Pristine"]

IDLE_BYTES: Final = 6 * 1024
"""What an instance takes beside the pages that it wrote to: measured over 20,000 idle ones."""

_REACTOR_START: Final = "_initialize"


@attrs.frozen(kw_only=True)
class Limits:
    """What one instance may grow to."""

    max_pages: int
    """Pages of 65,536 bytes, of all of its memories."""
    max_table_elements: int
    """Of each of its tables."""

    def memory_bytes(self, nmemories: int) -> int:
        """What each of so many memories may have: the engine knows one limit for all, so they share in equal parts."""
        return self.max_pages // max(1, nmemories) * PAGE_BYTES


@attrs.frozen
class Pristine:
    """What an instance holds before anything was called in it."""

    memories: tuple[Baseline, ...]
    globals: tuple[int, ...]


@attrs.define(eq=False)
class Linked:
    """What all instances of a program share. It lives as long as one of them."""

    engine: Engine
    module: wasmtime.InstancePre
    facts: ModuleFacts
    host: HostFunctions
    resetter: Resetter | None
    """None: instances are never reset in place."""
    meter: Resetter | None
    """Tells which pages were written to, also where nothing is reset."""
    configure_store: Callable[[wasmtime.Store], object] | None
    """Gives a store what it may see of the system, before each use; None where the module asks for nothing."""
    signatures: dict[str, Signature] = attrs.field(factory=dict)
    pristine: Pristine | None = None
    has_asked: bool = False
    """Whether the start of the first instance has called the host: what it was told is for that instance alone."""
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def signature(self, function: str) -> Signature:
        """The type of an exported function.

        :raises UnknownFunction: if there is none of that name; the advice names the nearest one.
        """
        found = self.signatures.get(function)
        if found is None:
            kind = self.facts.function_exports.get(function)
            if kind is None:
                raise _unknown(function, tuple(self.facts.function_exports))
            found = self.signatures[function] = Signature(function, kind.params, kind.results)
        return found


class Instance:
    """One instance. One thread at a time may use it; a second one is refused, for the engine would end the process.

    Close it, or use it in a ``with``. Its memory is unmapped at once.

    :raises WorkError: if the start function, or ``_initialize`` of a WASI reactor, does not come to its end.
    """

    __slots__ = (
        "__weakref__",
        "_access",
        "_acquire",
        "_current",
        "_deadline_at",
        "_due_tick",
        "_globals",
        "_is_ready",
        "_is_timed",
        "_linked",
        "_lock",
        "_memories",
        "_release",
        "_runs",
        "_store",
        "_ticker",
        "_was_fuelled",
        "has_asked",
        "is_starting",
        "limits",
    )

    def __init__(
        self, linked: Linked, limits: Limits, *, deadline_seconds: float | None = None, fuel: int | None = None
    ) -> None:
        self._linked = linked
        self._store = wasmtime.Store(linked.engine.native)
        self._access = linked.engine.access(self._store)
        self._ticker = linked.engine.ticker
        self._current = linked.host.current if len(linked.host) else None
        self._lock = threading.Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._runs: dict[str, Run] = {}
        self._memories: tuple[MemoryAccess, ...] | None = None
        self._is_ready = self.has_asked = False
        self.is_starting = True
        # both are set before the first call: a store begins with no fuel, and past its deadline
        self._is_timed = self._was_fuelled = True
        self._deadline_at: float | None = None
        self._due_tick = 0
        self.set_limits(limits)
        if linked.configure_store is not None:
            linked.configure_store(self._store)
        try:
            self._within(self._start, (), None, deadline_seconds, fuel)
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(
        self,
        function: str,
        arguments: Sequence[Value] = (),
        *,
        deadline_seconds: float | None = None,
        deadline_ticks: int | None = None,
        fuel: int | None = None,
    ) -> Any:
        """Call an exported function.

        :param arguments: int for i32 and i64, signed or unsigned; int or float for f32 and f64; 16 bytes for v128.
        :param deadline_seconds: stop it after this time. Nothing is stopped while nobody runs the engine's ticker.
        :param deadline_ticks: the same in ticks of the engine from now; before `deadline_seconds`.
        :param fuel: stop it after so many units, about one for each instruction.
        :returns: None, one value (integers signed), or a tuple of them.
        :raises UnknownFunction: if it is not exported.
        :raises TypeError, ValueError: if the arguments are not what it takes.
        :raises Trapped, OutOfFuel, DeadlineExceeded: if it does not come to its end. The instance is spoiled then.
        :raises Exited: if a WASI program ended itself.
        :raises BaseException: whatever a host function raised in this call.
        """
        if not self._acquire(False):
            raise RuntimeError("the instance is in use: one thread at a time, and a host function has its caller")
        try:
            run = self._runs.get(function) or self._prepare(function)
            return self._within(run, arguments, deadline_ticks, deadline_seconds, fuel)
        finally:
            self._release()

    def call_within(self, function: str, arguments: Sequence[Value]) -> Any:
        """Call an exported function while another one runs, from a host function, under the limits of the outer one."""
        ensure_room()
        return (self._runs.get(function) or self._prepare(function))(arguments)

    def keep(self, error: BaseException) -> None:
        """Have the call that runs raise this, once the engine has left the module's code."""
        self._access.raised = error

    def remaining_seconds(self) -> float | None:
        """What the call that runs has left, 0 if nothing; None where it has no deadline."""
        if self._deadline_at is None:
            return None
        ticks = self._due_tick - self._ticker.nticks  # fewer than the clock says once ticks were skipped
        return max(0.0, min(self._deadline_at - self._ticker.clock(), ticks * TICK_SECONDS))

    def _prepare(self, function: str) -> Run:
        self._living()
        if not self._is_ready:
            raise RuntimeError(f"{function}: nothing can be called while the start function runs")
        signature = self._linked.signature(function)
        if not signature.is_callable:
            raise TypeError(f"{signature}: a reference cannot be passed between Python and a module")
        run = self._runs[function] = self._access.function(signature)
        return run

    def _within(
        self,
        run: Run,
        arguments: Sequence[Value],
        ticks: int | None,
        seconds: float | None,
        fuel: int | None,
    ) -> Any:
        # what an earlier call left is put right here and not after it: most calls are like the one before
        if fuel is not None or self._was_fuelled:
            self._refuel(fuel)
        current = self._current
        if ticks is not None and seconds is None:
            seconds = ticks * TICK_SECONDS
        if seconds is None:
            if self._is_timed:
                self._untime()
            if current is None:
                return run(arguments)
        else:
            self._ticker.enter(self)
        outer, is_inside = None, False
        try:
            if current is not None:
                outer = self._enter(current)
                is_inside = True
            if seconds is not None:
                self._time(ticks, seconds)
            return run(arguments)
        except DeadlineExceeded as error:
            if error.deadline_seconds is None:
                error.deadline_seconds = seconds
            raise
        finally:
            self._ticker.leave(self)
            if current is not None and is_inside:
                self._leave(current, outer)

    def _enter(self, current: Current) -> Place | None:
        """Say to the host functions of this thread whose call runs; gives whose did before."""
        ensure_room()
        outer = current.place
        if outer is None:
            current.deferral = defer()
        current.place = self
        return outer

    def _leave(self, current: Current, outer: Place | None) -> None:
        current.place = outer
        if outer is None and current.deferral is not None:
            deferral, current.deferral = current.deferral, None
            deferral.end()

    def _refuel(self, fuel: int | None) -> None:
        if fuel is not None and not 0 <= fuel <= ENDLESS_FUEL:
            raise ValueError(f"fuel is a whole number from 0 to {ENDLESS_FUEL}, had {fuel}")
        self._access.set_fuel(ENDLESS_FUEL if fuel is None else fuel)
        self._was_fuelled = fuel is not None

    def _untime(self) -> None:
        self._access.set_deadline(ENDLESS_TICKS)
        self._is_timed, self._deadline_at = False, None

    def _time(self, ticks: int | None, seconds: float) -> None:
        if ticks is None:
            ticks = self._ticker.ticks_until(seconds)
        elif not 0 <= ticks <= ENDLESS_TICKS:
            raise ValueError(f"a deadline is a number of ticks from 0 to {ENDLESS_TICKS}, had {ticks}")
        if self._current is not None:  # nobody else can ask
            self._due_tick = self._ticker.nticks + ticks
            self._deadline_at = self._ticker.clock() + seconds
        self._is_timed = True
        self._access.set_deadline(ticks)

    def _start(self, _: Sequence[Value]) -> None:
        self._access.instantiate(self._linked.module)
        self._is_ready = True
        self._look_up()
        if initializes(self._linked.facts):
            self._prepare(_REACTOR_START)(())
        self.is_starting = False
        if self._linked.pristine is None and not self._linked.has_asked:
            if self.has_asked:
                self._linked.has_asked = True
            elif self._linked.resetter is not None:
                self._capture(self._linked.resetter)

    # -- memory and globals --------------------------------------------------------------------------------------------

    @property
    def memory_bytes(self) -> int:
        """Size of the first memory in bytes; 0 if there is none."""
        memories = self._living()
        return memories[0].nbytes() if memories else 0

    @property
    def memory_address(self) -> int:
        """Where the first memory begins in this process, for :mod:`weighbridge_wasm.reset`; 0 if there is none."""
        memories = self._living()
        return memories[0].address() if memories else 0

    def read(self, address: int, nbytes: int) -> bytes:
        """A copy of `nbytes` bytes of the first memory.

        :raises IndexError: if they are not all inside of it.
        """
        return ctypes.string_at(self._place(address, nbytes), nbytes) if nbytes else self._nothing(address)

    def write(self, address: int, content: bytes | bytearray | memoryview) -> None:
        """Put bytes into the first memory.

        :raises IndexError: if they do not all fit into it.
        """
        data = content if isinstance(content, bytes) else bytes(content)
        if not data:
            self._nothing(address)
            return
        ctypes.memmove(self._place(address, len(data)), data, len(data))

    def grow(self, pages: int) -> bool:
        """Add pages of 64 KiB to the first memory; false if a limit forbids it. It is never reset in place then."""
        memories = self._living()
        return bool(memories) and pages >= 0 and memories[0].grow(pages)

    def globals(self) -> tuple[int, ...]:
        """The bits of every mutable global that is a number, in the module's order, unsigned."""
        self._living()
        return self._globals.get()

    def set_globals(self, bits: Sequence[int]) -> None:
        """Set every mutable global that is a number, as `globals` gave them.

        :raises ValueError: if there are more or fewer.
        """
        self._living()
        self._globals.restore(tuple(bits))

    def starting(self, caller: Any) -> None:
        """Look the memory up by what the engine calls with: during the start function nothing else knows it."""
        if self._memories is None:
            facts = self._linked.facts
            self._memories = tuple(self._access.memory_of(caller, each.export) for each in facts.memories)

    def _look_up(self) -> None:
        facts = self._linked.facts
        self._memories = tuple(self._access.memory(each.export) for each in facts.memories)
        self._globals = self._access.globals(
            [(each.export, each.type) for each in facts.globals if each.is_mutable and each.export and _is_number(each)]
        )

    def _place(self, address: int, nbytes: int) -> int:
        memories = self._living()
        size = memories[0].nbytes() if memories else 0
        if address < 0 or nbytes < 0 or address + nbytes > size:
            raise IndexError(f"{nbytes} bytes at {address} are not inside of a memory of {size} bytes")
        return memories[0].address() + address

    def _nothing(self, address: int) -> bytes:
        if not 0 <= address <= self.memory_bytes:
            raise IndexError(f"{address} is not inside of a memory of {self.memory_bytes} bytes")
        return b""

    def _living(self) -> tuple[MemoryAccess, ...]:
        if self._memories is None:
            raise ValueError("the instance is closed")
        return self._memories

    # -- limits, reset, end --------------------------------------------------------------------------------------------

    def set_limits(self, limits: Limits) -> None:
        """Set what it may grow to from now on. What is larger already stays as it is."""
        self.limits = limits
        facts = self._linked.facts
        # all of them at once, for each call replaces those of the one before
        self._store.set_limits(
            memory_size=limits.memory_bytes(len(facts.memories)),
            table_elements=limits.max_table_elements,
            instances=1,
            tables=len(facts.tables),
            memories=len(facts.memories),
        )

    @property
    def is_spoiled(self) -> bool:
        """Whether a call did not come to its end, so that nobody knows what it left half done."""
        return self._access.is_spoiled

    def reset(self, *, even_spoiled: bool = False) -> bool:
        """Make it pristine: memory, globals, and what it may see of the system. False if it cannot be: close it then.

        Tables need no reset: a module that can change one is never reset in place (:attr:`.ModuleFacts.obstacles`).

        :param even_spoiled: whether to try it after a call that did not come to its end.
        """
        if not self._acquire(False):
            raise RuntimeError("the instance is in use")
        try:
            return self._reset(even_spoiled)
        finally:
            self._release()

    def _reset(self, even_spoiled: bool) -> bool:
        linked = self._linked
        resetter, pristine = linked.resetter, linked.pristine
        if resetter is None or pristine is None or (self._access.is_spoiled and not even_spoiled):
            return False
        memories = self._living()
        for memory, baseline in zip(memories, pristine.memories, strict=True):
            nbytes = memory.nbytes()
            if nbytes != baseline.nbytes:  # it cannot shrink (https://github.com/bytecodealliance/wasmtime/issues/9572)
                return False
            try:
                resetter.reset(memory.address(), nbytes, baseline)
            except OSError:  # the kernel refused, and nobody knows how far it came
                self._access.is_spoiled = True
                return False
        if pristine.globals:
            self._globals.restore(pristine.globals)
        if linked.configure_store is not None:
            linked.configure_store(self._store)
        self._access.is_spoiled, self._access.raised = False, None
        return True

    def resident_bytes(self) -> int:
        """What it takes of memory: the pages that it wrote to; where the kernel does not tell them, all its pages."""
        meter = self._linked.meter
        total = IDLE_BYTES
        for memory in self._living():
            nbytes = memory.nbytes()
            runs = None if meter is None else meter.dirty_runs(memory.address(), nbytes)
            total += nbytes if runs is None else sum(stop - start for start, stop in runs)
        return total

    def close(self) -> None:
        """Give it back: its memory is unmapped now. Twice is once.

        :raises RuntimeError: if a call runs in it.
        """
        if not self._acquire(False):
            raise RuntimeError("the instance is in use, and cannot be closed under a call")
        try:
            self._runs.clear()
            self._memories = None
            self._store.close()
        finally:
            self._release()

    def _capture(self, resetter: Resetter) -> None:
        """What the first instance holds now is what all of them are reset to."""
        facts = self._linked.facts
        with self._linked.lock:
            if self._linked.pristine is None:
                self._linked.pristine = Pristine(
                    tuple(
                        resetter.capture(
                            memory.address(),
                            memory.nbytes(),
                            [each for each in facts.segments if each.memory == index and not each.is_passive],
                        )
                        for index, memory in enumerate(self._living())
                    ),
                    self._globals.get(),
                )


def initializes(facts: ModuleFacts) -> bool:
    """Whether it is a WASI reactor, of which ``_initialize`` is called before an instance is used."""
    kind = facts.function_exports.get(_REACTOR_START)
    return kind is not None and not kind.params and not kind.results


def runs_at_start(facts: ModuleFacts) -> bool:
    """Whether code of the module runs before anything is called in an instance."""
    return facts.has_start or initializes(facts)


def _is_number(entry: Any) -> bool:
    return entry.type in ("i32", "i64", "f32", "f64")


def _unknown(function: str, names: Sequence[str]) -> UnknownFunction:
    near = difflib.get_close_matches(function, names, 1)
    advice = f"Did you mean {near[0]!r}" if near else f"It exports {', '.join(sorted(names)[:10]) or 'no function'}"
    return UnknownFunction(f"the module exports no function {function!r}", step="call", advice=advice)
