"""Capabilities: one owner for each name, evidence for each, and gone with their owner."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from weighbridge_hookspecs import Capabilities, Capability, ConfigurationError

from weighbridge.leases.capabilities import CapabilityRegistry, CapabilityStatistics, OwnedCapabilities
from weighbridge.leases.ledger import LeaseLedger


def light(owner: str, evidence: str = "it shines") -> Capability:
    return Capability(name="light", owner=owner, evidence=evidence)


def test_what_was_provided_is_found_under_its_name() -> None:
    """A name leads to the very object; an unknown one is a KeyError and is not contained."""
    registry, provided = CapabilityRegistry(), object()
    registry.add(light("lamp"), provided)
    assert "light" in registry
    assert registry["light"] is provided
    assert "heat" not in registry
    with pytest.raises(KeyError, match="heat"):
        registry["heat"]


def test_capabilities_are_described_by_name() -> None:
    """The descriptions are sorted, whatever the order of registration."""
    registry = CapabilityRegistry()
    for name in ("wasm", "numa", "balloon"):
        registry.add(Capability(name=name, owner="x", evidence="yes"), None)
    assert [one.name for one in registry.describe()] == ["balloon", "numa", "wasm"]


def test_a_name_has_one_owner() -> None:
    """A second owner is refused by both names, and the first one's capability stays."""
    registry = CapabilityRegistry()
    registry.add(light("lamp"), "lamp's")
    with pytest.raises(ConfigurationError) as caught:
        registry.add(light("torch"), "torch's")
    assert str(caught.value) == "torch: the capability 'light' is already provided by 'lamp'. Load only one of the two"
    assert (caught.value.plugin, caught.value.step) == ("torch", "activate")
    assert registry["light"] == "lamp's"


def test_an_owner_may_renew_what_it_provides() -> None:
    """The same owner replaces its own capability, with new evidence."""
    registry = CapabilityRegistry()
    registry.add(light("lamp"), 1)
    registry.add(light("lamp", "it shines brighter"), 2)
    assert registry["light"] == 2
    assert registry.describe() == (light("lamp", "it shines brighter"),)


def test_only_the_owner_removes_a_name() -> None:
    """Removing what is gone or somebody else's does nothing."""
    registry = CapabilityRegistry()
    registry.remove("light", "lamp")
    registry.add(light("lamp"), 1)
    registry.remove("light", "torch")
    assert "light" in registry
    registry.remove("light", "lamp")
    assert "light" not in registry
    assert registry.describe() == ()


def test_what_an_owner_registers_is_in_its_name() -> None:
    """A plugin cannot claim to be another: the owner comes from the host. Details are copied and read-only."""
    registry, ledger = CapabilityRegistry(), LeaseLedger()
    owned: Capabilities = OwnedCapabilities(registry, "lamp", ledger.lend)
    details = {"colour": "white"}
    owned.register("light", 7, evidence="it shines", details=details)
    details["colour"] = "red"
    (described,) = owned.describe()
    assert described == Capability(name="light", owner="lamp", evidence="it shines", details={"colour": "white"})
    changeable: Any = described.details
    with pytest.raises(TypeError):
        changeable["colour"] = "red"
    assert "light" in owned
    assert owned["light"] == registry["light"] == 7


def test_capabilities_leave_with_their_owner() -> None:
    """Each is a lease of its owner's, and those of others stay when they are taken back."""
    registry, lamp, torch = CapabilityRegistry(), LeaseLedger(), LeaseLedger()
    OwnedCapabilities(registry, "lamp", lamp.lend).register("light", evidence="it shines")
    OwnedCapabilities(registry, "lamp", lamp.lend).register("heat", evidence="it burns")
    OwnedCapabilities(registry, "torch", torch.lend).register("beam", evidence="it points")
    assert lamp.statistics().held == {"capability": 2}
    lamp.revoke()
    assert [one.name for one in registry.describe()] == ["beam"]


def test_an_owner_that_is_gone_registers_nothing() -> None:
    """After its leases were taken back, the attempt is an error and the name is not there."""
    registry, ledger = CapabilityRegistry(), LeaseLedger()
    owned = OwnedCapabilities(registry, "lamp", ledger.lend)
    ledger.revoke()
    with pytest.raises(RuntimeError, match="closed"):
        owned.register("light", evidence="it shines")
    assert "light" not in registry


def test_of_eight_owners_at_once_one_gets_the_name() -> None:
    """When eight threads want one name, exactly one gets it and the seven others are told so."""
    registry, start = CapabilityRegistry(), threading.Barrier(8)
    outcomes: list[str] = []

    def work(owner: str) -> None:
        start.wait()
        try:
            registry.add(light(owner), owner)
            outcomes.append(owner)
        except ConfigurationError:
            outcomes.append("refused")

    threads = [threading.Thread(target=work, args=(f"owner {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 7
    assert registry["light"] in outcomes


def test_statistics_add_up() -> None:
    """Names that came are held or removed, and one that is registered again by its owner is the same."""
    registry = CapabilityRegistry()
    registry.add(light("lamp"), 1)
    registry.add(light("lamp"), 2)
    registry.add(Capability(name="heat", owner="stove", evidence="yes"), None)
    registry.remove("light", "stove")
    assert registry.statistics() == CapabilityStatistics(held=2, owners=2, registered=2, removed=0)
    registry.remove("light", "lamp")
    assert registry.statistics() == CapabilityStatistics(held=1, owners=1, registered=2, removed=1)
