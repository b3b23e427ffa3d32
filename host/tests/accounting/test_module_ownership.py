"""Whose modules are whose: metadata goes before package names."""

from __future__ import annotations

import pytest

from weighbridge.accounting.ownership import Kind, Ownership, is_hosts

PYTEST = Ownership("pytest", "pytest", {"pytest": "pytest", "_pytest": "pytest", "py": "pytest", "pluggy": "pluggy"})
SPACE = Ownership("space.lamp", "space_lamp", {"space.lamp": "space_lamp", "space.torch": "space_torch"})
SPLIT = Ownership("space", "space", {"space": "space", "space.torch": "torch"})
EDITABLE = Ownership("lamp", None, {"lamp": "elsewhere", "dep": "lib", "_dep": "lib"})


@pytest.mark.parametrize(
    ("ownership", "name", "kind", "group"),
    [
        (PYTEST, "_pytest.config", "own", "pytest"),
        (PYTEST, "py", "own", "pytest"),
        (PYTEST, "pytest", "own", "pytest"),
        (PYTEST, "pluggy.hooks", "dependency", "pluggy"),
        (PYTEST, "pytester", "dependency", "pytester"),
        (PYTEST, "json", "stdlib", "json"),
        (SPACE, "space.lamp.bulb", "own", "space_lamp"),
        (SPACE, "space.torch", "dependency", "space_torch"),
        (SPACE, "space", "dependency", "space"),
        (SPLIT, "space.lamp", "own", "space"),
        (SPLIT, "space.torch.bulb", "dependency", "torch"),
        (EDITABLE, "lamp.bulb", "own", "lamp"),
        (EDITABLE, "_dep.inner", "dependency", "lib"),
        (EDITABLE, "other.inner", "dependency", "other"),
        (Ownership("space.lamp"), "space.lamp.bulb", "own", "space.lamp"),
    ],
)
def test_a_module_belongs_to_the_distribution_that_claims_its_closest_package(
    ownership: Ownership, name: str, kind: Kind, group: str
) -> None:
    """Where nothing claims it, or where the plugin's own metadata does not tell, its package has to do."""
    assert (ownership.kind(name), ownership.group(name)) == (kind, group)


def test_a_claim_to_a_name_of_the_standard_library_is_not_believed() -> None:
    """What is loaded is the library's own, not the backport that a distribution has."""
    ownership = Ownership("lamp", "lamp", {"lamp": "lamp", "json": "lamp"})
    assert ownership.kind("json.decoder") == "stdlib"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("weighbridge", True),
        ("weighbridge.leases.store", True),
        ("weighbridge_hookspecs", True),
        ("weighbridge_hookspecs.errors", True),
        ("weighbridge_lantern", False),
        ("weighbridge_hookspecs_more", False),
        ("weighbridgeless", False),
        ("space.weighbridge", False),
        ("sqlite3", False),
    ],
)
def test_a_module_is_the_hosts_by_its_whole_top_name(name: str, expected: bool) -> None:
    """Packages of plugins begin like it, and are theirs."""
    assert is_hosts(name) is expected
