"""The plugin alone: what it registers and what it tells, without a host."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from weighbridge_balloon import Balloon

SUBJECTS: Final = ["hypervisor", "container", "balloon", "page reporting"]


def load(settings: Mapping[str, Any]) -> Balloon:
    # here and not above: what a test file has imported, a host in the same process would not load again
    from weighbridge_balloon import Balloon

    context: Any = SimpleNamespace(
        log=logging.getLogger("balloon.test"), settings=settings, spawn=None, relieve=lambda nbytes, level: None
    )
    return Balloon(context)


class Registry:
    """As much of ``Capabilities`` as the plugin uses."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Any, str, Mapping[str, str]]] = {}

    def register(self, name: str, provided: object, *, evidence: str, details: Mapping[str, str]) -> None:
        self.entries[name] = provided, evidence, details


def test_it_registers_what_it_found_with_the_evidence() -> None:
    """The capability says whether there is a balloon here, whose it is, and how that is known."""
    plugin, registry = load({}), Registry()
    plugin.weighbridge_capabilities(registry)  # type: ignore[arg-type]  # it needs no more of a registry
    provided, evidence, details = registry.entries["balloon"]
    assert provided.is_available in {True, False, None}
    assert evidence == provided.evidence != ""
    assert list(details) == SUBJECTS
    assert details["hypervisor"].startswith(provided.hypervisor.kind)


def test_it_tells_what_the_machine_offers() -> None:
    """One fact for each subject, in the same words as the capability; each with evidence."""
    facts = load({}).weighbridge_examine()
    assert [fact.subject for fact in facts][: len(SUBJECTS)] == SUBJECTS
    assert all(fact.evidence for fact in facts)
    assert all(fact.finding != "" for fact in facts)


def test_machine_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hypervisor does not change while a process runs, and CPUID costs an exit to it."""
    import weighbridge_balloon
    from weighbridge_balloon.hypervisor import detect_here

    asked: list[bool] = []

    def detect(*, allow_cpuid: bool) -> Any:
        asked.append(allow_cpuid)
        return detect_here(allow_cpuid=allow_cpuid)

    monkeypatch.setattr(weighbridge_balloon, "detect_here", detect)
    plugin = load({})
    assert plugin.driver is plugin.driver
    assert asked == [True]
    assert load({"cpuid": False}).driver.hypervisor.kind
    assert asked == [True, False]


def test_what_is_not_known_is_told_as_unknown() -> None:
    """None in a fact; the word only where people read it."""
    from pathlib import Path

    from weighbridge_balloon.driver import find
    from weighbridge_balloon.hypervisor import detect
    from weighbridge_balloon.hypervisor.cpuid import Denied

    nowhere = Path("/nowhere/at/all")
    driver = find(detect(nowhere, Denied("not here"), {}), nowhere)
    assert driver.is_available is None
    assert [fact.finding for fact in driver.facts()] == [None] * len(SUBJECTS)
    assert set(driver.details().values()) == {"unknown"}
