"""Over the bridge and back: plugins are loaded, work, and are unloaded with a receipt that proves it."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import threading
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from weighbridge_hookspecs import ConfigurationError, UnloadRefused, UnloadTimeout, hookspec

from weighbridge import Receipt, Survivor
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

HOOK: Final = "from weighbridge_hookspecs import hookimpl\nimport harbour\n"
GOOD: Final = "class Plugin:\n    def __init__(self, context):\n        pass\n"


class Trade:
    """The application's hook."""

    @hookspec
    def trade(self, goods: str) -> str:
        raise NotImplementedError


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch, weighbridge_host: IsolatedHost) -> Any:
    """The application's own module, which plugins can import."""
    module: Any = type(sys)("harbour")
    module.log, module.kept, module.host = [], [], weighbridge_host
    module.inside, module.go = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "harbour", module)
    return module


@pytest.fixture
def plain_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python passes over a SystemExit that ends a thread; pytest reports it, and keeps it with all its frames."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


@pytest.fixture
def host(weighbridge_host: IsolatedHost, harbour: Any) -> Iterator[IsolatedHost]:
    weighbridge_host.add_hookspecs(Trade)
    yield weighbridge_host
    harbour.go.set()


def states(host: IsolatedHost) -> dict[str, str]:
    return {one.name: one.state for one in host.plugins()}


def trade(host: IsolatedHost, goods: str = "tea") -> list[str]:
    answers: list[str] = host.hook.trade(goods=goods)
    return answers


TRADER: Final = (
    HOOK
    + "class Plugin:\n    def __init__(self, context):\n        self.name = context.name\n"
    + "    @hookimpl\n    def trade(self, goods):\n        return f'{self.name} buys {goods}'\n"
)
BUSY: Final = (
    HOOK + GOOD + "    @hookimpl\n    def trade(self, goods):\n"
    "        harbour.inside.set()\n        harbour.go.wait()\n        return goods\n"
)


# -- the whole way -------------------------------------------------------------------------------------------------


def test_the_lantern_goes_over_the_bridge_and_back(weighbridge_host: IsolatedHost) -> None:
    """A stranger's wheel is found, admitted, loaded and accounted; it works, and leaves nothing."""
    weighbridge_host.allow("lantern")
    modules = {name for name in sys.modules if name.startswith("weighbridge_lantern")}
    (candidate,) = weighbridge_host.discover().candidates
    assert (candidate.distribution, candidate.value) == ("weighbridge-lantern", "weighbridge_lantern:Lantern")
    assert modules == {name for name in sys.modules if name.startswith("weighbridge_lantern")} == set()
    account = weighbridge_host.load("lantern")
    assert (account.plugin, account.state, account.modules) == ("lantern", "active", 1)
    assert account.leases == {"log": 1, "timer": 1, "capability": 1}
    assert (account.estimate_bytes, account.declared_load_bytes, account.declared_peak_bytes) == (1 << 20,) * 2 + (
        2 << 20,
    )
    assert account.traced_bytes is not None
    assert 1_000 < account.traced_bytes < 1 << 20
    assert len(weighbridge_host.capabilities["machine-load"]) >= 1
    assert weighbridge_host.implemented("lantern") == (
        "weighbridge_capabilities",
        "weighbridge_deactivate",
        "weighbridge_release_memory",
    )
    receipt = weighbridge_host.unload("lantern")
    assert (receipt.state, receipt.survivors, receipt.failures) == ("unloaded", (), ())
    assert "weighbridge_lantern" not in sys.modules
    assert "machine-load" not in weighbridge_host.capabilities
    assert weighbridge_host.accounts().plugins == ()


