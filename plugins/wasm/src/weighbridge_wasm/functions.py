"""Functions of the host that a module may call, by name, and the exception of exactly the call that caused it.

What a host function raises is kept with the instance whose call runs in this thread, and that call raises it. It is
never left to wasmtime-py, which has one variable for all threads and hands one call's exception to another
(https://github.com/bytecodealliance/wasmtime-py/issues/254).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs
import wasmtime

from . import public
from .signals import Deferral
from .values import RAW_BYTES, Signature, Value

if TYPE_CHECKING:
    from .seam import Seam, Trampoline


@attrs.frozen
class HostFunction:
    """A function of the host, with what it wants of its caller.

    :param function: called with the module's arguments: int for i32 and i64 (signed), float for f32 and f64, 16 bytes
        for v128. It returns None, one value, or a list or tuple of several.
    :param wants_memory: whether a :class:`Caller` comes before the arguments.
    """

    function: Callable[..., Any]
    wants_memory: bool = attrs.field(default=False, kw_only=True)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self.function(*arguments)


Functions: TypeAlias = Mapping[str, Callable[..., Any]]
"""Host functions by ``"<module>.<name>"``. One with a true attribute `wants_memory` gets a :class:`Caller` first."""


class Place(Protocol):
    """The instance that calls a host function.

    :ivar is_starting: whether its start runs.
    :ivar has_asked: whether that has called a function that may answer otherwise the next time.
    """

    is_starting: bool
    has_asked: bool

    def keep(self, error: BaseException) -> None:
        """Have the call that runs raise this, once the engine has left the module's code."""

    def read(self, address: int, nbytes: int) -> bytes:
        """See :meth:`~weighbridge_wasm.instance.Instance.read`."""

    def write(self, address: int, content: bytes | bytearray | memoryview) -> None:
        """See :meth:`~weighbridge_wasm.instance.Instance.write`."""

    def grow(self, pages: int) -> bool:
        """See :meth:`~weighbridge_wasm.instance.Instance.grow`."""

    @property
    def memory_bytes(self) -> int:
        """See :attr:`~weighbridge_wasm.instance.Instance.memory_bytes`."""

    def remaining_seconds(self) -> float | None:
        """The time that its call has left; None where it has no deadline."""

    def call_within(self, function: str, arguments: Sequence[Value]) -> Any:
        """Call an export during a call, under the limits of that call."""

    def starting(self, caller: Any) -> None:
        """Look its memory up by the engine's caller, if it is not known yet."""


