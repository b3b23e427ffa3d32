"""Secrets: seen in a block, and in no other way; gone when they are released."""

from __future__ import annotations

import copy
import ctypes
import gc
import mmap
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from weighbridge_hookspecs import CeilingExceeded, ConfigurationError, LeaseError

from weighbridge.leases import secret as module
from weighbridge.leases import slabs
from weighbridge.leases.secret import Secret, SecretsUnprotected, SecretVault


@pytest.fixture
def vault() -> Iterator[SecretVault]:
    with SecretVault() as opened:
        yield opened


def content(secret: Secret) -> bytes:
    with secret.view() as view:
        return bytes(view)


def memory(secret: Secret) -> Callable[[], bytes]:
    """What lies where the secret lies, asked of the process and not of the vault."""
    slot = secret._held[0]
    address, nbytes = ctypes.addressof(slot.slab.window(slot.offset)), secret.nbytes

    def read() -> bytes:
        with open("/proc/self/mem", "rb", buffering=0) as file:
            file.seek(address)
            return file.read(nbytes)

    return read


# -- a secret ----------------------------------------------------------------------------------------------------------


# snippet: secret
def test_a_secret_is_seen_in_a_block_alone() -> None:
    """The view is read-only, and is over with its block; the handle shows nothing, and releasing wipes."""
    with SecretVault() as vault:
        key = vault.fill(32, BytesIO(b"k" * 32).readinto)  # straight from a file: no other memory holds it
        with key.view() as view:
            assert bytes(view) == b"k" * 32
            assert view.readonly
        with pytest.raises(ValueError, match="released memoryview"):
            view[0]
        assert repr(key) == "<Secret of 32 bytes, held>"
        key.release()
        assert vault.statistics().secrets == 0


# end snippet


@pytest.mark.parametrize("given_", [b"x", bytes(range(256)) * 100, bytearray(b"later"), memoryview(b"a view")])
def test_a_secret_is_any_bytes(vault: SecretVault, given_: bytes) -> None:
    """Small, larger than a slab, or of another type of bytes: it reads as it was."""
    assert content(vault.keep(given_)) == bytes(given_)


@pytest.mark.parametrize("wrong", ["hunter2", 1234567, None, [b"hunter2"]])
def test_text_is_no_secret(vault: SecretVault, wrong: Any) -> None:
    """Text is not encoded by guess, and the error does not show it."""
    with pytest.raises(TypeError, match="encode it first") as caught:
        vault.keep(wrong)
    assert not {"hunter2", "1234567"} & set(str(caught.value).split())


def test_an_empty_secret_is_refused(vault: SecretVault) -> None:
    """Nothing at all is nearly always a mistake where a key was meant."""
    for make in (vault.keep, lambda _: vault.fill(0, print), lambda _: vault.fill(-1, print)):
        with pytest.raises(ValueError, match="at least one byte"):
            make(b"")
    wrong: Any = "32"
    with pytest.raises(TypeError, match="whole number of bytes"):
        vault.fill(wrong, print)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_neither_a_secret_nor_its_vault_can_be_copied(vault: SecretVault, way: Callable[[object], object]) -> None:
    """A copy would be bytes that nobody wipes."""
    for thing in (vault.keep(b"hunter2"), vault):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            way(thing)


def test_nothing_shows_the_content(vault: SecretVault) -> None:
    """Not its text, nor its attributes, nor those of its vault; two handles of the same content are not equal."""
    one, other = vault.keep(b"hunter2"), vault.keep(b"hunter2")
    shown = f"{one!r} {one} {vault!r} {vault.statistics()!r} {[getattr(one, name) for name in one.__slots__[1:]]!r}"
    assert "hunter2" not in shown
    assert one != other


def test_a_view_opens_once_at_a_time(vault: SecretVault) -> None:
    """The same block object cannot be entered inside itself; two blocks of one secret can."""
    secret = vault.keep(b"x")
    block = secret.view()
    with block, secret.view() as second:
        assert bytes(second) == b"x"
        with pytest.raises(RuntimeError, match="open already"):
            block.__enter__()
    with block as again:
        assert bytes(again) == b"x"


# -- views that are kept -----------------------------------------------------------------------------------------------

