"""Every private name of wasmtime-py that is used here, and the fast way into an instance that they make.

wasmtime-py's own call looks the function's type up, converts every value into objects and back, and shares one
variable for exceptions between all threads (https://github.com/bytecodealliance/wasmtime-py/issues/96, and 254). Its
library has calls that do none of this; they are in the C API, but the package keeps their names to itself. So each of
them is looked for before the first use, together with the sizes of what is passed in memory. `MISSING` says what is
not there, and then :mod:`weighbridge_wasm.public` serves.

Short calls keep the GIL, for to let it go and fetch it again takes longer than they do. What runs a module's code lets
it go.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from importlib import metadata
from struct import Struct
from typing import Any, Final, TypeAlias

import wasmtime

from .access import Run
from .failures import Exited, from_error, from_trap
from .values import RAW_BYTES, Signature, Value

WANTED: Final = ((50,), (51,))
"""The first version that was examined, and the first that was not."""

_POINTER: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_U64: Final = ctypes.c_uint64

# What each takes and gives: crates/c-api/include/wasmtime/{error,func,global,instance,linker,memory,store,trap}.h
_LONG_CALLS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "wasmtime_func_call_unchecked": (_POINTER, [_POINTER, _POINTER, _POINTER, _SIZE, _POINTER]),
    "wasmtime_instance_pre_instantiate": (_POINTER, [_POINTER, _POINTER, _POINTER, _POINTER]),
    "wasmtime_memory_grow": (_POINTER, [_POINTER, _POINTER, _U64, _POINTER]),
}
_SHORT_CALLS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "wasm_byte_vec_delete": (None, [_POINTER]),
    "wasmtime_caller_export_get": (ctypes.c_bool, [_POINTER, ctypes.c_char_p, _SIZE, _POINTER]),
    "wasm_trap_delete": (None, [_POINTER]),
    "wasm_trap_message": (None, [_POINTER, _POINTER]),
    "wasmtime_context_get_fuel": (_POINTER, [_POINTER, _POINTER]),
    "wasmtime_context_set_epoch_deadline": (None, [_POINTER, _U64]),
    "wasmtime_context_set_fuel": (_POINTER, [_POINTER, _U64]),
    "wasmtime_error_delete": (None, [_POINTER]),
    "wasmtime_error_exit_status": (ctypes.c_bool, [_POINTER, _POINTER]),
    "wasmtime_error_message": (None, [_POINTER, _POINTER]),
    "wasmtime_global_get": (None, [_POINTER, _POINTER, _POINTER]),
    "wasmtime_global_set": (_POINTER, [_POINTER, _POINTER, _POINTER]),
    "wasmtime_instance_export_get": (ctypes.c_bool, [_POINTER, _POINTER, ctypes.c_char_p, _SIZE, _POINTER]),
    "wasmtime_linker_define_func_unchecked": (
        _POINTER,
        [_POINTER, ctypes.c_char_p, _SIZE, ctypes.c_char_p, _SIZE, _POINTER, _POINTER, _POINTER, _POINTER],
    ),
    "wasmtime_memory_data": (_POINTER, [_POINTER, _POINTER]),
    "wasmtime_memory_data_size": (_SIZE, [_POINTER, _POINTER]),
    "wasmtime_module_image_range": (None, [_POINTER, _POINTER, _POINTER]),
    "wasmtime_trap_code": (ctypes.c_bool, [_POINTER, _POINTER]),
    "wasmtime_trap_new": (_POINTER, [ctypes.c_char_p, _SIZE]),
}
_SIZES: Final = {
    "wasm_byte_vec_t": 16,
    "wasmtime_extern_t": 32,
    "wasmtime_func_t": 16,
    "wasmtime_global_t": 24,
    "wasmtime_instance_t": 16,
    "wasmtime_memory_t": 24,
    "wasmtime_val_raw_t": RAW_BYTES,
    "wasmtime_val_t": 32,
}
_METHODS: Final = {"FuncType": "ptr", "InstancePre": "ptr", "Linker": "ptr", "Module": "ptr", "Store": "_context"}
# The kind at the beginning and the thing itself after 8 bytes, in wasmtime_extern_t and in wasmtime_val_t.
_OF: Final = 8
_BITS: Final = {"i32": "8xI20x", "f32": "8xI20x", "i64": "8xQ16x", "f64": "8xQ16x", "v128": "8x16s8x"}
_VALUE_BYTES: Final = _SIZES["wasmtime_val_t"]

Trampoline: TypeAlias = Any
"""A function that C may call: ``size_t (void *env, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t)``."""
_TRAMPOLINE: Final = ctypes.CFUNCTYPE(_SIZE, _POINTER, _POINTER, _POINTER, _SIZE)


def find_missing(package: Any, version: str) -> tuple[str, ...]:
    """What `package` lacks of what the fast way needs, in words; nothing where it can be gone.

    :param package: the module ``wasmtime``.
    :param version: its version.
    """
    missing = []
    if not WANTED[0] <= _numbers(version) < WANTED[1]:
        missing.append(f"version {WANTED[0][0]} of wasmtime, had {version}")
    library = _library_of(package)
    if library is None:
        return (*missing, "wasmtime._ffi.dll")
    names = (name for name in (*_LONG_CALLS, *_SHORT_CALLS) if not _has(library, name))
    missing.extend(f"{name} in the library" for name in names)
    missing.extend(_wrong_sizes(package))
    missing.extend(
        f"wasmtime.{owner}.{method}" for owner, method in _METHODS.items()
        if not callable(getattr(getattr(package, owner, None), method, None))
    )  # fmt: skip
    return tuple(missing)


def _wrong_sizes(package: Any) -> list[str]:
    wrong = []
    for name, wanted in _SIZES.items():
        kind = getattr(package._ffi, name, None)
        had = None if kind is None else ctypes.sizeof(kind)
        if had != wanted:
            wrong.append(f"{name} of {wanted} bytes, had {had}")
    for name in ("wasmtime_extern_t", "wasmtime_val_t"):
        if getattr(getattr(getattr(package._ffi, name, None), "of", None), "offset", None) != _OF:
            wrong.append(f"{name}.of at {_OF}")
    return wrong


def _library_of(package: Any) -> Any:
    return getattr(getattr(package, "_ffi", None), "dll", None)


def _has(library: Any, name: str) -> bool:
    try:
        library[name]
    except AttributeError:
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


WASMTIME_VERSION: Final = metadata.version("wasmtime")
"""The version of wasmtime-py that is installed."""

MISSING: Final = find_missing(wasmtime, WASMTIME_VERSION)
"""What the fast way lacks; empty where it can be gone."""


class Seam:
    """The library's calls, with the types that this module gives them.

    :raises ImportError: if something of what it needs is missing; it names all of it.
    """

    def __init__(self) -> None:
        if MISSING:
            raise ImportError(f"the fast way into WebAssembly lacks {'; '.join(MISSING)}")
        library: Any = _library_of(wasmtime)
        holding: Any = ctypes.PyDLL(None, handle=library._handle)
        # asked for by index each is an object of its own: what is set here changes nothing for wasmtime-py
        for source, calls in ((library, _LONG_CALLS), (holding, _SHORT_CALLS)):
            for name, (result, arguments) in calls.items():
                function = source[name]
                function.restype, function.argtypes = result, arguments
                setattr(self, name.removeprefix("wasmtime_"), function)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)  # for the type checker: what was set above is found without this

    def text(self, fill: Callable[[int, int], None], owner: int) -> str:
        """What a call such as ``wasm_trap_message`` writes into a vector of bytes."""
        vector = (_SIZE * 2)()
        fill(owner, ctypes.addressof(vector))
        content = ctypes.string_at(vector[1], vector[0]) if vector[0] else b""
        self.wasm_byte_vec_delete(ctypes.addressof(vector))
        return content.rstrip(b"\0").decode("utf-8", "replace")

    def code_bytes(self, module: wasmtime.Module) -> int:
        """How much memory the image of a module takes: machine code, and the data that instances begin with."""
        start, end = ctypes.c_void_p(), ctypes.c_void_p()
        self.module_image_range(module.ptr(), ctypes.addressof(start), ctypes.addressof(end))
        return (end.value or 0) - (start.value or 0)

    def trap_of(self, trap: int) -> Exception:
        """The error that a trap stands for; the trap is freed."""
        code = ctypes.c_uint8()
        has_code = self.trap_code(trap, ctypes.addressof(code))
        text = self.text(self.wasm_trap_message, trap)
        self.wasm_trap_delete(trap)
        return from_trap(code.value if has_code else None, text)

    def error_of(self, error: int) -> Exception:
        """The error that the engine's own stands for, or what a WASI program exited with; the engine's is freed."""
        status = ctypes.c_int()
        has_exited = self.error_exit_status(error, ctypes.addressof(status))
        text = self.text(self.error_message, error)
        self.error_delete(error)
        return Exited(status.value) if has_exited else from_error(text)

    def trampoline(self, answer: Callable[[int, int, int], bool], keep: Callable[[BaseException], None]) -> Trampoline:
        """What C calls for every host function of a program.

        :param answer: called with the number of the function, the caller, and where the array of its values is; false
            makes the module stop.
        :param keep: takes what came between two lines of `answer`.
        """
        trap_new = self.trap_new

        def enter(number: int | None, caller: int, values: int | None, _count: int) -> int:
            # an exception must not leave this function: ctypes would print it, and the engine take what lies around
            try:
                if answer(number or 0, caller, values or 0):
                    return 0
            except BaseException as error:
                keep(error)
            trap: int = trap_new(b"host", 4)
            return trap

        return _TRAMPOLINE(enter)

    def define(
        self, linker: wasmtime.Linker, names: tuple[str, str], kind: wasmtime.FuncType, number: int, entry: Trampoline
    ) -> None:
        """Give a linker a function of the host, which `entry` answers under this number.

        `entry` has to live as long as the linker and all that was linked with it.
        """
        module, name = (part.encode() for part in names)
        error = self.linker_define_func_unchecked(
            linker.ptr(), module, len(module), name, len(name), kind.ptr(), _address_of(entry), number, None
        )
        if error is not None:
            raise self.error_of(error)


def _address_of(pointer: Any) -> int | None:
    """What a pointer or a function points to. ``ctypes.cast`` would make a ring of references of it.

    https://github.com/python/cpython/issues/57045
    """
    return _POINTER.from_buffer_copy(pointer).value


class PrivateAccess:
    """See :class:`~weighbridge_wasm.access.Access`."""

    def __init__(self, seam: Seam, store: wasmtime.Store) -> None:
        self.raised: BaseException | None = None
        self.is_spoiled = False
        self._seam = seam
        self._store = store  # the context below is inside of it
        self._context = _address_of(store._context())
        self._instance = (ctypes.c_uint8 * _SIZES["wasmtime_instance_t"])()
        self._trap = _POINTER()

    def instantiate(self, linked: wasmtime.InstancePre) -> None:
        """See :class:`~weighbridge_wasm.access.Access`."""
        trap = self._trap
        error = self._seam.instance_pre_instantiate(
            linked.ptr(), self._context, ctypes.addressof(self._instance), ctypes.addressof(trap)
        )
        if error is not None or trap.value is not None:
            raise self._failure(error)

    def function(self, signature: Signature) -> Run:
        """See :class:`~weighbridge_wasm.access.Access`."""
        kind = self._export(signature.name)
        count = max(signature.nvalues, 1)
        raw = bytearray(count * RAW_BYTES)
        pinned = (ctypes.c_uint8 * len(raw)).from_buffer(raw)
        # converted once: ctypes would do it at every call
        context, number, trap = self._context, _SIZE(signature.nvalues), self._trap
        function, array = _POINTER(ctypes.addressof(kind) + _OF), _POINTER(ctypes.addressof(pinned))
        trap_place = _POINTER(ctypes.addressof(trap))
        call, put, take, failure_of = self._seam.func_call_unchecked, signature.put, signature.take, self._failure
        keep = (kind, pinned)
        abandon = self._abandon

        def run(arguments: Sequence[Value], keep: Any = keep) -> Any:
            put(arguments, raw)
            try:
                error = call(context, function, array, number, trap_place)
                if error is None and trap.value is None:
                    return take(raw)
            except BaseException:  # a signal's, such as KeyboardInterrupt, once the code has been left
                abandon()
                raise
            failure = failure_of(error)
            try:
                raise failure
            finally:
                del failure  # it holds this frame, and the frame would hold it

        return run

    def memory(self, export: str) -> PrivateMemory:
        """See :class:`~weighbridge_wasm.access.Access`."""
        return PrivateMemory(self._seam, self._context, self._export(export))

    def memory_of(self, caller: Any, export: str) -> PrivateMemory:
        """See :class:`~weighbridge_wasm.access.Access`."""
        found = (ctypes.c_uint8 * _SIZES["wasmtime_extern_t"])()
        encoded = export.encode()
        if not self._seam.caller_export_get(caller, encoded, len(encoded), ctypes.addressof(found)):
            raise KeyError(export)
        return PrivateMemory(self._seam, self._context, found)

    def globals(self, exports: Sequence[tuple[str, str]]) -> PrivateGlobals:
        """See :class:`~weighbridge_wasm.access.Access`."""
        return PrivateGlobals(self._seam, self._context, [(self._export(name), kind) for name, kind in exports])

    def set_fuel(self, fuel: int) -> None:
        """See :class:`~weighbridge_wasm.access.Access`."""
        self._seam.context_set_fuel(self._context, fuel)

    def fuel(self) -> int:
        """See :class:`~weighbridge_wasm.access.Access`."""
        left = _U64()
        self._seam.context_get_fuel(self._context, ctypes.addressof(left))
        return left.value

    def set_deadline(self, ticks: int) -> None:
        """See :class:`~weighbridge_wasm.access.Access`."""
        self._seam.context_set_epoch_deadline(self._context, ticks)

    def _export(self, name: str) -> ctypes.Array[ctypes.c_uint8]:
        found = (ctypes.c_uint8 * _SIZES["wasmtime_extern_t"])()
        encoded = name.encode()
        if not self._seam.instance_export_get(
            self._context, ctypes.addressof(self._instance), encoded, len(encoded), ctypes.addressof(found)
        ):
            raise KeyError(name)
        return found

    def _abandon(self) -> None:
        """Forget how the call ended, or the next one would take it for its own end."""
        self.is_spoiled, self.raised = True, None
        trap, self._trap.value = self._trap.value, None
        if trap is not None:
            self._seam.wasm_trap_delete(trap)

    def _failure(self, error: int | None) -> BaseException:
        """What ended the call; whatever the engine said of it is freed."""
        self.is_spoiled = True
        trap, self._trap.value = self._trap.value, None
        found = None if error is None else self._seam.error_of(error)
        if trap is not None:
            found = self._seam.trap_of(trap)
        raised, self.raised = self.raised, None
        return raised or found or from_error("the engine gave no reason")


class PrivateMemory:
    """See :class:`~weighbridge_wasm.access.MemoryAccess`."""

    def __init__(self, seam: Seam, context: int | None, export: ctypes.Array[ctypes.c_uint8]) -> None:
        self._data, self._data_size, self._grow = seam.memory_data, seam.memory_data_size, seam.memory_grow
        self._delete = seam.error_delete
        self._context = context
        self._export = export
        self._memory = _POINTER(ctypes.addressof(export) + _OF)

    def address(self) -> int:
        """See :class:`~weighbridge_wasm.access.MemoryAccess`."""
        return self._data(self._context, self._memory) or 0

    def nbytes(self) -> int:
        """See :class:`~weighbridge_wasm.access.MemoryAccess`."""
        size: int = self._data_size(self._context, self._memory)
        return size

    def grow(self, pages: int) -> bool:
        """See :class:`~weighbridge_wasm.access.MemoryAccess`."""
        before = _U64()
        error = self._grow(self._context, self._memory, pages, ctypes.addressof(before))
        if error is not None:
            self._delete(error)
        return error is None


class PrivateGlobals:
    """See :class:`~weighbridge_wasm.access.GlobalsAccess`."""

    def __init__(
        self,
        seam: Seam,
        context: int | None,
        exports: Sequence[tuple[ctypes.Array[ctypes.c_uint8], str]],
    ) -> None:
        self._get, self._set, self._error_of = seam.global_get, seam.global_set, seam.error_of
        self._context = context
        self._exports = [export for export, _ in exports]
        self._held = bytearray(_VALUE_BYTES * len(exports))
        self._pinned = (ctypes.c_uint8 * len(self._held)).from_buffer(self._held) if exports else None
        self._unpack = Struct("<" + "".join(_BITS[kind] for _, kind in exports)).unpack_from
        start = ctypes.addressof(self._pinned) if self._pinned is not None else 0
        self._places = [
            (_POINTER(ctypes.addressof(export) + _OF), _POINTER(start + index * _VALUE_BYTES))
            for index, (export, _) in enumerate(exports)
        ]
        self._kinds = [kind for _, kind in exports]

    def get(self) -> tuple[int, ...]:
        """See :class:`~weighbridge_wasm.access.GlobalsAccess`."""
        return tuple(bits if isinstance(bits, int) else int.from_bytes(bits, "little") for bits in self._read())

    def restore(self, before: tuple[int, ...]) -> None:
        """See :class:`~weighbridge_wasm.access.GlobalsAccess`."""
        held = self.get()
        if held == before:
            return
        for index, (wanted, had) in enumerate(zip(before, held, strict=True)):
            if wanted != had:
                self._write(index, wanted)

    def _read(self) -> tuple[Any, ...]:
        context, get = self._context, self._get
        for found, place in self._places:
            get(context, found, place)
        return self._unpack(self._held)

    def _write(self, index: int, bits: int) -> None:
        """The kind stands there already, from reading."""
        size = 16 if self._kinds[index] == "v128" else 8
        start = index * _VALUE_BYTES + _OF
        self._held[start : start + size] = bits.to_bytes(size, "little")
        found, place = self._places[index]
        error = self._set(self._context, found, place)
        if error is not None:
            raise self._error_of(error)
