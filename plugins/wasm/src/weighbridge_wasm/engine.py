"""The engine that all modules share: its configuration, compilation, and the clock that ends calls."""

from __future__ import annotations

import hashlib
import math
import platform
import threading
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

import wasmtime
from weighbridge_hookspecs import ConfigurationError, ContextClosed, InvalidModule, StopToken

from .access import ENDLESS_TICKS, Access
from .public import PublicAccess
from .seam import MISSING, WASMTIME_VERSION, PrivateAccess, Seam
from .turns import Turns

TICK_SECONDS: Final = 0.005
"""How often the engine's clock moves while calls with a deadline run; its thread wants the GIL each time."""

_MOST_SKIPPED_SECONDS: Final = 3600.0
_PARKED_SECONDS: Final = 0.2  # between two looks at the token while no call has a deadline


class Engine:
    """Compiles modules, and counts the ticks by which their calls are ended.

    Every store gets fuel and a deadline, for it would trap at its first instruction without. Both cost less than 2 %
    of a loop's speed.

    :param private: whether to use the private names of wasmtime-py, if they are all there; see
        :mod:`weighbridge_wasm.seam`.
    :param copy_on_write: whether a fresh memory is an image that is mapped and copied page by page as it is written to.
    :param exceptions: whether modules may use WebAssembly's exceptions.
    :param clock: seconds that only go forward.
    """

    def __init__(
        self,
        *,
        private: bool = True,
        copy_on_write: bool = True,
        exceptions: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        config.consume_fuel = True
        config.strategy = "cranelift"
        config.memory_init_cow = copy_on_write
        config.wasm_exceptions = exceptions
        self._native: wasmtime.Engine | None = wasmtime.Engine(config)
        self.seam: Final = Seam() if private and not MISSING else None
        """The private way into instances; None where the public one serves."""
        self.fingerprint: Final = (
            f"wasmtime {WASMTIME_VERSION} {platform.system()} {platform.machine()} cranelift epochs fuel"
            f" {'exceptions' if exceptions else 'no exceptions'} {'image' if copy_on_write else 'no image'}"
        )
        """Everything that compiled code depends on, beside the module."""
        self.ticker: Final = Ticker(self.native.increment_epoch, clock)
        self._modules: WeakValueDictionary[bytes, wasmtime.Module] = WeakValueDictionary()
        self._compiling: Final = Turns()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def native(self) -> wasmtime.Engine:
        """wasmtime's own engine.

        :raises ValueError: if this one is closed.
        """
        if self._native is None:
            raise ValueError("the engine is closed")
        return self._native

    def compile(self, wasm: bytes) -> wasmtime.Module:
        """Make machine code of a module. Who asks for the same one meanwhile waits, and gets the same.

        Other threads run while it compiles. The code lives as long as somebody holds the module.

        :raises InvalidModule: if it is no valid module, or uses what the engine does not have.
        """
        native = self.native
        key = hashlib.sha256(wasm).digest()
        with self._compiling.turn(key):
            module = self._modules.get(key)
            if module is None:
                module = self._modules[key] = _compiled(native, wasm)
            return module

    def serialize(self, module: wasmtime.Module) -> bytes:
        """The machine code of a module, to be kept."""
        return bytes(module.serialize())

    def deserialize(self, code: bytes) -> wasmtime.Module:
        """The module of what `serialize` gave. The bytes are run: they must come from nobody else.

        :raises InvalidModule: if another version or another configuration of the engine made them.
        """
        native = self.native
        try:
            return wasmtime.Module.deserialize(native, code)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule(f"compiled code cannot be used: {_one_line(error)}", step="compile") from None

    def deserialize_file(self, path: str) -> wasmtime.Module:
        """The same of a file, which is mapped and not read.

        :raises InvalidModule: as `deserialize` does.
        """
        native = self.native
        try:
            return wasmtime.Module.deserialize_file(native, path)
        except wasmtime.WasmtimeError as error:
            raise InvalidModule(f"compiled code cannot be used: {_one_line(error)}", step="compile") from None

    def code_bytes(self, module: wasmtime.Module) -> int | None:
        """What the machine code of a module takes, with its data; None where only the public way is left."""
        return None if self.seam is None else self.seam.code_bytes(module)

    def access(self, store: wasmtime.Store) -> Access:
        """The way into one store of this engine."""
        return PublicAccess(store) if self.seam is None else PrivateAccess(self.seam, store)

    def run_ticker(self, stop: StopToken) -> None:
        """Move the engine's clock until the token is set: run it in a thread of its own, or no deadline ever comes."""
        self.ticker.run(stop)

    def deadline_ticks(self, seconds: float) -> int:
        """A deadline as ticks from now; see :meth:`Ticker.ticks_until`."""
        return self.ticker.ticks_until(seconds)

    def close(self) -> None:
        """Give the engine back, and with the last program its code. Twice is once.

        It goes once nobody compiles with it any more.
        """
        self.ticker.close()
        self._native = None


class Ticker:
    """Moves the engine's epoch by elapsed time, and stands still while no call has a deadline.

    Tick ``n`` happens `TICK_SECONDS` x n after the origin or later, never before, however late its thread runs; then
    those that are due happen at once. So a deadline is the number of the first tick after it, and no call ends early.

    Whoever runs is in a set, for to add to a set is one step, and a counter would need a lock.
    """

    def __init__(self, tick: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock: Final = clock
        self.nticks = 0
        """Ticks since the beginning."""
        self._tick: Callable[[], None] | None = tick
        self._running: set[object] = set()
        self._origin = clock()
        self._is_moving = False
        self._was_used = False
        """Since the last tick: short calls, one after the other, must not wake the clock each."""
        self._wake = threading.Event()
        self._lock = threading.RLock()  # the collector may run a finalizer that calls a module

    def enter(self, call: object) -> None:
        """A call with a deadline begins."""
        self._running.add(call)
        self._was_used = True
        if not self._is_moving:
            self._resume()

    def leave(self, call: object) -> None:
        """It has ended."""
        self._running.discard(call)

    def ticks_until(self, seconds: float) -> int:
        """Ticks from now on until `seconds` have passed for sure, at least 1.

        :raises ConfigurationError: if it is no time above 0.
        :raises ContextClosed: once it is closed: the time would never come.
        """
        if self._tick is None:
            raise ContextClosed("the engine is closed, and nothing would end the call at its deadline")
        if not self._is_moving:
            self._resume()
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"a deadline is a number of seconds above 0, had {seconds}")
        due = math.ceil((self.clock() - self._origin + seconds) / TICK_SECONDS)
        return min(max(1, due - self.nticks), ENDLESS_TICKS)

    def run(self, stop: StopToken) -> None:
        """Move the clock until the token is set, or the engine is closed."""
        while not stop.is_set() and self._tick is not None:
            if not self._running and not self._was_used and self._park(stop):
                continue
            self._was_used = False
            next_tick = self._origin + (self.nticks + 1) * TICK_SECONDS
            stop.wait(max(0.0, next_tick - self.clock()))
            self.catch_up()

    def catch_up(self) -> None:
        """Let the ticks happen that are due."""
        with self._lock:
            due = int((self.clock() - self._origin) / TICK_SECONDS)
            while self.nticks < due and self._tick is not None:
                self._tick()
                self.nticks += 1

    def skip(self, seconds: float) -> None:
        """Let so much time pass at once: calls whose deadline is in it are ended now.

        :param seconds: at most an hour is skipped, which is a fraction of a second of work.
        """
        with self._lock:
            for _ in range(math.ceil(min(seconds, _MOST_SKIPPED_SECONDS) / TICK_SECONDS)):
                if self._tick is None:
                    return
                self._tick()
                self._origin -= TICK_SECONDS
                self.nticks += 1

    def close(self) -> None:
        """End `run`."""
        with self._lock:
            self._tick = None
        self._wake.set()

    def _park(self, stop: StopToken) -> bool:
        """Stand still until a call comes, for a while; whether it did stand still."""
        self._wake.clear()
        self._is_moving = False
        if self._running:  # it came between the two looks, and may have seen the clock move
            self._resume()
            return False
        while not self._wake.wait(_PARKED_SECONDS):
            if stop.is_set():
                break
        return True

    def _resume(self) -> None:
        with self._lock:
            if self._is_moving:
                return
            # the time that the clock stood still does not count
            self._origin = self.clock() - self.nticks * TICK_SECONDS
            self._is_moving = True
        self._wake.set()


def _compiled(native: wasmtime.Engine, wasm: bytes) -> wasmtime.Module:
    try:
        return wasmtime.Module(native, wasm)
    except wasmtime.WasmtimeError as error:
        raise InvalidModule(f"the module cannot be compiled: {_one_line(error)}", step="compile") from None


def _one_line(error: wasmtime.WasmtimeError) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip() and line.strip() != "Caused by:")
