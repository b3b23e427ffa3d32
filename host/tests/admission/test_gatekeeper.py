"""The decision on a load: what it is expected to take, whether that fits, what would help, and what policies say."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import AdmissionRequest, Admitted, Candidate, Deferred, Manifest, Refused, Verdict, hookimpl

from weighbridge.admission.budget import Budget
from weighbridge.admission.gatekeeper import DEFAULT_ESTIMATE_BYTES, Gatekeeper
from weighbridge.admission.weights import Weight, Weights
from weighbridge.hooks import Hooks, PolicyFailed
from weighbridge.units import MIB, parse_bytes

MANIFEST = Manifest(load_bytes=6 * MIB, peak_bytes=24 * MIB)
LAMP = Candidate(name="lamp", group="weighbridge", value="lamp:Lamp", distribution="lamp", version="1.0")
DECLARED = attrs.evolve(LAMP, manifest=MANIFEST)


@attrs.define
class Bridge:
    """A gatekeeper with everything that it looks at, to be set by a test."""

    hooks: Hooks
    weights: Weights
    budget: Budget | None = None
    held: Mapping[str, int] = attrs.field(factory=dict)
    asked_for_room: list[int] = attrs.field(factory=list)
    freed: int = 0
    """What seeking room brings."""
    gatekeeper: Gatekeeper = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.gatekeeper = Gatekeeper(self.hooks, self.weights, lambda: self.budget, lambda: self.held, self.make_room)

    def make_room(self, needs_bytes: int) -> None:
        self.asked_for_room.append(needs_bytes)
        if self.budget is not None:
            self.budget = attrs.evolve(self.budget, usage_bytes=self.budget.usage_bytes - self.freed)

    def judge(self, candidate: Candidate = LAMP, *, defer: bool = False, dry_run: bool = False) -> Verdict:
        request = self.gatekeeper.request(candidate, priority=0, defer=defer, dry_run=dry_run)
        return self.gatekeeper.decide(request)

    def register(self, name: str, hook: str, implementation: Callable[..., Any], *, fail_open: bool = False) -> None:
        """Register a plugin that implements one hook with a function of the hook's one argument."""
        argument = {"weighbridge_estimate": "candidate"}.get(hook, "request")
        scope: dict[str, Any] = {"implementation": implementation}
        exec(f"def {hook}({argument}):\n    return implementation({argument})\n", scope)
        plugin = type(name, (), {hook: staticmethod(hookimpl(scope[hook]))})()
        self.hooks.register(name, plugin, fail_open=fail_open)


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return Bridge(Hooks(), Weights(tmp_path / "weights"))


def full(headroom: int = 0, ceiling: int = 100 * MIB, promised: int = 0) -> Budget:
    return Budget(ceiling_bytes=ceiling, usage_bytes=ceiling - headroom - promised, promised_bytes=promised)


def raising(error: BaseException) -> Callable[[object], None]:
    def implementation(argument: object) -> None:
        raise error

    return implementation


# -- the estimate ------------------------------------------------------------------------------------------------------


def test_the_best_known_estimate_is_taken(bridge: Bridge) -> None:
    """A plugin's estimate counts before the last weighing, that before the declared load, that before 10 MiB."""

    def estimated(candidate: Candidate) -> tuple[int, str]:
        request = bridge.gatekeeper.request(candidate, priority=0, defer=False, dry_run=False)
        return request.estimate_bytes, request.estimate_source

    assert estimated(LAMP) == (10 * MIB, "default")
    assert DEFAULT_ESTIMATE_BYTES == 10 * MIB
    assert estimated(attrs.evolve(LAMP, manifest=Manifest())) == (10 * MIB, "default")
    assert estimated(DECLARED) == (6 * MIB, "declared")
    bridge.weights.put(LAMP, Weight(traced_bytes=3 * MIB, resident_bytes=5 * MIB, import_seconds=0.1))
    assert estimated(DECLARED) == (5 * MIB, "weighed")
    bridge.register("oracle", "weighbridge_estimate", lambda candidate: 7 if candidate == DECLARED else None)
    assert estimated(DECLARED) == (7, "hook")
    assert estimated(LAMP) == (5 * MIB, "weighed")


