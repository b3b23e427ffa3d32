"""The envelope of whatever the plugin keeps of an instance: it tells damage from a newer format.

    magic 8 | format 2 | kind 1 | 0 | length of the body 8 | body | BLAKE2b of all before, 32

Numbers are little-endian. The envelope is the same for every format to come, so that a checksum can be verified before
anything else is believed: what is damaged is never taken for newer, and what is newer is never called damaged.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from weighbridge_hookspecs import StateRefused, StorageDamaged

MAGIC: Final = b"WBWSTATE"
FORMAT: Final = 1
PART: Final = 1
HEAD: Final = 2
DIGEST_BYTES: Final = 32

_HEADER: Final = struct.Struct("<8sHBxQ")


def seal(kind: int, pieces: Sequence[bytes | memoryview], *, number: int = FORMAT) -> bytes:
    """An envelope around `pieces`, which are joined.

    :param kind: `PART` or `HEAD`.
    :param number: the format that the body is written in.
    """
    body = sum(map(len, pieces))
    header = _HEADER.pack(MAGIC, number, kind, body)
    digest = hashlib.blake2b(header, digest_size=DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    return b"".join((header, *pieces, digest.digest()))


def unseal(kind: int, sealed: bytes, where: str) -> memoryview:
    """The body of what `seal` gave, as a view of it.

    :param where: what it is, for errors.
    :raises StorageDamaged: if it is not what was sealed.
    :raises StateRefused: if it is whole, and a newer version of the plugin wrote it.
    """
    if len(sealed) < _HEADER.size + DIGEST_BYTES:
        raise damaged(where, f"at least {_HEADER.size + DIGEST_BYTES} bytes", f"{len(sealed)}")
    magic, number, found, length = _HEADER.unpack_from(sealed)
    if magic != MAGIC:
        raise damaged(where, f"{MAGIC!r} at its beginning", repr(magic))
    if length != len(sealed) - _HEADER.size - DIGEST_BYTES:
        raise damaged(where, f"a body of {length} bytes", f"{len(sealed) - _HEADER.size - DIGEST_BYTES}")
    view = memoryview(sealed)
    digest = hashlib.blake2b(view[:-DIGEST_BYTES], digest_size=DIGEST_BYTES).digest()
    if digest != digest_of(sealed):
        raise damaged(where, f"checksum {digest_of(sealed).hex()}", digest.hex())
    if found != kind:
        raise damaged(where, f"kind {kind}", f"{found}")
    if number > FORMAT:
        raise StateRefused(
            f"{where} has the format {number}",
            step="resume",
            wanted=f"at most {FORMAT}",
            advice="Use the version of the plugin that wrote it, or discard it",
        )
    return view[_HEADER.size : -DIGEST_BYTES]


def digest_of(sealed: bytes) -> bytes:
    """The checksum that an envelope carries, not verified."""
    return sealed[-DIGEST_BYTES:]


def damaged(where: str, wanted: str, had: str) -> StorageDamaged:
    """The error for `where`."""
    return StorageDamaged(f"{where} is damaged", step="resume", wanted=wanted, had=had)