KEPT: list[Callable[[memoryview], Any]] = [
    lambda view: view[1:3],
    memoryview,
    lambda view: view.cast("c"),
    lambda view: memoryview(view).toreadonly(),
    pickle.PickleBuffer,  # exports the view itself, as an array library does
]


@pytest.mark.parametrize("keep", KEPT)
def test_a_view_that_is_kept_is_an_error_and_never_shows_others(
    vault: SecretVault, keep: Callable[[memoryview], Any]
) -> None:
    """Whoever keeps one is told at the end of the block, sees zeros after the release, and no later secret."""
    secret = vault.keep(b"first!!")
    with pytest.raises(LeaseError, match="kept beyond its block"), secret.view() as view:
        kept = keep(view)
    read = memory(secret)
    secret.release()
    later = [vault.keep(b"others!") for _ in range(2000)]
    assert read() == bytes(7), "a slot with a view was lent again"
    assert vault.statistics().retired_bytes == 16
    if isinstance(kept, memoryview):
        assert set(kept.tobytes()) == {0}
    del kept, view
    assert vault.statistics().retired_bytes == 0
    assert {content(one) for one in later} == {b"others!"}


def test_an_error_in_the_block_is_not_hidden_by_a_view_in_its_frames(vault: SecretVault) -> None:
    """The traceback holds a slice of the view: the error that reaches the caller is the block's own."""
    secret = vault.keep(b"hunter2")

    def use(view: memoryview) -> None:
        part = view[:3]
        raise ZeroDivisionError(len(part))

    with pytest.raises(ZeroDivisionError), secret.view() as view:
        use(view)
    gc.collect()
    assert content(secret) == b"hunter2"


def test_a_secret_released_under_a_block_is_wiped_and_the_block_is_told(vault: SecretVault) -> None:
    """What was computed from zeros is not taken for good in silence; the slot is lent again after the block."""
    secret = vault.keep(b"hunter2")

    def use() -> None:
        with secret.view() as view:
            secret.release()
            assert bytes(view) == bytes(7)
            assert vault.statistics().retired_bytes == 16

    with pytest.raises(LeaseError, match="wiped while its block ran"):
        use()
    assert vault.statistics().retired_bytes == 0


def test_the_view_for_writing_cannot_be_kept(vault: SecretVault) -> None:
    """A writable view that outlives the filling would change the secret behind its owner's back."""
    kept: list[memoryview] = []
    with pytest.raises(LeaseError, match="for writing a secret was kept"):
        vault.fill(7, lambda view: kept.append(view[:]))
    assert (vault.statistics().secrets, bytes(kept[0])) == (0, bytes(7))


def test_what_a_filling_raises_reaches_the_caller_and_nothing_is_kept(vault: SecretVault) -> None:
    """Half a key is wiped."""

    def half(view: memoryview) -> None:
        view[:3] = b"hun"
        raise EOFError

    with pytest.raises(EOFError):
        vault.fill(7, half)
    drawn = vault.statistics()
    assert (drawn.secrets, drawn.content_bytes, drawn.mapped_bytes) == (0, 0, 0)


# -- the end of a secret -----------------------------------------------------------------------------------------------


def test_releasing_wipes_the_bytes_themselves(vault: SecretVault) -> None:
    """The memory of the process, read from outside of Python's objects, holds the secret before and zeros after."""
    neighbour = vault.keep(b"neighbour")  # keeps the mapping
    secret = vault.keep(b"hunter2hunter2")
    read = memory(secret)
    assert read() == b"hunter2hunter2"
    secret.release()
    secret.release()
    assert read() == bytes(14)
    assert content(neighbour) == b"neighbour"
    with pytest.raises(LeaseError, match="was released"), secret.view():
        pass
    assert repr(secret) == "<Secret of 14 bytes, released>"


def test_a_forgotten_handle_is_wiped(vault: SecretVault) -> None:
    """Nobody can read it any more, so nobody needs it."""
    neighbour = vault.keep(b"neighbour")
    secret = vault.keep(b"hunter2")
    read = memory(secret)
    del secret
    assert read() == bytes(7)
    assert vault.statistics().secrets == 1
    del neighbour