def test_a_declared_load_of_nothing_is_believed(bridge: Bridge) -> None:
    """0 is a size like any other, and no reason to take the default."""
    tiny = attrs.evolve(LAMP, manifest=Manifest(load_bytes=0))
    request = bridge.gatekeeper.request(tiny, priority=0, defer=False, dry_run=False)
    assert (request.estimate_bytes, request.estimate_source) == (0, "declared")


def test_the_request_says_how_things_stand(bridge: Bridge) -> None:
    """A policy sees usage, ceiling, headroom, the declared peak, and what was asked of the load."""
    bridge.budget = Budget(ceiling_bytes=50, usage_bytes=20, promised_bytes=5)
    request = bridge.gatekeeper.request(DECLARED, priority=3, defer=True, dry_run=True)
    assert request == AdmissionRequest(
        candidate=DECLARED,
        estimate_bytes=6 * MIB,
        estimate_source="declared",
        peak_bytes=24 * MIB,
        priority=3,
        defer=True,
        dry_run=True,
        usage_bytes=20,
        ceiling_bytes=50,
        headroom_bytes=25,
    )


def test_without_a_ceiling_nothing_is_known_of_room(bridge: Bridge) -> None:
    """Where no ceiling is set the figures are None, and everything is admitted."""
    request = bridge.gatekeeper.request(DECLARED, priority=0, defer=False, dry_run=False)
    assert (request.usage_bytes, request.ceiling_bytes, request.headroom_bytes) == (None, None, None)
    assert bridge.gatekeeper.decide(request) == Admitted()


def test_an_adjusted_request_is_what_is_judged(bridge: Bridge) -> None:
    """A plugin may lower the estimate and the peak, and the smaller need is then what has to fit."""
    bridge.budget = full(headroom=2 * MIB)
    assert isinstance(bridge.judge(DECLARED), Refused)
    bridge.register(
        "optimist", "weighbridge_adjust", lambda request: attrs.evolve(request, estimate_bytes=MIB, peak_bytes=None)
    )
    assert bridge.judge(DECLARED) == Admitted()


def test_an_adjusted_estimate_is_a_plugins(bridge: Bridge) -> None:
    """Who changed an estimate made it, whatever source the changed request claims; an untouched one keeps its own."""
    bridge.register("rounder", "weighbridge_adjust", lambda request: attrs.evolve(request, estimate_bytes=MIB))
    request = bridge.gatekeeper.request(DECLARED, priority=0, defer=False, dry_run=False)
    assert (request.estimate_bytes, request.estimate_source) == (MIB, "hook")
    bridge.hooks.unregister("rounder")
    bridge.register("liar", "weighbridge_adjust", lambda request: attrs.evolve(request, estimate_source="weighed"))
    request = bridge.gatekeeper.request(DECLARED, priority=0, defer=False, dry_run=False)
    assert (request.estimate_bytes, request.estimate_source) == (6 * MIB, "declared")


# -- room --------------------------------------------------------------------------------------------------------------


def test_a_need_that_fits_exactly_is_admitted(bridge: Bridge) -> None:
    """The last byte below the ceiling may be used, and one byte more may not."""
    bridge.budget = full(headroom=10 * MIB)
    assert bridge.judge() == Admitted()
    assert bridge.asked_for_room == []
    bridge.budget = full(headroom=10 * MIB - 1)
    assert isinstance(bridge.judge(), Refused)


def test_room_is_sought_once_before_a_refusal(bridge: Bridge) -> None:
    """Before a load is refused whoever can is asked to release memory, for the whole need, and then it is final."""
    bridge.budget = full(headroom=MIB)
    assert isinstance(bridge.judge(), Refused)
    assert bridge.asked_for_room == [10 * MIB]


