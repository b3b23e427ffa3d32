"""Two slots of a store: what is kept, and what is left of it after a failure."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import (
    CeilingExceeded,
    ConfigurationError,
    LeaseError,
    StateRefused,
    StorageDamaged,
    StorageFailed,
)

from weighbridge_wasm.config import PAGE_BYTES
from weighbridge_wasm.state import KEY_PREFIX, SYSTEM_PAGE_BYTES, GlobalValue, Run, Snapshot, StateSlots
from weighbridge_wasm.state.frames import FORMAT, HEAD, PART, seal

SHA = hashlib.sha256(b"a module").digest()
OTHER = hashlib.sha256(b"another module").digest()


class Crash(BaseException):
    """The process ends here: nobody catches it."""


class MemoryStore:
    """A store that does what a dictionary does, and fails when it is told to."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.writes = 0
        self.fail_at: int | None = None
        self.failure: type[BaseException] = StorageFailed
        self.damaged: set[str] = set()

    def get(self, key: str) -> bytes | None:
        if key in self.damaged:
            raise StorageDamaged(f"the value of {key!r} is damaged", wanted="checksum 1", had="checksum 2")
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._write()
        assert isinstance(value, bytes)
        assert 0 < len(key.encode()) <= 255
        self.values[key] = value

    def delete(self, key: str) -> None:
        self._write()
        self.values.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in self.values if key.startswith(prefix)))

    def _write(self) -> None:
        self.writes += 1
        if self.fail_at is not None and self.writes >= self.fail_at:
            raise self.failure("no space left on device")


def snapshot(number: int, *, npages: int = 4, sha: bytes = SHA) -> Snapshot:
    """A state that says its number in every byte."""
    runs = tuple(
        Run(at * 2 * SYSTEM_PAGE_BYTES, SYSTEM_PAGE_BYTES, bytes((number % 251 + 1,)) * SYSTEM_PAGE_BYTES)
        for at in range(npages)
    )
    return Snapshot(module_sha256=sha, pages=2, runs=runs, globals=(GlobalValue("i64", number),))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_saved_state_is_loaded(store: MemoryStore) -> None:
    """Also by another object on the same store, as after a restart."""
    kept = StateSlots(store).save("m", snapshot(1))
    assert StateSlots(store).load("m", SHA) == snapshot(1)
    assert StateSlots(store).describe("m") == kept
    assert (kept.module_sha256, kept.pages, kept.parts) == (SHA.hex(), 2, 1)
    assert kept.bytes == len(snapshot(1).to_bytes())


def test_nothing_is_kept_at_first(store: MemoryStore) -> None:
    """None is no state; there is no previous one before the second save."""
    slots = StateSlots(store)
    assert (slots.load("m", SHA), slots.describe("m"), list(slots.modules())) == (None, None, [])
    slots.save("m", snapshot(1))
    assert slots.load("m", SHA, slot="previous") is None


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 12)), min_size=2, max_size=6), st.booleans())
def test_last_two_states_are_kept(saves: list[tuple[int, int]], compress: bool) -> None:
    """Whatever their sizes, there is nothing in the store beside them and the head."""
    store = MemoryStore()
    slots = StateSlots(store, part_bytes=3 * SYSTEM_PAGE_BYTES, compress=compress)
    for number, npages in saves:
        slots.save("m", snapshot(number, npages=npages))
    (previous, before), (current, now) = saves[-2:]
    assert slots.load("m", SHA) == snapshot(current, npages=now)
    assert slots.load("m", SHA, slot="previous") == snapshot(previous, npages=before)
    assert len(store.values) == 1 + nparts(slots)


@pytest.mark.parametrize("failure", [StorageFailed, Crash])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (9, 1, 9), (1, 9, 1), (9, 9, 9)])
def test_failure_at_any_write_leaves_a_whole_state(
    store: MemoryStore, sizes: tuple[int, int, int], failure: type[BaseException]
) -> None:
    """A full disk or a crash at the n-th write, for every n: the state is the old or the new one, and never torn."""

    def prepared() -> tuple[MemoryStore, StateSlots]:
        fresh = MemoryStore()
        slots = StateSlots(fresh, part_bytes=2 * SYSTEM_PAGE_BYTES)
        slots.save("m", snapshot(1, npages=sizes[0]))
        slots.save("m", snapshot(2, npages=sizes[1]))
        return fresh, slots

    counted, slots = prepared()
    before = counted.writes
    slots.save("m", snapshot(3, npages=sizes[2]))
    nwrites = counted.writes - before
    assert nwrites >= 2
    outcomes = []
    for n in range(nwrites):
        store, slots = prepared()
        store.fail_at, store.failure = store.writes + 1 + n, failure
        try:
            slots.save("m", snapshot(3, npages=sizes[2]))
            acknowledged = True
        except (StorageFailed, Crash):
            acknowledged = False
        store.fail_at = None
        found = StateSlots(store).load("m", SHA)
        assert not acknowledged or found == snapshot(3, npages=sizes[2])
        assert found in (snapshot(2, npages=sizes[1]), snapshot(3, npages=sizes[2]))
        outcomes.append(found == snapshot(3, npages=sizes[2]))
        slots.save("m", snapshot(4))
        assert StateSlots(store).load("m", SHA) == snapshot(4)
        assert StateSlots(store).load("m", SHA, slot="previous") == found
        assert len(store.values) == 1 + nparts(slots)
    assert outcomes == sorted(outcomes)
    assert not outcomes[0]


