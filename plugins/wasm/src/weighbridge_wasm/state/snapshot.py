"""A snapshot of an instance: pages of its linear memory that are in use, and its globals.

It is written as one part, or as many of bounded size: a memory may have 4 GiB, and one value of a store has less. Every
part can be read alone, and no page is in two of them:

    hash of the module 32 | WASM pages 4 | index 4 | flags 1 | globals 4 | runs 4 | bytes of content 8
    for each global: type 1, value 4, 8 or 16      (in the first part)
    for each run: first page 4, pages 4, kind 1    (pages of 4 KiB; kind 0: zeros, without content)
    content of the runs, one after the other; by zlib if the flag says so

Numbers are little-endian. :mod:`.frames` puts the checksum around it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs
from weighbridge_hookspecs import StateRefused

from ..config import MOST_PAGES, PAGE_BYTES
from .frames import PART, damaged, seal, unseal

SYSTEM_PAGE_BYTES: Final = 4096
"""The unit of a run. Machines with larger pages hand over runs of several."""

_PREFIX: Final = struct.Struct("<32sIIBIIQ")
_RUN: Final = struct.Struct("<IIB")
_LAST: Final = 1
_COMPRESSED: Final = 2
_ZEROS: Final = bytes(PAGE_BYTES)
_WIDTHS: Final = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}
_TYPES: Final = tuple(_WIDTHS)  # a type is written as its place in here


def _number_type(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if value not in _WIDTHS:
        raise StateRefused(
            f"a global of the type {value} cannot be kept: it means nothing outside of its instance", step="suspend"
        )


def _fitting(instance: GlobalValue, attribute: attrs.Attribute[Any], value: int) -> None:
    if not 0 <= value < 1 << 8 * _WIDTHS[instance.type]:
        raise ValueError(f"{value} is no {instance.type} as it lies in memory: give it without a sign")


@attrs.frozen
class GlobalValue:
    """What one mutable global has.

    :raises StateRefused: if it is a reference.
    :raises ValueError: if the value is wider than the type, or below 0.
    """

    type: str = attrs.field(validator=_number_type)
    """``"i32"``, ``"i64"``, ``"f32"``, ``"f64"`` or ``"v128"``."""
    bits: int = attrs.field(validator=_fitting)
    """Its bits as a number without a sign: a NaN keeps its payload."""


@attrs.frozen
class Run:
    """Neighbouring pages of a linear memory.

    :raises ValueError: if it does not begin and end at a page of 4 KiB, or `content` has another size.
    """

    offset: int
    """Where it begins, in bytes."""
    nbytes: int
    content: bytes | memoryview | None
    """`nbytes` bytes; None if all of them are 0."""

    def __attrs_post_init__(self) -> None:
        if self.offset < 0 or self.nbytes <= 0 or (self.offset | self.nbytes) % SYSTEM_PAGE_BYTES:
            raise ValueError(f"a run of {self.nbytes} bytes at {self.offset}: give pages of {SYSTEM_PAGE_BYTES} bytes")
        if self.content is not None and len(self.content) != self.nbytes:
            raise ValueError(f"a run of {self.nbytes} bytes with {len(self.content)} bytes of content")

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.nbytes

    def _cut(self, start: int, nbytes: int) -> Run:
        content = None if self.content is None else memoryview(self.content)[start : start + nbytes]
        return Run(self.offset + start, nbytes, content)


@attrs.frozen(kw_only=True)
class Snapshot:
    """What an instance knows.

    Pages of no run are as in an instance that was just made: the module's data segments say what is in them. A snapshot
    is put back into such an instance, of the module with the same hash.

    :raises ValueError: if runs overlap, are not in order or lie outside of the memory, or a size makes no sense.
    """

    module_sha256: bytes
    """The SHA-256 of the module as it was registered; 32 bytes."""
    pages: int
    """Size of the linear memory in pages of 65,536 bytes; 0 without one."""
    runs: tuple[Run, ...] = ()
    globals: tuple[GlobalValue, ...] = ()
    """Every mutable global, in the order of the module."""

    def __attrs_post_init__(self) -> None:
        if len(self.module_sha256) != 32:
            raise ValueError(f"a SHA-256 has 32 bytes, not {len(self.module_sha256)}")
        if not 0 <= self.pages <= MOST_PAGES:
            raise ValueError(f"a memory of {self.pages} pages: it may have 0 to {MOST_PAGES}")
        end = 0
        for run in self.runs:
            if run.offset < end:
                raise ValueError(f"a run at {run.offset} after one that ends at {end}: give them in order")
            end = run.end
        if end > self.memory_bytes:
            raise ValueError(f"a run that ends at {end} in a memory of {self.memory_bytes} bytes")

    @property
    def memory_bytes(self) -> int:
        """Size of the linear memory in bytes."""
        return self.pages * PAGE_BYTES

    @property
    def content_bytes(self) -> int:
        """Bytes of content in the runs."""
        return sum(run.nbytes for run in self.runs if run.content is not None)

    def restore(self, write: Callable[[int, bytes | memoryview], object]) -> None:
        """Put the runs back.

        :param write: writes bytes at an offset of a memory that has `memory_bytes` and is otherwise as new.
        """
        for run in self.runs:
            if run.content is not None:
                write(run.offset, run.content)
                continue
            for offset in range(run.offset, run.end, PAGE_BYTES):
                write(offset, _ZEROS[: run.end - offset])

    def to_bytes(self, *, compress: bool = False) -> bytes:
        """All of it in one part.

        :param compress: by zlib, where that is smaller.
        """
        (part,) = self.parts(compress=compress)
        return part

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str = "a snapshot") -> Snapshot:
        """What `to_bytes` gave; errors as of `from_parts`."""
        return cls.from_parts((content,), where=where)

    def parts(self, *, limit_bytes: int | None = None, compress: bool = False) -> Iterator[bytes]:
        """It as bytes, in parts that are made one at a time.

        :param limit_bytes: the content that a part may have before it is compressed, rounded down to pages of 4 KiB,
            but at least one; None: one part. With its tables a part is below 1 % larger.
        """
        index = 0
        group: list[Run] = []
        for following in self._groups(limit_bytes):
            if group:
                yield self._part(index, group, is_last=False, compress=compress)
                index += 1
            group = following
        yield self._part(index, group, is_last=True, compress=compress)

    @classmethod
    def from_parts(cls, parts: Sequence[bytes], *, where: str = "a snapshot") -> Snapshot:
        """What `parts` gave. The runs are views of the parts: nothing is copied that was not compressed.

        :param where: what it is, for errors.
        :raises StorageDamaged: if it is not what was written.
        :raises StateRefused: if a newer version of the plugin wrote it.
        """
        read = [_Part.read(part, f"{where}, part {index + 1} of {len(parts)},") for index, part in enumerate(parts)]
        if not read:
            raise damaged(where, "at least one part", "none")
        for index, part in enumerate(read):
            _check_place(part, read[0], index, len(read), where)
        try:
            return cls(
                module_sha256=read[0].module_sha256,
                pages=read[0].pages,
                runs=tuple(run for part in read for run in part.runs),
                globals=read[0].globals,
            )
        except ValueError as error:
            raise damaged(where, "runs within the memory, in order", str(error)) from None

    def _groups(self, limit_bytes: int | None) -> Iterator[list[Run]]:
        if limit_bytes is None:
            yield list(self.runs)
            return
        most = max(SYSTEM_PAGE_BYTES, limit_bytes // SYSTEM_PAGE_BYTES * SYSTEM_PAGE_BYTES)
        group: list[Run] = []
        room = most
        for run in self.runs:
            start = 0
            while run.content is not None and run.nbytes - start > room:
                if room:
                    group.append(run._cut(start, room))
                start += room
                yield group
                group, room = [], most
            rest = run._cut(start, run.nbytes - start) if start else run
            group.append(rest)
            room -= 0 if rest.content is None else rest.nbytes
        yield group

    def _part(self, index: int, group: Sequence[Run], *, is_last: bool, compress: bool) -> bytes:
        contents = [run.content for run in group if run.content is not None]
        nbytes = sum(map(len, contents))
        flags = _LAST if is_last else 0
        if compress:
            smaller = zlib.compress(b"".join(contents), level=1)
            if len(smaller) < nbytes:
                contents, flags = [smaller], flags | _COMPRESSED
        kept = self.globals if index == 0 else ()
        prefix = _PREFIX.pack(self.module_sha256, self.pages, index, flags, len(kept), len(group), nbytes)
        values = (bytes((_TYPES.index(each.type),)) + each.bits.to_bytes(_WIDTHS[each.type], "little") for each in kept)
        table = (
            _RUN.pack(run.offset // SYSTEM_PAGE_BYTES, run.nbytes // SYSTEM_PAGE_BYTES, run.content is not None)
            for run in group
        )
        return seal(PART, (prefix, *values, b"".join(table), *contents))


@attrs.frozen
class _Part:
    """One part, as it was read."""

    module_sha256: bytes
    pages: int
    index: int
    is_last: bool
    globals: tuple[GlobalValue, ...]
    runs: tuple[Run, ...]

    @classmethod
    def read(cls, sealed: bytes, where: str) -> _Part:
        body = unseal(PART, sealed, where)
        try:
            sha256, pages, index, flags, count, length, nbytes = _PREFIX.unpack_from(body)
            if flags & ~(_LAST | _COMPRESSED):
                raise ValueError(f"flags {flags}")
            values, start = _read_globals(body, _PREFIX.size, count)
            # Bounded by the body before it is looped over: a length is not believed.
            end = start + length * _RUN.size
            if end > len(body):
                raise ValueError(f"{length} runs in {len(body)} bytes")
            table = body[start:end]
            if nbytes != _content_bytes(table) or not 0 <= nbytes <= pages * PAGE_BYTES <= MOST_PAGES * PAGE_BYTES:
                raise ValueError(f"{nbytes} bytes of content in {pages} pages")
            runs = _read_runs(table, _content(body[end:], nbytes, is_compressed=bool(flags & _COMPRESSED)))
        except (ValueError, IndexError, struct.error, zlib.error, StateRefused) as error:
            raise damaged(where, "tables and content that fit each other", str(error)) from None
        return cls(sha256, pages, index, bool(flags & _LAST), values, runs)


def _read_globals(body: memoryview, start: int, count: int) -> tuple[tuple[GlobalValue, ...], int]:
    values = []
    for _ in range(count):
        name = _TYPES[body[start]]
        end = start + 1 + _WIDTHS[name]
        if end > len(body):
            raise ValueError(f"{count} globals in {len(body)} bytes")
        values.append(GlobalValue(name, int.from_bytes(body[start + 1 : end], "little")))
        start = end
    return tuple(values), start


def _content(stored: memoryview, nbytes: int, *, is_compressed: bool) -> memoryview:
    """The content of a part: exactly `nbytes` bytes, and never more of them in memory."""
    if not is_compressed:
        content = stored
    else:
        stream = zlib.decompressobj()
        # zlib takes 0 for no limit at all.
        content = memoryview(stream.decompress(stored, max(1, nbytes)))
        if not stream.eof or stream.unused_data:
            raise ValueError("compressed content of another size")
    if len(content) != nbytes:
        raise ValueError(f"{len(content)} bytes of content instead of {nbytes}")
    return content


def _content_bytes(table: memoryview) -> int:
    pages: int = sum(count for _, count, kind in _RUN.iter_unpack(table) if kind)
    return pages * SYSTEM_PAGE_BYTES


def _read_runs(table: memoryview, content: memoryview) -> tuple[Run, ...]:
    runs = []
    start = 0
    for first, count, kind in _RUN.iter_unpack(table):
        if kind not in (0, 1):
            raise ValueError(f"a run of the kind {kind}")
        nbytes = count * SYSTEM_PAGE_BYTES
        end = start + nbytes if kind else start
        runs.append(Run(first * SYSTEM_PAGE_BYTES, nbytes, content[start:end] if kind else None))
        start = end
    return tuple(runs)


def _check_place(part: _Part, first: _Part, index: int, count: int, where: str) -> None:
    if (part.module_sha256, part.pages) != (first.module_sha256, first.pages):
        raise damaged(where, "parts of one snapshot", f"another one as part {index + 1}")
    if part.index != index or part.is_last is not (index + 1 == count):
        last = ", the last" if part.is_last else ""
        raise damaged(where, f"part {index + 1} of {count}", f"part {part.index + 1}{last}")
    if index and part.globals:
        raise damaged(where, "globals in the first part", f"some in part {index + 1}")
