"""The books of one plugin."""

from __future__ import annotations

import gc
import weakref

import pytest
from weighbridge_hookspecs import Candidate, Manifest

from weighbridge.accounting.account import LoadWeighing
from weighbridge.lifecycle.plugin import Plugin
from weighbridge.reclaim.watch import watch


def plugin(value: str = "lamp:Lamp", manifest: Manifest | None = None, group: str = "weighbridge") -> Plugin:
    return Plugin(
        Candidate(name="lamp", group=group, value=value, distribution="lamp", version="1.0", manifest=manifest)
    )


def weighing(traced: int | None, resident: int = 0) -> LoadWeighing:
    return LoadWeighing(traced_bytes=traced, blocks=0, resident_bytes=resident, import_seconds=0.0, seconds=0.0)


@pytest.mark.parametrize(
    ("value", "module", "attribute"),
    [
        ("lamp:Lamp", "lamp", "Lamp"),
        ("lamp.oil:Lamp.make", "lamp.oil", "Lamp.make"),
        ("lamp", "lamp", ""),
        ("lamp : Lamp [wick, oil]", "lamp", "Lamp"),
        ("lamp [wick]", "lamp", ""),
    ],
)
def test_an_entry_point_is_taken_apart(value: str, module: str, attribute: str) -> None:
    """As the specification of entry points has it; extras are old, and say nothing to a host."""
    lamp = plugin(value)
    assert (lamp.module, lamp.attribute) == (module, attribute)


def test_a_plugin_of_another_group_is_opaque() -> None:
    """It was written for another host."""
    assert plugin(group="llm").opaque
    assert not plugin().opaque


@pytest.mark.parametrize(("unload", "unloadable"), [("clean", True), ("restart", False), ("never", False)])
def test_a_manifest_may_say_that_its_plugin_cannot_go(unload: str, unloadable: bool) -> None:
    """Without a manifest it is expected to."""
    assert plugin(manifest=Manifest(unload=unload)).is_unloadable is unloadable  # type: ignore[arg-type]
    assert plugin().is_unloadable


def test_traced_bytes_count_if_there_are_any_else_resident_ones() -> None:
    """A process that shrank meanwhile does not make a plugin hold less than nothing."""
    lamp = plugin()
    assert lamp.held_bytes == 0
    lamp.weigh(weighing(traced=300, resident=4096))
    assert lamp.held_bytes == 300
    lamp.weigh(weighing(traced=None, resident=4096))
    assert lamp.held_bytes == 4096
    lamp.weigh(weighing(traced=None, resident=-4096))
    assert lamp.held_bytes == 0


def test_charges_and_the_last_report_count_too() -> None:
    """They are memory that Python cannot see."""
    lamp = plugin()
    lamp.weigh(weighing(traced=300))
    lamp.charges.add("arena", 1000)
    lamp.reported_bytes = 50
    assert lamp.held_bytes == 1350


def test_a_new_generation_starts_with_fresh_books() -> None:
    """But what an earlier one left behind is not forgotten."""
    lamp = plugin()
    lamp.weigh(weighing(traced=300))
    lamp.charges.add("arena", 1000)
    lamp.reported_bytes, lamp.peak_bytes, lamp.thing = 50, 2000, object()
    lamp.stranded_bytes = 700
    lamp.renew()
    assert (lamp.held_bytes, lamp.peak_bytes, lamp.thing, lamp.weighing) == (0, 0, None, None)
    assert lamp.stranded_bytes == 700


def test_what_was_stranded_is_forgotten_when_it_has_died() -> None:
    """Its bytes are off the books then."""

    class Wick:
        pass

    held = Wick()
    lamp = plugin()
    lamp.stranded, lamp.stranded_bytes = [watch("plugin", held)], 700
    assert not lamp.look_again()
    assert (lamp.is_left_behind, lamp.stranded_bytes) == (True, 700)
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None
    assert lamp.look_again()
    assert (lamp.is_left_behind, lamp.stranded_bytes) == (False, 0)


def test_what_is_permanent_stays_on_the_books() -> None:
    """A compiled module does not go before the process ends."""
    lamp = plugin()
    lamp.permanent, lamp.stranded_bytes = ("lamp.c",), 700
    assert not lamp.look_again()
    assert (lamp.is_left_behind, lamp.stranded_bytes) == (True, 700)