def test_room_that_was_found_admits(bridge: Bridge) -> None:
    """If enough was released the load is admitted."""
    bridge.budget, bridge.freed = full(headroom=MIB), 9 * MIB
    assert bridge.judge() == Admitted()


def test_a_dry_run_never_seeks_room(bridge: Bridge) -> None:
    """Only asking changes nothing: nobody is asked to release memory, and the answer is how things stand now."""
    bridge.budget, bridge.freed = full(headroom=MIB), 50 * MIB
    verdict = bridge.judge(dry_run=True)
    assert isinstance(verdict, Refused)
    assert verdict.headroom_bytes == MIB
    assert bridge.asked_for_room == []


def test_a_refusal_says_what_is_needed_and_what_there_is(bridge: Bridge) -> None:
    """The figures of a refusal are bytes; its reason has them in words, and on what the need is based."""
    bridge.budget = full(headroom=4 * MIB, promised=6 * MIB)
    assert bridge.judge() == Refused(
        reason="no room: it needs 10.0 MiB (the default for a plugin that was never weighed), "
        "and of the ceiling of 100.0 MiB 90.0 MiB are in use and 6.0 MiB promised",
        needs_bytes=10 * MIB,
        headroom_bytes=4 * MIB,
        advice="Raise the ceiling to 106.0 MiB",
    )


@pytest.mark.parametrize(
    ("candidate", "weighed", "estimated", "basis"),
    [
        (LAMP, False, None, "10.0 MiB (the default for a plugin that was never weighed)"),
        (attrs.evolve(LAMP, manifest=Manifest(load_bytes=6 * MIB)), False, None, "6.0 MiB (its declared load)"),
        (LAMP, True, None, "5.0 MiB (as it weighed last time)"),
        (LAMP, True, 8 * MIB, "8.0 MiB (estimated by a plugin)"),
        (DECLARED, True, None, "24.0 MiB (its declared peak)"),
        (DECLARED, False, 25 * MIB, "25.0 MiB (estimated by a plugin)"),
    ],
)
def test_a_refusal_says_on_what_it_is_based(
    bridge: Bridge, candidate: Candidate, weighed: bool, estimated: int | None, basis: str
) -> None:
    """Who reads the reason knows whose figure it was."""
    bridge.budget = full()
    if weighed:
        bridge.weights.put(LAMP, Weight(traced_bytes=1, resident_bytes=5 * MIB, import_seconds=0.1))
    if estimated is not None:
        bridge.register("oracle", "weighbridge_estimate", lambda candidate: estimated)
    verdict = bridge.judge(candidate)
    assert isinstance(verdict, Refused)
    assert verdict.reason == f"no room: it needs {basis}, and of the ceiling of 100.0 MiB 100.0 MiB are in use"


def test_a_load_that_may_wait_is_deferred(bridge: Bridge) -> None:
    """Without room a load that asked for it is queued, after room was sought; with room it is admitted at once."""
    bridge.budget = full(headroom=MIB)
    verdict = bridge.judge(defer=True)
    assert isinstance(verdict, Deferred)
    assert verdict.reason.startswith("no room: it needs 10.0 MiB")
    assert bridge.asked_for_room == [10 * MIB]
    bridge.budget = full(headroom=10 * MIB)
    assert bridge.judge(defer=True) == Admitted()