def test_handles_in_a_ring_are_wiped_by_a_collection_under_the_lock(vault: SecretVault) -> None:
    """The collector may come at any time, even while the vault is locked: that is no deadlock."""
    ring: list[Any] = [vault.keep(b"hunter2")]
    ring.append(ring)
    del ring
    with vault._locked():
        gc.collect()
        assert vault._live == 1
    assert vault.statistics().secrets == 0


def test_closing_wipes_all_and_every_handle_says_so() -> None:
    """One call takes back everything, whoever holds handles."""
    vault = SecretVault()
    secrets = [vault.keep(b"hunter2") for _ in range(3000)]
    vault.close()
    vault.close()
    drawn = vault.statistics()
    assert (drawn.secrets, drawn.mapped_bytes, drawn.made, drawn.released) == (0, 0, 3000, 3000)
    for use in (vault.keep, lambda _: vault.fill(1, print)):
        with pytest.raises(LeaseError, match="vault of secrets is closed"):
            use(b"x")
    with pytest.raises(LeaseError, match="was released"), secrets[0].view():
        pass
    secrets.clear()
    assert vault.statistics() == drawn


def test_closing_under_a_block_wipes_and_says_so() -> None:
    """The host does not wait for a reader: it reads zeros, and both sides are told."""
    vault = SecretVault()
    secret = vault.keep(b"hunter2")

    def use() -> None:
        with secret.view() as view:
            with pytest.raises(LeaseError, match="views of secrets are still there"):
                vault.close()
            assert bytes(view) == bytes(7)

    with pytest.raises(LeaseError, match="wiped while its block ran"):
        use()
    assert vault.statistics().mapped_bytes == 0


def test_closing_while_a_secret_is_made_gives_no_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is filling a secret when its vault is closed is told; the content goes with the pages."""
    vault = SecretVault()

    def close_under_it(view: memoryview) -> None:
        view[:] = b"hunter2"
        with pytest.raises(LeaseError, match="views of secrets are still there"):
            vault.close()
        assert bytes(view) == bytes(7)
        view[:] = b"hunter2"

    with pytest.raises(LeaseError, match="vault of secrets is closed"):
        vault.fill(7, close_under_it)
    other = SecretVault()
    monkeypatch.setattr(slabs, "_lock", lambda *_: "no")
    with monkeypatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: other.close())
        with pytest.raises(LeaseError, match="vault of secrets is closed"):
            other.keep(b"hunter2")
    assert other.statistics().mapped_bytes == 0


def test_a_handle_whose_pages_went_meanwhile_says_so(vault: SecretVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a handle and the opening of its slot another thread may close the vault."""
    secret = vault.keep(b"hunter2")
    window = slabs.Slab.window

    def closed(self: Any, offset: int) -> Any:
        vault.close()
        return window(self, offset)

    monkeypatch.setattr(slabs.Slab, "window", closed)
    with pytest.raises(LeaseError, match="was released"), secret.view():
        pass


