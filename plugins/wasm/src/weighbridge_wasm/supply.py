"""Where a use gets its instance: from the warm pool, or the one that keeps its module's state."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Final, Protocol

from weighbridge_hookspecs import ContextClosed, Gate, Saturated, StateRefused, UnknownModule

from .instance import Instance, runs_at_start
from .module import Module
from .pool import WarmPool
from .reset import Resetter
from .state import GlobalValue, Kept, Snapshot, StateSlots, capture, memory_at

_MEASURE_SECONDS: Final = 1.0


class Supply(Protocol):
    """Lends one instance at a time to each use."""

    @property
    def door(self) -> Gate | None:
        """What a use has to enter first, where instances are not for everybody at once."""

    def lend(self, deadline_seconds: float | None = None, fuel: int | None = None) -> Instance:
        """An instance for one use; it ends with `take_back`.

        :param deadline_seconds: what the start of a fresh one may take; by default what a call may.
        :param fuel: what that may use; likewise.
        :raises UnknownModule: if the module was let go of.
        """

    def take_back(self, instance: Instance) -> None:
        """The use has ended, whichever way."""

    def resize(self) -> None:
        """The module's configuration has changed."""

    def settle(self, wait_seconds: float) -> None:
        """Keep what is to be kept; `release` follows.

        :raises WeighbridgeError: if that cannot be; then all is as it was.
        """

    def release(self) -> None:
        """Let go of everything."""


class WarmSupply:
    """Pristine instances: the next use sees nothing of the last one."""

    door: Final = None

    def __init__(self, module: Module, pool: WarmPool[Instance]) -> None:
        self._module: Final = module
        self._pool: Final = pool
        self.resize()

    def lend(self, deadline_seconds: float | None = None, fuel: int | None = None) -> Instance:
        """A warm one, or a fresh one."""
        instance = self._pool.acquire(self._module.key)
        if instance is None:
            return self._pool.adopt(self._module.key, self._module.make(deadline_seconds, fuel))
        try:
            return self._module.fitted(instance)
        except BaseException:  # Ctrl-C: nobody else would ever give it back
            self._pool.drop(instance)
            raise

    def take_back(self, instance: Instance) -> None:
        """Reset it and keep it, or close it where that would not be sound."""
        if instance.is_spoiled:
            self._pool.drop(instance, "spoiled")
        elif self._module.obstacles or self._module.is_gone:
            self._pool.drop(instance)
        else:
            self._pool.release(instance)
        if self._module.is_gone:  # it was made meanwhile, and is the first of a shelf that nobody else discards
            self.release()

    def resize(self) -> None:
        """Keep as many as the configuration says now: none of those that serve once."""
        module = self._module
        self._pool.resize_module(module.key, 0 if module.obstacles else module.config.max_idle)

    def settle(self, wait_seconds: float) -> None:
        """There is nothing to keep."""

    def release(self) -> None:
        """Close them; those in use when they come back."""
        self._pool.discard(self._module.key)