# -- advice ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "advice"),
    [
        ({"sun": 20 * MIB}, "Unload sun (20.0 MiB), or raise the ceiling to 110.0 MiB"),
        ({"sun": 20 * MIB, "moon": 12 * MIB, "star": MIB}, "Unload moon (12.0 MiB), or raise the ceiling to 110.0 MiB"),
        ({"sun": 10 * MIB}, "Unload sun (10.0 MiB), or raise the ceiling to 110.0 MiB"),
        (
            {"sun": 6 * MIB, "moon": 5 * MIB, "star": MIB},
            "Unload sun (6.0 MiB) and moon (5.0 MiB), or raise the ceiling to 110.0 MiB",
        ),
        (
            {"sun": 4 * MIB, "moon": 4 * MIB, "star": 3 * MIB},
            "Unload sun (4.0 MiB) and moon (4.0 MiB) and star (3.0 MiB), or raise the ceiling to 110.0 MiB",
        ),
        ({"sun": 6 * MIB, "moon": 3 * MIB}, "Raise the ceiling to 110.0 MiB"),
        ({"sun": 0}, "Raise the ceiling to 110.0 MiB"),
        ({}, "Raise the ceiling to 110.0 MiB"),
    ],
    ids=["one", "smallest that is enough", "just enough", "two", "three", "not enough", "holds nothing", "nobody"],
)
def test_the_advice_is_the_least_that_would_help(bridge: Bridge, held: Mapping[str, int], advice: str) -> None:
    """It names the smallest plugin that is big enough, else the biggest until they are enough, and the ceiling."""
    bridge.budget, bridge.held = full(), held
    verdict = bridge.judge()
    assert isinstance(verdict, Refused)
    assert verdict.advice == advice


@given(
    held=st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 1 << 33), max_size=6),
    ceiling=st.integers(1, 1 << 36),
    usage=st.integers(0, 1 << 36),
    promised=st.integers(0, 1 << 30),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_who_follows_the_advice_is_admitted(
    bridge: Bridge, held: dict[str, int], ceiling: int, usage: int, promised: int
) -> None:
    """The ceiling that is named is enough as it is written, and so are the plugins that are named."""
    budget = bridge.budget = Budget(ceiling_bytes=ceiling, usage_bytes=usage, promised_bytes=promised)
    bridge.held = held
    verdict = bridge.judge()
    if isinstance(verdict, Admitted):
        return
    assert isinstance(verdict, Refused)
    found = re.fullmatch(r"(?:Unload (?P<names>.+), or r|R)aise the ceiling to (?P<ceiling>.+)", verdict.advice or "")
    assert found is not None
    assert attrs.evolve(budget, ceiling_bytes=parse_bytes(found["ceiling"])).admits(10 * MIB)
    if found["names"] is not None:
        names = re.findall(r"(\w+) \(", found["names"])
        freed = sum(held[name] for name in names)
        assert attrs.evolve(budget, ceiling_bytes=ceiling + freed).admits(10 * MIB)
        # and no smaller set of the biggest would do
        assert not attrs.evolve(budget, ceiling_bytes=ceiling + freed - held[names[-1]]).admits(10 * MIB)


# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_policy_may_refuse_what_fits(bridge: Bridge) -> None:
    """A refusal of a policy is final, in its own words, without figures that it did not give."""
    bridge.budget = full(headroom=50 * MIB)
    refusal = Refused(reason="not on a Sunday", advice="Wait a day")
    bridge.register("calendar", "weighbridge_admit", lambda request: refusal)
    assert bridge.judge() == refusal


def test_a_policy_cannot_admit_what_does_not_fit(bridge: Bridge) -> None:
    """Admission by a policy is no room: the budget's refusal stands, and the policies are not even asked."""
    asked: list[object] = []
    bridge.budget = full()
    bridge.register("friend", "weighbridge_admit", asked.append)
    verdict = bridge.judge()
    assert isinstance(verdict, Refused)
    assert verdict.reason.startswith("no room")
    assert asked == []


def test_a_policy_may_defer_what_fits(bridge: Bridge) -> None:
    """One deferral defers although there is room; a refusal of another policy goes before it."""
    bridge.register("calendar", "weighbridge_admit", lambda request: Deferred(reason="after office hours"))
    assert bridge.judge() == Deferred(reason="after office hours")
    bridge.register("strict", "weighbridge_admit", lambda request: Refused(reason="never"))
    assert bridge.judge() == Refused(reason="never")


