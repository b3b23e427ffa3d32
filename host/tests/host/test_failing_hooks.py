"""Plugins that raise in hooks of the application: what the host contains, counts and dismisses."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from weighbridge_hookspecs import (
    AlreadyLoaded,
    ConfigurationError,
    Event,
    MissingRequirement,
    UnloadTimeout,
    hookimpl,
    hookspec,
)

from weighbridge import Host
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

GOOD = """
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        pass
    @hookimpl
    def say(self, word):
        return f"{word}!"
    @hookimpl
    def first(self, word):
        return f"{word}?"
"""
BAD = """
from weighbridge_hookspecs import hookimpl
class Plugin:
    reasons = []
    def __init__(self, context):
        context.charge(1 << 20, "heap")
    @hookimpl(tryfirst=True)
    def say(self, word):
        raise ValueError(word)
    @hookimpl(tryfirst=True)
    def first(self, word):
        raise SystemExit(word)
    @hookimpl
    def weighbridge_report_memory(self):
        return 1 << 10
    @hookimpl
    def weighbridge_deactivate(self, reason):
        self.reasons.append(reason)
"""
WRAPPERS = """
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        pass
    @hookimpl(wrapper=True)
    def say(self, word):
        return [*(yield), "new"]
    @hookimpl(hookwrapper=True)
    def first(self, word):
        outcome = yield
        outcome.force_result(outcome.get_result() + " old")
"""
FIRST_OF_ALL = "@hookimpl(tryfirst=True)\n    def say"
REASON = "2 hook calls failed within 60 s, at last say raised ValueError: hi"


class Words:
    """The application's hooks."""

    @hookspec
    def say(self, word: str) -> str | None:
        """All of them."""

    @hookspec(firstresult=True)
    def first(self, word: str) -> str | None:
        """One of them."""

    @hookspec(historic=True)
    def told(self, word: str) -> str | None:
        """Those who come later, too."""


class Diary:
    """Writes down every change of state of one plugin."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.states: list[tuple[str | None, str | None, str | None]] = []

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.kind == "state" and event.plugin == self.name:
            self.states.append((event.previous, event.state, event.reason))


@pytest.fixture
def make(temporary_plugin: TemporaryPlugin) -> Iterator[Callable[..., IsolatedHost]]:
    """Make a host with plugins, by name and source."""
    hosts: list[IsolatedHost] = []

    def made(plugins: dict[str, str], **options: Any) -> IsolatedHost:
        host = IsolatedHost(**{"on_hook_error": "contain", "hook_error_limit": 2, **options})
        hosts.append(host)
        host.add_hookspecs(Words)
        for name, source in plugins.items():
            temporary_plugin(name, source)
        host.allow(*plugins)
        for name in plugins:
            host.load(name)
        return host

    yield made
    for host in hosts:
        settle()
        host.close()


def settle() -> None:
    """Wait until everybody who failed too often is dismissed."""
    for thread in threading.enumerate():
        if thread.name.startswith("weighbridge-dismiss-"):
            thread.join(20)
            assert not thread.is_alive()


def state(host: Host, name: str) -> tuple[str, str]:
    return next((one.state, one.reason) for one in host.plugins() if one.name == name)


def fail(host: Host, times: int = 2) -> None:
    for _ in range(times):
        host.hook.say(word="hi")


# -- one call ----------------------------------------------------------------------------------------------------------


def test_by_default_a_fault_ends_the_call(make: Callable[..., IsolatedHost]) -> None:
    """As pluggy has it, and nothing is counted."""
    host = make({"good": GOOD, "bad": BAD}, on_hook_error="raise")
    for _ in range(3):
        with pytest.raises(ValueError, match="hi"):
            host.hook.say(word="hi")
    assert host.statistics().hook_errors == {}
    assert state(host, "bad") == ("active", "")


def test_a_contained_fault_leaves_the_others_alone(
    make: Callable[..., IsolatedHost], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with the plugin's name, as text, and counted."""
    host = make({"good": GOOD, "bad": BAD})
    assert host.hook.say(word="hi") == ["hi!"]
    [record] = caplog.records
    assert record.getMessage().startswith("bad: say raised, and the call goes on without it:\nTraceback ")
    assert record.getMessage().endswith("ValueError: hi")
    assert (record.exc_info, record.levelno) == (None, logging.ERROR)
    assert host.statistics().hook_errors == {"bad": 1}


