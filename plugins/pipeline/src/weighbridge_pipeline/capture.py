"""What undos need: copies of what stages did, in memory as long as they are small, else in the store.

A copy and no reference, for the stages behind may change what they were given. What cannot change is its own copy;
anything else is pickled once, and the bytes are kept.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
from weighbridge_hookspecs import StorageDamaged, Store

FOLDER: Final = "internal/pipeline-state"
"""Where the store has them: ``<folder>/<transaction>/<stage>``."""
MIB: Final = 1024 * 1024
LIMIT_BYTES: Final = 10 * MIB
"""What one of them may have in memory."""

_CONSTANTS: Final = frozenset({type(None), bool, float, complex})
_TEXTS: Final = frozenset({int, str})
_PROTOCOL: Final = 5
_DIGEST_BYTES: Final = 16


@attrs.frozen
class Spilled:
    """What is in memory of a copy that is in the store.

    The digest stays here: what a store gives back is unpickled only if it is what was put there.
    """

    key: str
    digest: bytes


class Captured:
    """One copy."""

    __slots__ = ("_content", "is_pickled", "nbytes")

    def __init__(self, value: Any) -> None:
        kind = type(value)
        self.is_pickled = False
        self.nbytes = 0
        if kind is bytes:
            self.nbytes = len(value)
        elif kind in _TEXTS:
            self.nbytes = sys.getsizeof(value)
        elif kind is memoryview:
            value = bytes(value)
            self.nbytes = len(value)
        elif kind not in _CONSTANTS:
            value = pickle.dumps(value, _PROTOCOL)
            self.is_pickled = True
            self.nbytes = len(value)
        self._content: Any = value

    @property
    def is_spilled(self) -> bool:
        """Whether it is in the store."""
        return type(self._content) is Spilled

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that it takes."""
        return 0 if self.is_spilled else self.nbytes

    def to_bytes(self) -> bytes:
        """The copy as a pickle, while it is in memory: what another process can read."""
        return self._content if self.is_pickled else pickle.dumps(self._content, _PROTOCOL)

    def spill(self, store: Store, key: str) -> None:
        """Move it to the store. Once is enough.

        :raises StorageFailed: if the store does not take it; it is where it was then.
        """
        if not self.is_spilled:
            content = self.to_bytes()
            store.put(key, content)
            self._content = Spilled(key, digest_of(content))
            self.is_pickled = True

    def packed(self) -> bytes | Spilled:
        """The copy as a pickle, or where the store has it: what a journal can take."""
        is_pickled, content = self.is_pickled, self._content  # in this order, as in `load`
        return content if is_pickled or type(content) is Spilled else pickle.dumps(content, _PROTOCOL)

    @classmethod
    def restored(cls, packed: bytes | Spilled) -> Captured:
        """The copy that gave `packed`."""
        one = cls(None)
        one._content, one.is_pickled = packed, True
        one.nbytes = len(packed) if isinstance(packed, bytes) else 0
        return one

    def load(self, store: Callable[[], Store]) -> Any:
        """The value, made anew at each call where it is one that can change.

        :raises StorageDamaged: if the store has something else, or nothing.
        """
        is_pickled, content = self.is_pickled, self._content  # in this order: `spill` may be at work
        if type(content) is Spilled:
            return pickle.loads(fetch(store(), content))
        return pickle.loads(content) if is_pickled else content