def nparts(slots: StateSlots) -> int:
    """Values of both slots."""
    kept = [slots.describe("m"), slots.describe("m", slot="previous")]
    return sum(each.parts for each in kept if each is not None)


def test_state_that_was_being_written_over_is_not_taken_for_whole(store: MemoryStore) -> None:
    """A save that stopped in the middle of a slot leaves it damaged by name, and the current state as it was."""
    slots = StateSlots(store, part_bytes=SYSTEM_PAGE_BYTES)
    slots.save("m", snapshot(1))
    slots.save("m", snapshot(2))
    store.fail_at = store.writes + 3
    with pytest.raises(StorageFailed, match="no space left"):
        slots.save("m", snapshot(3))
    store.fail_at = None
    assert slots.load("m", SHA) == snapshot(2)
    with pytest.raises(StorageDamaged, match=r"the previous state of the module 'm' \(slot a\)"):
        slots.load("m", SHA, slot="previous")


def values_of(store: MemoryStore, slots: StateSlots, slot: str) -> list[str]:
    """Keys of the current or of the previous state."""
    kept = slots.describe("m", slot="previous" if slot == "previous" else "current")
    assert kept is not None
    return list(store.keys(f"{KEY_PREFIX}m/{kept.slot}."))


def damages() -> list[tuple[str, Callable[[MemoryStore, str], object]]]:
    def flip(store: MemoryStore, key: str) -> None:
        value = bytearray(store.values[key])
        value[len(value) // 2] ^= 1
        store.values[key] = bytes(value)

    def cut(store: MemoryStore, key: str) -> None:
        store.values[key] = store.values[key][:-1]

    def swap(store: MemoryStore, key: str) -> None:
        store.values[key] = snapshot(77, npages=1).to_bytes()

    return [
        ("flipped", flip),
        ("cut", cut),
        ("replaced", swap),
        ("missing", lambda store, key: store.values.pop(key)),
        ("found by the store", lambda store, key: store.damaged.add(key)),
    ]


@pytest.mark.parametrize("damage", [damage for _, damage in damages()], ids=[name for name, _ in damages()])
@pytest.mark.parametrize("index", [0, 1, 3])
def test_damage_is_named_and_the_previous_state_is_not_lost(
    store: MemoryStore, damage: Callable[[MemoryStore, str], object], index: int
) -> None:
    """Whichever part of the current state is damaged, and however: it stays where it is, and so does the other one."""
    slots = StateSlots(store, part_bytes=SYSTEM_PAGE_BYTES)
    slots.save("m", snapshot(1))
    slots.save("m", snapshot(2))
    damage(store, values_of(store, slots, "current")[index])
    before = dict(store.values)
    with pytest.raises(StorageDamaged, match=r"the current state of the module 'm' \(slot b\)"):
        slots.load("m", SHA)
    assert slots.load("m", SHA, slot="previous") == snapshot(1)
    assert store.values == before


@pytest.mark.parametrize("damage", [damage for _, damage in damages()[:3]], ids=[name for name, _ in damages()[:3]])
def test_damaged_head_is_named_and_nothing_is_written_over(
    store: MemoryStore, damage: Callable[[MemoryStore, str], object]
) -> None:
    """Without it nobody knows which slot is current; `discard` begins anew."""
    slots = StateSlots(store)
    slots.save("m", snapshot(1))
    damage(store, f"{KEY_PREFIX}m/head")
    before = dict(store.values)
    with pytest.raises(StorageDamaged, match="the head of the states of the module 'm' is damaged"):
        slots.load("m", SHA)
    with pytest.raises(StorageDamaged, match="the head of the states of the module 'm' is damaged"):
        slots.save("m", snapshot(2))
    assert store.values == before
    slots.discard("m")
    assert store.values == {}
    slots.save("m", snapshot(2))
    assert slots.load("m", SHA) == snapshot(2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"3",
        b'{"module": "m", "current": "a", "slots": []}',
        b'{"module": "m", "current": "c", "slots": []}',
        b'{"module": "m", "current": "a", "slots": [{}]}',
        b'{"module": "m", "current": "a", "slots": [3]}',
        b'{"module": "m", "current": "a", "slots": [{"slot": "a", "module_sha256": "", "pages": -1, "parts": 0,'
        b' "bytes": 0, "digest": ""}]}',
        b'{"module": "n", "current": "a", "slots": [{"slot": "a", "module_sha256": "", "pages": 0, "parts": 0,'
        b' "bytes": 0, "digest": ""}]}',
        b"[" * 100_000,
    ],
)
def test_head_that_makes_no_sense_is_damage(store: MemoryStore, body: bytes) -> None:
    """Even under a checksum that is right."""
    store.values[f"{KEY_PREFIX}m/head"] = seal(HEAD, (body,))
    with pytest.raises(StorageDamaged, match="the head of the states of the module 'm' is damaged"):
        StateSlots(store).load("m", SHA)


