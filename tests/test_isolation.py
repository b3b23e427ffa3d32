"""Isolation: plugins that misbehave, on purpose or not, and what goes on around the host while it works."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import os
import sys
import threading
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

import pytest
from weighbridge_hookspecs import (
    AdmissionRefused,
    ConfigurationError,
    LoadFailed,
    UnloadTimeout,
    WeighbridgeError,
    hookspec,
)

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import AssertUnloadsClean, TemporaryPlugin

HOOK: Final = "from weighbridge_hookspecs import hookimpl\nimport harbour\n"
GOOD: Final = "class Plugin:\n    def __init__(self, context):\n        pass\n"
TRADER: Final = (
    HOOK
    + "class Plugin:\n    def __init__(self, context):\n        self.name = context.name\n"
    + "    @hookimpl\n    def trade(self, goods):\n        return f'{self.name} buys {goods}'\n"
)


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
def host(weighbridge_host: IsolatedHost, harbour: Any) -> Iterator[IsolatedHost]:
    weighbridge_host.add_hookspecs(Trade)
    yield weighbridge_host
    harbour.go.set()


def trade(host: IsolatedHost) -> list[str]:
    answers: list[str] = host.hook.trade(goods="tea")
    return answers


def states(host: IsolatedHost) -> dict[str, str]:
    return {one.name: one.state for one in host.plugins()}


# -- objects that lie ----------------------------------------------------------------------------------------------

LIARS: Final = {
    "is_empty": "    def __len__(self):\n        return 0\n",
    "has_no_truth": "    def __bool__(self):\n        raise RuntimeError('no truth')\n",
    "has_no_hash": "    __hash__ = None\n",
    "has_no_repr": "    def __repr__(self):\n        raise RuntimeError('no repr')\n",
    "answers_everything": "    def __getattr__(self, name):\n        return self\n",
    "has_a_hostile_class": "    __class__ = property(lambda self: harbour.kept[7])\n",
}


@pytest.mark.parametrize("lie", LIARS.values(), ids=LIARS)
def test_an_object_that_lies_comes_and_goes_like_any_other(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, lie: str
) -> None:
    """The host does not ask a plugin whether it is one; or refuses it, and nothing of it is left."""
    temporary_plugin("trader", TRADER)
    package = temporary_plugin("liar", TRADER + lie)
    host.load("trader")
    try:
        host.load("liar")
    except LoadFailed:
        assert states(host)["liar"] == "failed"
    else:
        assert trade(host) == ["liar buys tea", "trader buys tea"]
        receipt = host.unload("liar")
        assert receipt.state == "unloaded", receipt.survivors
    assert package not in sys.modules
    assert trade(host) == ["trader buys tea"]


EQUALITIES: Final = {
    "is_equal_to_everything": "    def __eq__(self, other):\n        return True\n    __hash__ = object.__hash__\n",
    "cannot_be_compared": (
        "    def __eq__(self, other):\n        raise RuntimeError('incomparable')\n    __hash__ = object.__hash__\n"
    ),
}


@pytest.mark.parametrize("order", [("liar", "trader"), ("trader", "liar")])
@pytest.mark.parametrize("lie", EQUALITIES.values(), ids=EQUALITIES)
def test_plugins_are_told_apart_by_identity(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, lie: str, order: tuple[str, str]
) -> None:
    """One that says it is equal to another does not keep that out, nor take it along when it goes."""
    temporary_plugin("trader", TRADER)
    temporary_plugin("liar", TRADER + lie)
    for name in order:
        host.load(name)
    assert sorted(trade(host)) == ["liar buys tea", "trader buys tea"]
    assert host.unload("liar").state == "unloaded"
    assert trade(host) == ["trader buys tea"]


def test_a_class_with_a_hostile_metaclass_leaves_nothing(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Whatever it raises when it is looked at: the load fails, and is undone."""
    package = temporary_plugin(
        "hostile",
        "class Meta(type):\n"
        "    def __getattribute__(cls, name):\n        raise RuntimeError(name)\n"
        "class Plugin(metaclass=Meta):\n    def __init__(self, context):\n        pass\n",
    )
    with pytest.raises(LoadFailed):
        host.load("hostile")
    assert package not in sys.modules


