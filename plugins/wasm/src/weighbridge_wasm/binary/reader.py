"""A place in a module, from which things are read, and which errors name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from weighbridge_hookspecs import InvalidModule

from .leb import decode_signed, decode_unsigned

_SHOWN_BYTES: Final = 8


def invalid(data: bytes, position: int, wanted: str, had: str | None = None) -> InvalidModule:
    """The error for bytes that are not what they have to be.

    :param position: where they begin, in bytes from the beginning of the module.
    :param had: what there is instead, in words; without it, the bytes that follow.
    """
    shown = data[position : position + _SHOWN_BYTES]
    found = had or (f"bytes {shown.hex(' ')}" if shown else "the end")
    return InvalidModule(f"the module is damaged at byte {position}", step="read", wanted=wanted, had=found)


class Reader:
    """Reads on from `position` to `end`, and not beyond.

    :param data: the whole module, so that positions are those that any other tool shows.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def fail(self, wanted: str, at: int | None = None, had: str | None = None) -> NoReturn:
        """:raises InvalidModule: always; it names the offset `at`, or that of what is read next."""
        raise invalid(self.data, self.position if at is None else at, wanted, had)

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return self.end - self.position

    def byte(self, wanted: str = "one more byte") -> int:
        """The next byte."""
        if self.position >= self.end:
            self.fail(wanted, had="the end")
        self.position += 1
        return self.data[self.position - 1]

    def peek(self, wanted: str = "one more byte") -> int:
        """The next byte, which stays the next."""
        if self.position >= self.end:
            self.fail(wanted, had="the end")
        return self.data[self.position]

    def take(self, nbytes: int, wanted: str) -> int:
        """Go on by so many bytes; gives the position where they begin."""
        if nbytes > self.left:
            self.fail(f"{wanted} of {nbytes} bytes", had=f"{self.left} bytes")
        self.position += nbytes
        return self.position - nbytes

    def u32(self, wanted: str = "a number") -> int:
        """An unsigned number of up to 32 bits."""
        if self.position < self.end and self.data[self.position] < 0x80:
            self.position += 1
            return self.data[self.position - 1]
        return self._decode(decode_unsigned, 32, wanted)

    def u64(self, wanted: str = "a number") -> int:
        """An unsigned number of up to 64 bits."""
        return self._decode(decode_unsigned, 64, wanted)

    def signed(self, bits: int, wanted: str = "a number") -> int:
        """A number with its sign, of up to so many bits."""
        return self._decode(decode_signed, bits, wanted)

    def u32s(self, count: int, wanted: str = "a number") -> list[int]:
        """So many unsigned numbers of up to 32 bits."""
        quick = self.data[self.position : min(self.position + count, self.end)]
        if len(quick) == count and quick.isascii():  # below 128 each: one byte is one number
            self.position += count
            return list(quick)
        return [self.u32(wanted) for _ in range(count)]

    def index(self, count: int, what: str) -> int:
        """A number below `count`."""
        start = self.position
        number = self.u32(f"the number of a {what}")
        if number >= count:
            self.fail(f"the number of one of {count} {what}s", at=start, had=str(number))
        return number

    def name(self, wanted: str = "a name") -> str:
        """A text, which is UTF-8 with its length before it."""
        nbytes = self.u32(wanted)
        start = self.take(nbytes, wanted)
        try:
            return self.data[start : self.position].decode()
        except UnicodeDecodeError:
            pass
        self.fail(f"{wanted} in UTF-8", at=start)

    def finish(self, what: str) -> None:
        """Check that nothing is left."""
        if self.position != self.end:
            self.fail(f"the end of {what}", had=f"{self.left} bytes more")

    def _decode(self, decode: Callable[[bytes, int, int, int], tuple[int, int]], bits: int, wanted: str) -> int:
        try:
            value, self.position = decode(self.data, self.position, self.end, bits)
        except ValueError as error:
            had = str(error)
        else:
            return value
        # out here, or the error would keep the other one as its context, and with it this frame
        self.fail(wanted, had=had)