def test_the_exit_is_watched_only_while_there_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault without secrets leaves no entry with ``atexit``, which would keep it alive."""
    entries: list[Any] = []
    monkeypatch.setattr("atexit.register", entries.append)
    monkeypatch.setattr("atexit.unregister", entries.remove)
    with SecretVault() as vault:
        assert entries == []
        one, other = vault.keep(b"1"), vault.keep(bytes(5000))
        assert entries == [vault._at_exit]
        one.release()
        assert len(entries) == 1
        other.release()
        assert entries == []
        vault.keep(b"again")
        last = vault.keep(b"again")
        assert len(entries) == 1
    assert entries == []
    del last


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_full_vault_says_what_it_holds(vault: SecretVault) -> None:
    """At its bound nothing is kept and nothing is dropped; a release makes room."""
    with SecretVault(max_bytes=16 * 1024) as small:
        secrets = [small.keep(bytes(4096)) for _ in range(4)]
        with pytest.raises(CeilingExceeded, match="has no room") as caught:
            small.keep(b"x")
        assert (caught.value.used_bytes, caught.value.ceiling_bytes) == (16384, 16384)
        for secret in secrets:
            secret.release()
        assert content(small.keep(b"x")) == b"x"


def test_memory_that_the_system_refuses_is_a_clear_error(vault: SecretVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mapping, no secret, and the books are as before."""

    def refuse(_: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(slabs, "_map", refuse)
        with pytest.raises(CeilingExceeded, match="the system has no memory"):
            vault.keep(b"x")
    assert vault.statistics().mapped_bytes == 0
    assert content(vault.keep(b"x")) == b"x"


@pytest.mark.parametrize("wrong", [0, 1000, "8 MiB", True, None])
def test_a_bound_without_room_is_refused(wrong: Any) -> None:
    """A vault that can keep nothing is a mistake of whoever made it."""
    with pytest.raises(ConfigurationError, match="max_bytes"):
        SecretVault(max_bytes=wrong)


@given(st.integers(1, 1 << 20))
def test_a_slot_has_room_for_its_secret(nbytes: int) -> None:
    """Small ones waste less than half of a slot above the smallest; large ones less than a page."""
    size = slabs.slot_size(nbytes)
    assert nbytes <= size <= max(16, 2 * nbytes, nbytes + mmap.PAGESIZE - 1)
    assert slabs.mapping_bytes(size) % mmap.PAGESIZE == 0
    assert slabs.mapping_bytes(size) >= size


# -- systems that refuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "value", "words", "figure"),
    [
        (
            "_lock",
            lambda *_: "Operation not permitted",
            r"swapped to disk.*Operation not permitted.*ulimit -l",
            "unlocked_bytes",
        ),
        ("_mlock", lambda: None, "this system has no mlock", "unlocked_bytes"),
        ("_DONT_DUMP", None, "core dump", "dumpable_bytes"),
        ("_WIPE_ON_FORK", None, "forked children", "inherited_bytes"),
        ("_WIPE_ON_FORK", 9999, "forked children", "inherited_bytes"),
    ],
)
def test_what_the_system_refuses_is_a_named_warning_and_a_figure(
    vault: SecretVault, monkeypatch: pytest.MonkeyPatch, place: str, value: Any, words: str, figure: str
) -> None:
    """The secret is kept all the same, and nobody believes it protected."""
    monkeypatch.setattr(slabs, place, value)
    with pytest.warns(SecretsUnprotected, match=words) as caught:
        secret = vault.keep(b"hunter2")
    assert caught[0].filename == __file__
    assert "hunter2" not in str(caught[0].message)
    assert content(secret) == b"hunter2"
    drawn = vault.statistics()
    assert getattr(drawn, figure) == drawn.mapped_bytes == 16384
    assert drawn.locked_bytes + drawn.unlocked_bytes == drawn.mapped_bytes