def test_objects_of_the_application_may_be_hostile_too(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Proxies raise, or load what they stand for, when they are asked for their class; nobody asks them."""

    class Proxy:
        def __getattribute__(self, name: str) -> Any:
            harbour.log.append(name)
            raise RuntimeError("working outside of any context")

    class Ledger(dict[str, object]):
        def items(self) -> Any:
            harbour.log.append("asked")
            raise RuntimeError("the ledger is closed")

    harbour.proxy, harbour.kept = Proxy(), Ledger()
    assert "asyncio" in sys.modules  # with it, coroutines are looked for
    temporary_plugin("trader", TRADER)
    temporary_plugin("kept", "import harbour\n" + GOOD.replace("pass", "harbour.kept['best'] = self"))
    temporary_plugin("bad", "raise RuntimeError('out of oil')")
    assert len(host.load_all().loaded) == 2
    assert host.unload("trader", dependencies=True).failures == ()
    receipt = host.unload("kept", dependencies=True)
    assert (receipt.state, receipt.failures) == ("stranded", ())
    assert harbour.log == []


def test_an_error_that_cannot_be_printed_is_a_refusal(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """A policy that raises such a thing has failed like any other, and is named."""
    temporary_plugin(
        "strict",
        HOOK
        + "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n"
        + GOOD
        + "    @hookimpl\n    def weighbridge_admit(self):\n        raise Mute\n",
    )
    temporary_plugin("trader", TRADER)
    host.load("strict")
    with pytest.raises(AdmissionRefused, match="the policy 'strict' failed"):
        host.load("trader")


# -- modules that lie ----------------------------------------------------------------------------------------------

MODULES: Final = {
    "replaces_itself_by_an_object": (
        "import sys\nclass Own:\n"
        "    def __getattr__(self, name):\n        raise RuntimeError(name)\n"
        "    def Plugin(self, context):\n        return Own()\n"
        "sys.modules[__name__] = Own()\n"
    ),
    "replaces_itself_by_a_module": (
        GOOD + "import sys, types\nclass Lazy(types.ModuleType):\n"
        "    def __getattribute__(self, name):\n"
        "        if name in ('Plugin', '__spec__'):\n            return super().__getattribute__(name)\n"
        "        raise RuntimeError(name)\n"
        "lazy = Lazy(__name__)\nlazy.Plugin = Plugin\nsys.modules[__name__] = lazy\n"
    ),
    "has_no_name": GOOD + "del __name__, __file__, __spec__, __loader__\n",
    "has_odd_names": GOOD + "__file__ = 3\n__name__ = None\nPlugin.__module__ = 7\n",
    "blocks_a_part_of_itself": GOOD + "import sys\nsys.modules[__name__ + '.part'] = None\n",
    "deletes_a_part_of_itself": GOOD + "import sys\nfrom . import part\ndel sys.modules[__name__ + '.part']\n",
    "deletes_itself_later": GOOD.replace("pass", "import sys\n        del sys.modules[__name__]"),
    "deletes_itself": GOOD + "import sys\ndel sys.modules[__name__]\n",
    "refers_to_itself": GOOD + "import sys\nme = sys.modules[__name__]\nme.me = me\nPlugin.me = me\n",
}


@pytest.mark.parametrize("source", MODULES.values(), ids=MODULES)
def test_a_module_that_lies_comes_and_goes_like_any_other(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, source: str
) -> None:
    """Or it cannot be loaded; in either case sys.modules is as it was before, and the next plugin can be loaded."""
    temporary_plugin("trader", TRADER)
    before = set(sys.modules)
    temporary_plugin("liar", {"__init__.py": source, "part.py": ""})
    report = host.load_all(["liar"])
    (outcome,) = report.loaded + report.failed
    assert "could not be undone" not in outcome.reason
    if outcome.state == "active":
        assert host.accounts().plugins
        receipt = host.unload("liar")
        assert receipt.state == "unloaded", receipt.survivors
    assert set(sys.modules) - before == set()
    host.load("trader")
    assert host.unload("trader", dependencies=True).state == "unloaded"


def test_a_plugin_that_stops_the_tracing_is_not_weighed_wrongly(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """What it weighs is unknown then, not less than nothing."""
    stop = "import tracemalloc\ntracemalloc.stop()\n"
    temporary_plugin("stops", stop + GOOD)
    temporary_plugin("restarts", stop + "tracemalloc.start()\n" + GOOD)
    for name in ("stops", "restarts"):
        account = host.load(name)
        assert account.traced_bytes is None
        assert account.held_bytes >= 0
        assert not tracemalloc.is_tracing()
        host.unload(name)


def test_a_name_may_be_anything_that_an_entry_point_allows(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Blanks, dots and letters of any language."""
    name = "très odd.name-1 [x]"
    temporary_plugin(name, TRADER, distribution="weighbridge-odd")
    host.load(name)
    assert trade(host) == [f"{name} buys tea"]
    assert host.unload(name).state == "unloaded"


# -- things that come back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("knot", ["pass", "self.me = self"])
def test_a_plugin_that_brings_itself_back_is_stranded(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any, knot: str
) -> None:
    """Its finalizer runs after the weak references were cleared, so its class has to tell that it lives."""
    temporary_plugin(
        "ghost",
        "import harbour\n" + GOOD.replace("pass", knot) + "    def __del__(self):\n        harbour.kept.append(self)\n",
    )
    host.load("ghost")
    receipt = host.unload("ghost")
    assert receipt.state == "stranded"
    assert {one.tie for one in receipt.survivors} == {"harbour.kept[0]"}
    harbour.kept.clear()
    gc.collect()
    harbour.kept.clear()
    assert host.look_again() == ("ghost",)


def test_a_finalizer_that_does_no_harm_does_no_harm(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """It runs, and the plugin is gone."""
    temporary_plugin("tidy", GOOD + "    def __del__(self):\n        self.gone = True\n")
    host.load("tidy")
    assert host.unload("tidy").state == "unloaded"


def test_a_finder_that_a_plugin_left_goes_with_it(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on importing modules in the plugin's way."""
    before = list(sys.meta_path)
    monkeypatch.setattr(sys, "meta_path", list(before))
    temporary_plugin(
        "finder",
        "import sys\nclass Finder:\n    def find_spec(self, *args):\n        return None\n"
        "sys.meta_path.append(Finder())\n" + GOOD,
    )
    host.load("finder")
    receipt = host.unload("finder")
    assert receipt.state == "unloaded"
    assert sys.meta_path == before


def test_an_error_that_the_application_kept_loses_its_frames(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Its traceback has the frames of the plugin, and with them the plugin; what it says stays."""
    temporary_plugin("raising", TRADER.replace("return", "raise RuntimeError(self.name) #"))
    host.load("raising")
    with pytest.raises(RuntimeError) as caught:
        trade(host)
    harbour.kept.append(caught.value)
    del caught
    receipt = host.unload("raising")
    assert (receipt.state, [one.tie for one in receipt.ties]) == ("unloaded", ["traceback"])
    assert str(harbour.kept[0]) == "raising"


def test_a_coroutine_that_is_under_way_is_waited_for(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It is on no thread's stack while it waits."""
    package = temporary_plugin(
        "waiting",
        TRADER.replace("return", "return wait(goods) #") + "async def wait(event):\n    await event.wait()\n",
    )
    host.load("waiting")
    file = sys.modules[package].__file__

    async def work() -> str:
        event = asyncio.Event()
        (coroutine,) = host.hook.trade(goods=event)
        task = asyncio.create_task(coroutine)
        del coroutine
        await asyncio.sleep(0)
        try:
            host.unload("waiting", deadline_seconds=0.01)
        except UnloadTimeout as error:
            return error.inside[0]
        finally:
            event.set()
            await task
        return ""

    assert asyncio.run(work()) == f"coroutine wait at {file}:10 in wait"
    gc.collect()
    assert host.unload("waiting").state == "unloaded"


# -- two hosts -----------------------------------------------------------------------------------------------------


def test_two_hosts_may_have_the_same_plugin(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """The second one finds its module there; the first cannot prove that it is gone before the second lets go."""
    temporary_plugin("trader", TRADER)
    with IsolatedHost() as other:
        other.allow("trader")
        other.add_hookspecs(Trade)
        host.load("trader")
        other.load("trader")
        receipt = host.unload("trader")
        assert receipt.state == "stranded"
        assert (trade(host), trade(other)) == ([], ["trader buys tea"])
        assert host.look_again() == ()
        assert other.unload("trader").state == "unloaded"
    assert host.look_again() == ("trader",)


def test_two_hosts_may_load_at_once(temporary_plugin: TemporaryPlugin, harbour: Any) -> None:
    """Each has its own plugin, its own modules and its own account; what could not be weighed is unknown."""
    start, harbour.meeting = threading.Barrier(2), threading.Barrier(2)
    for name in ("a", "b"):
        files = {"__init__.py": "from . import part\n" + GOOD, "part.py": "import harbour\nharbour.meeting.wait()\n"}
        temporary_plugin(name, files)
    accounts: dict[str, Any] = {}
    hosts = {name: IsolatedHost() for name in ("a", "b")}

    def load(name: str) -> None:
        hosts[name].allow(name)
        start.wait()  # a thread that begins during a load is taken for the plugin's
        accounts[name] = hosts[name].load(name)

    threads = [threading.Thread(target=load, args=(name,)) for name in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: account.modules for name, account in accounts.items()} == {"a": 2, "b": 2}
    assert all(one.traced_bytes is None or 0 < one.traced_bytes < 1 << 20 for one in accounts.values())
    assert not tracemalloc.is_tracing()
    for name, host in hosts.items():
        receipt = host.unload(name)
        assert (receipt.state, receipt.modules_dropped) == ("unloaded", 2)
        host.close()


# -- other threads -------------------------------------------------------------------------------------------------


def test_an_import_of_another_thread_is_not_disturbed(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes from finder to finder while a load ends, and comes to its module all the same, which is nobody's."""
    (tmp_path / "elsewhere.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    temporary_plugin("slow", "import harbour\nharbour.inside.set()\nharbour.go.wait()\n" + GOOD)
    host.discover()
    paused, resume = threading.Event(), threading.Event()
    found: list[object] = []

    def pause(frame: FrameType, event: str, argument: object) -> Any:
        """When the finder before the one that knows the module has been asked."""
        bootstrap = frame.f_code.co_filename == "<frozen importlib._bootstrap>"
        asked = frame.f_back.f_locals.get("finder") if frame.f_back and frame.f_code.co_name == "__exit__" else None
        if bootstrap and event == "return" and getattr(asked, "__name__", "") == "FrozenImporter":
            paused.set()
            resume.wait()
        return pause

    def look() -> None:
        harbour.inside.wait()
        sys.settrace(pause)
        try:
            found.append(importlib.import_module("elsewhere").__name__)
        except ImportError as error:
            found.append(str(error))
        finally:
            sys.settrace(None)

    loading = threading.Thread(target=host.load, args=("slow",))
    looking = threading.Thread(target=look)
    looking.start()  # before the load, or it would be taken for a thread of the plugin's
    loading.start()
    paused.wait()
    harbour.go.set()
    loading.join()
    resume.set()
    looking.join()
    sys.modules.pop("elsewhere", None)
    assert found == ["elsewhere"]
    assert host.account("slow").modules == 1


def test_accounts_can_be_drawn_while_a_plugin_is_loaded(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """A thread that is in the middle of the books meets modules that were not there when it began."""
    for name in ("first", "second"):
        temporary_plugin(name, {"__init__.py": "from . import a, b, c\n" + GOOD, "a.py": "", "b.py": "", "c.py": ""})
    host.load("first")
    paused, resume, problems = threading.Event(), threading.Event(), []
    books = importlib.util.find_spec("weighbridge.accounting.modules")
    assert books is not None

    def pause(frame: FrameType, event: str, argument: object) -> Any:
        """In the books, at the third line of any loop, once."""
        if frame.f_code.co_filename != books.origin:
            return pause
        frame.f_trace_lines = True
        seen[frame.f_code] = seen.get(frame.f_code, 0) + 1
        if seen[frame.f_code] == 6 and not paused.is_set():
            paused.set()
            resume.wait()
        return pause

    seen: dict[object, int] = {}

    def draw() -> None:
        sys.settrace(pause)
        try:
            host.accounts()
        except Exception:
            problems.append(traceback.format_exc())
        finally:
            sys.settrace(None)
            paused.set()

    drawing = threading.Thread(target=draw)
    drawing.start()
    paused.wait()
    host.load("second")
    resume.set()
    drawing.join()
    assert problems == []


def test_a_report_that_is_about_to_be_asked_for_is_waited_for(temporary_plugin: TemporaryPlugin, harbour: Any) -> None:
    """A thread that draws accounts has the call in its hand; it must not reach the plugin after its receipt."""
    temporary_plugin(
        "reporting",
        HOOK + GOOD + "    @hookimpl\n    def weighbridge_report_memory(self):\n"
        "        harbour.log.append('called')\n        return 0\n",
    )
    host = IsolatedHost(explain_seconds=0.01)
    host.allow("reporting")
    host.load("reporting")
    paused, resume = threading.Event(), threading.Event()
    hooks = importlib.util.find_spec("weighbridge.hooks")
    assert hooks is not None

    def pause(frame: FrameType, event: str, argument: object) -> None:
        """When the call was made ready, just before it is made."""
        if event == "return" and frame.f_code.co_filename == hooks.origin and frame.f_code.co_name == "bound":
            paused.set()
            resume.wait()

    def draw() -> None:
        sys.setprofile(pause)
        try:
            host.accounts()
        finally:
            sys.setprofile(None)
            paused.set()

    drawing = threading.Thread(target=draw)
    drawing.start()
    paused.wait()
    harbour.log.clear()
    gone = False
    try:
        host.unload("reporting", deadline_seconds=0.01)
        gone = True
    except UnloadTimeout:
        pass
    resume.set()
    drawing.join()
    host.close()
    assert not (gone and harbour.log)


def test_an_unload_does_not_break_what_another_thread_is_building(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """A tuple that is not finished is on the collector's books, and cannot grow while a walk over the heap holds it.

    https://github.com/python/cpython/issues/59313
    """
    temporary_plugin("trader", TRADER)
    host.load("trader")
    started, resume = threading.Event(), threading.Event()
    built: list[object] = []

    def slowly() -> Iterator[int]:
        for number in range(100):
            if number == 20:
                started.set()
                resume.wait()
            yield number

    def build() -> None:
        try:
            built.append(len(tuple(slowly())))
        except SystemError as error:
            built.append(error)

    building = threading.Thread(target=build)
    building.start()
    started.wait()

    walks: list[FrameType] = []

    def let_it_go_on(frame: FrameType, event: str, argument: object) -> None:
        """In the middle of the walk over all objects, when it calls something for one of them."""
        if event == "c_return" and argument is gc.get_objects:
            walks.append(frame)
        elif event == "c_call" and frame in walks and not resume.is_set():
            resume.set()
            building.join()

    sys.setprofile(let_it_go_on)
    try:
        host.unload("trader")
    finally:
        sys.setprofile(None)
        resume.set()
        building.join()
        walks.clear()
    assert built == [100]


# -- forks ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_has_a_host_of_its_own(weighbridge_host: IsolatedHost) -> None:
    """Its threads did not come along; accounts are drawn of the child, and unloading works in both."""
    weighbridge_host.allow("lantern")
    weighbridge_host.load("lantern")
    usage = weighbridge_host.accounts().usage_bytes

    def in_the_child() -> list[str]:
        ballast = b"x" * (64 << 20)
        grown = weighbridge_host.accounts().usage_bytes - usage
        states = [weighbridge_host.unload("lantern").state, weighbridge_host.load("lantern").state]
        return [*states, "grown" if grown > len(ballast) // 2 else f"grown by {grown}"]

    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, about forks of processes with threads
        child = os.fork()
    if not child:
        try:
            message = " ".join(in_the_child())
        except BaseException:
            message = traceback.format_exc()
        os.write(writing, message.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "unloaded active grown"
    os.waitpid(child, 0)
    assert weighbridge_host.unload("lantern").state == "unloaded"


# -- the fixtures for authors --------------------------------------------------------------------------------------


def test_a_test_does_not_find_what_happens_to_be_installed(weighbridge_host: IsolatedHost) -> None:
    """Not even the lantern, which is; the error says what to do."""
    assert importlib.util.find_spec("weighbridge_lantern") is not None
    with pytest.raises(ConfigurationError) as caught:
        weighbridge_host.load("lantern")
    assert str(caught.value) == (
        "this host does not take what happens to be installed. "
        "Name what the test is about: weighbridge_host.allow('name'), or make it with temporary_plugin"
    )
    weighbridge_host.allow("lantern")
    assert weighbridge_host.load("lantern").state == "active"


def test_a_temporary_plugin_is_found_without_being_allowed(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """And is a real distribution, with a manifest if there is one."""
    package = temporary_plugin("mine", GOOD, manifest='[plugin]\nsummary = "Mine"\n', version="7.0")
    candidate = weighbridge_host.candidate("mine")
    assert candidate.manifest is not None
    assert (candidate.version, candidate.manifest.summary) == ("7.0", "Mine")
    assert weighbridge_host.load("mine").plugin == "mine"
    assert package in sys.modules


def test_the_lantern_unloads_clean(assert_unloads_clean: AssertUnloadsClean) -> None:
    """As its author would test it; the receipt is there to look at."""
    receipt = assert_unloads_clean("lantern")
    assert (receipt.state, receipt.survivors) == ("unloaded", ())


def failure(check: Callable[[], object]) -> str:
    """What an assertion says."""
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value).partition("\nassert ")[0]


def test_a_planted_leak_is_found_with_names(
    assert_unloads_clean: AssertUnloadsClean, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Each survivor, and the way by which it is held."""
    package = temporary_plugin("leaky", "import harbour\n" + GOOD.replace("pass", "harbour.kept.append(self)"))
    said = failure(lambda: assert_unloads_clean("leaky"))
    assert said.splitlines()[0].startswith("leaky: 3 of 4 outlived the plugin:")
    assert f"plugin {package}.Plugin <- harbour.kept[0] <- module harbour" in map(str.strip, said.splitlines())


def test_an_unload_that_goes_wrong_is_no_clean_one(
    assert_unloads_clean: AssertUnloadsClean, temporary_plugin: TemporaryPlugin
) -> None:
    """Although nothing is left of the plugin."""
    temporary_plugin(
        "sulking",
        "from weighbridge_hookspecs import hookimpl\n"
        + GOOD
        + "    @hookimpl\n    def weighbridge_deactivate(self):\n        raise OSError('I will not go')\n",
    )
    said = failure(lambda: assert_unloads_clean("sulking"))
    assert said == "sulking: unloading went wrong: deactivate: OSError: I will not go"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open descriptors cannot be listed here")
def test_descriptors_and_threads_that_grow_are_found(
    assert_unloads_clean: AssertUnloadsClean, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """They are no objects of the plugin's, so no receipt would tell."""
    harbour.open = lambda: harbour.kept.append(os.open(os.devnull, os.O_RDONLY))
    temporary_plugin("leaky", "import harbour\n" + GOOD.replace("pass", "harbour.open()"))
    said = failure(lambda: assert_unloads_clean("leaky", rounds=4))
    assert said.startswith("leaky: after 4 rounds there are more of: descriptors ")
    for descriptor in harbour.kept:
        os.close(descriptor)

    def begin() -> None:
        thread = threading.Thread(target=harbour.go.wait)
        thread.start()
        harbour.kept.append(thread)

    harbour.kept, harbour.begin = [], begin
    temporary_plugin("busy", "import harbour\n" + GOOD.replace("pass", "harbour.begin()"))
    said = failure(lambda: assert_unloads_clean("busy", rounds=4))
    harbour.go.set()
    for thread in harbour.kept:
        thread.join()
    assert said.startswith("busy: after 4 rounds there are more of: threads ")


def test_a_problem_with_a_plugin_is_an_error_and_no_failure(assert_unloads_clean: AssertUnloadsClean) -> None:
    """A test of a plugin that is not there says so."""
    with pytest.raises(WeighbridgeError, match="no plugin is called 'absent'"):
        assert_unloads_clean("absent")


def test_the_module_of_a_temporary_plugin_is_a_module(temporary_plugin: TemporaryPlugin) -> None:
    """It can be imported by the test itself, too, and is gone after it."""
    package = temporary_plugin("mine", "ANSWER = 42\n", attribute="")
    module = importlib.import_module(package)
    assert isinstance(module, ModuleType)
    assert module.ANSWER == 42
