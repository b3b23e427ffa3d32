"""Releases: what was asked, what was freed, and what the hypervisor can have."""

from __future__ import annotations

import gc
import logging
import mmap
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon import release as release_module
from weighbridge_balloon.buddy import Offer, free_bytes, is_reporting, read_offer, reporting_order
from weighbridge_balloon.gauge import Figures
from weighbridge_balloon.handlers import Handlers
from weighbridge_balloon.release import Releaser, ReleaseReceipt, Standing, wait_for_offer
from weighbridge_balloon.words import in_words

MIB, PAGE = 1024 * 1024, mmap.PAGESIZE
LOG = logging.getLogger("balloon.test")
BUDDY = """Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3
Node 0, zone    DMA32   5320   4539   2174    584    747    941    545    221    135    111     12
Node 1, zone   Normal      1      0      0      0      0      0      0      0      0      2      5
"""


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def machine(root: Path, *, order: str | None = "9", bits: str | None = "01100100") -> Path:
    put(root, "proc/buddyinfo", BUDDY)
    if order is not None:
        put(root, "sys/module/page_reporting/parameters/page_reporting_order", f"{order}\n")
    if bits is not None:
        put(root, "sys/bus/virtio/devices/virtio0/device", "0x0005\n")
        put(root, "sys/bus/virtio/devices/virtio0/features", bits.ljust(64, "0") + "\n")
        put(root, "sys/bus/virtio/devices/virtio0/status", "0x0000000f\n")
        driver = root / "sys/bus/virtio/drivers/virtio_balloon"
        driver.mkdir(parents=True, exist_ok=True)
        (root / "sys/bus/virtio/devices/virtio0/driver").symlink_to(driver)
    return root


# -- free blocks -------------------------------------------------------------------------------------------------------


def test_blocks_count_from_the_order_up() -> None:
    """Over all zones and nodes: a block of order 9 has 512 pages."""
    assert free_bytes(BUDDY.encode(), 9) == ((1 + 111 + 2) * 512 + (3 + 12 + 5) * 1024) * PAGE
    assert free_bytes(BUDDY.encode(), 10) == 20 * 1024 * PAGE
    assert free_bytes(BUDDY.encode(), 11) == 0


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), min_size=1, max_size=8), st.integers(0, 12))
def test_any_zones_add_up(zones: list[list[int]], order: int) -> None:
    """Whatever the number of orders, which the configuration of a kernel decides."""
    text = "".join(f"Node {at}, zone   Normal {' '.join(map(str, counts))} \n" for at, counts in enumerate(zones))
    pages = sum(count * 2**exponent for counts in zones for exponent, count in enumerate(counts) if exponent >= order)
    assert free_bytes(text.encode(), order) == pages * PAGE


@given(st.binary(max_size=200), st.integers(0, 20))
def test_any_table_of_blocks_is_read(text: bytes, order: int) -> None:
    """Parsing never raises; a table without a zone is unknown, and not empty."""
    found = free_bytes(text, order)
    assert found is None or found >= 0
    assert free_bytes(b"", order) is None


@pytest.mark.parametrize(("order", "huge", "expected"), [
    ("9", None, 9),
    ("5", str(2 * MIB), 5),
    ("-1", str(2 * MIB), 9),
    ("4294967295", str(2 * MIB), 9),
    (None, str(512 * PAGE), 9),
    (None, None, None),
    ("many", "huge", None),
])  # fmt: skip
def test_order_is_the_parameter_or_that_of_a_huge_page(
    order: str | None, huge: str | None, expected: int | None, tmp_path: Path
) -> None:
    """The parameter is -1 until a driver has asked; older kernels have none."""
    machine(tmp_path, order=order)
    if huge is not None:
        put(tmp_path, "sys/kernel/mm/transparent_hugepage/hpage_pmd_size", huge)
    assert reporting_order(tmp_path) == expected