def test_state_of_other_code_is_refused_and_stays(store: MemoryStore) -> None:
    """It is not put into a module that it is not of; saving makes it the previous one."""
    slots = StateSlots(store)
    slots.save("m", snapshot(1))
    with pytest.raises(StateRefused, match=f"is of other code \\(wanted SHA-256 {OTHER.hex()}, had {SHA.hex()}"):
        slots.load("m", OTHER)
    assert slots.load("m", SHA) == snapshot(1)
    slots.save("m", snapshot(2, sha=OTHER))
    assert slots.load("m", OTHER) == snapshot(2, sha=OTHER)
    assert slots.load("m", SHA, slot="previous") == snapshot(1)


def test_newer_format_is_refused_and_stays(store: MemoryStore) -> None:
    """Of the head, it is neither read nor written over."""
    store.values[f"{KEY_PREFIX}m/head"] = seal(HEAD, (b"to come",), number=FORMAT + 1)
    before = dict(store.values)
    with pytest.raises(StateRefused, match="has the format 2"):
        StateSlots(store).load("m", SHA)
    with pytest.raises(StateRefused, match="has the format 2"):
        StateSlots(store).save("m", snapshot(1))
    assert store.values == before


def test_part_of_a_newer_format_does_not_belong_to_the_state(store: MemoryStore) -> None:
    """The head knows the checksums of its parts, so another part in its place is damage."""
    slots = StateSlots(store)
    slots.save("m", snapshot(1))
    (key,) = values_of(store, slots, "current")
    store.values[key] = seal(PART, (b"to come",), number=FORMAT + 1)
    with pytest.raises(StorageDamaged, match="the current state of the module 'm'"):
        slots.load("m", SHA)


@given(st.lists(st.text(st.characters(), min_size=1, max_size=12), unique=True, min_size=1, max_size=5))
def test_modules_do_not_meet(names: list[str]) -> None:
    """Whatever they are called, each has its own state, and is listed and forgotten by its own name."""
    store = MemoryStore()
    store.values["config/m"] = b"not ours"
    slots = StateSlots(store)
    for number, name in enumerate(names):
        slots.save(name, snapshot(number))
    assert sorted(slots.modules()) == sorted(names)
    for number, name in enumerate(names):
        assert slots.load(name, SHA) == snapshot(number)
        slots.discard(name)
        assert slots.load(name, SHA) is None
    assert store.values == {"config/m": b"not ours"}


@pytest.mark.parametrize("name", ["", "x" * 201, "\u1234" * 40])
def test_name_too_long_for_a_key_is_refused(store: MemoryStore, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigurationError, match="wanted 1 to 200"):
        StateSlots(store).save(name, snapshot(1))
    assert store.values == {}


def test_longest_name_fits(store: MemoryStore) -> None:
    """With its slot and the number of a part it is a key that stores take."""
    slots = StateSlots(store, part_bytes=SYSTEM_PAGE_BYTES)
    slots.save("x" * 200, snapshot(1, npages=12))
    assert slots.load("x" * 200, SHA) == snapshot(1, npages=12)


def test_discarding_what_is_not_there_is_fine(store: MemoryStore) -> None:
    """So is doing it twice."""
    StateSlots(store).discard("m")
    StateSlots(store).discard("m")