class StateSupply:
    """The one instance of a module that keeps its state, and what is kept of it in the store.

    Who has entered the door has it alone. If it traps or is interrupted it is closed, and the next use finds what was
    suspended last.

    Nobody else may touch it meanwhile, not even to measure it: it may be closed at any moment, and its memory with it.
    """

    def __init__(self, module: Module, slots: StateSlots, door: Gate, resetter: Resetter, log: logging.Logger) -> None:
        self.door: Final = door
        self._module: Final = module
        self._slots: Final = slots
        self._resetter: Final = resetter
        self._log: Final = log
        self._instance: Instance | None = None
        self._resident_bytes = 0
        self._measured_at = float("-inf")
        self._lock: Final = threading.RLock()  # the collector may run a finalizer that uses it
        self._is_busy = False
        self.is_lent = False
        """Whether a use has it."""
        self.kept: Kept | None = slots.describe(module.module_id)
        """What is in the store of it."""

    @property
    def is_live(self) -> bool:
        """Whether there is an instance now."""
        return self._instance is not None

    def lend(self, deadline_seconds: float | None = None, fuel: int | None = None) -> Instance:
        """The instance, with what it knew when it was last used. Enter the door before."""
        self._begin()
        try:
            if self._instance is None:
                self._instance = self._resumed(deadline_seconds, fuel)
            instance = self._module.fitted(self._instance)
        except BaseException:
            self._end()
            raise
        self.is_lent = True
        return instance

    def take_back(self, instance: Instance) -> None:
        """It stays as it is."""
        self.is_lent = False
        try:
            if instance.is_spoiled:
                self._drop()
            elif time.monotonic() - self._measured_at >= _MEASURE_SECONDS:
                self._measure()
        finally:
            self._end()

    def resident_bytes(self) -> int:
        """What the instance occupies, 0 if there is none; while it is in use, as last measured."""
        if self._instance is not None:
            with suppress(Saturated, ContextClosed, UnknownModule), self.door.enter(timeout_seconds=0):
                self._begin()
                try:
                    self._measure()
                finally:
                    self._end()
        return self._resident_bytes

    def wake(self) -> None:
        """Have an instance, with what it knew when it was last used. Enter the door before."""
        self.take_back(self.lend())

    def suspend(self) -> int:
        """Write the state to the store and close the instance; the bytes that it occupied. Enter the door before.

        :raises StorageFailed, StorageDamaged, StateRefused, CeilingExceeded: as :meth:`StateSlots.save` does. The
            instance goes on then.
        """
        self._begin()
        try:
            instance = self._instance
            if instance is None:
                return 0
            nbytes = self._measure()
            self.kept = self._slots.save(self._module.module_id, self._snapshot(instance))
            self._drop()
            return nbytes
        finally:
            self._end()

    def suspend_if_idle(self) -> int:
        """The same if nobody uses it; what goes wrong is logged."""
        with suppress(Saturated, ContextClosed), self.door.enter(timeout_seconds=0):
            try:
                return self.suspend()
            except Exception as error:
                self._log.error("the state of the module %r could not be suspended: %s", self._module.module_id, error)
        return 0

    def resize(self) -> None:
        """There is one instance, whatever the configuration says; it has its limits from its next use on."""

    def settle(self, wait_seconds: float) -> None:
        """Suspend the state, and let nobody begin after that: what the next one left would be lost.

        :raises Saturated: if the instance was in use all the time.
        :raises StorageFailed, StorageDamaged, StateRefused, CeilingExceeded: as `suspend` does.
        """
        with self.door.enter(priority="high", timeout_seconds=wait_seconds):
            self.suspend()
            self._module.is_gone = True

    def release(self) -> None:
        """Close the door and the instance, which is closed later if somebody has it. What is in the store stays."""
        with self._lock:
            self._module.is_gone = True
            is_free = not self._is_busy
        self.door.release()
        if is_free:
            self._drop()

    def _begin(self) -> None:
        with self._lock:
            self._module.check()
            self._is_busy = True

    def _end(self) -> None:
        with self._lock:
            self._is_busy = False
            is_last = self._module.is_gone
        if is_last:
            self._drop()

    def _measure(self) -> int:
        instance = self._instance
        self._resident_bytes = 0 if instance is None else instance.resident_bytes()
        self._measured_at = time.monotonic()
        return self._resident_bytes

    def _drop(self) -> None:
        instance, self._instance, self._resident_bytes = self._instance, None, 0
        if instance is not None:
            instance.close()

    def _resumed(self, deadline_seconds: float | None, fuel: int | None) -> Instance:
        """A fresh instance, and what was kept of the last one put into it."""
        snapshot = self._slots.load(self._module.module_id, self._module.sha256)
        instance = self._module.make(deadline_seconds, fuel)
        try:
            if snapshot is not None:
                self._restore(instance, snapshot)
        except BaseException:
            instance.close()
            raise
        return instance

    def _restore(self, instance: Instance, snapshot: Snapshot) -> None:
        missing = snapshot.memory_bytes - instance.memory_bytes
        if missing > 0 and not instance.grow(missing // (snapshot.memory_bytes // snapshot.pages)):
            raise StateRefused(
                f"the state of the module {self._module.module_id!r} does not fit",
                step="resume",
                wanted=f"{snapshot.pages} pages",
                had=f"max_pages = {self._module.config.max_pages}",
                advice="Allow it more pages",
            )
        snapshot.restore(instance.write)
        instance.set_globals([one.bits for one in snapshot.globals])

    def _snapshot(self, instance: Instance) -> Snapshot:
        """Views of its memory, good until it is used again."""
        facts, nbytes = self._module.program.facts, instance.memory_bytes
        initial = None
        if facts.describes_memory and not runs_at_start(facts):
            segments = (one for one in facts.segments if one.offset is not None)
            initial = [(one.offset, one.offset + len(one.content)) for one in segments if one.offset is not None]
        address = instance.memory_address
        dirty = self._resetter.dirty_runs(address, nbytes) if nbytes else []
        kinds = [one.type for one in facts.globals if one.is_mutable]
        return Snapshot(
            module_sha256=self._module.sha256,
            pages=nbytes // facts.memories[0].page_bytes if nbytes else 0,
            runs=capture(memory_at(address, nbytes), dirty, initial=initial) if nbytes else (),
            globals=tuple(map(GlobalValue, kinds, instance.globals())),
        )
