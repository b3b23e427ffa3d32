"""Snapshots as bytes, and back."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import StateRefused, StorageDamaged

from weighbridge_wasm.config import MOST_PAGES, PAGE_BYTES
from weighbridge_wasm.state import SYSTEM_PAGE_BYTES, GlobalValue, Run, Snapshot
from weighbridge_wasm.state.frames import DIGEST_BYTES, FORMAT, HEAD, PART, seal, unseal

SHA = hashlib.sha256(b"a module").digest()
HEADER_BYTES = 20
WIDTHS = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Memories of up to 3 pages with runs of zeros and of something, and globals of every type."""
    pages = draw(st.integers(0, 3))
    kinds = draw(st.lists(st.sampled_from("-0ab"), max_size=pages * PAGE_BYTES // SYSTEM_PAGE_BYTES))
    runs = []
    for index, kind in enumerate(kinds):
        content = None if kind == "0" else bytes((index + 1, ord(kind))) * (SYSTEM_PAGE_BYTES // 2)
        if kind != "-":
            runs.append(Run(index * SYSTEM_PAGE_BYTES, SYSTEM_PAGE_BYTES, content))
    types = draw(st.lists(st.sampled_from(sorted(WIDTHS)), max_size=4))
    values = tuple(GlobalValue(name, draw(st.integers(0, 2 ** (8 * WIDTHS[name]) - 1))) for name in types)
    return Snapshot(
        module_sha256=draw(st.binary(min_size=32, max_size=32)), pages=pages, runs=tuple(runs), globals=values
    )


SAMPLE = Snapshot(
    module_sha256=SHA,
    pages=2,
    runs=(
        Run(0, 2 * SYSTEM_PAGE_BYTES, b"\x11\x22" * SYSTEM_PAGE_BYTES),
        Run(4 * SYSTEM_PAGE_BYTES, SYSTEM_PAGE_BYTES, None),
        Run(31 * SYSTEM_PAGE_BYTES, SYSTEM_PAGE_BYTES, b"\x33" * SYSTEM_PAGE_BYTES),
    ),
    globals=(GlobalValue("i32", 0xFFFFFFFF), GlobalValue("v128", 2**127)),
)
SEALED = SAMPLE.to_bytes()
SQUEEZED = SAMPLE.to_bytes(compress=True)


def memory_of(snapshot: Snapshot, filling: int = 0) -> bytes:
    """The memory after it was put back into one that is full of a byte."""
    memory = bytearray(bytes((filling,)) * snapshot.memory_bytes)

    def write(offset: int, content: bytes | memoryview) -> None:
        memory[offset : offset + len(content)] = content

    snapshot.restore(write)
    assert len(memory) == snapshot.memory_bytes
    return bytes(memory)


def resealed(sealed: bytes, body: bytes) -> bytes:
    """The same envelope around another body, with a checksum that is right."""
    return seal(PART, (body,), number=int.from_bytes(sealed[8:10], "little"))


def body_of(sealed: bytes) -> bytes:
    return sealed[HEADER_BYTES:-DIGEST_BYTES]


@given(snapshots(), st.booleans())
def test_snapshot_is_read_as_it_was_written(snapshot: Snapshot, compress: bool) -> None:
    """Whatever the memory and the globals, compressed or not."""
    read = Snapshot.from_bytes(snapshot.to_bytes(compress=compress))
    assert read == snapshot
    assert memory_of(read, 0xEE) == memory_of(snapshot, 0xEE)


@given(snapshots(), st.integers(0, 10 * SYSTEM_PAGE_BYTES), st.booleans())
def test_parts_are_one_snapshot_again(snapshot: Snapshot, limit: int, compress: bool) -> None:
    """However it is cut, the memory is the same, and no part has more content than was allowed."""
    parts = list(snapshot.parts(limit_bytes=limit, compress=compress))
    read = Snapshot.from_parts(parts)
    assert memory_of(read, 0xEE) == memory_of(snapshot, 0xEE)
    assert (read.module_sha256, read.pages, read.globals) == (snapshot.module_sha256, snapshot.pages, snapshot.globals)
    assert read.content_bytes == snapshot.content_bytes
    tables = 200 + 9 * len(snapshot.runs) + 17 * len(snapshot.globals)
    assert all(len(part) <= max(limit, SYSTEM_PAGE_BYTES) + tables for part in parts)


@given(snapshots().filter(lambda snapshot: len(snapshot.runs) > 2), st.data())
def test_parts_out_of_place_are_damage(snapshot: Snapshot, data: st.DataObject) -> None:
    """One that is missing, twice there, in another order or of another snapshot is found."""
    parts = list(snapshot.parts(limit_bytes=SYSTEM_PAGE_BYTES))
    chosen = data.draw(st.lists(st.sampled_from(parts), max_size=len(parts) + 1))
    if chosen == parts:
        chosen.append(parts[-1])
    with pytest.raises(StorageDamaged, match=r"a state|a snapshot"):
        Snapshot.from_parts(chosen)


def test_parts_of_two_snapshots_are_damage() -> None:
    """Parts of the same module and size are still told apart by their pages, and of others by their names."""
    mine = list(SAMPLE.parts(limit_bytes=SYSTEM_PAGE_BYTES))
    other = Snapshot(module_sha256=hashlib.sha256(b"other").digest(), pages=2, runs=SAMPLE.runs)
    with pytest.raises(StorageDamaged, match="another one as part 2"):
        Snapshot.from_parts([mine[0], *list(other.parts(limit_bytes=SYSTEM_PAGE_BYTES))[1:]])


@pytest.mark.parametrize("sealed", [SEALED, SQUEEZED], ids=["plain", "compressed"])
def test_every_truncation_is_damage(sealed: bytes) -> None:
    """Whatever is missing at the end, it is found, and the text says what it is of."""
    for length in [*range(200), *range(200, len(sealed), 97), len(sealed) - 1]:
        with pytest.raises(StorageDamaged, match=r"the state of \"m\", part 1 of 1, is damaged"):
            Snapshot.from_bytes(sealed[:length], where='the state of "m"')


@pytest.mark.parametrize("sealed", [SEALED, SQUEEZED], ids=["plain", "compressed"])
@given(st.data())
def test_every_flip_is_damage(sealed: bytes, data: st.DataObject) -> None:
    """One bit or many, anywhere: never another error, and never a wrong snapshot."""
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.binary(min_size=1, max_size=9).filter(lambda new: new != sealed[at : at + len(new)]))
    with pytest.raises(StorageDamaged):
        Snapshot.from_bytes(sealed[:at] + other + sealed[at + len(other) :])


def test_every_flip_of_the_first_bytes_is_damage() -> None:
    """In the envelope and the tables, each bit of each byte: none is taken for a newer format."""
    for at in range(160):
        for bit in range(8):
            flipped = bytearray(SEALED)
            flipped[at] ^= 1 << bit
            with pytest.raises(StorageDamaged):
                Snapshot.from_bytes(bytes(flipped))


@given(st.binary(max_size=300))
def test_any_bytes_are_damage(content: bytes) -> None:
    """What was never a snapshot is none."""
    with pytest.raises(StorageDamaged):
        Snapshot.from_bytes(content)


@pytest.mark.parametrize("sealed", [SEALED, SQUEEZED], ids=["plain", "compressed"])
def test_body_can_be_sealed_again(sealed: bytes) -> None:
    """The tests below change a body and nothing else."""
    assert resealed(sealed, body_of(sealed)) == sealed


@settings(max_examples=300)
@given(sealed=st.sampled_from([SEALED, SQUEEZED]), data=st.data())
def test_lengths_are_not_believed(sealed: bytes, data: st.DataObject) -> None:
    """A body that makes no sense under a checksum that is right is damage, or a snapshot that holds together."""
    body = bytearray(body_of(sealed))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(body), 140) - 1))
        body[at : at + 4] = data.draw(
            st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0"]) | st.binary(min_size=1, max_size=4)
        )
    with suppress(StorageDamaged):
        read = Snapshot.from_bytes(resealed(sealed, bytes(body)))
        assert read.runs == () or read.runs[-1].end <= read.memory_bytes <= MOST_PAGES * PAGE_BYTES
        assert Snapshot.from_bytes(read.to_bytes()) == read


