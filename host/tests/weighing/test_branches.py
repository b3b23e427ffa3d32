"""Chains of survivors as one tree: what they have in common, how many hang on it, and what is left out."""

from __future__ import annotations

import pytest

from weighbridge.reclaim.receipt import Survivor
from weighbridge.weighing.branches import Branch, path, tree

REGISTRY = "typing._overload_registry"


def survivor(name: str, *chain: str, kind: str = "function") -> Survivor:
    """One with the chain that its receipt would have, from its holder to the root."""
    return Survivor(kind=kind, name=name, tie=chain[-1] if chain else "nobody", chain=chain)


def outline(branch: Branch) -> list[str]:
    """A line for each branch, indented."""
    lines = []
    for root in branch.sorted():
        names = "".join(f" {one.name}" for one in root.survivors)
        lines.append(f"{root.text} ({root.count}){names}{f' +{root.hidden}' if root.hidden else ''}")
        lines += [f"  {line}" for line in outline(root)]
    return lines


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        ("module typing", ("module typing",)),
        ("logging.root", ("logging.root",)),
        ("a.lamps['x']", ("a.lamps", "['x']")),
        ("a.lamps['x'][3]['y']", ("a.lamps", "['x'][...]")),
        ("""a.lamps['it\\'s [1]'][0]""", ("a.lamps", """['it\\'s [1]'][...]""")),
        ('a.lamps["it\'s"]', ("a.lamps", '["it\'s"]')),
        ("a.lamps['cut off...][0]", ("a.lamps", "['cut off...][...]")),
        ("a.lamps[<type>]", ("a.lamps", "[<type>]")),
        ("a.Box[int].__mro__[1]", ("a.Box[int].__mro__[1]",)),
        ("frame of run at a[1].py:3, local 'x'", ("frame of run at a[1].py:3, local 'x'",)),
        ("[0]", ("[0]",)),
    ],
)
def test_a_step_with_keys_is_two(step: str, parts: tuple[str, ...]) -> None:
    """The container and the first key; what comes after it is not told apart."""
    assert path(survivor("f", step), ()) == parts


def test_chains_are_merged_from_their_roots_and_counted() -> None:
    """The branch that holds most comes first, and each has the number of what hangs on it."""
    top = tree(
        [
            survivor("f", f"{REGISTRY}['rich.text']", "module typing"),
            survivor("g", f"{REGISTRY}['rich.console']", "module typing"),
            survivor("h", f"{REGISTRY}['rich.console']", "module typing"),
            survivor("i", "atexit.callbacks", "module atexit"),
        ],
        limit=10,
    )
    assert top.count == 4
    assert outline(top) == [
        "module typing (3)",
        f"  {REGISTRY} (3)",
        "    ['rich.console'] (2) g h",
        "    ['rich.text'] (1) f",
        "module atexit (1)",
        "  atexit.callbacks (1) i",
    ]


def test_a_branch_ends_at_the_first_thing_of_the_plugins_own() -> None:
    """What is held through a survivor hangs on the place where that one is held."""
    top = tree(
        [
            survivor("m.f", "app.calls['f']", "module app"),
            survivor("m.C", "m.f.__globals__['C']", "app.calls['f']", "module app", kind="class"),
            survivor("m.C.g", "m.C['g']", "m.f.__globals__['C']", "app.calls['f']", "module app"),
        ],
        limit=10,
    )
    assert outline(top) == [
        "module app (3)",
        "  app.calls (3)",
        "    ['f'] (3) m.f",
        "      m.f.__globals__ (2) m.C m.C.g",
    ]


def test_places_of_a_list_are_one_place_and_a_single_one_keeps_its_index() -> None:
    """Which of many is at which index says nothing."""
    many = [survivor(f"f{number}", f"app.calls[{number}]", "module app") for number in range(3)]
    assert outline(tree(many, limit=1))[-1] == "    [...] (3) f0 f1 f2"
    assert outline(tree(many[2:], limit=1))[-1] == "    [2] (1) f2"


def test_the_limit_keeps_the_places_that_hold_most_and_counts_the_rest() -> None:
    """Nothing is lost: each branch says how many it does not show."""
    held = [survivor(f"{key}{number}", f"app.calls['{key}']", "module app") for key in "abc" for number in range(3)]
    top = tree([*held[:3], *held[3:5], held[6], survivor("x", "other.y", "module other")], limit=1)
    assert outline(top) == ["module app (6)", "  app.calls (6) +3", "    ['a'] (3) a0 a1 a2"]
    assert (top.count, top.hidden) == (7, 1)


def test_survivors_without_a_chain_are_not_in_the_tree() -> None:
    """They hang on nothing that is known."""
    assert tree([survivor("f")], limit=10) == Branch()


def test_an_only_key_is_joined_to_its_container() -> None:
    """But not where something else hangs on the container, or on a branch that is no key."""
    (root,) = tree([survivor("f", f"{REGISTRY}['a']", "module typing")], limit=1).sorted()
    assert root.joined() is root
    (registry,) = root.sorted()
    assert registry.joined().text == f"{REGISTRY}['a']"
    assert registry.joined().count == 1
    registry.hidden = 1
    assert registry.joined() is registry
