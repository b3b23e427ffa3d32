"""What plugins weighed last time: small files that may be spoiled, and two writers that may not spoil them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import Candidate

from weighbridge.admission.weights import Weight, Weights

LAMP = Candidate(name="lamp", group="weighbridge", value="lamp:Lamp", distribution="weighbridge-lamp", version="1.0")
WEIGHT = Weight(traced_bytes=123 * 1024, resident_bytes=456 * 1024, import_seconds=0.25)
GOOD = {"traced_bytes": 1, "resident_bytes": 2, "import_seconds": 0.5}


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return Weights(tmp_path / "weights")


@contextmanager
def no_room_for_files() -> Iterator[None]:
    """A disk that takes not one byte more, even from root: https://man7.org/linux/man-pages/man2/setrlimit.2.html."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(traced=st.integers(0, 1 << 60), resident=st.integers(0, 1 << 60), seconds=st.floats(0, 1e9))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_put_comes_back(weights: Weights, traced: int, resident: int, seconds: float) -> None:
    """A weight survives its file exactly, the fraction of its seconds too, and the last one put counts."""
    weight = Weight(traced_bytes=traced, resident_bytes=resident, import_seconds=seconds)
    weights.put(LAMP, weight)
    assert weights.get(LAMP) == weight
    assert Weights(weights.folder).get(LAMP) == weight


def test_what_was_never_weighed_is_unknown(weights: Weights) -> None:
    """A folder that does not exist is the same as no weight, and looking does not make it."""
    assert weights.get(LAMP) is None
    assert not weights.folder.exists()


@given(traced=st.integers(0, 1 << 60), resident=st.integers(0, 1 << 60))
def test_the_estimate_is_the_heavier_figure(traced: int, resident: int) -> None:
    """By the ceiling it is resident bytes that count if they are more, and traced bytes if those are."""
    weight = Weight(traced_bytes=traced, resident_bytes=resident, import_seconds=0)
    assert weight.estimate_bytes == max(traced, resident)


@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(LAMP, name="2"),
        attrs.evolve(LAMP, group="2"),
        attrs.evolve(LAMP, distribution="2"),
        attrs.evolve(LAMP, version="2"),
    ],
)
def test_weights_are_kept_apart(weights: Weights, other: Candidate) -> None:
    """Another version, distribution, group or name is another weight; the value of the entry point is not."""
    weights.put(LAMP, WEIGHT)
    assert weights.get(other) is None
    assert weights.get(attrs.evolve(LAMP, value="lamp.other:Lamp")) == WEIGHT


def test_another_python_has_weights_of_its_own(weights: Weights) -> None:
    """The file lies in a folder named for implementation and version, so that no Python reads another's."""
    file = weights.put(LAMP, WEIGHT)
    assert file.parent.name == f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"
    assert file.parent.parent == weights.folder
    file.parent.rename(weights.folder / "cpython-2.7")
    assert weights.get(LAMP) is None


@given(name=st.text(min_size=1, max_size=8), version=st.text(max_size=6))  # a file name has at most 255 bytes
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_makes_a_file_in_the_folder(weights: Weights, name: str, version: str) -> None:
    """Slashes, dots, plus signs and NUL stay inside the folder and lead to no other candidate's file."""
    odd = attrs.evolve(LAMP, name=name, version=version)
    file = weights.put(odd, WEIGHT)
    assert file.parent.parent == weights.folder
    assert weights.get(odd) == WEIGHT
    file.unlink()


@pytest.mark.parametrize("name", ["a/b", "../../lamp", "/lamp", "a+b", ".", "..", "a\0b", "C:\\lamp"])
def test_a_name_cannot_lead_out_of_the_folder(weights: Weights, name: str) -> None:
    """A hostile name of an entry point is a file name like any other."""
    file = weights.put(attrs.evolve(LAMP, name=name), WEIGHT)
    assert file.resolve().parent.parent == weights.folder.resolve()
    assert weights.get(attrs.evolve(LAMP, name=name)) == WEIGHT