@pytest.mark.parametrize(("bits", "expected"), [("01100100", True), ("01100000", False), (None, None)])
def test_reporting_is_feature_bit_5(bits: str | None, expected: bool | None, tmp_path: Path) -> None:
    """Negotiated or not; without a balloon of virtio nobody knows."""
    assert is_reporting(machine(tmp_path, bits=bits)) is expected


def test_offer_has_all_of_it(tmp_path: Path) -> None:
    """What lies ready, from which order, and whether it is reported."""
    offer = read_offer(machine(tmp_path, order="10"))
    assert offer == Offer(reportable_bytes=20 * 1024 * PAGE, order=10, is_reported=True)


def test_machine_that_hides_its_blocks_is_unknown(tmp_path: Path) -> None:
    """Nothing is taken for 0."""
    assert read_offer(tmp_path) == Offer(reportable_bytes=None, order=None, is_reported=None)


@pytest.mark.skipif(not Path("/proc/buddyinfo").exists(), reason="there is no /proc/buddyinfo")
def test_this_machine_has_free_blocks() -> None:
    """The real file is understood, and blocks of order 0 and above are no less than those of order 5."""
    text = Path("/proc/buddyinfo").read_bytes()
    small, large = free_bytes(text, 0), free_bytes(text, 5)
    assert small is not None
    assert large is not None
    assert small >= large > 0


# -- receipts ----------------------------------------------------------------------------------------------------------


def standing(
    free: int | None, *, balloon: int | None = 0, ready: int | None = 0, reported: bool | None = True
) -> Standing:
    return Standing(
        figures=Figures(free_bytes=free, available_bytes=free, balloon_bytes=balloon),
        offer=Offer(reportable_bytes=ready, order=9, is_reported=reported),
    )


def receipt(before: Standing, after: Standing) -> ReleaseReceipt:
    return ReleaseReceipt(
        reason="test",
        level="elevated",
        asked_bytes=100,
        missing_bytes=0,
        efforts=(),
        collected=False,
        trimmed=None,
        before=before,
        after=after,
        seconds=0.0,
    )


def test_receipt_has_three_figures() -> None:
    """Asked for, freed, and ready for the hypervisor; what is freed in pieces that are too small is pending."""
    got = receipt(standing(1000, ready=400), standing(1090, ready=450))
    assert (got.asked_bytes, got.freed_bytes, got.hypervisor_bytes, got.pending_bytes) == (100, 90, 50, 40)


def test_what_the_balloon_took_meanwhile_counts() -> None:
    """It was freed, and the hypervisor has it."""
    got = receipt(standing(1000, ready=400, balloon=0), standing(1010, ready=400, balloon=80))
    assert (got.freed_bytes, got.available_bytes, got.hypervisor_bytes, got.pending_bytes) == (90, 90, 80, 10)


def test_without_reporting_the_hypervisor_has_what_the_balloon_took() -> None:
    """However much lies ready."""
    before, after = standing(0, reported=False), standing(90, ready=90, balloon=30, reported=False)
    assert receipt(before, after).hypervisor_bytes == 30


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (standing(None), standing(5)),
        (standing(5, reported=None), standing(9, reported=None)),
        (standing(5, ready=None), standing(9)),
        (standing(5, reported=False, balloon=None), standing(9, reported=False, balloon=None)),
    ],
)
def test_receipt_without_a_figure_leaves_it_unknown(before: Standing, after: Standing) -> None:
    """What was not shown at one of the two looks is None, and so is what is drawn from it."""
    got = receipt(before, after)
    assert got.freed_bytes is None or got.hypervisor_bytes is None
    assert got.pending_bytes is None


# -- releasing ---------------------------------------------------------------------------------------------------------


