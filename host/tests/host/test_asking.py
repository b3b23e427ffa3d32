"""Asking: what admission would say, without loading anything."""

from __future__ import annotations

import sys
from typing import Any

import psutil
import pytest
from weighbridge_hookspecs import AdmissionRequest, Admitted, Deferred, Event, Refused, ReleaseRequest, hookimpl

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin
from weighbridge.units import MIB

IMPORTED = "raise RuntimeError('imported')"
GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"


class Clerk:
    """Writes down what it is asked, and answers as it was told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[AdmissionRequest] = []
        self.events: list[Event] = []

    @hookimpl
    def weighbridge_admit(self, request: AdmissionRequest) -> Any:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else None

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        self.events.append(event)


def test_asking_changes_nothing(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Nothing is imported, nobody is told, and the policies know that it is only a question."""
    package = temporary_plugin("good", IMPORTED)
    clerk = Clerk()
    weighbridge_host.register("clerk", clerk)
    assert weighbridge_host.ask("good", priority=3) == Admitted()
    assert [(one.dry_run, one.priority) for one in clerk.requests] == [(True, 3)]
    assert clerk.events == []
    assert [(one.state, one.reason) for one in weighbridge_host.plugins()] == [("discovered", "")]
    assert package not in sys.modules
    assert weighbridge_host.statistics().refusals == 0


@pytest.mark.parametrize(
    "verdict", [Refused(reason="not in these shoes"), Deferred(reason="not yet"), Admitted(warnings=("mind the step",))]
)
def test_the_answer_is_that_of_the_policies(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, verdict: Any
) -> None:
    """As a record, not as an error."""
    temporary_plugin("good", IMPORTED)
    weighbridge_host.register("clerk", Clerk(verdict))
    assert weighbridge_host.ask("good") == verdict


def test_a_policy_that_fails_is_a_refusal(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Also where it fails before there is anything to judge."""

    class Broken:
        @hookimpl
        def weighbridge_estimate(self) -> int:
            raise LookupError("no scales")

    temporary_plugin("good", IMPORTED)
    weighbridge_host.register("broken", Broken())
    assert weighbridge_host.ask("good") == Refused(
        reason="the policy 'broken' failed: weighbridge_estimate raised LookupError: no scales",
        advice="Mend or unload broken",
    )


def test_nobody_is_asked_for_memory_for_the_sake_of_a_question(temporary_plugin: TemporaryPlugin) -> None:
    """It would cost others their caches."""

    class Hoarder:
        asked = 0

        @hookimpl
        def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
            Hoarder.asked += 1
            return 0

    temporary_plugin("good", IMPORTED, manifest='[plugin]\n[memory]\nload = "500 MiB"\n')
    with IsolatedHost(psutil.Process().memory_info().rss + 100 * MIB) as host:
        host.allow("good")
        host.register("hoarder", Hoarder())
        verdict = host.ask("good")
        assert isinstance(verdict, Refused)
        assert verdict.needs_bytes == 500 * MIB
        assert host.statistics().last_reaction is None
        assert Hoarder.asked == 0


def test_asking_about_a_plugin_that_is_loaded_leaves_its_account_alone(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Its estimate is the one that it was admitted with."""

    class Guess:
        size = 1000

        @hookimpl
        def weighbridge_estimate(self) -> int:
            return self.size

    guess = Guess()
    temporary_plugin("good", GOOD)
    weighbridge_host.register("guess", guess)
    weighbridge_host.load("good")
    guess.size = 2000
    weighbridge_host.ask("good")
    assert weighbridge_host.account("good").estimate_bytes == 1000
