"""Transactions in a journal: each step is on disk before it takes effect.

A step that another one follows at once is written together with that one, for what costs is the disk's turn and not the
bytes: that a stage is done, where one begins by it; that a stage begins which has no undo; that one more undo begins.
If the process ends in between, recovery finds the stage under way, and gives it the same key again.

Whether a transaction has come to its end is decided by one record: that of its last stage.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Collection
from typing import Any, Final, Literal, Protocol, cast

import attrs
from weighbridge_hookspecs import ContextClosed, Journal, Saturated, StorageDamaged, Store

from .capture import FOLDER, Captured, Spilled, digest_of, forget
from .graph import Pipeline
from .history import History, fingerprint_of
from .records import Entry, Value, entries_of, record_of
from .result import Transition

JOURNAL: Final = "transactions"
"""Its name."""
VALUES: Final = f"{FOLDER.rpartition('/')[0]}/pipeline-values"
"""Where the store has inputs and results that are too large for the journal."""
VALUE_BYTES: Final = 16 * 1024
"""What one value may have in the journal: writing so much more takes less time than to write to the store as well."""
_OWN_BYTES: Final = 256 * 1024
"""What the values of one transaction may have there together."""
_PROTOCOL: Final = 5
_RETRY_SECONDS: Final = 1.0
_log: Final = logging.getLogger("weighbridge.plugins.pipeline")


@attrs.define(eq=False)
class _Open:
    """A transaction that has not ended."""

    written: list[bytes] = attrs.field(factory=list)
    """Its entries: what has to be copied so that the beginning of the journal can go."""
    pending: list[bytes] = attrs.field(factory=list)
    value_bytes: int = 0
    stored: list[str] = attrs.field(factory=list)
    """Keys of its values in the store."""


class Lender(Protocol):
    """As much of a ``PluginContext`` as durable transactions need."""

    @property
    def store(self) -> Store:
        """A durable store."""

    def journal(
        self, name: str = "journal", *, max_bytes: int | None = None, at_cap: Literal["reject", "block"] = "reject"
    ) -> Journal:
        """Open a journal."""


class JournalOf:
    """The log of a plugin, opened at first use: only one process can have it. Thread-safe."""

    def __init__(self, lender: object, max_bytes: int) -> None:
        self._lender = cast(Lender, lender)  # a context that lends no journal runs what is not durable
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._log: TransactionLog | None = None
        self._is_closed = False

    def open(self) -> TransactionLog:
        """The log.

        :raises ServiceUnavailable: if there is no store.
        :raises LeaseError: if another process has it.
        :raises ContextClosed: once it was closed.
        """
        with self._lock:
            if self._is_closed:
                raise ContextClosed("the pipelines are being unloaded", step="run")
            if self._log is None:
                self._log = self._opened()
            return self._log

    def close(self) -> None:
        """Give it back. Closing twice does nothing."""
        with self._lock:
            self._is_closed = True
            log, self._log = self._log, None
        if log is not None:
            log.close()

    def _opened(self) -> TransactionLog:
        journal = self._lender.journal(JOURNAL, max_bytes=self._max_bytes)
        try:
            return TransactionLog(journal, lambda: self._lender.store, self._max_bytes)
        except BaseException:
            journal.release()
            raise


class TransactionLog:
    """The journal of all durable transactions of a process. Thread-safe.

    :param journal: nobody else writes to it.
    :param max_bytes: what it may take.
    :raises StorageDamaged: if it cannot be read to its end. It is left as it is.
    :raises StateRefused: if it was written by a later release.
    """

    def __init__(self, journal: Journal, store: Callable[[], Store], max_bytes: int) -> None:
        self._journal: Final = journal
        self._store: Final = store
        self._most_bytes: Final = max_bytes // 4  # a record counts twice while it is written, and a copy lies beside it
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._known = 0
        self._behind = 0
        self._is_copying = False
        self.checkpoints = 0
        """How often open transactions were copied to the end."""
        self.found: dict[str, History] = {}
        """Transactions that an earlier process left open."""
        self._read()

    def _read(self) -> None:
        over: set[str] = set()

        def receive(sequence: int, record: bytes) -> None:
            self._known = sequence
            self._behind += len(record)
            for entry, content in entries_of(record):
                if entry.kind == "ended":
                    over.add(entry.transaction)
                if entry.transaction in over:  # an entry may come once more behind its end
                    self.found.pop(entry.transaction, None)
                    self._open.pop(entry.transaction, None)
                    continue
                self.found.setdefault(entry.transaction, History(entry.transaction)).add(entry)
                self._open.setdefault(entry.transaction, _Open()).written.append(content)

        reason = getattr(self._journal.replay(receive), "reason", None)
        if reason is not None:
            raise StorageDamaged(
                f"the journal of the pipelines cannot be read behind record {self._known}: {reason}",
                step="recover",
                advice="Restore it, or move its folder away: what is open in it stays half done then",
            )

    # -- writing -------------------------------------------------------------------------------------------------------

    def begin(self, pipeline: Pipeline, transaction: str, inputs: Any) -> None:
        """Write that a transaction has begun.

        :raises Saturated: if there is no room for one more.
        :raises Exception: what pickling the inputs raises.
        """
        content = pickle.dumps(inputs, _PROTOCOL)
        with self._lock:
            if sum(len(entry) for one in self._open.values() for entry in one.written) > self._most_bytes // 2:
                raise Saturated(
                    f"{len(self._open)} open transactions fill the journal: raise journal_bytes, or recover old ones",
                    retry_after_seconds=_RETRY_SECONDS,
                )
            self._open[transaction] = _Open()
        try:
            entry = Entry(
                kind="begun",
                transaction=transaction,
                pipeline=pipeline.name,
                fingerprint=fingerprint_of(pipeline),
                values={"inputs": self.keep(transaction, "inputs", content)},
            )
            self.write(entry)
        except BaseException:
            self._forget(transaction)
            raise

    def note(self, entry: Entry) -> None:
        """Have it written with what comes next of its transaction."""
        with self._lock:
            self._open[entry.transaction].pending.append(entry.to_bytes())
            self._remember(entry)

    def write(self, entry: Entry) -> None:
        """Write it, and what was noted. When this returns it survives a crash.

        :raises LeaseError: if the journal does not take it.
        """
        with self._lock:
            one = self._open[entry.transaction]
            noted, one.pending = one.pending, []
            batch = b"".join([*noted, entry.to_bytes()])
            one.written.append(batch)
        try:
            self._append(batch)
        except BaseException:
            with self._lock:
                one.written.remove(batch)
                one.pending[:0] = noted
            raise
        with self._lock:
            self._remember(entry)
        self._make_room()

    def keep(self, transaction: str, name: str, content: bytes) -> Value:
        """Have a pickle where recovery finds it: in the entry itself, or in the store.

        :raises LeaseError: if the store does not take it.
        """
        with self._lock:
            one = self._open[transaction]
            if len(content) <= VALUE_BYTES and one.value_bytes + len(content) <= _OWN_BYTES:
                one.value_bytes += len(content)
                return content
            key = f"{VALUES}/{transaction}/{name}"
            one.stored.append(key)
        self._store().put(key, content)
        return Spilled(key, digest_of(content))

    def end(self, entry: Entry) -> None:
        """Write that a transaction is over, and forget its values.

        :raises LeaseError: if the journal or the store does not take it.
        """
        self.write(entry)
        self._forget(entry.transaction)

    def close(self) -> None:
        """Acknowledge what is over, and give the journal back."""
        try:
            if self._behind:
                self._checkpoint()
        except Exception as error:
            _log.warning("the journal of the pipelines keeps what is over until it is opened again: %s", error)
        finally:
            self._journal.release()

    def is_open(self, transaction: str) -> bool:
        """Whether it has begun and not ended, here or in an earlier process."""
        return transaction in self._open

    # -- inside --------------------------------------------------------------------------------------------------------

    def _remember(self, entry: Entry) -> None:
        """What was found stays true while it is recovered: that may have to be done once more. With the lock held."""
        history = self.found.get(entry.transaction)
        if history is not None:
            history.add(entry)

    def _forget(self, transaction: str) -> None:
        with self._lock:
            one = self._open.pop(transaction)
            was_found = self.found.pop(transaction, None) is not None
        store = self._store() if one.stored or was_found else None
        if store is not None:
            forget(store, _stored(store, transaction) if was_found else one.stored)

    def _append(self, batch: bytes) -> None:
        record = record_of([batch])
        sequence = self._journal.append(record)
        with self._lock:
            self._known = max(self._known, sequence)
            self._behind += len(record)

    def _make_room(self) -> None:
        """Let the beginning of the journal go, once it has grown enough. It costs one turn of the disk or a few."""
        with self._lock:
            if self._is_copying or self._behind < self._most_bytes:
                return
            self._is_copying = True
        try:
            self._checkpoint()
        except Exception as error:
            _log.warning("the beginning of the journal of the pipelines stays for now: %s", error)
        finally:
            self._is_copying = False

    def _checkpoint(self) -> None:
        """Copy what is open to the end, and acknowledge everything before.

        What is written meanwhile either is in the copy, or comes behind `known`.
        """
        with self._lock:
            known, self._behind = self._known, 0
            copies = [b"".join(one.written) for one in self._open.values() if one.written]
        for copy in copies:
            self._append(copy)
        self._journal.truncate(known)
        self.checkpoints += 1


class Recorder:
    """Writes the steps of one transaction: the observer of a durable one. Thread-safe.

    :param done: stages that an earlier process has brought to their end, by their place.
    :param has_turned_back: whether it was written that the transaction is rolled back.
    """

    def __init__(
        self,
        log: TransactionLog,
        pipeline: Pipeline,
        inputs: Any = None,
        *,
        done: Collection[int] = (),
        has_turned_back: bool = False,
    ) -> None:
        self._log = log
        self._pipeline = pipeline
        self._inputs = inputs
        self._places = {stage.name: place for place, stage in enumerate(pipeline.stages)}
        self._waits_for = [sum(need not in done for need in needs) for needs in pipeline.needs]
        self._left = len(pipeline) - len(done)
        self._has_turned_back = has_turned_back
        self._captured: dict[str, Captured] = {}
        self._lock = threading.Lock()

    def __call__(self, transition: Transition) -> None:
        """Write a step, or note it.

        :raises Exception: if it has to be on disk first, and is not.
        """
        kind, stage = transition.kind, transition.stage
        if kind == "begun":
            self._log.begin(self._pipeline, transition.transaction, self._inputs)
            self._inputs = None
        elif kind == "stage started":
            has_undo = self._stage(stage).undo is not None
            (self._log.write if has_undo else self._log.note)(_entry(transition))
        elif kind == "captured":
            assert stage is not None
            assert transition.captured is not None
            self._captured[stage] = transition.captured
        elif kind == "stage done":
            self._write_done(transition)
        elif kind == "undo started":
            self._write_undo(transition)
        elif kind == "ended":
            self._log.end(_entry(transition))
        else:
            self._try_to_write(_entry(transition))

    def _stage(self, name: str | None) -> Any:
        assert name is not None
        return self._pipeline.stages[self._places[name]]

    def _write_done(self, transition: Transition) -> None:
        assert transition.stage is not None
        place = self._places[transition.stage]
        entry = attrs.evolve(_entry(transition), values=self._values(transition.transaction, place, transition.result))
        with self._lock:
            is_followed = self._is_followed(place)
            if is_followed:
                self._count(place)
        if is_followed:
            self._log.note(entry)
            return
        self._log.write(entry)
        with self._lock:
            self._count(place)

    def _is_followed(self, place: int) -> bool:
        """Whether a stage begins by it of which that is written. With the lock held."""
        return not self._has_turned_back and any(
            self._waits_for[other] == 1 and self._pipeline.stages[other].undo is not None
            for other in self._pipeline.needed_by[place]
        )

    def _count(self, place: int) -> None:
        self._left -= 1
        for other in self._pipeline.needed_by[place]:
            self._waits_for[other] -= 1

    def _values(self, transaction: str, place: int, result: Any) -> dict[str, Value]:
        """The captured state, and the result if that is something else."""
        stage = self._pipeline.stages[place]
        captured = self._captured.pop(stage.name, None)
        values: dict[str, Value] = {}
        if captured is not None:
            packed = captured.packed()
            if isinstance(packed, bytes):
                packed = self._log.keep(transaction, f"captured/{stage.name}", packed)
            values["captured"] = packed
        if captured is None or stage.capture is not None:
            content = pickle.dumps(result, _PROTOCOL)
            values["result"] = self._log.keep(transaction, f"result/{stage.name}", content)
        return values

    def _write_undo(self, transition: Transition) -> None:
        """The first one is on disk before it begins: else a transaction with all of its stages done looks complete."""
        if self._has_turned_back:
            self._log.note(_entry(transition))
        elif self._left:
            self._try_to_write(_entry(transition))
        else:
            self._log.write(_entry(transition))
        self._has_turned_back = True

    def _try_to_write(self, entry: Entry) -> None:
        """A rollback goes on without a journal: recovery gives what is not written down the same key again."""
        try:
            self._log.write(entry)
        except Exception as error:
            _log.error("transaction %s: %s is not in the journal: %s", entry.transaction, entry.kind, error)


def _stored(store: Store, transaction: str) -> list[str]:
    """What a process may have put there that was killed before it could write the key down is among them."""
    return [key for folder in (FOLDER, VALUES) for key in store.keys(f"{folder}/{transaction}/")]


def _entry(transition: Transition) -> Entry:
    return Entry(
        kind=transition.kind,
        transaction=transition.transaction,
        stage=transition.stage,
        attempt=transition.attempt,
        error=transition.error,
        outcome=transition.outcome,
    )