class Machine:
    """Free memory that handlers add to."""

    def __init__(self) -> None:
        self.free = 1000

    def look(self) -> Standing:
        return standing(self.free, ready=self.free)

    def give(self, nbytes: int) -> int:
        self.free += nbytes
        return nbytes


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was collected and trimmed."""
    calls: list[str] = []
    monkeypatch.setattr(gc, "collect", lambda: calls.append("collect"))
    monkeypatch.setattr(release_module, "trim", lambda: calls.append("trim"))
    return calls


def test_release_that_is_enough_collects_nothing(collected: list[str]) -> None:
    """The collector stops every thread, so it is spared; the C library is asked all the same."""
    here, handlers = Machine(), Handlers(LOG)
    lease = handlers.register(here.give)
    got = Releaser(handlers, here.look).release(50)
    assert got is not None
    assert (got.believed_bytes, got.freed_bytes, got.missing_bytes, got.collected) == (50, 50, 0, False)
    assert collected == ["trim"]
    assert lease.handler is not None


def test_release_that_is_not_enough_collects(collected: list[str]) -> None:
    """What handlers could not give may be garbage."""
    here = Machine()
    got = Releaser(Handlers(LOG), here.look).release(50)
    assert got is not None
    assert (got.missing_bytes, got.collected) == (50, True)
    assert collected == ["collect", "trim"]


def test_need_of_nothing_does_nothing(collected: list[str]) -> None:
    """Nobody is asked."""
    got = Releaser(Handlers(LOG), Machine().look).release(0)
    assert got is not None
    assert (got.efforts, got.collected, collected) == ((), False, [])


def test_one_release_at_a_time() -> None:
    """A handler that asks for a release gets none, and so does another thread meanwhile."""
    here, handlers = Machine(), Handlers(LOG)
    releaser = Releaser(handlers, here.look)
    inner: list[object] = []

    def give(nbytes: int) -> int:
        inner.append(releaser.release(5))
        other = threading.Thread(target=lambda: inner.append(releaser.report(5)))
        other.start()
        other.join()
        return here.give(nbytes)

    lease = handlers.register(give)
    got = releaser.release(50)
    assert got is not None
    assert (got.freed_bytes, inner) == (50, [None, None])
    assert releaser.release(0) is not None
    assert lease.handler is give


def test_report_collects_and_measures_from_where_it_was() -> None:
    """What was dropped before is measured from a look before that; garbage in a ring goes as well."""

    @attrs.define(eq=False)
    class Ring:
        other: object = None

    here = Machine()
    releaser = Releaser(Handlers(LOG), here.look)
    before = releaser.look()
    ring = Ring()
    ring.other, watched = ring, weakref.ref(ring)
    gc.disable()
    try:
        del ring
        here.free += 70
        got = releaser.report(80, before=before)
    finally:
        gc.enable()
    assert watched() is None
    assert got is not None
    assert (got.asked_bytes, got.freed_bytes, got.collected) == (80, 70, True)


def test_offer_is_waited_for() -> None:
    """Until it is there; and no longer than is wanted where it does not come."""
    here = Machine()

    def look() -> Standing:
        here.free += 100
        return here.look()

    assert wait_for_offer(look, 1500, every=0.0).offer.reportable_bytes == 1500
    assert wait_for_offer(here.look, 10**9, seconds=0.0).offer.reportable_bytes == here.free


@pytest.mark.parametrize(("nbytes", "words"), [
    (None, "an unknown amount"),
    (0, "0 B"),
    (1023, "1023 B"),
    (1536, "1.5 KiB"),
    (-3 * MIB, "-3.0 MiB"),
    (2**60, "1048576.0 TiB"),
])  # fmt: skip
def test_sizes_have_words(nbytes: int | None, words: str) -> None:
    """Of the unit that fits."""
    assert in_words(nbytes) == words


CHANGES: Callable[[], st.SearchStrategy[int]] = lambda: st.integers(-(2**40), 2**40)  # noqa: E731


@given(free=CHANGES(), ready=CHANGES(), balloon=CHANGES())
def test_freed_is_what_is_ready_and_what_is_pending(free: int, ready: int, balloon: int) -> None:
    """Nothing is lost between the figures, unless more became ready than was freed."""
    got = receipt(standing(0, ready=0, balloon=0), standing(free, ready=ready, balloon=balloon))
    assert got.freed_bytes == free + balloon
    assert got.hypervisor_bytes == ready + balloon
    assert got.pending_bytes == max(0, free - ready)