@pytest.mark.parametrize("length", [0, 3 * SYSTEM_PAGE_BYTES - 1, 3 * SYSTEM_PAGE_BYTES + 1, 2**40, 2**63])
def test_compressed_content_has_the_size_that_it_says(length: int) -> None:
    """A bomb is not unpacked, and less than was said is damage."""
    body = bytearray(body_of(SQUEEZED))
    body[49:57] = struct.pack("<Q", length)
    with pytest.raises(StorageDamaged, match="tables and content that fit each other"):
        Snapshot.from_bytes(resealed(SQUEEZED, bytes(body)))


def zeros(npages: int) -> Snapshot:
    """Two runs of zeros, and nothing else."""
    return Snapshot(module_sha256=SHA, pages=npages, runs=(Run(0, 4096, None), Run(8192, 4096, None)))


def with_number(body: bytes, at: int, layout: str, number: int) -> bytes:
    """The body with another number at a place of its prefix, whose parts are at 32, 36, 40, 41, 45 and 49."""
    return body[:at] + struct.pack(layout, number) + body[at + struct.calcsize(layout) :]


PLAIN, ZEROS, THIN = body_of(SEALED), body_of(zeros(1).to_bytes()), body_of(SQUEEZED)
TABLE = len(ZEROS) - 2 * 9
LONGER = zlib.compress(SEALED[-DIGEST_BYTES - 3 * SYSTEM_PAGE_BYTES : -DIGEST_BYTES] + b"x")
STORED = len(THIN) - len(zlib.compress(PLAIN[-3 * SYSTEM_PAGE_BYTES :], level=1))


