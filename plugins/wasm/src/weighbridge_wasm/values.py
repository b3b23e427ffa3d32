"""Values that go into a function and come out of it: what fits, and where it lies.

A function's arguments and results share one array of 16 bytes for each value, which is what the engine calls a raw
value: the number in the machine's order of bytes at the beginning of its 16 bytes.
Source: ``wasmtime_val_raw_t`` in wasmtime's ``crates/c-api/include/wasmtime/val.h``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, Final, TypeAlias

Value: TypeAlias = int | float | bytes
"""A number; or the 16 bytes of a ``v128``, the lowest lane first."""

RAW_BYTES: Final = 16
"""What one value takes in the array."""

_CODES: Final = {"i32": "i12x", "i64": "q8x", "f32": "f12x", "f64": "d8x", "v128": "16s"}
_BITS: Final = {"i32": 32, "i64": 64}
# What goes the short way: these types and no others. A bool is none of them, nor is an int where a float belongs.
_KINDS: Final[dict[str, type]] = {"i32": int, "i64": int, "f32": float, "f64": float}


class Signature:
    """The parameters and the results of one function, by their types in words, and the way to and from the array.

    :param name: the function's name, for errors.
    """

    __slots__ = (
        "_kinds",
        "_pack",
        "_pack_results",
        "_unpack",
        "_unpack_params",
        "is_callable",
        "name",
        "nvalues",
        "params",
        "results",
    )

    def __init__(self, name: str, params: Sequence[str], results: Sequence[str]) -> None:
        self.name = name
        self.params = tuple(params)
        self.results = tuple(results)
        self.nvalues = max(len(self.params), len(self.results))
        self.is_callable = all(kind in _CODES for kind in (*self.params, *self.results))
        self._kinds = None if "v128" in self.params else tuple(_KINDS.get(kind) for kind in self.params)
        params_layout, results_layout = _layout(self.params), _layout(self.results)
        self._pack, self._unpack_params = params_layout.pack_into, params_layout.unpack_from
        self._pack_results, self._unpack = results_layout.pack_into, results_layout.unpack_from

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.params)}) -> ({', '.join(self.results)})"

    def put(self, arguments: Sequence[Value], raw: Any) -> None:
        """Write the arguments into the array `raw`.

        :raises TypeError: if there are too many or too few, or one is of a type that does not go there.
        :raises ValueError: if a number does not fit.
        """
        if tuple(map(type, arguments)) == self._kinds:
            try:
                self._pack(raw, 0, *arguments)
                return
            except (StructError, OverflowError):  # an unsigned number, or one that does not fit
                pass
        self._pack(raw, 0, *self.checked(arguments))

    def checked(self, arguments: Sequence[Value]) -> list[Value]:
        """The arguments as the function takes them: whole numbers signed.

        :raises TypeError, ValueError: as :meth:`put` does.
        """
        if len(arguments) != len(self.params):
            raise TypeError(f"{self.name}: wanted {_count(self.params, 'argument')}, had {len(arguments)}")
        return [
            fit(kind, value, f"{self.name}, argument {position}")
            for position, (kind, value) in enumerate(zip(self.params, arguments, strict=True), 1)
        ]

    def take(self, raw: Any) -> Any:
        """What stands in the array after a call: None, one value, or a tuple of them."""
        found = self._unpack(raw)
        return found[0] if len(found) == 1 else found or None

    def take_arguments(self, raw: Any) -> tuple[Any, ...]:
        """The arguments in the array, on the side that is called."""
        return self._unpack_params(raw)

    def fitted(self, returned: Any) -> list[Value]:
        """What a host function returned, as the results that were promised.

        :raises TypeError, ValueError: if it is not what the signature says.
        """
        wanted = len(self.results)
        if wanted == 0 and returned is not None:
            raise TypeError(f"{self.name}: wanted no result, had {_named(returned)}")
        given = (returned,) if wanted == 1 else tuple(returned) if isinstance(returned, list | tuple) else ()
        if len(given) != wanted:
            raise TypeError(f"{self.name}: wanted {_count(self.results, 'result')}, had {_named(returned)}")
        return [
            fit(kind, value, f"{self.name}, result {position}")
            for position, (kind, value) in enumerate(zip(self.results, given, strict=True), 1)
        ]

    def put_results(self, returned: Any, raw: Any) -> None:
        """Write what a host function returned into the array.

        :raises TypeError, ValueError: as :meth:`fitted` does.
        """
        self._pack_results(raw, 0, *self.fitted(returned))


def fit(kind: str, value: Any, where: str) -> Value:
    """`value` as one of this type. A whole number may be given signed or unsigned and comes out signed.

    :param where: what the errors begin with.
    :raises TypeError: if it is of a type that does not go there.
    :raises ValueError: if it does not fit.
    """
    if kind in _BITS:
        return _fit_integer(kind, value, where)
    if kind == "v128":
        return _fit_vector(value, where)
    if kind not in _KINDS:
        raise TypeError(f"{where}: {kind} cannot be passed between Python and a module")
    return _fit_number(kind, value, where)


def _fit_integer(kind: str, value: Any, where: str) -> int:
    bits = _BITS[kind]
    low, high = -(1 << bits - 1), (1 << bits) - 1
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{where}: wanted {kind}, a whole number from {low} to {high}, had {_named(value)}")
    if not low <= value <= high:
        raise ValueError(f"{where}: wanted {kind}, a whole number from {low} to {high}, had {value}")
    return value - (1 << bits) if value > high >> 1 else int(value)


def _fit_number(kind: str, value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{where}: wanted {kind}, a number, had {_named(value)}")
    try:
        number = float(value)
        if kind == "f32" and math.isfinite(number):
            _SINGLE.pack(number)
    except OverflowError:
        raise ValueError(f"{where}: wanted {kind}, had {value!r}, which is beyond it") from None
    return number


def _fit_vector(value: Any, where: str) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{where}: wanted v128, {RAW_BYTES} bytes, had {_named(value)}")
    content = bytes(value)
    if len(content) != RAW_BYTES:
        raise ValueError(f"{where}: wanted v128, {RAW_BYTES} bytes, had {len(content)}")
    return content


_SINGLE: Final = Struct("<f")


def _layout(kinds: Sequence[str]) -> Struct:
    return Struct("<" + "".join(_CODES.get(kind, "16x") for kind in kinds))


def _count(kinds: Sequence[str], noun: str) -> str:
    listed = f" ({', '.join(kinds)})" if kinds else ""
    return f"{len(kinds) or 'no'} {noun}{'' if len(kinds) == 1 else 's'}{listed}"


def _named(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return f"{value!r:.80}"
    return type(value).__name__
