"""How a durable transaction is written down: entries, of which a record of the journal has one or several.

The journal checks that a record is what was appended. This format says what it means, and has a version, for a process
of a later release may find what an earlier one has left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from struct import error as StructError
from typing import Any, Final, TypeAlias

import attrs
from weighbridge_hookspecs import StateRefused, StorageDamaged

from .capture import Spilled
from .result import Outcome, TransitionKind

MAGIC: Final = b"WP"
VERSION: Final = 1
_HEAD: Final = MAGIC + bytes([VERSION])
_SIZES: Final = Struct("!II")
"""Bytes of the text of an entry, and of the values behind it."""

Value: TypeAlias = bytes | Spilled
"""A pickle, or where the store has it."""


@attrs.frozen(kw_only=True)
class Entry:
    """One step of one transaction."""

    kind: TransitionKind
    transaction: str
    pipeline: str | None = None
    """Of ``"begun"``, like the next one."""
    fingerprint: str | None = None
    stage: str | None = None
    attempt: int = 0
    error: str | None = None
    outcome: Outcome | None = None
    values: Mapping[str, Value] = attrs.field(factory=dict, repr=False)
    """``"inputs"`` of the transaction; ``"captured"`` and ``"result"`` of a stage."""

    def to_bytes(self) -> bytes:
        """The entry as part of a record."""
        facts: dict[str, Any] = {name: fact for name in _FACTS if (fact := getattr(self, name))}
        if self.values:
            facts["values"] = {name: _reference(value) for name, value in self.values.items()}
        text = json.dumps(facts, separators=(",", ":")).encode()
        blob = b"".join(value for value in self.values.values() if isinstance(value, bytes))
        return _SIZES.pack(len(text), len(blob)) + text + blob


_FACTS: Final = tuple(field.name for field in attrs.fields(Entry) if field.name != "values")


def record_of(entries: Iterable[bytes]) -> bytes:
    """A record for the journal."""
    return _HEAD + b"".join(entries)


def entries_of(record: bytes) -> Iterator[tuple[Entry, bytes]]:
    """The entries of a record, each with the bytes that it was.

    :raises StateRefused: if it is no record of this version.
    :raises StorageDamaged: if it cannot be read.
    """
    if record[: len(_HEAD)] != _HEAD:
        raise StateRefused(
            "a record of the journal has a format that is not known here",
            wanted=f"version {VERSION}",
            had=f"version {record[len(MAGIC)]}" if record.startswith(MAGIC) and len(record) > 2 else "no such record",
            advice="Recover with the release that has written it",
        )
    place = len(_HEAD)
    try:
        while place < len(record):
            text, blob = _SIZES.unpack_from(record, place)
            end = place + _SIZES.size + text + blob
            yield _entry(record[place:end], text), record[place:end]
            place = end
    except (StructError, ValueError, KeyError, TypeError) as error:
        raise StorageDamaged(
            f"a record of the journal cannot be read at byte {place}: {type(error).__name__}", step="recover"
        ) from None


def _entry(content: bytes, text: int) -> Entry:
    facts = json.loads(content[_SIZES.size : _SIZES.size + text])
    references = facts.pop("values", {})
    return Entry(**facts, values=dict(_values(references, content, _SIZES.size + text)))


def _reference(value: Value) -> int | list[str]:
    return len(value) if isinstance(value, bytes) else [value.key, value.digest.hex()]


def _values(references: Mapping[str, Any], content: bytes, place: int) -> Iterator[tuple[str, Value]]:
    for name, reference in references.items():
        if isinstance(reference, int):
            if place + reference > len(content):
                raise ValueError("cut off")
            yield name, content[place : place + reference]
            place += reference
        else:
            key, digest = reference
            yield name, Spilled(key, bytes.fromhex(digest))
