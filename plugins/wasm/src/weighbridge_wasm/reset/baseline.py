"""What a memory holds before anything ran in it, without a copy of its zeros."""

from __future__ import annotations

import ctypes
import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

PAGE: Final = mmap.PAGESIZE
_CHUNK: Final = 16 * PAGE
_ZEROS: Final = bytes(_CHUNK)

Run = tuple[int, int]
"""First byte and the byte after the last one, counted from the begin of the memory; whole pages of the system."""


class Segment(Protocol):
    """Bytes that a module puts into its memory.

    Source: https://webassembly.github.io/spec/core/syntax/modules.html#data-segments
    """

    @property
    def offset(self) -> int | None:
        """Where they begin; None where that is not a constant, or where the module itself copies them later."""

    @property
    def content(self) -> bytes | memoryview:
        """The bytes."""


class Baseline:
    """The pages of a memory that are not zero when it is pristine, and where they belong.

    A memory of 4 GiB of which 10 KiB hold something costs 12 KiB. Immutable, and safe to use from every thread.
    """

    __slots__ = ("_bases", "_content", "_pin", "_starts", "_stops", "nbytes")

    def __init__(self, nbytes: int, runs: Iterable[tuple[int, bytes | bytearray]]) -> None:
        """Keep `runs` of whole pages, (begin, content) in ascending order; the rest of `nbytes` is zero."""
        check_size(nbytes)
        self.nbytes: Final = nbytes
        kept = list(runs)
        self._content: Final = bytearray(b"".join(content for _, content in kept))
        self._pin: Final = (ctypes.c_char * 0).from_buffer(self._content)  # it can neither move nor shrink now
        self._starts: Final = tuple(start for start, _ in kept)
        self._stops: Final = tuple(start + len(content) for start, content in kept)
        self._bases: Final = tuple(_bases(ctypes.addressof(self._pin), self._starts, self._stops))

    @classmethod
    def of(cls, segments: Iterable[Segment], nbytes: int) -> Baseline:
        """The memory of `nbytes` bytes, a multiple of the system's page, that `segments` describe; later ones win.

        :raises ValueError: a segment has no constant offset, or does not fit: use :meth:`captured`.
        """
        found = []
        for segment in segments:
            if segment.offset is None:
                raise ValueError("A segment without a constant offset does not say what the memory holds")
            if segment.offset + len(segment.content) > nbytes:
                raise ValueError(f"A segment ends at {segment.offset + len(segment.content):,} of {nbytes:,} bytes")
            found.append((segment.offset, segment.content))
        return cls(nbytes, _without_zeros(_laid_out(found)))

    @classmethod
    def captured(
        cls,
        address: int,
        nbytes: int,
        segments: Iterable[Segment] = (),
        written: Sequence[Run] | None = None,
    ) -> Baseline:
        """What the memory at `address` holds now, which is what its module's start function left there.

        :param segments: the module's; pages below one that has a constant offset are kept even if they are zero now,
            because the image that the kernel maps still has the segment.
        :param written: the runs that were written to (:meth:`.DirtyPages.runs`). Then only those and the segments are
            looked at. None, where the kernel does not tell: the whole memory is read.
        """
        below = [_pages(s.offset, s.offset + len(s.content)) for s in segments if s.offset is not None and s.content]
        looked_at = [(0, nbytes)] if written is None else [*written, *below]
        runs = [(start, ctypes.string_at(address + start, stop - start)) for start, stop in _chunks(below)]
        covered = {page for start, content in runs for page in range(start, start + len(content), PAGE)}
        for start, stop in _chunks(looked_at):
            content = ctypes.string_at(address + start, stop - start)
            runs.extend((at, page) for at, page in _used_pages(start, content) if at not in covered)
        return cls(nbytes, _joined(sorted(runs)))

    def pieces(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """The part from `start` to `stop`, as (begin, end, address of what belongs there or 0 for zeros).

        The addresses are good for as long as this object is.
        """
        found = []
        at = bisect_right(self._stops, start)
        while at < len(self._starts) and self._starts[at] < stop:
            first, last = max(start, self._starts[at]), min(stop, self._stops[at])
            if start < first:
                found.append((start, first, 0))
            found.append((first, last, self._bases[at] + first))
            start = last
            at += 1
        if start < stop:
            found.append((start, stop, 0))
        return found

    @property
    def kept_bytes(self) -> int:
        """Bytes that this object holds."""
        return len(self._content)

    def __repr__(self) -> str:
        return f"Baseline({self.kept_bytes:,} of {self.nbytes:,} bytes in {len(self._starts)} runs)"


def check_size(nbytes: int) -> None:
    """Refuse what is no whole number of pages."""
    if nbytes < 0 or nbytes % PAGE:
        raise ValueError(f"A memory has whole pages of {PAGE:,} bytes, not {nbytes:,} bytes")


def _bases(address: int, starts: Iterable[int], stops: Iterable[int]) -> Iterator[int]:
    """For each run what has to be added to a place in the memory to get the address of what belongs there."""
    for start, stop in zip(starts, stops, strict=True):
        yield address - start
        address += stop - start


def _pages(start: int, stop: int) -> Run:
    return start - start % PAGE, stop + -stop % PAGE


def _merged(runs: Iterable[Run]) -> list[Run]:
    """The same runs in order, those that touch made one."""
    found: list[Run] = []
    for start, stop in sorted(runs):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        elif start < stop:
            found.append((start, stop))
    return found


def _chunks(runs: Iterable[Run]) -> Iterator[Run]:
    """The same runs without overlap, in parts that can be copied one at a time."""
    for start, stop in _merged(runs):
        for at in range(start, stop, _CHUNK):
            yield at, min(at + _CHUNK, stop)


def _used_pages(start: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    """The pages of a chunk that are not zero."""
    if content == _ZEROS[: len(content)]:
        return
    for at in range(0, len(content), PAGE):
        page = content[at : at + PAGE]
        if page != _ZEROS[:PAGE]:
            yield start + at, page


def _laid_out(found: Sequence[tuple[int, bytes | memoryview]]) -> Iterator[tuple[int, bytearray]]:
    """Whole pages with segments on them, each run once."""
    runs = _merged(_pages(offset, offset + len(content)) for offset, content in found if len(content))
    starts = [start for start, _ in runs]
    laid = [bytearray(stop - start) for start, stop in runs]
    for offset, content in found:
        if len(content):
            at = bisect_right(starts, offset) - 1
            laid[at][offset - starts[at] : offset - starts[at] + len(content)] = content
    return zip(starts, laid, strict=True)


def _without_zeros(runs: Iterable[tuple[int, bytearray]]) -> Iterator[tuple[int, bytes]]:
    for start, content in runs:
        view = memoryview(content)
        chunks = ((at, bytes(view[at : at + _CHUNK])) for at in range(0, len(content), _CHUNK))
        yield from _joined(page for at, chunk in chunks for page in _used_pages(start + at, chunk))


def _joined(pages: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Neighbours made one, so that one copy restores them."""
    parts: list[bytes] = []
    begin = end = -1
    for start, content in pages:
        if start != end:
            if parts:
                yield begin, b"".join(parts)
            parts, begin, end = [], start, start
        parts.append(content)
        end += len(content)
    if parts:
        yield begin, b"".join(parts)
