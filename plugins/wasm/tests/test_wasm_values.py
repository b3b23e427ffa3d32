"""What goes into a function, what comes out, and what is refused on the way."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_wasm.values import RAW_BYTES, Signature, fit

BITS = {"i32": 32, "i64": 64}


def through(kind: str, value: object) -> object:
    """Put one value into the array and take it out again."""
    signature = Signature("same", (kind,), (kind,))
    raw = bytearray(RAW_BYTES)
    signature.put((value,), raw)  # type: ignore[arg-type]  # refusals are tested with it
    return signature.take(raw)


@given(st.sampled_from(["i32", "i64"]), st.data())
def test_integers_come_out_signed_however_they_were_given(kind: str, data: st.DataObject) -> None:
    """Every whole number of so many bits goes in, signed or unsigned, and is the signed one of the same bits."""
    bits = BITS[kind]
    value = data.draw(st.integers(-(1 << bits - 1), (1 << bits) - 1))
    found = through(kind, value)
    assert isinstance(found, int)
    assert (found - value) % (1 << bits) == 0
    assert -(1 << bits - 1) <= found < 1 << bits - 1


@given(st.sampled_from(["i32", "i64"]), st.integers(1, 1 << 70), st.booleans())
def test_integers_beyond_their_bits_are_refused(kind: str, beyond: int, is_below: bool) -> None:
    """A number that does not fit is a ValueError that names the function, the position and the range."""
    bits = BITS[kind]
    value = -(1 << bits - 1) - beyond if is_below else (1 << bits) - 1 + beyond
    with pytest.raises(ValueError, match=rf"same, argument 1: wanted {kind}, a whole number from -"):
        through(kind, value)


@given(st.floats(allow_nan=False))
def test_doubles_go_through_unchanged(value: float) -> None:
    """A double comes out as it went in, with infinities."""
    assert through("f64", value) == value


@given(st.floats(width=32, allow_nan=False))
def test_singles_go_through_unchanged(value: float) -> None:
    """A number that a single holds comes out as it went in, with infinities."""
    assert through("f32", value) == value


@given(st.integers(-(2**53), 2**53))
def test_whole_numbers_may_be_given_for_doubles(value: int) -> None:
    """An int is taken where a float belongs."""
    assert through("f64", value) == float(value)


def test_not_a_number_goes_through() -> None:
    """A NaN is one on both sides."""
    assert math.isnan(through("f32", math.nan))  # type: ignore[arg-type]  # it is a float
    assert math.isnan(through("f64", math.nan))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "value"), [("f32", 1e39), ("f32", 10**40), ("f64", 10**400)])
def test_numbers_beyond_a_float_are_refused(kind: str, value: float) -> None:
    """What would become an infinity is a ValueError."""
    with pytest.raises(ValueError, match=f"same, argument 1: wanted {kind}, had 1.*beyond it"):
        through(kind, value)


@pytest.mark.parametrize("value", [True, None, "7", 7.0, b"7", [7]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    """A bool, a float and everything else is a TypeError where an integer belongs."""
    with pytest.raises(TypeError, match="same, argument 1: wanted i32, a whole number"):
        through("i32", value)


@pytest.mark.parametrize("value", [False, None, "7", b"7", 7j])
def test_what_is_no_number_is_refused(value: object) -> None:
    """A bool and everything that is no number is a TypeError where a float belongs."""
    with pytest.raises(TypeError, match="same, argument 1: wanted f64, a number"):
        through("f64", value)


@given(st.binary(min_size=16, max_size=16))
def test_vectors_are_sixteen_bytes(value: bytes) -> None:
    """A vector comes out as the bytes that went in."""
    assert through("v128", value) == value


@given(st.binary().filter(lambda content: len(content) != 16))
def test_vectors_of_other_lengths_are_refused(value: bytes) -> None:
    """More or fewer bytes are a ValueError and nothing is cut or filled up."""
    with pytest.raises(ValueError, match=f"wanted v128, 16 bytes, had {len(value)}"):
        through("v128", value)


@pytest.mark.parametrize("given_", [(), (1,), (1, 2, 3)])
def test_another_number_of_arguments_is_refused(given_: tuple[int, ...]) -> None:
    """Too many and too few are a TypeError that lists what is wanted."""
    with pytest.raises(TypeError, match=rf"add: wanted 2 arguments \(i32, i64\), had {len(given_)}"):
        Signature("add", ("i32", "i64"), ()).put(given_, bytearray(2 * RAW_BYTES))


def test_the_array_has_sixteen_bytes_for_each_value() -> None:
    """Arguments lie where the engine looks for them."""
    raw = bytearray(3 * RAW_BYTES)
    Signature("f", ("i32", "f64", "i64"), ()).put((-2, 0.5, 2**64 - 3), raw)
    assert struct.unpack("<i12xd8xq8x", raw) == (-2, 0.5, -3)


def test_results_come_as_none_one_value_or_a_tuple() -> None:
    """What comes out of a call has the shape of its results."""
    raw = bytearray(struct.pack("<i12xd8x", 7, 0.5))
    assert Signature("f", (), ()).take(raw) is None
    assert Signature("f", (), ("i32",)).take(raw) == 7
    assert Signature("f", (), ("i32", "f64")).take(raw) == (7, 0.5)


@pytest.mark.parametrize(
    ("results", "returned", "says"),
    [
        ((), 7, "wanted no result, had 7"),
        (("i32",), None, "result 1: wanted i32.*had None"),
        (("i32", "i32"), 7, r"wanted 2 results \(i32, i32\), had 7"),
        (("i32", "i32"), (1, 2, 3), "had tuple"),
        (("i32", "f64"), (1, "x"), "result 2: wanted f64"),
    ],
)
def test_what_a_host_function_returns_is_checked(results: tuple[str, ...], returned: object, says: str) -> None:
    """A result that was not promised is a TypeError that names the function and the position."""
    with pytest.raises(TypeError, match=f"env.f.*{says}"):
        Signature("env.f", (), results).put_results(returned, bytearray(2 * RAW_BYTES))


def test_references_make_a_function_that_cannot_be_called() -> None:
    """A signature with a reference says so, and a value for one is refused."""
    assert not Signature("f", ("externref",), ()).is_callable
    with pytest.raises(TypeError, match="f, argument 1: funcref cannot be passed"):
        fit("funcref", None, "f, argument 1")
