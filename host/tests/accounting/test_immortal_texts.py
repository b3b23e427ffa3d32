"""What the interpreter keeps of code that is gone: counted as tracemalloc counts it."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType

import pytest

from weighbridge.accounting.immortal import immortal_bytes

NAMES = 3000
IMPORT_AND_FORGET = """
import gc, importlib, json, sys, tracemalloc
from weighbridge.accounting.immortal import immortal_bytes
from weighbridge.weighing.tare import make_room_for_names

folder, sys.dont_write_bytecode = sys.argv[1], sys.argv[2] == "source"
sys.path.insert(0, folder)
names = make_room_for_names()
importlib.import_module("little")
gc.collect()
before = tracemalloc.get_traced_memory()[0]
file = importlib.import_module("crowded").__file__
del sys.modules["crowded"]
gc.collect()
left = tracemalloc.get_traced_memory()[0] - before
print(json.dumps({"left": left, "immortal": immortal_bytes([file], list)}))
"""


@pytest.fixture
def tracing() -> Iterator[None]:
    """Tracing, for as long as the test takes."""
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("form", ["source", "bytecode"])
def test_what_stays_of_a_module_is_what_is_said_to_be_immortal(tmp_path: Path, form: str) -> None:
    """On every Python, whether the code was compiled at its import or read from a compiled file."""
    source = "".join(
        f"def carry_{number}(load_{number}):\n    ready_{number} = 'loaded_{number}'\n    return ready_{number}\n"
        for number in range(NAMES)
    )
    (tmp_path / "crowded.py").write_text(source)
    (tmp_path / "little.py").write_text("")
    figures = []
    for _ in range(2):  # the first one leaves the compiled file, where one may be left
        command = [sys.executable, "-X", "tracemalloc=1", "-c", IMPORT_AND_FORGET, str(tmp_path), form]
        figures.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    assert (tmp_path / "__pycache__").exists() == (form == "bytecode")
    for figure in figures:
        assert figure["immortal"] == pytest.approx(figure["left"], rel=0.02, abs=2048)
        if sys.version_info < (3, 12):
            assert figure["immortal"] == 0
        else:
            assert figure["immortal"] > NAMES * 3 * sys.getsizeof("carry_1")


def test_nothing_is_known_while_nothing_traces(tmp_path: Path) -> None:
    """What is not known is None, not 0."""
    assert not tracemalloc.is_tracing()
    assert immortal_bytes([str(tmp_path / "none.py")], list) is None


@pytest.mark.usefixtures("tracing")
def test_what_cannot_be_read_counts_for_nothing(tmp_path: Path) -> None:
    """A file that has gone, one that is no Python, and a compiled module, are not the end of an unload."""
    broken, compiled, stale = tmp_path / "broken.py", tmp_path / "library.so", tmp_path / "stale.pyc"
    broken.write_text("def (:\n")
    compiled.write_bytes(b"\x7fELF\x00\xff\xfe")
    stale.write_bytes(b"no code at all, but as long as a header")
    files = map(str, (tmp_path / "gone.py", broken, compiled, stale))
    assert immortal_bytes(files, list) == 0


@pytest.mark.usefixtures("tracing")
def test_texts_that_living_code_uses_are_left_out(tmp_path: Path) -> None:
    """They would be there without the module that is gone."""
    names = [f"{tmp_path.name}_{number}" for number in range(10)]  # new ones, made after tracing began
    file = tmp_path / "shared.py"
    file.write_text(" + ".join(names))
    scope: dict[str, FunctionType] = {}
    exec(f"def other(): return {' + '.join(names[:5])}\ndef another(): return {' + '.join(names[5:])}", scope)
    alone, beside = (immortal_bytes([str(file)], partial(list, used)) for used in ([], [scope["other"]]))
    assert alone is not None
    assert beside is not None
    assert alone - beside == (0 if sys.version_info < (3, 12) else sum(map(sys.getsizeof, names[:5])))


@pytest.mark.usefixtures("tracing")
def test_texts_that_came_with_the_reading_are_left_out(tmp_path: Path) -> None:
    """A module that was edited after its import has names that nobody had before."""
    file = tmp_path / "edited.py"
    file.write_text(f"{tmp_path.name}_edited = None")
    assert immortal_bytes([str(file)], list) == 0


@pytest.mark.usefixtures("tracing")
def test_a_source_that_is_warned_about_is_read_in_silence(tmp_path: Path) -> None:
    """Its import has said so already; here, a warning would be an error."""
    file = tmp_path / "escaped.py"
    file.write_text("pattern = '\\d'")
    assert immortal_bytes([str(file)], list) == 0