def test_the_next_one_is_asked_for_a_first_result(make: Callable[..., IsolatedHost]) -> None:
    """And ``sys.exit`` is a fault."""
    host = make({"good": GOOD, "bad": BAD})
    assert host.hook.first(word="hi") == "hi?"
    assert host.statistics().hook_errors == {"bad": 1}


def test_wrappers_of_other_plugins_work(make: Callable[..., IsolatedHost]) -> None:
    """Of either style."""
    host = make({"good": GOOD, "bad": BAD, "wrappers": WRAPPERS}, hook_error_limit=9)
    assert host.hook.say(word="hi") == ["hi!", "new"]
    assert host.hook.first(word="hi") == "hi? old"


def test_what_the_application_registered_is_its_own(make: Callable[..., IsolatedHost]) -> None:
    """Its exception reaches it."""

    class Own:
        @hookimpl
        def say(self, word: str) -> None:
            raise LookupError(word)

    host = make({"good": GOOD})
    host.register("own", Own())
    with pytest.raises(LookupError):
        host.hook.say(word="hi")
    assert host.statistics().hook_errors == {}


# -- too often ---------------------------------------------------------------------------------------------------------


def test_a_plugin_that_fails_too_often_is_dismissed(make: Callable[..., IsolatedHost]) -> None:
    """Its hooks are out at once; it is deactivated with the reason, which its state keeps, and observers are told."""
    host, diary = make({"good": GOOD, "bad": BAD}), Diary("bad")
    host.register("diary", diary)
    reasons = plugin_class().reasons
    fail(host, 4)
    assert host.statistics().hook_errors == {"bad": 2}
    settle()
    assert state(host, "bad") == ("failed", REASON)
    assert diary.states == [("active", "failed", REASON)]
    assert reasons == [REASON]
    assert host.implemented("bad") == ()
    assert host.statistics().failures == 1
    assert host.hook.say(word="hi") == ["hi!"]


def plugin_class() -> Any:
    """The class of the plugin ``bad``."""
    return sys.modules["weighbridge_bad"].Plugin


def test_what_a_dismissed_plugin_holds_stays_on_its_account(make: Callable[..., IsolatedHost]) -> None:
    """Charges, leases, and what it reported last."""
    host = make({"good": GOOD, "bad": BAD})
    before = host.account("bad")
    fail(host)
    settle()
    after = host.account("bad")
    assert (after.state, after.native_bytes) == ("failed", (1 << 20) + (1 << 10))
    assert (after.held_bytes, after.leases) == (before.held_bytes, before.leases)
    assert [one.plugin for one in host.accounts().plugins] == ["bad", "good"]


def test_a_dismissed_plugin_has_to_be_unloaded_before_it_is_loaded_again(make: Callable[..., IsolatedHost]) -> None:
    """It is in its place still: discovery keeps it, its name is taken, and what requires it has to wait."""
    host = make({"good": GOOD, "bad": BAD})
    fail(host)
    settle()
    host.discover()
    assert state(host, "bad") == ("failed", REASON)
    with pytest.raises(AlreadyLoaded) as caught:
        host.load("bad")
    assert str(caught.value) == f"bad: is loaded still, although it failed: {REASON}. Unload it first"
    [failed] = host.load_all().failed
    assert (failed.name, failed.state) == ("bad", "failed")
    with pytest.raises(ConfigurationError, match="a loaded plugin has this name"):
        host.register("bad", object())
    assert state(host, "bad") == ("failed", REASON)