@pytest.mark.parametrize(
    "body",
    [
        with_number(ZEROS, 45, "<I", 3),
        with_number(ZEROS, 45, "<I", 1),
        with_number(ZEROS, 40, "<B", 1 | 4),
        with_number(ZEROS, 32, "<I", MOST_PAGES + 1),
        with_number(ZEROS, 49, "<Q", 4096) + bytes(4096),
        with_number(PLAIN, TABLE + 8 + 5 + 17, "<B", 2),
        PLAIN + b"x",
        PLAIN[:-1],
        THIN + b"x",
        THIN[:-1],
        THIN[:STORED] + LONGER,
        with_number(ZEROS, 41, "<I", 1),
        ZEROS[:41] + struct.pack("<IIQ", 1, 0, 0) + b"\5\0\0\0\0",
        ZEROS[:41] + struct.pack("<IIQ", 1, 0, 0) + b"\4" + bytes(15),
    ],
    ids=[
        "more runs than there are",
        "fewer",
        "a flag of another format",
        "a memory that is too large",
        "content without a run",
        "a run of an unknown kind",
        "more content",
        "less content",
        "more behind what is compressed",
        "less of what is compressed",
        "compressed content that is longer",
        "a global that is not there",
        "a global of an unknown type",
        "a global that is cut",
    ],
)
def test_body_that_does_not_hold_together_is_damage(body: bytes) -> None:
    """Every length, kind and flag is looked at, even under a checksum that is right."""
    with pytest.raises(StorageDamaged, match=r"a snapshot.*is damaged"):
        Snapshot.from_bytes(seal(PART, (body,)))


def test_globals_are_in_the_first_part() -> None:
    """Some in another one would be left out in silence."""
    first, second = SAMPLE.parts(limit_bytes=2 * SYSTEM_PAGE_BYTES)
    body = with_number(body_of(second), 41, "<I", 1)
    other = body[:57] + b"\0" + bytes(4) + body[57:]
    assert Snapshot.from_parts((first, second)) == SAMPLE
    with pytest.raises(StorageDamaged, match="wanted globals in the first part, had some in part 2"):
        Snapshot.from_parts((first, seal(PART, (other,))))


def test_other_files_are_told_by_their_beginning() -> None:
    """What was never one of ours is called that, and not a checksum that is wrong."""
    with pytest.raises(StorageDamaged, match="at its beginning, had b'PNG"):
        Snapshot.from_bytes(b"PNG".ljust(100, b"\0"))
    with pytest.raises(StorageDamaged, match=f"wanted a body of {len(PLAIN)} bytes, had {len(PLAIN) - 5}"):
        Snapshot.from_bytes(SEALED[:-5])


def test_newer_format_is_refused_and_not_called_damaged() -> None:
    """It is whole: a newer version can read it."""
    newer = seal(PART, (b"what is to come",), number=FORMAT + 1)
    with pytest.raises(StateRefused, match=f"has the format {FORMAT + 1} \\(wanted at most {FORMAT}\\)"):
        Snapshot.from_bytes(newer)


