"""Every plugin that is known, and how they depend on each other."""

from __future__ import annotations

import threading

import pytest
from weighbridge_hookspecs import Candidate, Manifest, ManifestError, MissingRequirement, UnknownPlugin

from weighbridge import Discovery, State
from weighbridge.lifecycle.roster import Roster


def candidate(name: str, version: str = "1.0", **manifest: tuple[str, ...]) -> Candidate:
    return Candidate(
        name=name,
        group="weighbridge",
        value=f"{name}:Plugin",
        distribution=name,
        version=version,
        manifest=Manifest(**manifest),  # type: ignore[arg-type]
    )


def roster(*candidates: Candidate, loaded: str = "") -> Roster:
    """A roster of these plugins; those named in `loaded` are active, in that order."""
    made = Roster()
    made.update(Discovery(candidates=candidates), blocked=lambda name: None)
    for number, name in enumerate(loaded.split(), 1):
        plugin = made[name]
        plugin.state, plugin.load_number = State.ACTIVE, number
    return made


def names(plugins: list[object]) -> list[str]:
    return [plugin.name for plugin in plugins]  # type: ignore[attr-defined]


def test_plugins_come_by_name_and_active_ones_in_the_order_of_their_loads() -> None:
    """People look for names, and an unload goes backwards."""
    made = roster(candidate("c"), candidate("a"), candidate("b"), loaded="c a")
    assert names([*made.plugins()]) == ["a", "b", "c"]
    assert names([*made.active()]) == ["c", "a"]


def test_requirements_are_listed_in_the_order_in_which_to_load_them() -> None:
    """Those of requirements too, each once."""
    made = roster(
        candidate("top", requires=("mid", "base")),
        candidate("mid", requires=("base",)),
        candidate("base"),
        candidate("other"),
    )
    assert names([*made.requirements(made["top"])]) == ["base", "mid"]
    assert made.requirements(made["other"]) == []


def test_dependents_are_listed_in_the_order_in_which_to_unload_them() -> None:
    """Only those that are loaded; the last loaded goes first."""
    made = roster(
        candidate("base"),
        candidate("mid", requires=("base",)),
        candidate("top", requires=("mid",)),
        candidate("idle", requires=("base",)),
        loaded="base mid top",
    )
    assert names([*made.dependents(made["base"])]) == ["top", "mid"]
    assert made.dependents(made["top"]) == []


def test_everything_is_listed_even_if_it_cannot_be_ordered() -> None:
    """At the end come those that are in a ring or miss something, so that a report has them."""
    made = roster(
        candidate("a", requires=("b",)), candidate("b", requires=("a",)), candidate("z"), candidate("y", after=("z",))
    )
    assert names([*made.in_order()]) == ["z", "y", "a", "b"]


def test_a_requirement_that_is_neither_loaded_nor_asleep_is_an_error() -> None:
    """It names the state, and what to do."""
    made = roster(candidate("top", requires=("base",)), candidate("base"))
    with pytest.raises(MissingRequirement) as caught:
        made.check_requirements(made["top"])
    assert str(caught.value) == "top: requires 'base', which is discovered. Load base first"
    made["base"].state = State.DORMANT
    assert names([*made.check_requirements(made["top"])]) == ["base"]
    made["base"].state = State.ACTIVE
    assert made.check_requirements(made["top"]) == []


def test_what_is_loaded_keeps_its_candidate_when_all_is_discovered_anew() -> None:
    """A new version is seen at the next load; the others are seen at once."""
    made = roster(candidate("up"), candidate("down"), candidate("gone"), loaded="up")
    made["down"].state, made["down"].reason = State.FAILED, "out of oil"
    found = Discovery(candidates=(candidate("up", "2.0"), candidate("down", "2.0")))
    made.update(found, blocked=lambda name: None)
    assert {one.name: (one.candidate.version, one.state, one.reason) for one in made.plugins()} == {
        "up": ("1.0", State.ACTIVE, ""),
        "down": ("2.0", State.DISCOVERED, ""),
    }


def test_what_was_left_behind_is_not_forgotten() -> None:
    """Not even if the plugin was uninstalled, or failed since."""
    made = roster(candidate("lamp"))
    made["lamp"].state, made["lamp"].permanent = State.FAILED, ("lamp.c",)
    made.update(Discovery(candidates=()), blocked=lambda name: None)
    assert names([*made.plugins()]) == ["lamp"]


def test_of_a_plugin_that_discovery_left_out_the_reason_is_known() -> None:
    """And every raise has an error of its own, or tracebacks would pile up on the one that is kept."""
    made = Roster()
    problem = ManifestError("is broken", plugin="lamp", problems=("one", "two"))
    made.update(Discovery(candidates=(), problems=(problem,)), blocked=lambda name: None)
    caught = []
    for _ in range(2):
        with pytest.raises(ManifestError) as raised:
            made.find("lamp", "weighbridge")
        caught.append(raised.value)
    assert caught[0] is not caught[1]
    assert [(str(one), one.problems) for one in caught] == [("lamp: is broken", ("one", "two"))] * 2
    assert problem.__traceback__ is None


def test_a_name_that_is_close_to_nothing_has_no_suggestion() -> None:
    """A guess would mislead."""
    with pytest.raises(UnknownPlugin) as caught:
        roster(candidate("lamp")).find("umbrella", "weighbridge")
    assert str(caught.value) == "no plugin is called 'umbrella' in the group 'weighbridge'"


def test_neighbours_are_the_other_plugins_of_the_same_package() -> None:
    """Those that are loaded."""
    made = roster(candidate("a"), candidate("b"), candidate("c"), candidate("d"), loaded="a b c")
    for name in "abd":
        made[name].own = "acme"
    assert made.neighbours(made["a"]) == ["b"]
    assert made.neighbours(made["c"]) == []


def test_it_can_be_read_while_another_thread_discovers() -> None:
    """What is read is the roster before or after, never something in between."""
    full = Discovery(candidates=tuple(candidate(f"plugin{number}") for number in range(50)))
    made, stop, seen = Roster(), threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(made.plugins()))
            made.active()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(50):
            made.update(full, blocked=lambda name: None)
            made.update(Discovery(candidates=()), blocked=lambda name: None)
    finally:
        stop.set()
        reader.join()
    assert seen <= {0, 50}
