"""An instance reached by the public names of wasmtime-py alone: slower, for versions that the seam does not know."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import wasmtime

from .access import Run
from .failures import Exited, from_error, from_trap, lost
from .values import Signature, Value

_FORMATS: Final = {"i32": ("<i", "<I"), "i64": ("<q", "<Q"), "f32": ("<f", "<I"), "f64": ("<d", "<Q")}


class PublicAccess:
    """See :class:`~weighbridge_wasm.access.Access`. Vectors cannot be passed, for wasmtime-py has no value for them."""

    def __init__(self, store: wasmtime.Store) -> None:
        self.raised: BaseException | None = None
        self.is_spoiled = False
        self._store = store
        self._exports: Mapping[str, Any] = {}

    def instantiate(self, linked: wasmtime.InstancePre) -> None:
        """See :class:`~weighbridge_wasm.access.Access`."""
        try:
            instance = linked.instantiate(self._store)
        except Exception as error:
            failure = self._failure(error)
        else:
            self._exports = instance.exports(self._store)
            return
        try:
            raise failure
        finally:
            del failure  # it holds this frame, and the frame would hold it

    def function(self, signature: Signature) -> Run:
        """See :class:`~weighbridge_wasm.access.Access`.

        :raises TypeError: if a vector goes in or out.
        """
        refuse_vectors(signature)
        function, store, checked = self._exports[signature.name], self._store, signature.checked

        def run(arguments: Sequence[Value]) -> Any:
            values = checked(arguments)
            try:
                found = function(store, *values)
            except Exception as error:
                failure = self._failure(error)
            except BaseException:  # a signal's, such as KeyboardInterrupt, once the code has been left
                self.is_spoiled, self.raised = True, None
                raise
            else:
                return tuple(found) if isinstance(found, list) else found
            try:
                raise failure
            finally:
                del failure  # it holds this frame, and the frame would hold it

        return run

    def memory(self, export: str) -> PublicMemory:
        """See :class:`~weighbridge_wasm.access.Access`."""
        return PublicMemory(self._store, self._exports[export])

    def memory_of(self, caller: Any, export: str) -> PublicMemory:
        """See :class:`~weighbridge_wasm.access.Access`."""
        return PublicMemory(self._store, caller[export])

    def globals(self, exports: Sequence[tuple[str, str]]) -> PublicGlobals:
        """See :class:`~weighbridge_wasm.access.Access`."""
        return PublicGlobals(self._store, [(self._exports[name], kind) for name, kind in exports])

    def set_fuel(self, fuel: int) -> None:
        """See :class:`~weighbridge_wasm.access.Access`."""
        self._store.set_fuel(fuel)

    def fuel(self) -> int:
        """See :class:`~weighbridge_wasm.access.Access`."""
        return self._store.get_fuel()

    def set_deadline(self, ticks: int) -> None:
        """See :class:`~weighbridge_wasm.access.Access`."""
        self._store.set_epoch_deadline(ticks)

    def _failure(self, error: Exception) -> BaseException:
        """What ended the call. wasmtime-py may have put another call's exception into the place of our trap."""
        self.is_spoiled = True
        # frames of wasmtime-py hold the exception that holds them, and through our frames the instance
        error.__traceback__ = None
        raised, self.raised = self.raised, None
        if raised is not None:
            return raised
        if not isinstance(error, wasmtime.Trap | wasmtime.WasmtimeError):
            return self._recovered(error)
        if isinstance(error, wasmtime.ExitTrap):
            return Exited(error.code)
        if isinstance(error, wasmtime.Trap):
            code = error.trap_code
            return from_trap(None if code is None else code.value, error.message)
        return from_error(str(error))

    def _recovered(self, foreign: Exception) -> Exception:
        if isinstance(foreign.__context__, wasmtime.ExitTrap):
            return Exited(foreign.__context__.code)
        return from_trap(wasmtime.TrapCode.OUT_OF_FUEL.value, "") if self.fuel() == 0 else lost()


class PublicMemory:
    """See :class:`~weighbridge_wasm.access.MemoryAccess`."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store = store
        self._memory = memory

    def address(self) -> int:
        """See :class:`~weighbridge_wasm.access.MemoryAccess`."""
        return ctypes.addressof(self._memory.data_ptr(self._store).contents)

    def nbytes(self) -> int:
        """See :class:`~weighbridge_wasm.access.MemoryAccess`."""
        return self._memory.data_len(self._store)

    def grow(self, pages: int) -> bool:
        """See :class:`~weighbridge_wasm.access.MemoryAccess`."""
        try:
            self._memory.grow(self._store, pages)
        except wasmtime.WasmtimeError:
            return False
        return True


class PublicGlobals:
    """See :class:`~weighbridge_wasm.access.GlobalsAccess`."""

    def __init__(self, store: wasmtime.Store, found: Sequence[tuple[wasmtime.Global, str]]) -> None:
        self._store = store
        self._found = found

    def get(self) -> tuple[int, ...]:
        """See :class:`~weighbridge_wasm.access.GlobalsAccess`."""
        return tuple(_bits(kind, entry.value(self._store)) for entry, kind in self._found)

    def restore(self, before: tuple[int, ...]) -> None:
        """See :class:`~weighbridge_wasm.access.GlobalsAccess`."""
        for (entry, kind), wanted, held in zip(self._found, before, self.get(), strict=True):
            if wanted != held:
                entry.set_value(self._store, _value(kind, wanted))


def define(
    linker: wasmtime.Linker,
    names: tuple[str, str],
    kind: wasmtime.FuncType,
    signature: Signature,
    answer: Callable[[wasmtime.Caller, tuple[Any, ...]], list[Value]],
) -> None:
    """Give a linker a function of the host.

    :param answer: called with the caller and the arguments, gives the results; what it raises makes the module stop.
    :raises TypeError: if a vector goes in or out.
    """
    refuse_vectors(signature)

    def enter(caller: wasmtime.Caller, *arguments: Any) -> Any:
        values = answer(caller, arguments)
        return values if len(values) > 1 else values[0] if values else None

    linker.define_func(*names, kind, enter, access_caller=True)


def refuse_vectors(signature: Signature) -> None:
    """Refuse what wasmtime-py has no value for.

    :raises TypeError: if it is a vector.
    """
    if "v128" in (*signature.params, *signature.results):
        raise TypeError(f"{signature}: a v128 needs the private names of wasmtime-py, which this version lacks")


def _bits(kind: str, value: Any) -> int:
    ours, raw = _FORMATS[kind]
    bits: int = struct.unpack(raw, struct.pack(ours, value))[0]
    return bits


def _value(kind: str, bits: int) -> Any:
    ours, raw = _FORMATS[kind]
    return struct.unpack(ours, struct.pack(raw, bits))[0]