def test_a_plus_sign_does_not_mix_two_candidates_up(weights: Weights) -> None:
    """The sign between the parts of a file name is quoted inside of them."""
    weights.put(attrs.evolve(LAMP, version="1+group", group="x"), WEIGHT)
    assert weights.get(attrs.evolve(LAMP, version="1", group="group+x")) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"[" * 100_000,
        b"{}",
        json.dumps({**GOOD, "traced_bytes": "1"}).encode(),
        json.dumps({**GOOD, "traced_bytes": 1.0}).encode(),
        json.dumps({**GOOD, "traced_bytes": True}).encode(),
        json.dumps({**GOOD, "traced_bytes": None}).encode(),
        json.dumps({**GOOD, "resident_bytes": -1}).encode(),
        json.dumps({**GOOD, "resident_bytes": [2]}).encode(),
        json.dumps({**GOOD, "import_seconds": "0.5"}).encode(),
        json.dumps({**GOOD, "import_seconds": -0.5}).encode(),
        json.dumps({**GOOD, "import_seconds": False}).encode(),
        json.dumps({**GOOD, "import_seconds": float("nan")}).encode(),
        json.dumps({**GOOD, "import_seconds": float("inf")}).encode(),
        json.dumps({**GOOD, "import_seconds": 10**400}).encode(),
        json.dumps({key: GOOD[key] for key in ("traced_bytes", "resident_bytes")}).encode(),
    ],
    ids=lambda content: repr(content[:48]),
)
def test_a_spoiled_file_is_the_same_as_none(weights: Weights, content: bytes) -> None:
    """Whatever is in the file, the answer is a weight or None; the next weighing mends it."""
    file = weights.put(LAMP, WEIGHT)
    file.write_bytes(content)
    assert weights.get(LAMP) is None
    weights.put(LAMP, WEIGHT)
    assert weights.get(LAMP) == WEIGHT


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_in_the_file_raise_nothing(weights: Weights, content: bytes) -> None:
    """A file that a crash left behind never costs a load."""
    weights.put(LAMP, WEIGHT).write_bytes(content)
    assert weights.get(LAMP) is None


def test_a_field_that_a_later_version_adds_is_ignored(weights: Weights) -> None:
    """An older host reads what a newer one wrote."""
    file = weights.put(LAMP, WEIGHT)
    file.write_text(json.dumps({**GOOD, "colour": "white"}))
    assert weights.get(LAMP) == Weight(traced_bytes=1, resident_bytes=2, import_seconds=0.5)


def test_a_folder_in_place_of_the_file_is_the_same_as_none(weights: Weights) -> None:
    """Reading it is an OSError like any other; writing it raises one, and leaves no temporary file."""
    file = weights.put(LAMP, WEIGHT)
    file.unlink()
    file.mkdir()
    assert weights.get(LAMP) is None
    with pytest.raises(OSError, match=file.name.replace("+", r"\+")):
        weights.put(LAMP, WEIGHT)
    assert list(file.parent.iterdir()) == [file]


def test_a_file_in_place_of_the_folder_is_an_os_error(tmp_path: Path) -> None:
    """Where the folder cannot be made, putting raises and getting knows nothing."""
    (tmp_path / "weights").write_text("in the way")
    weights = Weights(tmp_path / "weights")
    with pytest.raises(OSError, match="weights"):
        weights.put(LAMP, WEIGHT)
    assert weights.get(LAMP) is None
    assert (tmp_path / "weights").read_text() == "in the way"


def test_a_full_disk_leaves_the_old_weight(weights: Weights) -> None:
    """A write that fails half-way raises OSError, and the weight of before is still there, with nothing beside it."""
    file = weights.put(LAMP, WEIGHT)
    with no_room_for_files(), pytest.raises(OSError, match="too large"):
        weights.put(LAMP, Weight(traced_bytes=9, resident_bytes=9, import_seconds=9))
    assert weights.get(LAMP) == WEIGHT
    assert list(file.parent.iterdir()) == [file]


WRITER = """
import sys
from pathlib import Path
from weighbridge_hookspecs import Candidate
from weighbridge.admission.weights import Weight, Weights

lamp = Candidate(name="lamp", group="weighbridge", value="lamp:Lamp", distribution="weighbridge-lamp", version="1.0")
weights, mine = Weights(Path(sys.argv[1])), int(sys.argv[2])
weight = Weight(traced_bytes=mine, resident_bytes=mine, import_seconds=mine)
sys.stdin.readline()
for _ in range(300):
    weights.put(lamp, weight)
"""


def test_two_writers_at_once_do_not_spoil_each_other(weights: Weights) -> None:
    """While two processes write different weights, every reading is one of the two, whole."""
    sizes = (1, 10**12)  # files of different lengths, so that a mixture would show
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(weights.folder), str(size)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for size in sizes
    ]
    whole = [Weight(traced_bytes=size, resident_bytes=size, import_seconds=size) for size in sizes]
    file = weights.put(LAMP, whole[0])
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    readings = [weights.get(LAMP)]
    while any(writer.poll() is None for writer in writers):
        readings.append(weights.get(LAMP))
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert all(reading in whole for reading in readings)
    assert list(file.parent.iterdir()) == [file]


def test_the_folder_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """WEIGHBRIDGE_CACHE names the cache; without it the user's cache folder is taken; both are read on first use."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "ours"))
    assert Weights().folder == tmp_path / "ours" / "weights"
    monkeypatch.delenv("WEIGHBRIDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert Weights().folder == tmp_path / "user" / "weighbridge" / "weights"
