"""Two slots of the store for each module: one is current, the other holds what was current before.

A save writes all of the slot that is not current, and then a small record, the head, which says that it is current now.
A crash or a full disk before that leaves the head, and with it the current state, as it was.

    internal/wasm-state/<module>/head      which slot is current; for each slot its hash, parts, sizes and checksum
    internal/wasm-state/<module>/a.0       the first part of a slot; see snapshot.py
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

import attrs
from weighbridge_hookspecs import ConfigurationError, StateRefused, StorageDamaged, StorageFailed, Store

from .frames import DIGEST_BYTES, HEAD, damaged, digest_of, seal, unseal
from .snapshot import Snapshot

KEY_PREFIX: Final = "internal/wasm-state/"
PART_BYTES: Final = 32 * 1024 * 1024
"""The content of one value: a store takes up to 256 MiB, and a part is in memory twice while it is written."""
ROW_BYTES: Final = 60 * 1024
"""The content of one value of a small state. The embedded store keeps a value below 64 KiB in its index, with one wait
for the disk; a larger one is a file, with three."""

_MOST_ROWS: Final = 3
_MOST_NAME_BYTES: Final = 200  # a key may have 255
_OTHER: Final = {"a": "b", "b": "a"}

Slot = Literal["current", "previous"]


@attrs.frozen(kw_only=True)
class Kept:
    """A state that is kept."""

    slot: str
    """``"a"`` or ``"b"``."""
    module_sha256: str
    """Of the module that it is of, in hexadecimal digits."""
    pages: int
    """Size of the linear memory in pages of 65,536 bytes."""
    parts: int
    """Values in the store."""
    bytes: int
    """What they have together."""
    digest: str
    """Checksum over the checksums of the parts, in hexadecimal digits."""


class StateSlots:
    """What modules are to know again at their next call, in a store. Thread-safe."""

    def __init__(self, store: Store, *, part_bytes: int = PART_BYTES, compress: bool = False) -> None:
        """Keep states in `store`.

        :param part_bytes: the content of one value, in bytes; a larger state becomes several.
        :param compress: by zlib, where that is smaller. It takes 25 times as long as to write.
        """
        self._store: Final = store
        self._part_bytes: Final = part_bytes
        self._compress: Final = compress
        self._lock: Final = threading.Lock()  # two saves during one load would write over what it reads

    def save(self, module_id: str, snapshot: Snapshot) -> Kept:
        """Make `snapshot` the current state; what was current becomes the previous one.

        :raises StorageFailed: if the store did not take it. The current state is the same as before; the previous one
            may be lost.
        :raises StorageDamaged: if the head is damaged; nothing was written. `discard` begins anew.
        :raises StateRefused: if a newer version of the plugin wrote the head; nothing was written.
        :raises CeilingExceeded: if it would be more than the store may hold.
        :raises ConfigurationError: if the module's name is too long for a key.
        """
        with self._lock:
            head = self._head(module_id)
            kept = self._write(module_id, "a" if head is None else _OTHER[head.current], snapshot)
            slots = {kept.slot: kept}
            if head is not None:
                slots[head.current] = head.slots[head.current]
            self._store.put(_head_key(module_id), _Head(module_id, kept.slot, slots).sealed())
            self._sweep(module_id, slots)
            return kept

    def load(self, module_id: str, module_sha256: bytes, *, slot: Slot = "current") -> Snapshot | None:
        """The state that is kept; None if there is none.

        :param module_sha256: of the module as it is registered now; 32 bytes.
        :param slot: ``"previous"`` for what was current before the last save.
        :raises StorageDamaged: if it is not what was saved; the text names the module and the slot. The other slot can
            be read all the same.
        :raises StateRefused: if it is of another module, or of a newer version of the plugin. It stays.
        """
        with self._lock:
            head = self._head(module_id)
            kept = None if head is None else head.kept(slot)
            if kept is None:
                return None
            if kept.module_sha256 != module_sha256.hex():
                raise StateRefused(
                    f"the {slot} state of the module {module_id!r} is of other code",
                    step="resume",
                    wanted=f"SHA-256 {module_sha256.hex()}",
                    had=kept.module_sha256,
                    advice="Register the module that it is of, or discard it",
                )
            return self._read(module_id, kept, f"the {slot} state of the module {module_id!r} (slot {kept.slot})")

    def describe(self, module_id: str, *, slot: Slot = "current") -> Kept | None:
        """What is kept, read from the head alone; errors as of `load`."""
        with self._lock:
            head = self._head(module_id)
            return None if head is None else head.kept(slot)

    def modules(self) -> Iterator[str]:
        """Names of the modules that have a state, sorted by key."""
        for key in self._store.keys(KEY_PREFIX):
            name, _, tail = key.removeprefix(KEY_PREFIX).partition("/")
            if tail == "head":
                yield unquote(name, errors="surrogatepass")

    def discard(self, module_id: str) -> None:
        """Forget both slots, damaged or not; an unknown module is fine."""
        with self._lock:
            self._store.delete(_head_key(module_id))  # first: without it a slot is nothing
            for key in list(self._store.keys(_folder(module_id))):
                self._store.delete(key)

    def _head(self, module_id: str) -> _Head | None:
        where = f"the head of the states of the module {module_id!r}"
        sealed = self._get(_head_key(module_id), where)
        return None if sealed is None else _Head.unsealed(sealed, module_id, where)

    def _write(self, module_id: str, slot: str, snapshot: Snapshot) -> Kept:
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        count = nbytes = 0
        limit = ROW_BYTES if snapshot.content_bytes <= _MOST_ROWS * ROW_BYTES else PART_BYTES
        for part in snapshot.parts(limit_bytes=min(limit, self._part_bytes), compress=self._compress):
            self._put(_part_key(module_id, slot, count), part)
            digest.update(digest_of(part))
            count += 1
            nbytes += len(part)
        return Kept(
            slot=slot,
            module_sha256=snapshot.module_sha256.hex(),
            pages=snapshot.pages,
            parts=count,
            bytes=nbytes,
            digest=digest.hexdigest(),
        )

    def _put(self, key: str, part: bytes) -> None:
        try:
            self._store.put(key, part)
        except ValueError as error:  # more than the application lets one value have
            raise StorageFailed(
                f"a part of {len(part)} bytes of a state was not taken: {error}",
                step="suspend",
                advice="Let a value of the store have 33 MiB",
            ) from None

    def _read(self, module_id: str, kept: Kept, where: str) -> Snapshot:
        parts = []
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for index in range(kept.parts):
            part = self._get(_part_key(module_id, kept.slot, index), where)
            if part is None:
                raise damaged(where, f"{kept.parts} parts", f"no part {index + 1}")
            digest.update(digest_of(part))
            parts.append(part)
        if digest.hexdigest() != kept.digest:
            raise damaged(where, f"parts with the checksum {kept.digest}", digest.hexdigest())
        return Snapshot.from_parts(parts, where=where)

    def _get(self, key: str, where: str) -> bytes | None:
        try:
            return self._store.get(key)
        except StorageDamaged as error:
            raise StorageDamaged(
                f"{where} is damaged: {error.message}", step="resume", wanted=error.wanted, had=error.had
            ) from None

    def _sweep(self, module_id: str, slots: Mapping[str, Kept]) -> None:
        """Delete parts that no slot has: of a longer state before, or of a save that did not come to its end."""
        used = {_part_key(module_id, kept.slot, index) for kept in slots.values() for index in range(kept.parts)}
        used.add(_head_key(module_id))
        try:
            for key in [key for key in self._store.keys(_folder(module_id)) if key not in used]:
                self._store.delete(key)
        except StorageFailed:
            return  # the state is saved; what is left over goes at the next save


@attrs.frozen
class _Head:
    """Which slot is current, and what is in the slots."""

    module_id: str
    current: str
    slots: Mapping[str, Kept]

    def kept(self, slot: Slot) -> Kept | None:
        if slot not in ("current", "previous"):
            raise ValueError(f'slot is {slot!r}: give "current" or "previous"')
        return self.slots.get(self.current if slot == "current" else _OTHER[self.current])

    def sealed(self) -> bytes:
        document = {
            "module": self.module_id,
            "current": self.current,
            "slots": [attrs.asdict(kept) for kept in self.slots.values()],
        }
        return seal(HEAD, (json.dumps(document).encode(),))

    @classmethod
    def unsealed(cls, sealed: bytes, module_id: str, where: str) -> _Head:
        body = unseal(HEAD, sealed, where)
        try:
            document = json.loads(bytes(body))
            slots = {kept.slot: kept for kept in (_kept(each) for each in document["slots"])}
            head = cls(document["module"], document["current"], slots)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise damaged(where, "a record of slots", f"{type(error).__name__}: {error}") from None
        if head.module_id != module_id or head.current not in slots or not slots.keys() <= _OTHER.keys():
            raise damaged(where, f"slots of {module_id!r}", f"slots {sorted(slots)} of {head.module_id!r}")
        return head


def _kept(fields: Mapping[str, Any]) -> Kept:
    kept = Kept(**fields)
    if not all(isinstance(count, int) and count >= 0 for count in (kept.pages, kept.parts, kept.bytes)):
        raise ValueError(f"slot {kept.slot} has sizes that make no sense")
    return kept


def _folder(module_id: str) -> str:
    name = quote(module_id, safe="", errors="surrogatepass")
    if not 0 < len(name) <= _MOST_NAME_BYTES:
        raise ConfigurationError(
            f"the name of the module {module_id[:40]!r} has {len(name)} bytes as a key",
            step="suspend",
            wanted=f"1 to {_MOST_NAME_BYTES}",
            advice="Register it under a shorter name",
        )
    return f"{KEY_PREFIX}{name}/"


def _head_key(module_id: str) -> str:
    return f"{_folder(module_id)}head"


def _part_key(module_id: str, slot: str, index: int) -> str:
    return f"{_folder(module_id)}{slot}.{index}"