def test_a_warning_made_an_error_keeps_nothing(vault: SecretVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever insists on locked memory turns the warning into an error: every attempt fails, and leaves nothing."""
    monkeypatch.setattr(slabs, "_lock", lambda *_: "Operation not permitted")
    for _ in range(3):
        with pytest.raises(SecretsUnprotected):
            vault.keep(b"hunter2")
        assert vault.statistics().mapped_bytes == 0


def test_a_system_without_private_mappings_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the module mmap has no flags, it gives other memory, and the warning says what that lacks."""
    monkeypatch.delattr(mmap, "MAP_PRIVATE")
    with SecretVault() as vault, pytest.warns(SecretsUnprotected, match="forked children"):
        assert content(vault.keep(b"hunter2")) == b"hunter2"


# -- threads and rounds ------------------------------------------------------------------------------------------------


def test_eight_threads_read_their_own_secrets_alone() -> None:
    """Keeping, reading and releasing at once: every read is the reader's own content, and the books end at zero."""
    with SecretVault() as vault:
        wrong: list[bytes] = []

        def work(name: int) -> None:
            held: list[tuple[Secret, bytes]] = []
            for number in range(400):
                expected = b"%d %d" % (name, number)
                held.append((vault.keep(expected), expected))
                secret, expected = held[number % len(held)]
                if content(secret) != expected:
                    wrong.append(expected)
                if number % 3 == 0:
                    held.pop(0)[0].release()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        drawn = vault.statistics()
        assert wrong == []
        assert (drawn.made, drawn.released, drawn.secrets, drawn.mapped_bytes) == (3200, 3200, 0, 0)


def test_readers_of_a_secret_that_others_release_see_it_or_an_error() -> None:
    """Eight threads read, replace and release the same handles: no read shows another secret, and none is a mixture."""
    with SecretVault() as vault:
        shared = [(vault.keep(b"%016d" % number), b"%016d" % number) for number in range(8)]
        wrong: list[bytes] = []

        def work(name: int) -> None:
            for number in range(2000):
                place = (name + number) % 8
                secret, expected = shared[place]
                try:
                    with secret.view() as view:
                        before, after = bytes(view), bytes(view)
                except LeaseError:  # released before the block, or under it
                    continue
                if (before, after) != (expected, expected):
                    wrong.append(before + after)
                if number % 5 == 0:
                    fresh = b"%08d%08d" % (name + 1, number)
                    secret.release()
                    shared[place] = (vault.keep(fresh), fresh)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        shared.clear()
        drawn = vault.statistics()
        assert wrong == []
        assert (drawn.secrets, drawn.retired_bytes, drawn.mapped_bytes) == (0, 0, 0)


def test_rounds_leave_no_mapping_and_no_locked_page() -> None:
    """A vault with a thousand secrets that nobody releases, made and closed again and again: nothing stays."""

    def round_() -> None:
        with SecretVault() as vault:
            held = [vault.keep(b"%d" % number) for number in range(1000)]
        assert held[0].is_released

    def locked() -> str:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(line for line in file if line.startswith("VmLck"))

    def mappings() -> int:
        with open("/proc/self/maps", encoding="utf-8") as file:
            return sum(1 for line in file if line.rstrip().endswith(" 0"))

    round_()
    baseline = locked(), mappings()
    for _ in range(20):
        round_()
    gc.collect()
    assert locked() == baseline[0]
    assert mappings() <= baseline[1] + 2  # the interpreter takes an arena now and then


class Machine(RuleBasedStateMachine):
    """A vault, and a dictionary that it has to be like."""

    def __init__(self) -> None:
        super().__init__()
        self.vault = SecretVault(max_bytes=64 * 1024)
        self.held: dict[Secret, bytes] = {}
        self.made = 0

    @rule(given_=st.one_of(st.binary(min_size=1, max_size=80), st.binary(min_size=1000, max_size=9000)))
    def keep(self, given_: bytes) -> None:
        try:
            self.held[self.vault.keep(given_)] = given_
        except CeilingExceeded:
            return
        self.made += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        secret = list(self.held)[data.draw(st.integers(0, len(self.held) - 1))]  # hypothesis keeps what it drew
        del self.held[secret]
        secret.release()

    @precondition(lambda self: self.held)
    @rule()
    def forget_the_oldest(self) -> None:
        del self.held[next(iter(self.held))]

    @invariant()
    def alike(self) -> None:
        assert [content(secret) for secret in self.held] == list(self.held.values())
        drawn = self.vault.statistics()
        assert (drawn.secrets, drawn.made - drawn.released, drawn.made) == (len(self.held), len(self.held), self.made)
        assert drawn.content_bytes == sum(map(len, self.held.values())) <= drawn.mapped_bytes <= 64 * 1024
        assert bool(drawn.mapped_bytes) == bool(self.held)

    def teardown(self) -> None:
        self.vault.close()


Machine.TestCase.settings = settings(deadline=None, max_examples=30, stateful_step_count=30)
TestAgainstAModel = Machine.TestCase
TestAgainstAModel.__doc__ = "Whatever is kept, released and forgotten, the vault is like a dictionary, and as small."


def test_whoever_lists_all_objects_keeps_no_view() -> None:
    """An unload does that in another thread: a block that ends meanwhile waits for a moment, and all is well."""
    with SecretVault() as vault:
        secret = vault.keep(b"open sesame")
        listed, walkers = threading.Event(), []

        def walk() -> None:
            everything = gc.get_objects()
            listed.set()
            time.sleep(0.05)
            del everything

        for _ in range(3):
            with secret.view() as view:
                walkers.append(threading.Thread(target=walk))
                walkers[-1].start()
                listed.wait()
                assert bytes(view) == b"open sesame"
            listed.clear()
        for walker in walkers:
            walker.join()
        assert vault.statistics().retired_bytes == 0


def test_a_view_that_is_kept_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while of looking, in which it could have gone."""
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.001))
    with SecretVault() as vault:
        secret = vault.keep(b"open sesame")
        kept = []
        with pytest.raises(LeaseError, match="was kept beyond its block"), secret.view() as view:
            kept.append(view.obj)
        kept.clear()