def test_head_is_no_part() -> None:
    """One kind is not taken for the other."""
    with pytest.raises(StorageDamaged, match=f"wanted kind {PART}, had {HEAD}"):
        Snapshot.from_bytes(seal(HEAD, (body_of(SEALED),)))


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_envelope_holds_what_was_put_in(pieces: list[bytes]) -> None:
    """Pieces are joined, and views serve as well as bytes."""
    sealed = seal(HEAD, [memoryview(piece) for piece in pieces])
    assert unseal(HEAD, sealed, "it") == b"".join(pieces)


def test_content_is_not_copied_when_it_is_read() -> None:
    """A run of what was read is a view of the value that the store gave."""
    read = Snapshot.from_bytes(SEALED)
    assert all(
        isinstance(run.content, memoryview) and run.content.obj is SEALED for run in (read.runs[0], read.runs[2])
    )


def test_compression_is_kept_where_it_is_smaller() -> None:
    """Content that does not shrink is written as it is."""
    noise = Snapshot(module_sha256=SHA, pages=1, runs=(Run(0, PAGE_BYTES, os.urandom(PAGE_BYTES)),))
    assert len(SQUEEZED) < len(SEALED) // 10
    assert noise.to_bytes(compress=True) == noise.to_bytes()


def test_overhead_is_below_one_per_cent() -> None:
    """What is written is hardly more than the pages, even if no two of them are neighbours."""
    pages = tuple(Run(at, SYSTEM_PAGE_BYTES, b"\1" * SYSTEM_PAGE_BYTES) for at in range(0, 32 * PAGE_BYTES, 8192))
    snapshot = Snapshot(module_sha256=SHA, pages=32, runs=pages)
    assert len(snapshot.to_bytes()) < snapshot.content_bytes * 1.01


def test_memory_of_four_gibibytes_is_legal() -> None:
    """Its last page can be written and read, and its zeros cost nothing."""
    runs = (
        Run(0, 2**32 - SYSTEM_PAGE_BYTES, None),
        Run(2**32 - SYSTEM_PAGE_BYTES, SYSTEM_PAGE_BYTES, b"x" * SYSTEM_PAGE_BYTES),
    )
    snapshot = Snapshot(module_sha256=SHA, pages=MOST_PAGES, runs=runs)
    assert Snapshot.from_bytes(snapshot.to_bytes()) == snapshot
    assert len(snapshot.to_bytes()) < 2 * SYSTEM_PAGE_BYTES


@pytest.mark.parametrize(
    ("pages", "runs", "text"),
    [
        (-1, (), "a memory of -1 pages"),
        (MOST_PAGES + 1, (), "a memory of 65537 pages"),
        (0, (Run(0, 4096, None),), "ends at 4096 in a memory of 0 bytes"),
        (1, (Run(61440, 8192, None),), "ends at 69632 in a memory of 65536 bytes"),
        (1, (Run(4096, 4096, None), Run(0, 4096, None)), "a run at 0 after one that ends at 8192"),
        (1, (Run(0, 8192, None), Run(4096, 4096, None)), "a run at 4096 after one that ends at 8192"),
    ],
)
def test_runs_lie_within_the_memory_in_order(pages: int, runs: tuple[Run, ...], text: str) -> None:
    """Or there is no snapshot."""
    with pytest.raises(ValueError, match=text):
        Snapshot(module_sha256=SHA, pages=pages, runs=runs)


@pytest.mark.parametrize(
    ("offset", "nbytes", "content"),
    [(1, 4096, None), (0, 4095, None), (-4096, 4096, None), (0, 0, None), (0, 4096, b"short")],
)
def test_run_is_of_whole_pages(offset: int, nbytes: int, content: bytes | None) -> None:
    """Its content has its size."""
    with pytest.raises(ValueError, match="a run of"):
        Run(offset, nbytes, content)


def test_hash_has_its_length() -> None:
    """Hexadecimal digits are not taken for a hash."""
    with pytest.raises(ValueError, match="has 32 bytes, not 64"):
        Snapshot(module_sha256=SHA.hex().encode(), pages=0)


def test_global_has_the_width_of_its_type() -> None:
    """Bits are given as a number without a sign, and a reference cannot be kept."""
    for bits in (-1, 2**32):
        with pytest.raises(ValueError, match="is no i32"):
            GlobalValue("i32", bits)
    with pytest.raises(StateRefused, match="a global of the type funcref cannot be kept"):
        GlobalValue("funcref", 0)