class Shelf:
    """The copies of one transaction. Thread-safe.

    :param store: gives the store, or raises if there is none.
    :param limit_bytes: what one copy may have in memory; more goes to the store.
    """

    __slots__ = ("_captured", "_is_closed", "_lock", "_store", "limit_bytes", "spilled", "spilled_bytes", "transaction")

    def __init__(self, transaction: str, store: Callable[[], Store], limit_bytes: int = LIMIT_BYTES) -> None:
        self.transaction: Final = transaction
        self.limit_bytes: Final = limit_bytes
        self.spilled = 0
        self.spilled_bytes = 0
        self._store = store
        self._captured: dict[str, Captured] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the copies take together."""
        return sum(one.held_bytes for one in list(self._captured.values()))

    def keep(self, stage: str, value: Any) -> Captured:
        """Copy what the undo of `stage` needs.

        :raises Exception: what pickling it raises. It is kept as it is then, which is as good as a copy as long as
            nobody else gets it.
        :raises LeaseError: if it is too large for memory and the store does not take it. It stays in memory then.
        """
        try:
            captured = Captured(value)
        except BaseException:
            self._captured[stage] = _Uncopied(value)
            raise
        self._captured[stage] = captured
        if captured.nbytes > self.limit_bytes:
            self._spill(stage, captured)
        return captured

    def adopt(self, stage: str, captured: Captured) -> None:
        """Take over a copy that an earlier process made."""
        self._captured[stage] = captured

    def adopt_all(self, other: Shelf) -> None:
        """Take over all copies of another shelf of the same transaction, which is not used any more."""
        self._captured.update(other._captured)

    def load(self, stage: str) -> Any:
        """What was kept for `stage`; None if nothing was.

        :raises StorageDamaged: if it was in the store, and is no longer what was put there.
        """
        captured = self._captured.get(stage)
        return None if captured is None else captured.load(self._store)

    def release(self, nbytes: int) -> int:
        """Move copies to the store, the biggest first, until `nbytes` bytes are free; the bytes that are."""
        freed = 0
        for stage, captured in sorted(self._captured.copy().items(), key=lambda pair: -pair[1].held_bytes):
            if freed >= nbytes or not captured.held_bytes:
                break
            held = captured.held_bytes
            self._spill(stage, captured)
            freed += held
        return freed

    def clear(self) -> None:
        """Forget every copy, in the store too.

        :raises StorageFailed: if the store cannot forget one; the others are gone. A sweep gets it.
        """
        with self._lock:
            self._is_closed = True
            captured, self._captured = self._captured, {}
        spilled = [stage for stage, one in captured.items() if one.is_spilled]
        if spilled:
            forget(self._store(), [self._key(stage) for stage in spilled])

    def _spill(self, stage: str, captured: Captured) -> None:
        with self._lock:
            if self._is_closed or captured.is_spilled:
                return
            captured.spill(self._store(), self._key(stage))
            self.spilled += 1
            self.spilled_bytes += captured.nbytes

    def _key(self, stage: str) -> str:
        return f"{FOLDER}/{self.transaction}/{stage}"


class _Uncopied(Captured):
    """What could not be copied. It is not in memory for its own sake, and cannot be moved."""

    __slots__ = ()

    def __init__(self, value: Any) -> None:
        self._content = value
        self.is_pickled = False
        self.nbytes = 0


def sweep(
    store: Store, *, keep: Callable[[str], bool] = lambda transaction: False, folders: Iterable[str] = (FOLDER,)
) -> int:
    """Forget the copies of transactions that a crash ended; how many.

    :param keep: whether the copies of a transaction are still needed, by its identifier.
    """
    found = [key for folder in folders for key in store.keys(f"{folder}/")]
    keys = [key for key in found if not keep(key.split("/")[2])]
    forget(store, keys)
    return len(keys)


def forget(store: Store, keys: Iterable[str]) -> None:
    """Every one that can be forgotten, whatever comes of the others."""
    failure: Exception | None = None
    for key in keys:
        try:
            store.delete(key)
        except Exception as error:
            failure = error
    if failure is not None:
        try:
            raise failure
        finally:
            del failure  # the error has this frame in its traceback: a ring


def fetch(store: Store, spilled: Spilled) -> bytes:
    """What was put into the store.

    :raises StorageDamaged: if it is gone, or has another digest.
    """
    content = store.get(spilled.key)
    if content is None or digest_of(content) != spilled.digest:
        raise StorageDamaged(
            f"the captured state {spilled.key!r} is {'gone' if content is None else 'not what was put there'}",
            step="undo",
        )
    return content


def digest_of(content: bytes) -> bytes:
    """By which a value is known again."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
