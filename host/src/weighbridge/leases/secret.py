"""Bytes in memory that is locked, stays out of core dumps, is empty in forked children, and is wiped at its end.

Many small keys share a page (see :mod:`weighbridge.leases.slabs`), because what may be locked is often little. A slot
is wiped as soon as its secret is released, and lent again only once nobody has a view of it any more.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, NoReturn

import attrs
from weighbridge_hookspecs import CeilingExceeded, ConfigurationError, LeaseError

from .slabs import SLAB_BYTES, Slab, Slot, close_view, mapping_bytes, slot_size

MAX_BYTES: Final = 8 * 1024 * 1024
_PAUSES: Final = (0.0, 0.001, *[0.01] * 100)
"""Seconds: together about one, which is longer than a walk over a million objects takes."""


class SecretsUnprotected(RuntimeWarning):
    """The system refused to lock secrets in memory, or to keep them out of core dumps or of forked children."""


@attrs.frozen(kw_only=True)
class SecretStatistics:
    """What a vault holds."""

    secrets: int
    """Secrets that are held now."""
    content_bytes: int
    mapped_bytes: int
    """Memory of the system taken for them, in whole pages."""
    locked_bytes: int
    unlocked_bytes: int
    """Of the mapped bytes, those that the system did not lock: they may be swapped out."""
    dumpable_bytes: int
    """Of the mapped bytes, those that a core dump would hold."""
    inherited_bytes: int
    """Of the mapped bytes, those that a forked child gets a copy of."""
    retired_bytes: int
    """Wiped slots that are not lent again as long as somebody keeps a view of them."""
    max_bytes: int
    made: int
    released: int


class Secret:
    """A handle to bytes in a vault. It shows them through :meth:`view` alone, and cannot be copied or pickled.

    A handle that is forgotten is wiped like one that is released.
    """

    __slots__ = ("__weakref__", "_held", "_vault", "nbytes")

    def __init__(self, vault: SecretVault, slot: Slot) -> None:
        self.nbytes: Final = slot.length
        self._vault: Final = vault
        self._held: Final = [slot]  # popped by whoever releases it: the one step that only one thread can take

    def view(self) -> _View:
        """The bytes, read-only, for as long as the ``with`` block lasts.

        :raises LeaseError: if the secret was released; in a forked child; and at the end of the block, if a view made
            from this one is still there or the secret was wiped meanwhile.
        """
        return _View(self, self._vault)

    def release(self) -> None:
        """Wipe the bytes, at once, even under a block that reads them. Releasing twice does nothing."""
        try:
            slot = self._held.pop()
        except IndexError:
            return
        self._vault._take_back(slot)

    @property
    def is_released(self) -> bool:
        """Whether the bytes are gone."""
        return not self._held or self._vault.is_closed

    def __del__(self) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Secret of {self.nbytes} bytes, {'released' if self.is_released else 'held'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be copied or pickled: its bytes stay where they are")

    def _open(self) -> tuple[weakref.ref[Any], memoryview]:
        self._vault._check_process()
        slot = next(iter(self._held), None)
        if slot is not None:
            try:
                reference, content = slot.open()
            except ValueError:  # the mapping was closed by another thread
                slot = None
        if slot is None or self.is_released:  # released while the view was made: nobody gets it
            raise LeaseError("the secret was released", step="lease", advice="Make a new one")
        with content:
            return reference, content.toreadonly()


class _View:
    """The block in which a secret can be read."""

    __slots__ = ("_content", "_reference", "_secret", "_vault")

    def __init__(self, secret: Secret, vault: SecretVault) -> None:
        self._secret = secret
        self._content: memoryview | None = None
        self._reference: weakref.ref[Any] | None = None

    def __enter__(self) -> memoryview:
        if self._content is not None:
            raise RuntimeError("this view is open already: ask the secret for one of its own")
        self._reference, self._content = self._secret._open()
        return self._content

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        content, self._content = self._content, None
        reference, self._reference = self._reference, None
        if content is not None and reference is not None:
            ended = close_view(content)
            del content
            if error is None:  # the frames of an exception may hold a view that goes with it
                self._complain(not ended or _outlives(reference))

    def _complain(self, kept: bool) -> None:
        if kept:
            raise LeaseError(
                "a view of a secret was kept beyond its block",
                step="lease",
                advice="Release every memoryview, array or slice made from it before the block ends",
            )
        if self._secret.is_released:
            raise LeaseError(
                "the secret was wiped while its block ran",
                step="lease",
                advice="What was computed in the block may have used zeros: drop it",
            )


def _outlives(reference: weakref.ref[Any]) -> bool:
    """Whether something refers to what should have gone.

    Another thread that lists all objects, as an unload does, refers to it for as long as it looks through them, so it
    is looked at again for a while.
    """
    for pause in _PAUSES:
        if reference() is None:
            return False
        time.sleep(pause)
    return reference() is not None


class SecretVault:
    """Secrets of one holder, within a fixed number of bytes. Thread-safe.

    Where the system refuses to protect them, keeping one gives a :class:`SecretsUnprotected` warning; made an error by
    a filter, it keeps nothing.

    :param max_bytes: pages taken from the system at most. A page holds many small secrets.
    :raises ConfigurationError: if `max_bytes` has no room for one slab.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes < SLAB_BYTES:
            raise ConfigurationError(
                f"max_bytes is {max_bytes!r}", advice=f"Set it to a whole number of bytes, {SLAB_BYTES} or more"
            )
        self.max_bytes: Final = max_bytes
        self._pid: Final = os.getpid()
        self._lock: Final = threading.Lock()
        self._slabs: set[Slab] = set()
        self._roomy: dict[int, list[Slab]] = {}
        self._returned: deque[Slot] = deque()
        self._retired: list[Slot] = []
        self._mapped = self._live = self._content = self._made = self._released = 0
        self._closed = False

    def keep(self, content: bytes | bytearray | memoryview) -> Secret:
        """Copy `content` into protected memory. The original stays where it is: wipe it, or use :meth:`fill`.

        :raises CeilingExceeded: if the vault, or the system, has no room for it.
        :raises LeaseError: if the vault is closed, or belongs to the parent of this process.
        """
        if not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"a secret is bytes, not {type(content).__name__}: encode it first")
        with memoryview(content) as given, given.cast("B") as flat:
            return self._make(flat.nbytes, lambda view: view.__setitem__(slice(None), flat))

    def fill(self, nbytes: int, write: Callable[[memoryview], object]) -> Secret:
        """Have `write` put the content into a view of `nbytes` bytes, so that no other memory ever holds it.

        ``vault.fill(32, file.readinto)`` reads a key from a file opened without a buffer. Bytes that `write` leaves
        alone are 0. What it raises reaches the caller, and nothing is kept; the other errors are those of :meth:`keep`.
        """
        if not isinstance(nbytes, int) or isinstance(nbytes, bool):
            raise TypeError(f"a size is a whole number of bytes, not {type(nbytes).__name__}")
        return self._make(nbytes, write)

    def _make(self, nbytes: int, write: Callable[[memoryview], object]) -> Secret:
        if nbytes < 1:
            raise ValueError("a secret has at least one byte")
        self._check_process()
        with self._locked():
            slot, complaint = self._take(nbytes)
        secret = Secret(self, slot)
        try:
            if complaint is not None:
                warnings.warn(complaint, SecretsUnprotected, stacklevel=3)
            self._write(slot, write)
        except BaseException:
            secret.release()
            raise
        if secret.is_released:
            secret.release()
            raise _closed()
        return secret

    def _write(self, slot: Slot, write: Callable[[memoryview], object]) -> None:
        try:
            reference, view = slot.open()
        except ValueError:  # closed by another thread: its pages are gone
            raise _closed() from None
        try:
            write(view)
        finally:
            kept = not close_view(view)
        if kept or _outlives(reference):
            raise LeaseError("the view for writing a secret was kept", step="lease", advice="Release it before the end")

    def _take(self, nbytes: int) -> tuple[Slot, str | None]:
        if self._closed:
            raise _closed()
        size = slot_size(nbytes)
        complaint = None
        if not self._roomy.get(size):
            complaint = self._add_slab(size, nbytes).complaint()
        slabs = self._roomy[size]
        slot = slabs[-1].take(nbytes)
        if not slabs[-1].slots_left:
            slabs.pop()
        self._live += 1
        self._made += 1
        self._content += nbytes
        return slot, complaint

    def _add_slab(self, size: int, nbytes: int) -> Slab:
        wanted = mapping_bytes(size)
        if self._mapped + wanted > self.max_bytes:
            raise self._no_room(nbytes, wanted, f"the vault has no room for a secret of {nbytes} bytes")
        try:
            slab = Slab(size)
        except (OSError, MemoryError):
            raise self._no_room(nbytes, wanted, f"the system has no memory for a secret of {nbytes} bytes") from None
        if not self._slabs:
            atexit.register(self._at_exit)
        self._slabs.add(slab)
        self._mapped += slab.nbytes
        self._roomy.setdefault(size, []).append(slab)
        return slab

    def _no_room(self, nbytes: int, wanted: int, message: str) -> CeilingExceeded:
        return CeilingExceeded(
            message,
            used_bytes=self._mapped,
            wanted_bytes=wanted,
            ceiling_bytes=self.max_bytes,
            advice="Release secrets that are not needed, or raise max_bytes",
        )

    def _take_back(self, slot: Slot) -> None:
        """Wipe at once; the slot goes back when the lock is free. A handle may be forgotten anywhere, under it too."""
        with suppress(ValueError):  # the mapping is closed, and was wiped then
            slot.wipe()
        self._returned.append(slot)
        self._tidy()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._lock:
                self._collect()
                yield
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Take in what was returned, unless somebody holds the lock: that one does it then, after letting go."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        while self._returned:
            slot = self._returned.popleft()
            if not self._closed:
                self._live -= 1
                self._released += 1
                self._content -= slot.length
                self._retired.append(slot)
        retired, self._retired = self._retired, []
        for slot in retired:
            if slot.windows:
                self._retired.append(slot)
            else:
                self._give(slot)

    def _give(self, slot: Slot) -> None:
        slab = slot.slab
        slab.give(slot)
        slabs = self._roomy.setdefault(slab.slot_bytes, [])
        if slab.slots_left == 1:
            slabs.append(slab)
        if slab.slots_left == slab.slots:
            slabs.remove(slab)
            self._drop(slab)

    def _drop(self, slab: Slab) -> bool:
        self._slabs.discard(slab)
        self._mapped -= slab.nbytes
        if not self._slabs:
            atexit.unregister(self._at_exit)
        return slab.unmap()

    def statistics(self) -> SecretStatistics:
        """What it holds now."""
        self._check_process()
        with self._locked():
            unlocked = sum(slab.nbytes for slab in self._slabs if slab.lock_error is not None)
            return SecretStatistics(
                secrets=self._live,
                content_bytes=self._content,
                mapped_bytes=self._mapped,
                locked_bytes=self._mapped - unlocked,
                unlocked_bytes=unlocked,
                dumpable_bytes=sum(slab.nbytes for slab in self._slabs if slab.is_dumpable),
                inherited_bytes=sum(slab.nbytes for slab in self._slabs if slab.is_inherited),
                retired_bytes=sum(slot.slab.slot_bytes for slot in self._retired),
                max_bytes=self.max_bytes,
                made=self._made,
                released=self._released,
            )

    @property
    def is_closed(self) -> bool:
        """Whether every secret was wiped."""
        return self._closed

    def close(self) -> None:
        """Wipe every secret and give its memory back, whoever holds handles. Closing twice does nothing.

        :raises LeaseError: if views are still there; they show zeros, and their pages go with the last of them.
        """
        if os.getpid() != self._pid:
            self._close_copy()
            return
        with self._locked():
            if self._closed:
                return
            self._closed = True
            self._released += self._live
            self._live = self._content = 0
            kept = sum(not self._drop(slab) for slab in tuple(self._slabs))
            self._roomy.clear()
            self._retired.clear()
        if kept:
            raise LeaseError(
                f"views of secrets are still there, in {kept} mappings: all were wiped",
                step="lease",
                advice="End the blocks that read secrets before the vault is closed",
            )

    release = close

    def _close_copy(self) -> None:
        """Wipe a forked child's copy, where the system made one; without the lock, which may be held for ever here."""
        self._closed = True
        for slab in tuple(self._slabs):
            if slab.is_inherited:
                slab.wipe(0, slab.nbytes)

    def _at_exit(self) -> None:
        with suppress(LeaseError):  # nobody is left who could end a block
            self.close()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LeaseError(
                f"secrets of process {self._pid} do not follow it into a forked child",
                step="lease",
                advice="Make a vault in the child, and hand the bytes over through a pipe",
            )

    def __enter__(self) -> SecretVault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SecretVault {'closed' if self._closed else f'{self._live} secrets'}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a vault cannot be copied or pickled: its bytes stay where they are")


def _closed() -> LeaseError:
    return LeaseError("the vault of secrets is closed", step="lease", advice="Make a new one")
