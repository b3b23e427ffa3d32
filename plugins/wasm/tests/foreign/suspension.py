"""A database in an instance's memory, put into a store and taken out by another process: that is this file's program.

python -m foreign.suspension STORE COMPILED MODULE HANDLE STATEMENT...
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, unquote

import attrs

from weighbridge_wasm.binary import PAGE_BYTES
from weighbridge_wasm.instance import Instance
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import Resetter
from weighbridge_wasm.state import GlobalValue, Snapshot, StateSlots, capture, memory_at

from .drivers.sqlite import Database, Sqlite
from .workshop import workshop

Slot: TypeAlias = Literal["current", "previous"]

NAME: Final = "a database"


@attrs.frozen
class Folder:
    """A store: a file for each key. It is for one process at a time, and survives none that is killed."""

    path: Path

    def get(self, key: str) -> bytes | None:
        file = self._file(key)
        return file.read_bytes() if file.exists() else None

    def put(self, key: str, value: bytes) -> None:
        self._file(key).write_bytes(value)

    def delete(self, key: str) -> None:
        self._file(key).unlink(missing_ok=True)

    def keys(self, prefix: str = "") -> Iterator[str]:
        names = sorted(unquote(file.name) for file in self.path.iterdir())
        return (name for name in names if name.startswith(prefix))

    def _file(self, key: str) -> Path:
        return self.path / quote(key, safe="")


def suspend(program: Program, code: bytes, instance: Instance, resetter: Resetter, store: Folder) -> int:
    """Put memory and globals of an instance into a store; the bytes of memory that this took."""
    address, nbytes = instance.memory_address, instance.memory_bytes
    types = [each.type for each in program.facts.globals if each.is_mutable]
    snapshot = Snapshot(
        module_sha256=hashlib.sha256(code).digest(),
        pages=nbytes // PAGE_BYTES,
        runs=capture(memory_at(address, nbytes), resetter.dirty_runs(address, nbytes)),
        globals=tuple(GlobalValue(kind, bits) for kind, bits in zip(types, instance.globals(), strict=True)),
    )
    StateSlots(store).save(NAME, snapshot)
    return snapshot.content_bytes


def resume(code: bytes, instance: Instance, store: Folder, *, slot: Slot = "current") -> None:
    """Make a pristine instance what was suspended.

    :raises StateRefused: it is the state of other code.
    :raises StorageDamaged: it is not what was put there.
    """
    snapshot = StateSlots(store).load(NAME, hashlib.sha256(code).digest(), slot=slot)
    assert snapshot is not None, "nothing was suspended"
    more = snapshot.pages - instance.memory_bytes // PAGE_BYTES
    assert not more or instance.grow(more)
    snapshot.restore(instance.write)
    instance.set_globals([each.bits for each in snapshot.globals])


def main(store: str, compiled: str, module: str, handle: str, *statements: str) -> None:
    """Resume, and print what each statement gives and whether anything was compiled."""
    code = Path(module).read_bytes()
    with (
        workshop(Path(compiled), lambda _: code) as tools,
        tools.program(Sqlite()).instantiate() as instance,
    ):
        resume(code, instance, Folder(Path(store)))
        database = Database(instance, int(handle))
        rows = [database.execute(statement) for statement in statements]
        print(json.dumps({"rows": rows, "loaded": tools.compiled.statistics().hits}))


if __name__ == "__main__":
    main(*sys.argv[1:])