def test_state_larger_than_a_value_becomes_several(store: MemoryStore) -> None:
    """A memory may have more than a store takes in one value."""
    slots = StateSlots(store, part_bytes=2 * PAGE_BYTES)
    memory = bytes(range(1, 256)) * 4113
    large = Snapshot(module_sha256=SHA, pages=16, runs=(Run(0, 16 * PAGE_BYTES, memory[: 16 * PAGE_BYTES]),))
    kept = slots.save("m", large)
    assert (kept.parts, kept.bytes > large.content_bytes) == (8, True)
    found = slots.load("m", SHA)
    assert found is not None
    assert b"".join(bytes(run.content) for run in found.runs if run.content is not None) == memory[: 16 * PAGE_BYTES]


def test_value_that_a_store_does_not_take_is_a_failure(store: MemoryStore) -> None:
    """An application may let a value have less than a part, and is told what to do."""

    class Small(MemoryStore):
        def put(self, key: str, value: bytes) -> None:
            if len(value) > 10_000:
                raise ValueError(f"a value of {len(value)} bytes: 10000 is the most that one may have; split it")
            super().put(key, value)

    small = Small()
    with pytest.raises(StorageFailed, match="10000 is the most that one may have"):
        StateSlots(small).save("m", snapshot(1))
    assert small.values == {}
    StateSlots(small, part_bytes=8192).save("m", snapshot(1))
    assert StateSlots(small).load("m", SHA) == snapshot(1)


@pytest.mark.parametrize("failure", [CeilingExceeded, LeaseError])
def test_other_errors_of_the_store_are_passed_on(store: MemoryStore, failure: type[LeaseError]) -> None:
    """What they say is the store's own matter; the state is the same as before."""
    slots = StateSlots(store)
    slots.save("m", snapshot(1))
    store.fail_at, store.failure = store.writes + 1, failure
    with pytest.raises(failure):
        slots.save("m", snapshot(2))
    assert slots.load("m", SHA) == snapshot(1)


def test_unknown_slot_is_refused(store: MemoryStore) -> None:
    """A word that is misspelt is not taken for the other one."""
    slots = StateSlots(store)
    slots.save("m", snapshot(1))
    with pytest.raises(ValueError, match='give "current" or "previous"'):
        slots.load("m", SHA, slot="last")  # type: ignore[arg-type] # that is the point


def test_state_is_saved_even_if_nothing_can_be_swept(store: MemoryStore) -> None:
    """What is left over goes at the next save; the one before was acknowledged with its head."""
    slots = StateSlots(store, part_bytes=SYSTEM_PAGE_BYTES)
    for number in range(2):
        slots.save("m", snapshot(number, npages=6))
    store.fail_at = store.writes + 4  # two parts, the head, and then what the slot had more of
    slots.save("m", snapshot(2, npages=2))
    store.fail_at = None
    assert slots.load("m", SHA) == snapshot(2, npages=2)
    assert len(store.values) > 1 + nparts(slots)
    slots.save("m", snapshot(3, npages=2))
    assert len(store.values) == 1 + nparts(slots)


def test_load_waits_for_no_save_that_would_write_over_it() -> None:
    """Two saves while a load is half done would have it read parts of two states; they come after it."""
    savers: list[threading.Thread] = []

    class Slow(MemoryStore):
        def get(self, key: str) -> bytes | None:
            value = super().get(key)
            if key.endswith(".0") and not savers:
                savers.append(threading.Thread(target=lambda: [slots.save("m", snapshot(n)) for n in (2, 3)]))
                savers[0].start()
                savers[0].join(0.3)  # time enough for both, if nothing keeps them
            return value

    slots = StateSlots(Slow(), part_bytes=SYSTEM_PAGE_BYTES)
    slots.save("m", snapshot(1))
    assert slots.load("m", SHA) == snapshot(1)
    savers[0].join()
    assert slots.load("m", SHA) == snapshot(3)


def test_load_beside_saves_is_whole(store: MemoryStore) -> None:
    """Two saves during one load would write over what it reads; every load gives one state as it was saved."""
    slots = StateSlots(store, part_bytes=SYSTEM_PAGE_BYTES)
    slots.save("m", snapshot(0))
    done = threading.Event()

    def save() -> None:
        for number in range(1, 200):
            slots.save("m", snapshot(number))
        done.set()

    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save)
        nloads = 0
        while not done.is_set() and not saving.done():
            found = slots.load("m", SHA)
            assert found is not None
            assert found == snapshot(found.globals[0].bits)
            nloads += 1
        saving.result()
    assert nloads
    assert slots.load("m", SHA) == snapshot(199)