def test_a_policy_may_refuse_what_would_only_be_deferred(bridge: Bridge) -> None:
    """A load that may wait for room is still shown to the policies."""
    bridge.budget = full()
    bridge.register("strict", "weighbridge_admit", lambda request: Refused(reason="never"))
    assert bridge.judge(defer=True) == Refused(reason="never")


def test_a_policy_without_an_opinion_changes_nothing(bridge: Bridge) -> None:
    """None is no objection."""
    bridge.register("shrug", "weighbridge_admit", lambda request: None)
    assert bridge.judge() == Admitted()


def test_the_warnings_of_all_policies_are_kept(bridge: Bridge) -> None:
    """Whatever the verdict is, nobody's warning is lost."""
    bridge.register("first", "weighbridge_admit", lambda request: Admitted(warnings=("it is big", "it is old")))
    bridge.register("second", "weighbridge_admit", lambda request: Admitted(warnings=("it is loud",)))
    assert bridge.judge() == Admitted(warnings=("it is loud", "it is big", "it is old"))
    bridge.register("third", "weighbridge_admit", lambda request: Refused(reason="no", warnings=("it is ugly",)))
    assert bridge.judge() == Refused(reason="no", warnings=("it is ugly", "it is loud", "it is big", "it is old"))


def test_the_first_of_several_refusals_is_told(bridge: Bridge) -> None:
    """Policies are asked last registered first, and the first refusal in that order is the reason."""
    bridge.register("old", "weighbridge_admit", lambda request: Refused(reason="old says no"))
    bridge.register("new", "weighbridge_admit", lambda request: Refused(reason="new says no"))
    assert bridge.judge() == Refused(reason="new says no")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("I do not know"), "RuntimeError: I do not know"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt("no"), "KeyboardInterrupt: no"),
        (StopIteration(), "StopIteration: "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_policy_that_raises_refuses(bridge: Bridge, error: BaseException, said: str) -> None:
    """A policy fails closed, whatever it raises: even sys.exit, which would end its thread in silence."""
    bridge.register("broken", "weighbridge_admit", raising(error))
    assert bridge.judge() == Refused(
        reason=f"the policy 'broken' failed: weighbridge_admit raised {said}",
        advice="Mend or unload broken, or register it to fail open",
    )


def test_a_policy_that_raises_does_not_keep_the_others_from_being_asked(bridge: Bridge) -> None:
    """Every policy is asked, also after one that failed."""
    asked = []
    bridge.register("last", "weighbridge_admit", lambda request: asked.append("last"))
    bridge.register("broken", "weighbridge_admit", raising(SystemExit()))
    assert isinstance(bridge.judge(), Refused)
    assert asked == ["last"]


def test_a_policy_that_fails_open_only_warns(bridge: Bridge) -> None:
    """A policy that was registered so is left out when it raises, with a warning that says it."""
    bridge.register("broken", "weighbridge_admit", raising(RuntimeError("no idea")), fail_open=True)
    warning = (
        "the policy 'broken' failed: weighbridge_admit raised RuntimeError: no idea; it was registered to fail open"
    )
    assert bridge.judge() == Admitted(warnings=(warning,))


@pytest.mark.parametrize("answer", [True, False, "Refused", 0, Refused, {"reason": "no"}], ids=repr)
def test_an_answer_that_is_no_verdict_refuses(bridge: Bridge, answer: object) -> None:
    """A policy that gives something else than a verdict or None has failed."""
    bridge.register("muddled", "weighbridge_admit", lambda request: answer)
    verdict = bridge.judge()
    assert isinstance(verdict, Refused)
    assert verdict.reason == (
        f"the policy 'muddled' failed: weighbridge_admit gave {type(answer).__name__}; "
        "wanted Admitted, Deferred, Refused or None"
    )


# -- policies that are late --------------------------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a late policy waits for; opened at the end, and the thread that asks policies has ended then."""
    event = threading.Event()
    yield event
    event.set()
    join_policies()


def join_policies() -> None:
    """Wait until the threads in which policies are asked have ended."""
    for thread in threading.enumerate():
        if thread.name == "weighbridge-policies":
            thread.join()


def test_a_late_policy_refuses(bridge: Bridge, gate: threading.Event) -> None:
    """A policy that has not answered by the deadline has refused."""
    bridge.gatekeeper.policy_seconds = 0.05
    bridge.register("slow", "weighbridge_admit", lambda request: gate.wait() and None)
    assert bridge.judge() == Refused(
        reason="the policy 'slow' had not answered after 0.05 s",
        advice="Mend or unload slow, or register it to fail open",
    )


def test_a_late_policy_that_fails_open_only_warns(bridge: Bridge, gate: threading.Event) -> None:
    """The deadline bounds a policy that may be left out, too, and the warning says that it was."""
    bridge.gatekeeper.policy_seconds = 0.05
    bridge.register("slow", "weighbridge_admit", lambda request: gate.wait() and None, fail_open=True)
    warning = "the policy 'slow' had not answered after 0.05 s; it was registered to fail open"
    assert bridge.judge() == Admitted(warnings=(warning,))


def test_a_policy_that_could_not_be_asked_in_time_refuses(bridge: Bridge, gate: threading.Event) -> None:
    """One that fails open cannot use up the deadline so that a strict policy behind it is left out."""
    bridge.gatekeeper.policy_seconds = 0.05
    bridge.register("strict", "weighbridge_admit", lambda request: Refused(reason="never"))
    bridge.register("slow", "weighbridge_admit", lambda request: gate.wait() and None, fail_open=True)
    verdict = bridge.judge()
    assert isinstance(verdict, Refused)
    assert verdict.reason == "the policy 'strict' had not answered after 0.05 s"
    assert verdict.warnings == ("the policy 'slow' had not answered after 0.05 s; it was registered to fail open",)


def test_what_was_answered_before_the_deadline_counts(bridge: Bridge, gate: threading.Event) -> None:
    """The verdicts of policies that were in time are kept, beside the refusal of the late one."""
    bridge.gatekeeper.policy_seconds = 0.5
    bridge.register("slow", "weighbridge_admit", lambda request: gate.wait() and None)
    bridge.register("quick", "weighbridge_admit", lambda request: Admitted(warnings=("it is big",)))
    verdict = bridge.judge()
    assert isinstance(verdict, Refused)
    assert verdict.reason == "the policy 'slow' had not answered after 0.5 s"
    assert verdict.warnings == ("it is big",)


def test_nobody_is_asked_any_more_after_the_deadline(bridge: Bridge, gate: threading.Event) -> None:
    """Once the load was refused the late policy's thread goes no further: the others are not asked in vain."""
    asked: list[object] = []
    bridge.gatekeeper.policy_seconds = 0.05
    bridge.register("behind", "weighbridge_admit", asked.append)
    bridge.register("slow", "weighbridge_admit", lambda request: gate.wait() and None)
    assert isinstance(bridge.judge(), Refused)
    gate.set()
    join_policies()
    assert asked == []


def test_policies_leave_no_thread_behind(bridge: Bridge) -> None:
    """After warming up, fifty decisions leave as many threads as there were."""
    bridge.register("shrug", "weighbridge_admit", lambda request: None)
    bridge.judge()
    before = threading.active_count()
    for _ in range(50):
        bridge.judge()
    assert threading.active_count() == before


# -- plugins that are asked before -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [-1, 1.5, True, "10 MiB"], ids=repr)
def test_an_estimate_that_is_no_size_fails(bridge: Bridge, answer: object) -> None:
    """An estimate is a number of bytes from 0 up; anything else is the fault of the plugin that gave it."""
    bridge.register("oracle", "weighbridge_estimate", lambda candidate: answer)
    with pytest.raises(PolicyFailed) as caught:
        bridge.judge()
    assert str(caught.value) == (
        f"oracle: weighbridge_estimate gave {type(answer).__name__}; wanted a number of bytes from 0 up, or None"
    )
    assert (caught.value.plugin, caught.value.step) == ("oracle", "admit")


@pytest.mark.parametrize("hook", ["weighbridge_estimate", "weighbridge_adjust"])
@pytest.mark.parametrize("error", [ValueError("no idea"), SystemExit("no idea")], ids=["error", "exit"])
def test_a_plugin_that_raises_when_asked_is_named(bridge: Bridge, hook: str, error: BaseException) -> None:
    """The error says who raised what, as text: it holds nothing of the plugin's frames."""
    bridge.register("oracle", hook, raising(error))
    with pytest.raises(PolicyFailed) as caught:
        bridge.judge()
    assert str(caught.value) == f"oracle: {hook} raised {type(error).__name__}: no idea"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_ctrl_c_is_nobodys_fault(bridge: Bridge) -> None:
    """A KeyboardInterrupt while a plugin is asked reaches the user who pressed the keys."""
    bridge.register("oracle", "weighbridge_estimate", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        bridge.judge()


FIXED = "candidate, usage_bytes, ceiling_bytes, headroom_bytes, dry_run"


@pytest.mark.parametrize(
    "change",
    [
        lambda request: attrs.evolve(request, candidate=attrs.evolve(LAMP, name="other")),
        lambda request: attrs.evolve(request, usage_bytes=0),
        lambda request: attrs.evolve(request, ceiling_bytes=1 << 60),
        lambda request: attrs.evolve(request, headroom_bytes=1 << 60),
        lambda request: attrs.evolve(request, dry_run=True),
        attrs.asdict,
        lambda request: False,
    ],
    ids=["candidate", "usage", "ceiling", "headroom", "dry_run", "a dict", "False"],
)
def test_what_is_fixed_in_a_request_cannot_be_changed(bridge: Bridge, change: Callable[[Any], Any]) -> None:
    """Who answers with another candidate, other figures or no request at all is refused by name."""
    bridge.budget = full(headroom=50 * MIB)
    bridge.register("meddler", "weighbridge_adjust", change)
    with pytest.raises(PolicyFailed) as caught:
        bridge.judge()
    assert str(caught.value).startswith("meddler: weighbridge_adjust gave ")
    assert str(caught.value).endswith(f"; wanted an AdmissionRequest with the same {FIXED}, or None")


@pytest.mark.parametrize(
    "change",
    [
        lambda request: attrs.evolve(request, estimate_bytes=-(1 << 40)),
        lambda request: attrs.evolve(request, estimate_bytes="1 MiB"),
        lambda request: attrs.evolve(request, peak_bytes=1.5),
        lambda request: attrs.evolve(request, priority=None),
    ],
    ids=["negative", "text", "float", "priority"],
)
def test_an_adjusted_request_has_to_make_sense(bridge: Bridge, change: Callable[[Any], Any]) -> None:
    """A negative need would be admitted below any ceiling, and a text compared with nothing: both are faults."""
    bridge.register("meddler", "weighbridge_adjust", change)
    with pytest.raises(PolicyFailed) as caught:
        bridge.judge()
    assert str(caught.value) == (
        "meddler: weighbridge_adjust gave AdmissionRequest; wanted one with an estimate_bytes and a peak_bytes "
        "from 0 up, and a whole number as its priority"
    )


def test_each_plugin_adjusts_what_the_one_before_it_made(bridge: Bridge) -> None:
    """Adjustments add up in the order in which hooks are called: last registered first."""
    bridge.register(
        "second", "weighbridge_adjust", lambda request: attrs.evolve(request, priority=request.priority * 2)
    )
    bridge.register("shrug", "weighbridge_adjust", lambda request: None)
    bridge.register("first", "weighbridge_adjust", lambda request: attrs.evolve(request, priority=request.priority + 1))
    assert bridge.gatekeeper.request(LAMP, priority=3, defer=False, dry_run=False).priority == 8
