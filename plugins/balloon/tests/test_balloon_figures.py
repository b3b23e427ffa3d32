"""Figures of the machine: /proc/meminfo, the lists of processors, and both together with a balloon."""

from __future__ import annotations

import mmap
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.gauge import Gauge, MeminfoFile
from weighbridge_balloon.kept import KeptFile
from weighbridge_balloon.levels.level import UNKNOWN, Level
from weighbridge_balloon.meminfo import Memory, parse_meminfo
from weighbridge_balloon.percpu import PerCpuLists, sum_counts

KIB = 1024
MEMINFO = """MemTotal:        1014000 kB
MemFree:          512000 kB
MemAvailable:     700000 kB
Committed_AS:     123456 kB
Balloon:           65536 kB
HugePages_Total:       0
"""
ZONEINFO = """Node 0, zone   Normal
  pages free     128000
        high     22141
  pagesets
    cpu: 0
              count:    7710
              high:     9072
    cpu: 1
              count:    290
              high:     9072
"""


@attrs.define
class Place:
    """A place that knows of the balloon."""

    level: Level
    name: str = "place"
    reads: int = 0
    closed: int = 0

    @property
    def sees_target(self) -> bool:
        return self.level.wanted_bytes is not None

    def read(self) -> Level:
        self.reads += 1
        return self.level

    def close(self) -> None:
        self.closed += 1


def gauge(root: Path, *places: Place, lists: bool = False) -> Gauge:
    return Gauge(MeminfoFile(KeptFile(root / "proc/meminfo")), places, PerCpuLists(root) if lists else None)


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_is_read_in_bytes() -> None:
    """What the kernel says in KiB is given in bytes."""
    assert parse_meminfo(MEMINFO.encode()) == Memory(
        total_bytes=1014000 * KIB,
        free_bytes=512000 * KIB,
        available_bytes=700000 * KIB,
        committed_bytes=123456 * KIB,
        balloon_bytes=65536 * KIB,
    )


def test_what_an_older_kernel_does_not_say_is_unknown() -> None:
    """A kernel before 6.16 has no size of the balloon, and that is not a size of 0."""
    memory = parse_meminfo(MEMINFO.replace("Balloon", "Bounce").encode())
    assert memory.balloon_bytes is None
    assert memory.free_bytes == 512000 * KIB


@pytest.mark.parametrize(
    "line", ["MemFree: many kB", "MemFree: -5 kB", "MemFree: 5 MB", f"MemFree: {10**19} kB", "MemFree:"]
)
def test_field_that_makes_no_sense_is_unknown(line: str) -> None:
    """A number that is none, in another unit or of another world counts as missing."""
    assert parse_meminfo(line.encode()).free_bytes is None


@given(st.binary(max_size=300))
def test_any_text_is_read(text: bytes) -> None:
    """Parsing never raises, and whatever it gives is 0 or more."""
    for number in (*attrs.astuple(parse_meminfo(text)), sum_counts(text)):
        assert number is None or number >= 0


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_numbers_are_read_as_they_were_written(free: int, available: int) -> None:
    """Whatever the sizes and the padding."""
    memory = parse_meminfo(f"MemFree:{free:>20} kB\nMemAvailable: {available} kB\n".encode())
    assert (memory.free_bytes, memory.available_bytes) == (free * KIB, available * KIB)


def test_kept_file_is_read_anew_each_time(tmp_path: Path) -> None:
    """One descriptor, and the text of this moment; longer than one read gives, too."""
    path = put(tmp_path, "proc/meminfo", "one")
    file = KeptFile(path)
    assert file.read() == b"one"
    path.write_text("2" * 50_000)
    assert file.read() == b"2" * 50_000
    file.close()
    assert file.read() == b"2" * 50_000
    file.close()


def test_kept_file_that_is_missing_may_come(tmp_path: Path) -> None:
    """A file that is not there is None, and is looked for again."""
    file = KeptFile(tmp_path / "late")
    assert file.read() is None
    (tmp_path / "late").write_text("here")
    assert file.read() == b"here"
    file.close()


def test_size_comes_from_meminfo_alone_where_that_has_it(tmp_path: Path) -> None:
    """No second file is read for what the first one said."""
    put(tmp_path, "proc/meminfo", MEMINFO)
    place = Place(Level(actual_bytes=1))
    one = gauge(tmp_path, place)
    assert one.read().balloon_bytes == 65536 * KIB
    assert place.reads == 0


def test_target_is_read_beside_the_size(tmp_path: Path) -> None:
    """The first place that sees a target counts, whoever gave the size."""
    put(tmp_path, "proc/meminfo", MEMINFO)
    one = gauge(tmp_path, Place(UNKNOWN), Place(Level(wanted_bytes=77)), Place(Level(wanted_bytes=88)))
    assert one.read().wanted_bytes == 77


def test_places_complete_each_other(tmp_path: Path) -> None:
    """A size from one place and a target from another, on a kernel whose meminfo has neither."""
    put(tmp_path, "proc/meminfo", MEMINFO.replace("Balloon", "Bounce"))
    figures = gauge(tmp_path, Place(Level(wanted_bytes=-5)), Place(Level(actual_bytes=99))).read()
    assert (figures.balloon_bytes, figures.wanted_bytes) == (99, -5)


def test_what_processors_keep_is_free_at_a_close_look(tmp_path: Path) -> None:
    """Pages in their lists are counted as free and as available; a quick look leaves them out."""
    put(tmp_path, "proc/meminfo", MEMINFO)
    put(tmp_path, "proc/zoneinfo", ZONEINFO)
    one = gauge(tmp_path, lists=True)
    quick, close = one.read(), one.read_closely()
    assert quick.free_bytes == 512000 * KIB
    assert close.free_bytes == 512000 * KIB + 8000 * mmap.PAGESIZE
    assert close.available_bytes == 700000 * KIB + 8000 * mmap.PAGESIZE
    one.close()


def test_machine_that_shows_nothing_is_unknown(tmp_path: Path) -> None:
    """Without /proc every figure is None, at a close look as well."""
    one = gauge(tmp_path, lists=True)
    assert set(attrs.astuple(one.read_closely())) == {None}


def test_closing_closes_every_place(tmp_path: Path) -> None:
    """The gauge closes what it was given."""
    place = Place(UNKNOWN)
    gauge(tmp_path, place).close()
    assert place.closed == 1


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="there is no /proc")
def test_this_machine_has_free_memory() -> None:
    """The real files are understood: something is free, and not more than there is."""
    one = gauge(Path("/"), lists=True)
    figures = one.read_closely()
    assert figures.free_bytes is not None
    assert figures.total_bytes is not None
    assert 0 < figures.free_bytes < figures.total_bytes
    one.close()
