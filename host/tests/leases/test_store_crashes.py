"""Processes that end in the middle: killed, forked, two at once. Nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import random
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Final

import pytest
from weighbridge_hookspecs import ConfigurationError

from weighbridge.leases.store import FILE_BYTES, StoreFile

WRITES: Final = 50
# Small values, large ones, and each replaced by one of the other kind; one byte of the pipe for each that was kept.
WRITER: Final = """
import os, sys
from weighbridge.leases.store import StoreFile

path, first, sizes = sys.argv[1], int(sys.argv[2]), [int(size) for size in sys.argv[3].split(",")]
store = StoreFile(path).namespace("kettle")
os.write(1, b".")
for number in range(first, first + 50):
    size = sizes[number % len(sizes)]
    store.put(f"{number % 7}", number.to_bytes(4, "big") * (size // 4))
    os.write(1, b".")
    if number % 5 == 4:
        store.delete(f"{number % 7}")
        os.write(1, b".")
os.write(1, b"!")
os.read(0, 1)
"""


def begin(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def kill(process: subprocess.Popen[bytes]) -> bytes:
    """Kill, and give what was still in the pipe."""
    process.send_signal(signal.SIGKILL)
    rest = output(process).read()
    process.communicate()
    return rest


def history(first: int, sizes: tuple[int, ...]) -> list[dict[str, bytes]]:
    """What the store holds after each step of the writer, which begins with what the writer before it left."""
    states: list[dict[str, bytes]] = [{}]
    for number in range(first, first + WRITES):
        value = number.to_bytes(4, "big") * (sizes[number % len(sizes)] // 4)
        states.append({**states[-1], f"{number % 7}": value})
        if number % 5 == 4:
            states.append({key: value for key, value in states[-1].items() if key != f"{number % 7}"})
    return states


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path, seed: int) -> None:
    """Wherever the kill falls in 50 writes, the store holds what was acknowledged, or that and the step under way."""
    chance = random.Random(seed)
    sizes = (400, FILE_BYTES, 4 * FILE_BYTES, 4)
    states = history(0, sizes)
    path = tmp_path / "store"
    writer = begin(WRITER, path, 0, ",".join(map(str, sizes)))
    assert output(writer).read(1) == b"."  # it is open
    stop = chance.randrange(len(states))
    acknowledged = len(b"".join(output(writer).read(1) for _ in range(stop)))
    with selectors.DefaultSelector() as selector:  # up to a write later: a kill does not fall between steps only
        selector.register(output(writer), selectors.EVENT_READ)
        selector.select(chance.random() * 0.004)
    acknowledged += kill(writer).count(b".")
    with StoreFile(path) as opened:
        store = opened.namespace("kettle")
        found = {key: store.get(key) for key in list(store.keys())}
        assert found in states[acknowledged : acknowledged + 2]
        files = sum(len(value) >= FILE_BYTES for value in found.values() if value is not None)
        assert (opened.statistics().files, opened.verify()) == (files, ())
        assert len(list(path.with_name("store.values").glob("*"))) == files


def test_files_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    """What was written and never entered into the index is removed at the next opening, and nothing else is."""
    folder = tmp_path / "store.values"
    with StoreFile(tmp_path / "store") as opened:
        opened.namespace("kettle").put("tea", b"g" * FILE_BYTES)
    (kept,) = folder.iterdir()
    for name in ("0" * 32, "1" * 32 + ".tmp", "notes.txt"):
        (folder / name).write_bytes(b"half")
    with StoreFile(tmp_path / "store") as opened:
        assert opened.statistics().swept == 2
        assert sorted(folder.iterdir()) == sorted([kept, folder / "notes.txt"])
        assert opened.namespace("kettle").get("tea") == b"g" * FILE_BYTES


HOLDER: Final = """
import os, sys
from weighbridge.leases.store import StoreFile
opened = StoreFile(sys.argv[1])
os.write(1, b".")
os.read(0, 1)
"""


def test_a_second_process_is_told_who_has_the_file(tmp_path: Path) -> None:
    """The error names the file and the process; once that one is killed, the file opens."""
    holder = begin(HOLDER, tmp_path / "store")
    assert output(holder).read(1) == b"."
    with pytest.raises(ConfigurationError) as caught:
        StoreFile(tmp_path / "store")
    assert str(caught.value) in (
        f"the store {tmp_path / 'store'} is in use by {who}. Close it there, or name another file here"
        for who in (f"process {holder.pid}", "another process")
    )
    kill(holder)
    StoreFile(tmp_path / "store").close()


CONTENDER: Final = """
import os, sys
from weighbridge.leases.store import StoreFile
from weighbridge_hookspecs import ConfigurationError
os.write(1, b".")
os.read(0, 1)
try:
    opened = StoreFile(sys.argv[1])
    os.write(1, b"1")
except ConfigurationError as error:
    assert "is in use by" in str(error), error
    os.write(1, b"0")
os.read(0, 1)
"""


@pytest.mark.parametrize("is_new", [True, False])
def test_of_processes_that_open_at_once_one_gets_the_file(tmp_path: Path, is_new: bool) -> None:
    """Four start at the same moment, on a new file or an old one: at most one has it, and the others are told so."""
    if not is_new:
        StoreFile(tmp_path / "store").close()
    contenders = [begin(CONTENDER, tmp_path / "store") for _ in range(4)]
    for one in contenders:
        assert output(one).read(1) == b"."
    for one in contenders:
        assert one.stdin is not None
        one.stdin.write(b"g")
    results = [output(one).read(1) for one in contenders]
    for one in contenders:
        kill(one)
    assert results.count(b"1") == 1
    assert results.count(b"0") == 3
    with StoreFile(tmp_path / "store") as opened:
        assert opened.verify() == ()


# The child ends as an interpreter does, and lets go of everything that it got; the parent writes on and is killed.
FORKING: Final = """
import os, sys
from weighbridge.leases.store import StoreFile
from weighbridge_hookspecs import ContextClosed
opened = StoreFile(sys.argv[1])
store = opened.namespace("kettle")
store.put("before", b"1")
child = os.fork()
if not child:
    try:
        store.get("before")
    except ContextClosed as error:
        assert f"opened by process {os.getppid()}" in str(error), error
        opened.close()
        del opened, store
        sys.exit(7)
    sys.exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
store.put("after", b"2")
os.write(1, b".")
os.read(0, 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_takes_nothing_from_its_parent(tmp_path: Path) -> None:
    """A child may not use the store of its parent, and its end does not remove the log that the parent writes."""
    parent = begin(FORKING, tmp_path / "store")
    assert output(parent).read(1) == b"."
    kill(parent)
    with StoreFile(tmp_path / "store") as opened:
        store = opened.namespace("kettle")
        assert (store.get("before"), store.get("after")) == (b"1", b"2")
