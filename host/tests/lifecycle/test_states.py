"""The table of states: what is in it can be done, and nothing else."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import Candidate, IllegalTransition

from weighbridge import State
from weighbridge.lifecycle.plugin import Plugin
from weighbridge.lifecycle.states import HELD, TRANSITIONS, check_transition

ARROWS = [(before, after) for before, legal in TRANSITIONS.items() for after in legal]
NO_ARROWS = sorted({*itertools.product(State, State)} - {*ARROWS})


def plugin(state: State = State.DISCOVERED) -> Plugin:
    """A plugin as discovery leaves it, in some state."""
    candidate = Candidate(name="lamp", group="weighbridge", value="lamp:Lamp", distribution="lamp", version="1.0")
    return Plugin(candidate, state=state)


def test_every_state_has_a_row() -> None:
    """A state that was forgotten would be a KeyError in the middle of an unload."""
    assert set(TRANSITIONS) == set(State)


def test_every_state_can_be_reached() -> None:
    """From a plugin that was just discovered."""
    reached, waiting = {State.DISCOVERED}, [State.DISCOVERED]
    while waiting:
        for after in TRANSITIONS[waiting.pop()] - reached:
            reached.add(after)
            waiting.append(after)
    assert reached == set(State)


@pytest.mark.parametrize("state", sorted(HELD))
def test_a_place_that_is_taken_can_be_given_back(state: State) -> None:
    """From every state in which a plugin occupies its place there is a way to one in which it does not."""
    reached, waiting = {state}, [state]
    while waiting:
        for after in TRANSITIONS[waiting.pop()] - reached:
            reached.add(after)
            waiting.append(after)
    assert reached - HELD


@pytest.mark.parametrize(("before", "after"), ARROWS)
def test_an_arrow_of_the_table_can_be_taken(before: State, after: State) -> None:
    """The plugin is in the new state, with its reason, and the old one is returned."""
    lamp = plugin(before)
    assert lamp.move(after, "because") is before
    assert (lamp.state, lamp.reason) == (after, "because")


@pytest.mark.parametrize(("before", "after"), NO_ARROWS)
def test_an_arrow_that_is_not_in_the_table_cannot(before: State, after: State) -> None:
    """The plugin stays in the state that it was in."""
    lamp = plugin(before)
    with pytest.raises(IllegalTransition) as caught:
        lamp.move(after)
    assert lamp.state is before
    assert str(caught.value).startswith(f"lamp: cannot go from {before} to {after}. Legal from here: ")


def test_the_error_lists_what_is_legal() -> None:
    """In order, so that the text is the same every time."""
    with pytest.raises(IllegalTransition) as caught:
        check_transition("lamp", State.DRAINING, State.LOADED)
    assert str(caught.value) == (
        "lamp: cannot go from draining to loaded. Legal from here: active, failed, stranded, unloaded"
    )
    with pytest.raises(IllegalTransition) as caught:
        check_transition("lamp", State.BLOCKED, State.ADMITTED)
    assert str(caught.value) == ("lamp: cannot go from blocked to admitted. Legal from here: none; discover again")


@given(st.lists(st.sampled_from(State)))
def test_no_walk_leaves_the_table(walk: list[State]) -> None:
    """Whatever is asked for, in whichever order: the state is the last one that could be reached."""
    lamp, expected = plugin(), State.DISCOVERED
    for state in walk:
        if state in TRANSITIONS[expected]:
            lamp.move(state)
            expected = state
        else:
            with pytest.raises(IllegalTransition):
                lamp.move(state)
        assert lamp.state is expected