def test_a_receipt_says_what_was_done(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Every figure of it, and the steps in their order."""
    temporary_plugin(
        "trader",
        {
            "__init__.py": "from .part import Plugin",
            "part.py": TRADER.replace("self.name =", "context.charge(4096, 'arena')\n        self.name ="),
        },
        version="3.2",
    )
    account = host.load("trader")
    assert trade(host) == ["trader buys tea"]
    receipt = host.unload("trader", reason="the season is over")
    assert [step.name for step in receipt.steps] == [
        "drain",
        "deactivate",
        "revoke",
        "threads",
        "unregister",
        "cut",
        "drop",
        "collect",
        "verify",
    ]
    assert all(step.seconds >= 0 and step.failures == () for step in receipt.steps)
    assert (receipt.plugin, receipt.distribution, receipt.version) == ("trader", "weighbridge-trader", "3.2")
    assert (receipt.state, receipt.reason) == ("unloaded", "the season is over")
    assert receipt.held_bytes == account.held_bytes > 4096
    assert receipt.leases_revoked == {"log": 1, "charge": 1}
    assert (receipt.modules_dropped, receipt.modules_kept) == (2, ())
    assert receipt.watched >= 6  # two modules, a class, two functions, the plugin
    assert (receipt.traced_before_bytes, receipt.reclaimed_bytes, receipt.reclaimed_share) == (None, None, None)
    assert receipt.objects_before > receipt.objects_after
    assert receipt.resident_before_bytes > 0
    assert receipt.reclaimed_resident_bytes == receipt.resident_before_bytes - receipt.resident_after_bytes
    assert host.receipts["trader"] is receipt
    assert trade(host) == []


def test_the_plugin_is_called_for_the_last_time_before_its_leases_are_revoked(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Its hooks are unregistered by then; what it says goodbye with still works. Leases go last first."""
    temporary_plugin(
        "trader",
        TRADER.replace(
            "self.name =",
            "self.spawn = context.spawn\n"
            "        for name in 'ab':\n"
            "            context.spawn(lambda stop, name=name: (stop.wait(), harbour.log.append(name)), name=name)\n"
            "        self.name =",
        )
        + "    @hookimpl\n    def weighbridge_deactivate(self, reason):\n"
        + "        harbour.log.append((reason, harbour.host.hook.trade(goods='tea')))\n"
        + "        self.spawn(lambda stop: (stop.wait(), harbour.log.append('c')), name='c')\n",
    )
    host.load("trader")
    receipt = host.unload("trader", reason="the season is over")
    assert harbour.log == [("the season is over", []), "c", "b", "a"]
    assert receipt.leases_revoked == {"log": 1, "thread": 3}


class Spoiled(logging.Handler):
    """A handler that cannot be closed."""

    def close(self) -> None:
        super().close()
        raise OSError("the pipe is broken")


@pytest.mark.parametrize(
    ("raised", "failure"),
    [
        ("OSError('I will not go')", "OSError: I will not go"),
        ("SystemExit(3)", "it called sys.exit(3)"),
        ("harbour.Mute()", "Mute: <no text: asking for it raised>"),
    ],
)
def test_a_step_that_fails_does_not_stop_the_next(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any, raised: str, failure: str
) -> None:
    """The receipt has all that went wrong, and the plugin is gone all the same."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    harbour.Mute, harbour.Spoiled = Mute, Spoiled
    temporary_plugin(
        "sulking",
        HOOK
        + "class Plugin:\n    def __init__(self, context):\n"
        + "        context.every(0.001, list)\n"
        + "        context.log.addHandler(harbour.Spoiled())\n"
        + f"    @hookimpl\n    def weighbridge_deactivate(self):\n        raise {raised}\n",
    )
    host.load("sulking")
    receipt = host.unload("sulking")
    assert receipt.failures == (
        f"deactivate: {failure}",
        "revoke: log 'weighbridge.plugins.sulking': RuntimeError: OSError: the pipe is broken",
    )
    assert (receipt.state, receipt.leases_revoked) == ("unloaded", {"timer": 1, "log": 1})
    assert host.statistics().services.schedule.timers == 0
    assert logging.getLogger("weighbridge.plugins.sulking").handlers == []


def test_ctrl_c_does_not_leave_half_an_unload(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It is raised when all is done."""
    package = temporary_plugin(
        "slow",
        HOOK + GOOD + "    @hookimpl\n    def weighbridge_deactivate(self):\n        raise KeyboardInterrupt\n",
    )
    host.load("slow")
    with pytest.raises(KeyboardInterrupt, match="while unloading slow, which is unloaded"):
        host.unload("slow")
    assert (states(host), package in sys.modules) == ({"slow": "unloaded"}, False)


# -- survivors -----------------------------------------------------------------------------------------------------


def only(receipt: Receipt, kind: str) -> Survivor:
    (found,) = [one for one in receipt.survivors if one.kind == kind]
    return found


def test_what_holds_a_survivor_is_named(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A list of the application's that keeps an instance, with the way from it to the instance's class."""
    package = temporary_plugin("kept", "import harbour\n" + GOOD.replace("pass", "harbour.kept.append({'best': self})"))
    host.load("kept")
    receipt = host.unload("kept")
    assert receipt.state == "stranded"
    plugin = only(receipt, "plugin")
    assert (plugin.name, plugin.tie) == (f"{package}.Plugin", "harbour.kept[0]['best']")
    assert plugin.chain == ("harbour.kept[0]['best']", "module harbour")
    cls = only(receipt, "class")
    assert (cls.tie, cls.chain[0], cls.chain[-1]) == ("harbour.kept[0]['best']", f"{package}.Plugin", "module harbour")


OVERLOADED: Final = (
    "from typing import overload\n"
    + GOOD
    + "@overload\ndef weigh(x: int) -> int: ...\n@overload\ndef weigh(x: str) -> str: ...\n"
    + "def weigh(x):\n    return x\n"
)


def test_an_overload_is_taken_out_of_the_registry_of_typing(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The best known way to keep a module alive without knowing it."""
    package = temporary_plugin("typed", OVERLOADED)
    host.load("typed")
    receipt = host.unload("typed")
    assert (receipt.state, receipt.survivors) == ("unloaded", ())
    (tie,) = receipt.ties
    assert (tie.tie, tie.outcome) == ("typing overload", "cut")
    assert (tie.place, tie.held) == (f"typing._overload_registry[{package!r}]", package)


def test_nothing_is_cut_where_that_was_not_wanted(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """What holds it is named all the same, by the tie and by the chain of every survivor."""
    package = temporary_plugin("typed", OVERLOADED)
    host.load("typed")
    receipt = host.unload("typed", cut="none")
    assert receipt.state == "stranded"
    assert [(one.tie, one.outcome) for one in receipt.ties] == [("typing overload", "found")]
    assert {one.tie.partition("[")[0] for one in receipt.survivors} == {"typing._overload_registry"}
    assert f"{package}.weigh" in {one.name for one in receipt.survivors}
    typing.clear_overloads()
    assert host.look_again() == ("typed",)


def test_without_a_search_survivors_are_only_named(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Counting them needs one collection, and finding what holds them much more."""
    temporary_plugin("typed", OVERLOADED)
    host.load("typed")
    receipt = host.unload("typed", cut="none", verify="weakref")
    assert (receipt.state, receipt.verify) == ("stranded", "weakref")
    assert {(one.tie, one.chain) for one in receipt.survivors} == {
        ("not asked for: unload with verify='full' to see what holds it", ())
    }
    typing.clear_overloads()


def test_without_proof_nothing_is_collected(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A collection costs time in a big process; whoever cannot spare it gets a receipt that proves nothing."""
    temporary_plugin("trader", TRADER)
    host.load("trader")
    receipt = host.unload("trader", verify="none")
    assert (receipt.state, receipt.verify, receipt.collections, receipt.watched) == ("unloaded", "none", 0, 0)


def test_a_clean_unload_takes_one_collection(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Only what is left afterwards is worth another one."""
    temporary_plugin("trader", TRADER)
    host.load("trader")
    assert host.unload("trader").collections == 1


@pytest.mark.parametrize(("setting", "legal"), [("verify", "none, weakref, full"), ("cut", "safe, all, none")])
def test_a_setting_that_makes_no_sense_changes_nothing(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, setting: str, legal: str
) -> None:
    """The error says what can be set, and the plugin works on."""
    temporary_plugin("trader", TRADER)
    host.load("trader")
    options: Any = {setting: "some"}
    with pytest.raises(ConfigurationError, match=rf"{setting}='some' makes no sense. Take one of: {legal}"):
        host.unload("trader", **options)
    assert trade(host) == ["trader buys tea"]


def test_what_python_does_not_show_is_not_made_up(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """``atexit`` keeps its callbacks where no search finds them; the receipt says that it does not know."""
    temporary_plugin("late", "import atexit\ndef goodbye():\n    pass\natexit.register(goodbye)\n" + GOOD)
    host.load("late")
    goodbye = sys.modules["weighbridge_late"].goodbye
    receipt = host.unload("late")
    atexit.unregister(goodbye)
    del goodbye
    assert receipt.state == "stranded"
    assert host.look_again() == ("late",)


def test_a_generator_that_was_left_suspended_is_closed(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It would run the plugin's code at its next step. Uncut it is named."""
    source = "import harbour\ndef count():\n    while True:\n        yield\n" + GOOD.replace(
        "pass", "harbour.kept.append(count())\n        next(harbour.kept[-1])"
    )
    temporary_plugin("counting", source)
    host.load("counting")
    receipt = host.unload("counting", cut="none")
    assert receipt.state == "stranded"
    assert "harbour.kept[0]" in {one.tie for one in receipt.survivors}
    assert any("suspended generator count" in step for one in receipt.survivors for step in one.chain)
    harbour.kept.clear()
    assert host.look_again() == ("counting",)
    host.load("counting")
    assert host.unload("counting").state == "unloaded"
    assert list(harbour.kept[0]) == []


def test_what_a_plugin_tracks_is_watched_too(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Even if it is an object of somebody else's class."""
    temporary_plugin(
        "tracking",
        "import harbour, logging\n" + GOOD.replace("pass", "harbour.kept.append(context.track(logging.Formatter()))"),
    )
    host.load("tracking")
    receipt = host.unload("tracking")
    assert [(one.kind, one.name, one.tie) for one in receipt.survivors] == [
        ("tracked", "logging.Formatter", "harbour.kept[0]")
    ]


# -- threads -------------------------------------------------------------------------------------------------------


def test_supervised_threads_and_timers_are_stopped(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """They are joined: when the receipt is there, nothing runs any more."""
    before = threading.active_count()
    temporary_plugin(
        "working",
        "import harbour\n"
        "def work(stop):\n    harbour.inside.set()\n"
        "    while not stop.wait(0.001):\n        pass\n    harbour.log.append('done')\n"
        "class Plugin:\n    def __init__(self, context):\n"
        "        context.spawn(work)\n        context.every(0.001, harbour.inside.set)\n",
    )
    host.load("working")
    harbour.inside.wait()
    assert threading.active_count() > before
    assert host.unload("working").state == "unloaded"
    schedule = host.statistics().services.schedule
    assert (harbour.log, schedule.threads, schedule.timers) == (["done"], 0, 0)


RAW: Final = "import threading, harbour\ndef run():\n    harbour.inside.set()\n{}\n" + GOOD.replace(
    "pass", "threading.Thread(target=run, name='raw', daemon=True).start()"
)


@pytest.mark.usefixtures("plain_threads")
def test_a_thread_that_a_plugin_started_by_itself_is_stopped(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It loops in Python and knows nothing of its end; SystemExit ends it."""
    temporary_plugin("raw", RAW.format("    while True:\n        pass"))
    host.load("raw")
    harbour.inside.wait()
    receipt = host.unload("raw")
    assert (receipt.state, receipt.failures) == ("unloaded", ())
    assert "raw" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("plain_threads")
def test_a_thread_that_cannot_be_stopped_is_named(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It sleeps in C. When it wakes up it ends, and the plugin is gone for good."""
    temporary_plugin("raw", RAW.format("    harbour.go.wait()"))
    host.load("raw")
    harbour.inside.wait()
    receipt = host.unload("raw")
    assert receipt.state == "stranded"
    assert (only(receipt, "thread").name, only(receipt, "thread").tie) == ("raw", "a thread that does not end")
    sleeper = next(thread for thread in threading.enumerate() if thread.name == "raw")
    harbour.go.set()
    sleeper.join()
    del sleeper
    assert host.look_again() == ("raw",)


def test_the_thread_of_another_plugin_in_the_same_package_is_left_alone(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """One wheel may bring several plugins; unloading one of them does not stop the others, nor wait for them."""
    watching = RAW.format("    while not harbour.go.wait(0.001):\n        pass")
    files = {"__init__.py": "", "one.py": watching, "two.py": TRADER}
    for name in ("one", "two"):
        temporary_plugin(
            name,
            {f"../{file}": text for file, text in files.items()},
            package=f"weighbridge_pair.{name}",
        )
    host.load("one")
    host.load("two")
    harbour.inside.wait()
    assert host.unload("two").state == "unloaded"
    assert "raw" in {thread.name for thread in threading.enumerate()}
    harbour.go.set()
    assert host.unload("one").state == "unloaded"


def test_a_plugin_with_somebody_inside_stays(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """The error names the thread and its place; the plugin works on, and can be unloaded when the call has returned."""
    package = temporary_plugin("busy", BUSY)
    host.load("busy")
    answers: list[list[str]] = []
    caller = threading.Thread(target=lambda: answers.append(trade(host)), name="caller")
    caller.start()
    harbour.inside.wait()
    with pytest.raises(UnloadTimeout) as caught:
        host.unload("busy", deadline_seconds=0.01)
    place = f"thread 'caller' at {sys.modules[package].__file__}:9 in Plugin.trade"
    assert caught.value.inside == (place,)
    assert str(caught.value) == (
        f"busy: 1 still inside after 0.01 s: {place}. It is active again. "
        "Unload it when they have returned, or give more deadline_seconds"
    )
    assert [(one.state, one.reason) for one in host.plugins()] == [("active", "not unloaded: calls were under way")]
    harbour.go.set()
    caller.join()
    assert answers == [["tea"]]
    assert trade(host, "silk") == ["silk"]
    # the error is still there, and does not hold the plugin
    receipt = host.unload("busy")
    assert (receipt.state, receipt.survivors) == ("unloaded", ())


def test_an_unload_waits_for_a_call_that_comes_back_in_time(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """The call gets its answer, and new calls do not get in meanwhile."""
    temporary_plugin("busy", BUSY)
    host.load("busy")
    answers: list[list[str]] = []
    caller = threading.Thread(target=lambda: answers.append(trade(host)))
    caller.start()
    harbour.inside.wait()
    receipts: list[Receipt] = []
    unloading = threading.Thread(target=lambda: receipts.append(host.unload("busy", deadline_seconds=60)))
    unloading.start()
    while host.hook.trade.get_hookimpls():
        pass
    assert (trade(host), receipts) == ([], [])
    harbour.go.set()
    caller.join()
    unloading.join()
    assert answers == [["tea"]]
    assert [one.state for one in receipts] == ["unloaded"]


INSIDE: Final = (
    "cannot be unloaded from inside one of its own calls. Unload it from another thread, or after the call has returned"
)


@pytest.mark.parametrize("victim", ["base", "asking"])
def test_a_plugin_cannot_unload_itself(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any, victim: str
) -> None:
    """From its own hook, not even by way of what it requires; nothing has changed then."""
    temporary_plugin("base", GOOD)
    temporary_plugin("other", GOOD, manifest='[plugin]\nrequires = ["base"]\n')
    temporary_plugin(
        "asking",
        HOOK + GOOD + "    @hookimpl\n    def trade(self, goods):\n        return harbour.host.unload(goods)\n",
        manifest='[plugin]\nrequires = ["base"]\n',
    )
    host.load_all()
    with pytest.raises(UnloadRefused) as caught:
        trade(host, victim)
    assert str(caught.value) == f"asking: {INSIDE}"
    assert states(host) == {"asking": "active", "base": "active", "other": "active"}
    del caught
    assert host.unload("base").state == "unloaded"


@pytest.mark.parametrize("start", ["threading.Thread(target=ask).start()", "context.spawn(lambda stop: ask())"])
def test_a_thread_of_a_plugin_cannot_unload_it_either(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any, start: str
) -> None:
    """Its code would still be running when the receipt says that it has gone."""
    temporary_plugin(
        "asking",
        "import threading, harbour\n"
        "def ask():\n"
        "    harbour.go.wait()\n"
        "    try:\n        harbour.host.unload('asking')\n"
        "    except Exception as error:\n        harbour.log.append(str(error))\n"
        "    harbour.inside.set()\n" + GOOD.replace("pass", start),
    )
    host.load("asking")
    harbour.go.set()
    harbour.inside.wait()
    assert harbour.log == [f"asking: {INSIDE}"]
    assert host.unload("asking").state == "unloaded"


def test_a_hook_may_unload_another_plugin_unless_that_is_to_be_called_next(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """The call that is under way has both in its list, and would come to it after its receipt."""
    temporary_plugin("trader", TRADER)
    temporary_plugin("silent", GOOD)
    temporary_plugin(
        "asking",
        HOOK + GOOD + "    @hookimpl\n    def trade(self, goods):\n        return harbour.host.unload(goods).state\n",
    )
    for name in ("trader", "silent", "asking"):  # the last loaded is called first
        host.load(name)
    with pytest.raises(UnloadRefused):
        trade(host, "trader")
    assert trade(host, "silent") == ["unloaded", "trader buys silent"]


def test_no_call_reaches_a_plugin_after_its_receipt(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Eight threads call a hook of two plugins while one of the two comes and goes 20 times, and none of them fails."""
    harbour.generation, harbour.gone, harbour.late = 0, set(), []
    temporary_plugin(
        "guest",
        HOOK
        + "class Plugin:\n    def __init__(self, context):\n        self.generation = harbour.generation\n"
        + "    @hookimpl\n    def trade(self, goods):\n"
        + "        for _ in range(3):\n"
        + "            if self.generation in harbour.gone:\n                harbour.late.append(self.generation)\n"
        + "        return 'guest'\n",
    )
    temporary_plugin("trader", TRADER)
    host.load("trader")
    stop, problems, answers = threading.Event(), [], Counter[tuple[str, ...]]()

    def hammer() -> None:
        mine = Counter[tuple[str, ...]]()
        try:
            while not stop.wait(0.0002):  # eight threads that never pause would starve the one that unloads
                mine[tuple(sorted(trade(host)))] += 1
        except BaseException as error:
            problems.append(repr(error))
        answers.update(mine)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)  # threads change places often, and the host need not queue for long
    gc.freeze()  # what others left on the heap need not be searched 20 times
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            harbour.generation += 1
            host.load("guest")
            receipt = host.unload("guest", deadline_seconds=60)
            harbour.gone.add(harbour.generation)
            assert (receipt.state, receipt.failures) == ("unloaded", ())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        gc.unfreeze()
        sys.setswitchinterval(interval)
    assert (problems, harbour.late) == ([], [])
    assert set(answers) == {("trader buys tea",), ("guest", "trader buys tea")}


# -- plugins of other hosts ----------------------------------------------------------------------------------------

FOREIGN: Final = {
    "a_class": ("class Thing:\n    def __init__(self):\n        raise RuntimeError('called')\n", "Thing"),
    "an_instance": (
        "class Kind:\n    def __call__(self, *args):\n        raise RuntimeError('called')\nthing = Kind()",
        "thing",
    ),
    "a_function": ("def thing(*args):\n    raise RuntimeError('called')\n", "thing"),
    "a_module": ("def weighbridge_activate():\n    raise RuntimeError('called')\n", ""),
    "a_number": ("thing = 42\n", "thing"),
}


@pytest.mark.parametrize(("source", "attribute"), FOREIGN.values(), ids=FOREIGN)
def test_a_plugin_of_another_host_is_weighed_and_never_called(
    temporary_plugin: TemporaryPlugin, source: str, attribute: str
) -> None:
    """Whatever its entry point names is admitted, accounted and unloaded like any other."""
    source += "CARGO = bytearray(100_000)\n" if source.endswith("\n") else "\nCARGO = bytearray(100_000)\n"
    package = temporary_plugin("foreign", source, attribute=attribute, group="acme.drivers")
    with IsolatedHost(1 << 60, group="acme.drivers") as host:
        host.allow("foreign")
        account = host.load("foreign")
        assert (account.group, account.state) == ("acme.drivers", "active")
        assert account.traced_bytes is not None
        assert account.traced_bytes > 100_000
        assert host.implemented("foreign") == ()
        assert (account.native_bytes, host.accounts().plugins) == (0, (account,))
        receipt = host.unload("foreign")
        assert (receipt.state, receipt.survivors, receipt.failures) == ("unloaded", (), ())
        assert package not in sys.modules


def test_a_foreign_plugin_that_is_too_heavy_is_not_imported(temporary_plugin: TemporaryPlugin) -> None:
    """Its host may not know of budgets; this one does."""
    from weighbridge_hookspecs import AdmissionRefused

    package = temporary_plugin("foreign", "raise RuntimeError('imported')", group="acme.drivers")
    with IsolatedHost(1, group="acme.drivers") as host:
        host.allow("foreign")
        with pytest.raises(AdmissionRefused):
            host.load("foreign")
    assert package not in sys.modules


def test_a_foreign_plugin_with_somebody_inside_stays(temporary_plugin: TemporaryPlugin, harbour: Any) -> None:
    """Whoever uses it does so without this host, so its frames are all there is to see."""
    temporary_plugin(
        "foreign",
        "import harbour\ndef work():\n    harbour.inside.set()\n    harbour.go.wait()\n",
        attribute="work",
        group="acme.drivers",
    )
    with IsolatedHost(group="acme.drivers") as host:
        host.allow("foreign")
        host.load("foreign")
        work: Callable[[], None] = sys.modules["weighbridge_foreign"].work
        caller = threading.Thread(target=lambda work=work: work(), name="caller")
        caller.start()
        harbour.inside.wait()
        with pytest.raises(UnloadTimeout, match=r"thread 'caller' at .* in work"):
            host.unload("foreign", deadline_seconds=0.01)
        harbour.go.set()
        caller.join()
        del work, caller
        gc.collect()
        assert host.unload("foreign").state == "unloaded"


# -- leaks ---------------------------------------------------------------------------------------------------------


def test_fifty_rounds_leave_nothing(weighbridge_host: IsolatedHost) -> None:
    """Threads, descriptors, handlers, loggers, modules and objects of our own types: as many as after the warm-up."""

    def rounds(count: int) -> dict[str, object]:
        for _ in range(count):
            weighbridge_host.load("lantern")
            assert weighbridge_host.unload("lantern").state == "unloaded"
        for thread in threading.enumerate():
            if thread.name == "weighbridge-timers":  # the clock ends by itself soon after its last timer
                thread.join()
        gc.collect()
        ours = Counter(
            f"{type(thing).__module__}.{type(thing).__qualname__}"
            for thing in gc.get_objects()
            if type(thing).__module__.partition(".")[0].startswith("weighbridge")
        )
        return {
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
            "handlers": len(logging._handlers),  # type: ignore[attr-defined]
            "loggers": len(logging.root.manager.loggerDict),
            "modules": len(sys.modules),
            "finders": len(sys.meta_path),
            "objects": ours,
        }

    weighbridge_host.allow("lantern")
    rounds(1)
    gc.freeze()  # what was there before need not be searched 50 times
    try:
        baseline = rounds(3)
        assert rounds(50) == baseline
    finally:
        gc.unfreeze()
