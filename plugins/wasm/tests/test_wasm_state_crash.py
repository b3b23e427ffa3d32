"""A process that is killed while it suspends, on the host's own store."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from weighbridge_hookspecs import StorageDamaged

from weighbridge_wasm.config import PAGE_BYTES
from weighbridge_wasm.state import SYSTEM_PAGE_BYTES, Snapshot, StateSlots, capture

store_module = pytest.importorskip("weighbridge.leases.store", reason="takes the host's store")

SHA = hashlib.sha256(b"a module").digest()
SUSPENDS_IN_A_LOOP = """
import hashlib, sys
from weighbridge.leases.store import StoreFile
from weighbridge_wasm.state import GlobalValue, Run, Snapshot, StateSlots

sha = hashlib.sha256(b"a module").digest()
with StoreFile(sys.argv[1]) as file:
    slots = StateSlots(file.namespace("wasm"), part_bytes=int(sys.argv[2]))
    for number in range(int(sys.argv[3]), 1_000_000_000):
        size = (number % 23 + 1) * 4096
        runs = (Run(0, size, bytes((number % 251,)) * size),)
        slots.save("m", Snapshot(module_sha256=sha, pages=2, runs=runs, globals=(GlobalValue("i64", number),)))
        print(number, flush=True)
"""


def snapshot_of(memory: bytes) -> Snapshot:
    """A state of that memory."""
    return Snapshot(module_sha256=SHA, pages=len(memory) // PAGE_BYTES, runs=capture(memoryview(memory), None))


def number_of(snapshot: Snapshot | None) -> int:
    """The number that the snapshot says in its global and in every byte."""
    assert snapshot is not None
    number = snapshot.globals[0].bits
    content = b"".join(bytes(run.content) for run in snapshot.runs if run.content is not None)
    assert content == bytes((number % 251,)) * ((number % 23 + 1) * SYSTEM_PAGE_BYTES)
    return number


def test_killed_process_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    """After each kill -9 the current state is whole: what was acknowledged last, or the one that was under way."""
    path = tmp_path / "store.sqlite3"
    chance = random.Random(6)
    last = 0
    for part_bytes in (2 * SYSTEM_PAGE_BYTES, PAGE_BYTES, SYSTEM_PAGE_BYTES):
        arguments = [sys.executable, "-c", SUSPENDS_IN_A_LOOP, str(path), str(part_bytes), str(last + 1)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            wanted = last + chance.randrange(3, 40)
            for line in process.stdout:
                last = int(line)
                if last >= wanted:
                    break
            process.kill()
            last = max([last, *map(int, process.stdout.read().split())])
        with store_module.StoreFile(path) as file:
            slots = StateSlots(file.namespace("wasm"))
            number = number_of(slots.load("m", SHA))
            assert number in (last, last + 1)
            assert file.verify() == ()
        last = number
    assert last > 9


def test_state_of_the_host_is_named_when_it_is_damaged(tmp_path: Path) -> None:
    """A file of a value that was changed on the disk is found, and the previous state is there."""
    path = tmp_path / "store.sqlite3"
    nbytes = 8 * PAGE_BYTES
    with store_module.StoreFile(path) as file:
        slots = StateSlots(file.namespace("wasm"))
        for letter in (b"a", b"b"):
            slots.save("m", snapshot_of(letter * nbytes))
        changed = [each for each in tmp_path.rglob("*") if each.is_file() and b"b" * 4096 in each.read_bytes()]
        for each in changed:
            each.write_bytes(each.read_bytes().replace(b"b" * 4096, b"b" * 4095 + b"c", 1))
        with pytest.raises(StorageDamaged, match=r"the current state of the module 'm' \(slot b\)"):
            slots.load("m", SHA)
        previous = slots.load("m", SHA, slot="previous")
        assert previous is not None
        assert previous.runs == snapshot_of(b"a" * nbytes).runs
    assert changed
