"""The balloon driver, and the hypervisor that asks for most of the memory while a process holds a big cache.

The hypervisor is asked from outside, by QEMU's own protocol, and what it gets back is seen from outside as well: in the
resident set of QEMU. Each run has a machine of its own.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest

from .booting import bootable
from .machine import MIB, TOTAL, Machine, MachineFailed, Message, machine
from .qmp import QmpFailed

pytestmark = [pytest.mark.vm, pytest.mark.checkout]

CACHE: Final = 448 * MIB
ASKED: Final = 752 * MIB
"""More than is free beside the cache, by most of the cache. What is free lasts the balloon for about a second."""
REACH_SECONDS: Final = 60
PANIC: Final = "Kernel panic"
"""What a kernel says that finds nobody left to kill; QEMU ends then."""
STUCK_SECONDS: Final = 12
"""A balloon that has not grown for so long does not get any further by itself: it tries every 200 ms."""


@attrs.define
class Run:
    """One run as it is seen from outside, in bytes, and what the process in the guest had to say."""

    began: Message = attrs.field(factory=dict)
    answer: Message = attrs.field(factory=dict)
    taken: int = 0
    """In the balloon at the end."""
    resident_before: int = 0
    resident_after: int = 0
    console: str = ""

    @property
    def result(self) -> Any:
        """What the process in the guest returned."""
        assert "result" in self.answer, f"{self.answer}\n{self.console}"
        return self.answer["result"]

    @property
    def needed(self) -> int:
        """What has to be released for the balloon to get what it is asked for, with the plugin's reserve left over."""
        return int(ASKED + self.began["reserve"] - self.began["memory"]["MemAvailable"])


def squeeze(running: Machine, function: str, look: Callable[[], int], **arguments: object) -> Run:
    """Have a function hold its cache, ask the guest for memory, and wait until it is there or nothing moves.

    :param look: QEMU's resident set, before and after.
    """
    run = Run()

    def on_event(message: Message) -> None:
        run.began = message
        run.resident_before = look()
        running.qmp.set_memory(TOTAL - ASKED)
        run.taken = wait_for_balloon(running)
        run.resident_after = look()
        running.tell(go="on")

    try:
        run.answer = running.call(function, {"cache_bytes": CACHE, "seconds": 2 * REACH_SECONDS, **arguments}, on_event)
    except (MachineFailed, QmpFailed):
        run.console = running.console()
        if PANIC not in run.console:
            raise
        run.answer = {"panic": run.console[run.console.index(PANIC) :].splitlines()[0]}
        return run
    run.console = running.console()
    return run


def wait_for_balloon(running: Machine) -> int:
    """Bytes in the balloon once they are all there, or have not become more for a while."""
    taken, end = 0, time.monotonic() + STUCK_SECONDS
    while taken < ASKED and time.monotonic() < end:
        time.sleep(0.2)
        if (now := TOTAL - running.qmp.memory()) > taken:
            taken, end = now, time.monotonic() + STUCK_SECONDS
    return taken


def squeezed(config: pytest.Config, function: str, **arguments: object) -> Run:
    """A run in a machine of its own, which has ended by then."""
    with machine(bootable(config)) as running:
        return squeeze(running, function, running.resident, **arguments)


@pytest.fixture(scope="module")
def aimed(request: pytest.FixtureRequest) -> Run:
    """The operator lets the plugin ask the device for its target; from outside it is seen what QEMU occupies."""
    with machine(bootable(request.config)) as running:
        return squeeze(running, "balloon:with_plugin", running.settled, settings={"ask_device": True})


@pytest.fixture(scope="module")
def paced(request: pytest.FixtureRequest) -> Run:
    """The plugin sees the balloon grow, and not how far it is to go."""
    return squeezed(request.config, "balloon:with_plugin", settings={})


@pytest.fixture(scope="module")
def alone(request: pytest.FixtureRequest) -> Run:
    """The same without the plugin: the control."""
    return squeezed(request.config, "balloon:without_plugin")


@pytest.mark.parametrize("name", ["aimed", "paced"])
def test_hypervisor_gets_all_it_asked_for_and_nobody_is_killed(name: str, request: pytest.FixtureRequest) -> None:
    """The balloon reaches its target, and the kernel had no reason to kill anybody."""
    run: Run = request.getfixturevalue(name)
    assert run.needed > CACHE // 2, "the cache has to matter"
    assert run.taken == run.result["memory"]["Ballooned"] == ASKED
    assert run.result["kills"] == 0
    assert "Out of memory" not in run.console


def test_without_the_plugin_the_balloon_gets_stuck_or_the_process_is_killed(alone: Run) -> None:
    """The control: the same cache and the same wish, and nobody who releases anything. The whole guest may go down."""
    assert alone.began["memory"]["MemAvailable"] < ASKED
    assert alone.taken < ASKED or alone.answer == {"killed": signal.SIGKILL} or "panic" in alone.answer
    if "result" in alone.answer:
        assert alone.result["released"] == 0


def test_target_is_seen_only_where_the_device_may_be_asked(aimed: Run, paced: Run) -> None:
    """Asking writes to the device, so it is not done unasked."""
    assert aimed.began["sees_target"] is True
    assert paced.began["sees_target"] is False


def test_with_a_target_as_much_is_released_as_is_needed(aimed: Run) -> None:
    """Within 15 % of what was missing when the hypervisor asked; the rest of the cache stays and is what it was."""
    assert abs(aimed.result["released"] - aimed.needed) <= 0.15 * aimed.needed
    assert aimed.result["kept"] > 0
    assert aimed.result["wrong"] == 0


def test_hypervisor_has_what_the_plugin_says_it_can_have(aimed: Run) -> None:
    """QEMU's resident set falls by nine tenths of that at least, and that is most of what the plugin released."""
    promised = sum(receipt["hypervisor_bytes"] for receipt in aimed.result["receipts"])
    assert promised > 0.75 * aimed.result["released"]
    assert aimed.resident_before - aimed.resident_after >= 0.9 * promised


def test_receipts_say_what_was_asked_for_and_what_came_of_it(aimed: Run) -> None:
    """What handlers believe is what the cache released, and the guest's free memory has grown by nearly as much."""
    receipts = aimed.result["receipts"]
    # The host is asked as well, and collects garbage.
    others = sum(receipt["believed_bytes"] for receipt in receipts) - aimed.result["released"]
    assert 0 <= others < 8 * MIB
    assert sum(receipt["freed_bytes"] for receipt in receipts) > 0.9 * aimed.result["released"]
    assert receipts[-1]["missing_bytes"] == 0


def test_without_a_target_enough_is_released_as_the_balloon_grows(paced: Run) -> None:
    """At least what was needed, in several steps."""
    assert paced.result["released"] >= 0.85 * paced.needed
    assert len(paced.result["receipts"]) > 1
    assert paced.result["wrong"] == 0


@pytest.mark.parametrize("name", ["aimed", "paced"])
def test_plugin_has_one_thread_and_unloads_clean(name: str, request: pytest.FixtureRequest) -> None:
    """After all that it goes whole."""
    run: Run = request.getfixturevalue(name)
    assert len(run.result["threads"]) == 1
    assert (run.result["state"], run.result["survivors"]) == ("unloaded", 0)