class Caller:
    """The instance that called a host function, for as long as that function runs."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place: Place | None = place

    @property
    def memory_bytes(self) -> int:
        """Size of the memory in bytes."""
        return self._living().memory_bytes

    def read(self, address: int, nbytes: int) -> bytes:
        """A copy of `nbytes` bytes of the memory.

        :raises IndexError: if they are not all inside of it.
        """
        return self._living().read(address, nbytes)

    def write(self, address: int, content: bytes | bytearray | memoryview) -> None:
        """Put bytes into the memory.

        :raises IndexError: if they do not all fit into it.
        """
        self._living().write(address, content)

    def grow(self, pages: int) -> bool:
        """Add pages of 64 KiB to the memory; false if its limit forbids it."""
        return self._living().grow(pages)

    def call(self, function: str, *arguments: Value) -> Any:
        """Call an export of the caller, such as its allocator, within the fuel and the time of the call that runs."""
        return self._living().call_within(function, arguments)

    def remaining_seconds(self) -> float | None:
        """The time that the call has left; None where it has no deadline."""
        return self._living().remaining_seconds()

    def end(self) -> None:
        """Let go of the instance: the host function has returned."""
        self._place = None

    def _living(self) -> Place:
        if self._place is None:
            raise RuntimeError("a caller can be used only while the host function runs that it was given to")
        return self._place


@attrs.frozen
class _Binding:
    function: Callable[..., Any]
    signature: Signature
    wants_memory: bool
    is_constant: bool
    raw: type[ctypes.Array[ctypes.c_uint8]]


class Current(threading.local):
    """What calls in this thread."""

    place: Place | None = None
    deferral: Deferral | None = None


class HostFunctions:
    """The host functions of one program. Nothing of them outlives it.

    :param seam: the library's private calls; None for the public ones.
    """

    def __init__(self, seam: Seam | None) -> None:
        self.current: Final = Current()
        """What calls in this thread: set it around every call."""
        self._seam = seam
        self._bindings: list[_Binding] = []
        self._trampoline: Trampoline = (
            None if seam is None else seam.trampoline(_answering(self._bindings, self.current), _keeping(self.current))
        )

    def __len__(self) -> int:
        return len(self._bindings)

    def define(
        self,
        linker: wasmtime.Linker,
        names: tuple[str, str],
        kind: wasmtime.FuncType,
        signature: Signature,
        function: Callable[..., Any],
    ) -> None:
        """Give a linker one of them.

        :param names: module and name of the import.
        :param kind: its type, as the compiled module has it.
        :param signature: the same in words.
        :raises TypeError: if something would have to be passed that cannot.
        """
        if not signature.is_callable:
            raise TypeError(f"{signature}: a reference cannot be passed between Python and a module")
        target = function.function if isinstance(function, HostFunction) else function
        raw = ctypes.c_uint8 * (max(signature.nvalues, 1) * RAW_BYTES)
        wants_memory, is_constant = (bool(getattr(function, name, False)) for name in ("wants_memory", "is_constant"))
        binding = _Binding(target, signature, wants_memory, is_constant, raw)
        if self._seam is None:
            answer = _public_answer(self._bindings, len(self._bindings), self.current)
            public.define(linker, names, kind, signature, answer)
        else:
            self._seam.define(linker, names, kind, len(self._bindings), self._trampoline)
        self._bindings.append(binding)

    def close(self) -> None:
        """Let go of the functions. Nothing that was linked with them may run afterwards."""
        self._bindings.clear()


def _answering(bindings: list[_Binding], current: Current) -> Callable[[int, int, int], bool]:
    """What answers for all functions of a program. It holds the list and no owner of it: no ring of references."""

    def answer(number: int, caller: int, values: int) -> bool:
        place = current.place
        if place is None:
            return False
        try:
            if current.deferral is not None:
                current.deferral.deliver()
            binding = _find(bindings, number)
            raw = binding.raw.from_address(values)
            arguments = binding.signature.take_arguments(raw)
            binding.signature.put_results(_call(binding, place, caller, arguments), raw)
        except BaseException as error:
            place.keep(error)
            return False
        return True

    return answer


def _keeping(current: Current) -> Callable[[BaseException], None]:
    def keep(error: BaseException) -> None:
        if current.place is not None:
            current.place.keep(error)

    return keep


def _public_answer(
    bindings: list[_Binding], number: int, current: Current
) -> Callable[[Any, tuple[Any, ...]], list[Value]]:
    def answer(caller: Any, arguments: tuple[Any, ...]) -> list[Value]:
        place = current.place
        try:
            if place is not None:
                if current.deferral is not None:
                    current.deferral.deliver()
                binding = _find(bindings, number)
                return binding.signature.fitted(_call(binding, place, caller, arguments))
        except BaseException as error:
            if place is not None:
                place.keep(error)
        # wasmtime-py keeps what leaves here in its one variable, and may hand it to any call: so it says nothing
        raise RuntimeError("a host function failed")

    return answer


def _find(bindings: list[_Binding], number: int) -> _Binding:
    if number >= len(bindings):
        raise RuntimeError("the program is closed, and its host functions with it")
    return bindings[number]


def _call(binding: _Binding, place: Place, engines_caller: Any, arguments: tuple[Any, ...]) -> Any:
    if place.is_starting and not binding.is_constant:
        place.has_asked = True
    if not binding.wants_memory:
        return binding.function(*arguments)
    place.starting(engines_caller)
    caller = Caller(place)
    try:
        return binding.function(caller, *arguments)
    finally:
        caller.end()
