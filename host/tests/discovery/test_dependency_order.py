"""Plugins are ordered by what they require and come after, and one that cannot be ordered spoils no other."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs.errors import DependencyCycle, MissingRequirement
from weighbridge_hookspecs.records import Candidate, Manifest

from weighbridge.discovery.order import LoadOrder, order


def plugin(name: str, requires: Sequence[str] = (), after: Sequence[str] = ()) -> Candidate:
    """A candidate with these dependencies."""
    manifest = Manifest(requires=tuple(requires), after=tuple(after))
    return Candidate(name=name, group="g", value="m:a", distribution=name, version="1", manifest=manifest)


def names(found: LoadOrder) -> list[str]:
    """The order, by name."""
    return [candidate.name for candidate in found.candidates]


def texts(found: LoadOrder) -> dict[str, str]:
    """The errors, as they are shown."""
    return {name: str(error) for name, error in found.unresolved.items()}


class TestOrder:
    """What can be loaded."""

    def test_what_is_required_comes_first_and_names_decide_the_rest(self) -> None:
        """However they were found."""
        plugins = [plugin("wasm", ["numa"]), plugin("numa"), plugin("balloon"), plugin("a", after=["wasm"])]
        assert names(order(plugins)) == ["balloon", "numa", "wasm", "a"]
        assert names(order(reversed(plugins))) == ["balloon", "numa", "wasm", "a"]

    def test_a_missing_after_is_no_obstacle(self) -> None:
        """It says what comes first if it is there at all."""
        found = order([plugin("a", after=["missing", "b"]), plugin("b")])
        assert (names(found), texts(found)) == (["b", "a"], {})

    def test_a_plugin_without_a_manifest_depends_on_nothing(self) -> None:
        """No manifest is fine."""
        bare = Candidate(name="bare", group="g", value="m:a", distribution="bare", version="1")
        assert names(order([plugin("z"), bare])) == ["bare", "z"]

    def test_a_dependency_named_twice_counts_once(self) -> None:
        """Under the same key or under both."""
        assert names(order([plugin("a", ["b", "b"], after=["b"]), plugin("b")])) == ["b", "a"]

    def test_nothing_gives_nothing(self) -> None:
        """No plugins, no order."""
        assert order([]) == LoadOrder((), {})

    def test_two_candidates_of_one_name_are_refused(self) -> None:
        """Discovery leaves both out; here one would silently win."""
        with pytest.raises(ValueError, match="two candidates are called 'a'"):
            order([plugin("a"), plugin("a")])

    def test_a_chain_of_thousands_is_ordered(self) -> None:
        """Nothing here is limited by the depth of the stack."""
        chain = [plugin(f"p{number:05}", [f"p{number + 1:05}"] if number < 4999 else []) for number in range(5000)]
        assert names(order(chain)) == [f"p{number:05}" for number in reversed(range(5000))]

    def test_a_ring_of_thousands_is_found(self) -> None:
        """In one go, with those that hang on it."""
        ring = [plugin(f"p{number:04}", [f"p{(number + 1) % 2000:04}"]) for number in range(2000)]
        found = order([*ring, plugin("z", ["p1999"])])
        assert (names(found), len(found.unresolved)) == ([], 2001)


class TestMissing:
    """A requirement that is not there."""

    def test_it_takes_those_with_it_that_require_the_plugin(self) -> None:
        """Each error says where the trouble starts; the others are ordered."""
        found = order([
            plugin("a", ["numq"]), plugin("b", ["a"]), plugin("c", ["b"]), plugin("d", after=["a"]), plugin("numa"),
        ])  # fmt: skip
        advice = "Install what offers 'numq', or correct plugin.requires (did you mean 'numa'?)"
        assert names(found) == ["d", "numa"]
        assert texts(found) == {
            "a": f"a: requires 'numq', which is not installed. {advice}",
            "b": f"b: requires 'a', which requires 'numq', which is not installed. {advice}",
            "c": f"c: requires 'b', which cannot be loaded: 'a' requires 'numq', which is not installed. {advice}",
        }
        assert {type(error) for error in found.unresolved.values()} == {MissingRequirement}

    def test_all_that_is_missing_is_named(self) -> None:
        """With no suggestion where no name is near, and never the plugin itself."""
        found = order([plugin("lamp", ["lamp2", "qqq"])])
        assert texts(found) == {
            "lamp": "lamp: requires 'lamp2' and 'qqq', which are not installed. "
            "Install what offers 'lamp2' and 'qqq', or correct plugin.requires"
        }


class TestRings:
    """``requires`` and ``after`` that lead back to where they began."""

    def test_only_the_ring_and_those_that_require_it_fail(self) -> None:
        """The ring is printed from the first of its names, the same for each member."""
        found = order([
            plugin("c", ["a"]), plugin("a", ["b"]), plugin("b", after=["c"]), plugin("user", ["b"]),
            plugin("far", ["user"]), plugin("follower", after=["a"]), plugin("free"),
        ])  # fmt: skip
        advice = "Remove one of these dependencies from a manifest"
        ring = f"is in a ring of dependencies: a -> b -> c -> a. {advice}"
        assert names(found) == ["follower", "free"]
        assert texts(found) == {
            "a": f"a: {ring}",
            "b": f"b: {ring}",
            "c": f"c: {ring}",
            "far": f"far: requires 'user', which cannot be loaded: 'b' {ring}",
            "user": f"user: requires 'b', which {ring}",
        }
        errors = found.unresolved
        assert [type(errors[name]) for name in ("a", "user")] == [DependencyCycle, MissingRequirement]
        assert isinstance(errors["c"], DependencyCycle)
        assert errors["c"].ring == ("a", "b", "c", "a")

    def test_a_ring_closed_by_a_plugin_that_is_missing_something_is_none(self) -> None:
        """It is not there, so nothing waits for it."""
        found = order([plugin("a", after=["b"]), plugin("b", ["a", "missing"])])
        assert (names(found), list(found.unresolved)) == (["a"], ["b"])

    def test_two_rings_are_told_apart(self) -> None:
        """Also where one hangs on the other."""
        found = order([plugin("a", ["b"]), plugin("b", ["a"]), plugin("c", ["d", "a"]), plugin("d", ["c"])])
        assert {name: getattr(error, "ring", ()) for name, error in found.unresolved.items()} == {
            "a": ("a", "b", "a"),
            "b": ("a", "b", "a"),
            "c": ("c", "d", "c"),
            "d": ("c", "d", "c"),
        }

    def test_a_plugin_after_itself_is_a_ring_of_one(self) -> None:
        """A manifest cannot say so, but a record can."""
        assert texts(order([plugin("a", after=["a"])]))["a"].startswith("a: is in a ring of dependencies: a -> a")

    def test_the_errors_can_be_pickled(self) -> None:
        """They hold names only."""
        for error in order([plugin("a", ["a"]), plugin("b", ["x"])]).unresolved.values():
            assert str(pickle.loads(pickle.dumps(error))) == str(error)


NAMES = st.sampled_from("abcdefgh")
EDGES = st.lists(NAMES | st.just("missing"), max_size=2)
PLUGINS = st.dictionaries(NAMES, st.tuples(EDGES, EDGES)).map(
    lambda drawn: {name: plugin(name, *edges) for name, edges in drawn.items()}
)


def manifest(candidate: Candidate) -> Manifest:
    """The manifest, which these candidates all have."""
    assert candidate.manifest is not None
    return candidate.manifest


def on_a_ring(name: str, plugins: Mapping[str, Candidate]) -> bool:
    """Whether a plugin leads back to itself."""
    seen: set[str] = set()
    queue = [name]
    while queue:
        record = manifest(plugins[queue.pop()])
        found = ({*record.requires, *record.after} & plugins.keys()) - seen
        seen |= found
        queue += found
    return name in seen


class TestProperties:
    """For any plugins."""

    @given(plugins=PLUGINS)
    def test_each_plugin_is_either_ordered_or_unresolved(self, plugins: dict[str, Candidate]) -> None:
        """None is lost, none is there twice."""
        found = order(plugins.values())
        assert sorted([*names(found), *found.unresolved]) == sorted(plugins)

    @given(plugins=PLUGINS)
    def test_each_ordered_plugin_comes_after_what_it_needs(self, plugins: dict[str, Candidate]) -> None:
        """All that it requires, and what it comes after as far as that is ordered."""
        place = {name: number for number, name in enumerate(names(order(plugins.values())))}
        for name, number in place.items():
            assert all(place[other] < number for other in manifest(plugins[name]).requires)
            assert all(place.get(other, -1) < number for other in manifest(plugins[name]).after)

    @given(plugins=PLUGINS)
    def test_wherever_there_is_a_choice_the_first_name_is_taken(self, plugins: dict[str, Candidate]) -> None:
        """At each place stands the least name of all that could stand there."""
        ordered = names(order(plugins.values()))
        waits = {name: {*manifest(plugins[name]).requires, *manifest(plugins[name]).after} for name in ordered}
        for place, name in enumerate(ordered):
            rest = set(ordered[place:])
            assert name == min(other for other in rest if not waits[other] & rest)

    @given(plugins=PLUGINS)
    def test_each_unresolved_plugin_has_a_reason(self, plugins: dict[str, Candidate]) -> None:
        """Something is missing, or it is on a ring, or it requires a plugin that is unresolved."""
        found = order(plugins.values())
        for name, error in found.unresolved.items():
            requires = set(manifest(plugins[name]).requires)
            if isinstance(error, DependencyCycle):
                assert on_a_ring(name, plugins)
                assert name in error.ring
                assert error.ring[0] == error.ring[-1] == min(error.ring)
            else:
                assert requires - plugins.keys() or requires & found.unresolved.keys()

    @given(plugins=PLUGINS)
    def test_no_plugin_fails_without_need(self, plugins: dict[str, Candidate]) -> None:
        """One that reaches neither a gap nor a ring is ordered."""
        found = order(plugins.values())
        for name in found.unresolved:
            reach = self.required_by(name, plugins)
            assert any(other not in plugins or on_a_ring(other, plugins) for other in reach)

    @given(plugins=PLUGINS, seed=st.integers())
    def test_the_order_of_the_input_does_not_matter(self, plugins: dict[str, Candidate], seed: int) -> None:
        """Neither for the order nor for the errors."""
        shuffled = list(plugins.values())
        Random(seed).shuffle(shuffled)
        one, other = order(plugins.values()), order(shuffled)
        assert (names(one), texts(one)) == (names(other), texts(other))

    def required_by(self, name: str, plugins: Mapping[str, Candidate]) -> set[str]:
        """A plugin and all that it requires, directly or not."""
        seen, queue = {name}, [name]
        while queue:
            other = queue.pop()
            found = set(manifest(plugins[other]).requires if other in plugins else ()) - seen
            seen |= found
            queue += found
        return seen