def test_what_requires_a_dismissed_plugin_cannot_be_loaded(
    make: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """The error says why."""
    host = make({"bad": BAD})
    temporary_plugin("top", GOOD, manifest='[plugin]\nrequires = ["bad"]\n')
    host.allow("top")
    fail(host)
    settle()
    with pytest.raises(MissingRequirement, match="is loaded still, although it failed"):
        host.load("top")


def test_a_dismissed_plugin_can_be_unloaded(make: Callable[..., IsolatedHost]) -> None:
    """With a receipt, without a second deactivation; then it can be loaded again, with a clean record."""
    host = make({"good": GOOD, "bad": BAD})
    reasons = plugin_class().reasons
    fail(host)
    settle()
    receipt = host.unload("bad")
    assert (receipt.state, receipt.survivors, receipt.failures) == ("unloaded", (), ())
    assert reasons == [REASON]
    assert state(host, "bad")[0] == "unloaded"
    host.load("bad")
    fail(host, 1)
    settle()
    assert state(host, "bad") == ("active", "")
    assert host.statistics().hook_errors == {"bad": 3}


def test_a_host_that_closes_unloads_those_that_it_dismissed(make: Callable[..., IsolatedHost]) -> None:
    """As all others."""
    host = make({"good": GOOD, "bad": BAD})
    fail(host)
    settle()
    host.close()
    assert host.receipts["bad"].state == "unloaded"


def test_a_dismissed_plugin_can_be_reloaded(make: Callable[..., IsolatedHost]) -> None:
    """That is an unload and a load."""
    host = make({"good": GOOD, "bad": BAD})
    fail(host)
    settle()
    assert host.reload("bad").state == "active"
    fail(host, 1)
    assert host.statistics().hook_errors == {"bad": 3}


def test_a_deactivation_that_raises_is_logged(
    make: Callable[..., IsolatedHost], caplog: pytest.LogCaptureFixture
) -> None:
    """The plugin is dismissed all the same."""
    host = make({"bad": BAD.replace("self.reasons.append(reason)", "raise SystemExit(reason)")})
    fail(host)
    settle()
    assert "bad: weighbridge_deactivate raised:" in caplog.text
    assert state(host, "bad") == ("failed", REASON)


def test_faults_while_it_is_being_loaded_count(
    make: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """Calls of historic hooks are made up for then; it is dismissed when it is loaded."""
    host, diary = make({}, hook_error_limit=1), Diary("bad")
    host.hook.told.call_historic(kwargs={"word": "hi"})
    host.register("diary", diary)
    temporary_plugin("bad", BAD.replace("def say", "def told"))
    host.allow("bad")
    host.load("bad")
    settle()
    assert [after for _, after, _ in diary.states] == ["admitted", "loaded", "active", "failed"]
    assert state(host, "bad") == ("failed", "a hook call failed, at last told raised ValueError: hi")


# -- threads -----------------------------------------------------------------------------------------------------------


def test_eight_threads_dismiss_a_plugin_once(make: Callable[..., IsolatedHost]) -> None:
    """And no call of the others fails meanwhile."""
    host, diary = make({"good": GOOD, "bad": BAD}, hook_error_limit=50), Diary("bad")
    host.register("diary", diary)
    reasons, wrong = plugin_class().reasons, []
    start = threading.Barrier(8)

    def hammer() -> None:
        start.wait()
        for _ in range(100):
            if (said := host.hook.say(word="hi")) != ["hi!"]:
                wrong.append(said)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    settle()
    assert wrong == []
    assert len(reasons) == 1
    assert [after for _, after, _ in diary.states] == ["failed"]
    assert 50 <= host.statistics().hook_errors["bad"] <= 57  # those that were inside when the limit was reached


def test_a_call_never_waits_for_a_load_under_way(
    make: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """The load waits for the failing call: if the call waited for the host, nobody would ever go on."""
    host = make({"good": GOOD, "bad": BAD})
    called: list[Any] = []

    class Waiting:
        """Keeps the host's lock until the call is over."""

        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            if event.plugin == "late" and event.state == "loaded":
                caller = threading.Thread(target=fail, args=(host,))
                caller.start()
                caller.join(20)
                called.append((caller.is_alive(), host.statistics().hook_errors, state(host, "bad")))

    host.register("waiting", Waiting())
    temporary_plugin("late", GOOD)
    host.allow("late")
    host.load("late")
    assert called == [(False, {"bad": 2}, ("active", ""))]
    settle()
    assert state(host, "bad") == ("failed", REASON)
    assert state(host, "late") == ("active", "")


def test_a_call_may_hold_a_lock_that_an_observer_wants(make: Callable[..., IsolatedHost]) -> None:
    """The observer is told in a thread of its own, and gets the lock when the call is over."""
    host, lock = make({"good": GOOD, "bad": BAD}), threading.Lock()
    told: list[str | None] = []

    class Careful:
        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            with lock:
                told.append(event.state)

    host.register("careful", Careful())
    with lock:
        fail(host)
        assert told == []
    settle()
    assert told == ["failed"]


def test_calls_under_way_are_over_before_the_plugin_is_deactivated(make: Callable[..., IsolatedHost]) -> None:
    """It is not told to stop while another thread is inside."""
    source = BAD.replace("raise ValueError(word)", "word(self)").replace("append(reason)", "append(len(self.log))")
    host = make({"bad": source.replace("reasons = []", "reasons = []\n    log = []")})
    inside, leave = threading.Event(), threading.Event()

    def stay(plugin: Any) -> None:
        inside.set()
        assert leave.wait(20)
        plugin.log.append("left")

    def fall(plugin: Any) -> None:
        raise ValueError("hi")

    staying = threading.Thread(target=lambda: host.hook.say(word=stay))
    staying.start()
    assert inside.wait(20)
    for _ in range(2):
        host.hook.say(word=fall)
    assert state(host, "bad")[0] == "active"
    reasons = plugin_class().reasons
    assert reasons == []
    leave.set()
    staying.join(20)
    settle()
    assert reasons == [1]
    assert state(host, "bad") == ("failed", REASON)


def test_an_unload_waits_for_a_call_that_began_before_the_dismissal(
    make: Callable[..., IsolatedHost], caplog: pytest.LogCaptureFixture
) -> None:
    """It has not come to the plugin yet, and will. If it does not end in time, the plugin has failed as before."""
    slow = GOOD.replace('return f"{word}!"', "return word()").replace("@hookimpl\n    def say", FIRST_OF_ALL)
    host = make({"bad": BAD, "slow": slow}, hook_error_limit=1, deadline_seconds=0.05)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> str:
        inside.set()
        assert leave.wait(20)
        return "slow"

    said: list[str] = []
    staying = threading.Thread(target=lambda: said.extend(host.hook.say(word=stay)))
    staying.start()
    assert inside.wait(20)
    host.hook.say(word=lambda: "hi")
    settle()
    assert "bad is dismissed with calls under way: thread" in caplog.text
    failed = state(host, "bad")
    assert failed[0] == "failed"
    with pytest.raises(UnloadTimeout, match="It is failed again"):
        host.unload("bad")
    assert state(host, "bad") == failed
    assert host.implemented("bad") == ()
    leave.set()
    staying.join(20)
    assert said == ["slow"]
    assert host.unload("bad", deadline_seconds=5).state == "unloaded"


def test_an_unload_that_comes_first_takes_the_plugin(make: Callable[..., IsolatedHost]) -> None:
    """What was to be dismissed is gone then, and its next generation is not hit."""
    host = make({"good": GOOD, "bad": BAD})
    with host._turn.lock:  # the dismissal has to wait
        fail(host)
        assert host.reload("bad").state == "active"
    settle()
    assert state(host, "bad") == ("active", "")
    fail(host, 1)
    assert host.statistics().hook_errors == {"bad": 3}


def test_who_was_unloaded_meanwhile_is_not_dismissed(make: Callable[..., IsolatedHost]) -> None:
    """It is gone, and stays where it is."""
    host, diary = make({"good": GOOD, "bad": BAD}), Diary("bad")
    host.register("diary", diary)
    with host._turn.lock:  # the dismissal has to wait
        fail(host)
        host.unload("bad")
    settle()
    host.look_again()  # the thread that waits to dismiss it may look at a frame of its calls just at the unload
    states = [after for _, after, _ in diary.states]
    assert states[-1] == "unloaded"
    assert "failed" not in states
    assert host.statistics().failures == 0


def test_a_plugin_cannot_be_dismissed_when_no_thread_can_begin(
    make: Callable[..., IsolatedHost], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end of the process: that is logged, and no call reaches it all the same."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    host = make({"good": GOOD, "bad": BAD})
    monkeypatch.setattr(threading.Thread, "start", refuse)
    fail(host, 4)
    monkeypatch.undo()
    assert "bad is out, and cannot be dismissed: can't start new thread" in caplog.text
    assert host.statistics().hook_errors == {"bad": 2}
    assert state(host, "bad") == ("active", "")


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_hook_error": "ignore"}, "on_hook_error makes no sense: 'ignore'. Take one of: raise, contain"),
        ({"hook_error_limit": 0}, "hook_error_limit makes no sense: 0. Give a whole number from 1 up"),
        ({"hook_error_limit": True}, "hook_error_limit makes no sense: True. Give a whole number from 1 up"),
        ({"hook_error_limit": 2.5}, "hook_error_limit makes no sense: 2.5. Give a whole number from 1 up"),
        ({"hook_error_window_seconds": 0}, "hook_error_window_seconds makes no sense: 0. Give more than 0"),
        ({"hook_error_window_seconds": "1"}, "hook_error_window_seconds makes no sense: '1'. Give more than 0"),
        (
            {"hook_error_window_seconds": float("nan")},
            "hook_error_window_seconds makes no sense: nan. Give more than 0",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    """With what would."""
    with pytest.raises(ConfigurationError) as caught:
        IsolatedHost(**options)
    assert str(caught.value) == message
