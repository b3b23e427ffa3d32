"""Bad input: what the host says, word for word, and a process that is as it was before."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pickle
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import attrs
import pytest
from weighbridge_hookspecs import (
    AlreadyLoaded,
    ConfigurationError,
    ConflictingPlugin,
    DependencyCycle,
    DuplicateName,
    LoadFailed,
    ManifestError,
    MissingRequirement,
    NotLoaded,
    PluginBlocked,
    PluginIncompatible,
    UnknownPlugin,
    WeighbridgeError,
    hookimpl,
)

from weighbridge import Host, Weights
from weighbridge.fabricate import write_distribution
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

GOOD: Final = """\
class Plugin:
    def __init__(self, context):
        pass
"""

# -- the process as it was before ----------------------------------------------------------------------------------


@attrs.frozen
class Traces:
    """Where a plugin could leave something behind."""

    modules: frozenset[str]
    """Without the standard library's: Python itself imports some to print a traceback."""
    finders: tuple[int, ...]
    path: tuple[str, ...]
    threads: frozenset[str]
    descriptors: int
    hooks: Mapping[str, tuple[str, ...]]
    accounts: tuple[str, ...]
    capabilities: tuple[str, ...]
    timers: int


def traces(host: Host) -> Traces:
    statement, schedule = host.accounts(), host.statistics().services.schedule
    return Traces(
        modules=frozenset(name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names),
        finders=tuple(map(id, sys.meta_path)),
        path=tuple(sys.path),
        threads=frozenset(thread.name for thread in threading.enumerate()),
        descriptors=len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        hooks={
            hook: names
            for hook, caller in vars(host.hook).items()
            if (names := tuple(impl.plugin_name for impl in caller.get_hookimpls()))
        },
        accounts=tuple(account.plugin for account in statement.plugins),
        capabilities=tuple(one.name for one in host.capabilities.describe()),
        timers=schedule.timers + schedule.threads,
    )


@contextmanager
def nothing_changes(host: Host) -> Iterator[None]:
    before = traces(host)
    yield
    gc.collect()
    assert traces(host) == before


@pytest.fixture(autouse=True, scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have the host import what it imports on first use, which is no residue."""
    site = tmp_path_factory.mktemp("warm")
    write_distribution(site, "warm", "raise RuntimeError")
    with pytest.MonkeyPatch.context() as patch, Host(path=[str(site)], weights=Weights(site)) as host:
        patch.syspath_prepend(str(site))
        with pytest.raises(LoadFailed):
            host.load("warm")
        with pytest.raises(UnknownPlugin):
            host.load("warn")


def refusal(host: Host, call: Callable[..., object], *arguments: Any, **options: Any) -> WeighbridgeError:
    """What a call raises; it leaves no trace."""
    with nothing_changes(host), pytest.raises(WeighbridgeError) as caught:
        call(*arguments, **options)
    return caught.value


# -- settings of the host ------------------------------------------------------------------------------------------

SIZE: Final = "a whole number of bytes, or a number with B, KiB, MiB, GiB, kB, MB or GB, such as '64 MiB'"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ceiling": 0}, "the ceiling makes no sense: 0 leaves no room for anything"),
        ({"ceiling": "0 MiB"}, "the ceiling makes no sense: 0 leaves no room for anything"),
        ({"ceiling": -1}, "the ceiling makes no sense: -1 is below 0"),
        ({"ceiling": "12 parsecs"}, f"the ceiling makes no sense: '12 parsecs' is not a size: give {SIZE}"),
        ({"ceiling": True}, f"the ceiling makes no sense: True is not a size: give {SIZE}"),
        ({"meter": "sundial"}, "no meter is called 'sundial'. Take one of: process, gate, trace"),
        ({"disabled": "lantern"}, "disabled makes no sense: 'lantern' is a text. Give a list: ['lantern']"),
        ({"fail_open": "quota"}, "fail_open makes no sense: 'quota' is a text. Give a list: ['quota']"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    """The host is not made, and the message says what would be right."""
    threads = threading.active_count()
    with pytest.raises(ConfigurationError) as caught:
        Host(**settings)
    assert str(caught.value) == message
    assert threading.active_count() == threads


def test_a_ceiling_from_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's typing mistake does not leave the process without a ceiling."""
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "much")
    with pytest.raises(ConfigurationError) as caught:
        Host()
    assert str(caught.value) == f"the ceiling makes no sense: 'much' is not a size: give {SIZE}"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere on Unix."""
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "")
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", "")
    with Host() as host:
        assert host.ceiling_bytes is None


# -- plugins that fail while they are loaded -----------------------------------------------------------------------

HOOK: Final = "from weighbridge_hookspecs import hookimpl\n"

FAILING: Final = {
    "raises": (
        "raise RuntimeError('out of oil')",
        "import",
        "importing weighbridge_bad:Plugin failed: RuntimeError: out of oil",
    ),
    "exits": (
        "import sys\nsys.exit(3)",
        "import",
        "importing weighbridge_bad:Plugin failed: it called sys.exit(3)",
    ),
    "is_no_python": (
        "def",
        "import",
        "importing weighbridge_bad:Plugin failed: SyntaxError: invalid syntax (__init__.py, line 1)",
    ),
    "needs_what_is_not_there": (
        "import weighbridge_absent",
        "import",
        "importing weighbridge_bad:Plugin failed: ModuleNotFoundError: No module named 'weighbridge_absent'",
    ),
    "cannot_say_what_is_wrong": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute",
        "import",
        "importing weighbridge_bad:Plugin failed: Mute: <no text: asking for it raised>",
    ),
    "lacks_the_attribute": (
        "",
        "import",
        "importing weighbridge_bad:Plugin failed: AttributeError: module 'weighbridge_bad' has no attribute 'Plugin'",
    ),
    "names_a_number": (
        "Plugin = 42",
        "construct",
        "constructing weighbridge_bad:Plugin failed: TypeError: weighbridge_bad:Plugin is neither a module nor "
        "callable, but int",
    ),
    "cannot_be_constructed": (
        "def Plugin(context):\n    raise LookupError('no wick')",
        "construct",
        "constructing weighbridge_bad:Plugin failed: LookupError: no wick",
    ),
    "leaves_after_it_took_leases": (
        "def Plugin(context):\n"
        "    context.every(0.001, list)\n"
        "    context.spawn(lambda stop: stop.wait())\n"
        "    context.charge(4096, 'arena')\n"
        "    raise LookupError('no wick')",
        "construct",
        "constructing weighbridge_bad:Plugin failed: LookupError: no wick",
    ),
    "takes_no_context": (
        "class Plugin:\n    pass",
        "construct",
        "constructing weighbridge_bad:Plugin failed: TypeError: Plugin() takes no arguments",
    ),
    "gives_nothing": (
        "def Plugin(context):\n    return None",
        "construct",
        "constructing weighbridge_bad:Plugin failed: TypeError: weighbridge_bad:Plugin gave None; "
        "it has to give the plugin object",
    ),
    "does_not_fit_the_hook": (
        HOOK + GOOD + "    @hookimpl\n    def weighbridge_deactivate(self, why):\n        pass",
        "register",
        "registering weighbridge_bad:Plugin failed: cannot be registered: Plugin 'bad' for hook "
        "'weighbridge_deactivate'; hookimpl definition: weighbridge_deactivate(why); Argument(s) {'why'} are declared "
        "in the hookimpl but can not be found in the hookspec",
    ),
    "wraps_a_hook": (
        HOOK + GOOD + "    @hookimpl(wrapper=True)\n    def weighbridge_activate(self):\n        return (yield)",
        "register",
        "registering weighbridge_bad:Plugin failed: weighbridge_activate is implemented as a wrapper, and the host "
        "calls that hook one plugin at a time. Implement it as a plain hook",
    ),
    "cannot_be_activated": (
        HOOK + GOOD + "    @hookimpl\n    def weighbridge_activate(self):\n        raise OSError('too dark')",
        "activate",
        "activating weighbridge_bad:Plugin failed: OSError: too dark",
    ),
    "leaves_after_it_provided_something": (
        HOOK
        + GOOD
        + "    @hookimpl\n    def weighbridge_capabilities(self, registry):\n"
        + "        registry.register('light', self, evidence='it shines')\n"
        + "    @hookimpl\n    def weighbridge_activate(self):\n        raise OSError('too dark')",
        "activate",
        "activating weighbridge_bad:Plugin failed: OSError: too dark",
    ),
    "scales_with_nothing": (
        HOOK + GOOD + "    @hookimpl\n    def weighbridge_scalable(self):\n        return 'very'",
        "activate",
        "activating weighbridge_bad:Plugin failed: TypeError: weighbridge_scalable gave str, "
        "which is no ScalableSubsystem",
    ),
}


@pytest.mark.parametrize(("source", "step", "message"), FAILING.values(), ids=FAILING)
def test_a_plugin_that_fails_leaves_nothing_behind(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, source: str, step: str, message: str
) -> None:
    """The error says which step failed and why, as text; all that was done is undone."""
    temporary_plugin("bad", source)
    error = refusal(weighbridge_host, weighbridge_host.load, "bad")
    assert str(error) == f"bad: {message}"
    assert isinstance(error, LoadFailed)
    assert (error.plugin, error.step, error.residue) == ("bad", step, ())
    assert message.endswith(f"failed: {error.cause}")
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert [(one.name, one.state, one.reason) for one in weighbridge_host.plugins()] == [("bad", "failed", message)]


HANGS: Final = (
    "import atexit, logging\nclass Handler(logging.Handler):\n    pass\n"
    "logging.getLogger('harbour').addHandler(Handler())\n"
    "@atexit.register\ndef leave():\n    print('never called')\n"
)
HANGING: Final = {
    "at_its_import": HANGS + "raise OSError('too dark')",
    "in_its_constructor": HANGS + "class Plugin:\n    def __init__(self, context):\n        raise OSError('too dark')",
}


@pytest.mark.parametrize("source", HANGING.values(), ids=HANGING)
def test_what_a_plugin_hung_on_the_process_before_it_failed_is_taken_down(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, source: str
) -> None:
    """Ties are cut as at an unload; what others hung there stays."""
    ours, logger = logging.NullHandler(), logging.getLogger("harbour")
    logger.addHandler(ours)
    try:
        temporary_plugin("bad", source)
        error = refusal(weighbridge_host, weighbridge_host.load, "bad")
        assert isinstance(error, LoadFailed)
        assert error.residue == ()
        assert logger.handlers == [ours]
        functions = [one for one in gc.get_objects() if type(one) is FunctionType]
        assert [one for one in functions if one.__module__ == "weighbridge_bad"] == []
    finally:
        logger.handlers.clear()


def test_a_module_that_is_missing_is_named(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """The entry point promises a package that is not there."""
    package = temporary_plugin("bad", GOOD)
    shutil.rmtree(_site(package) / package)
    importlib.invalidate_caches()
    error = refusal(weighbridge_host, weighbridge_host.load, "bad")
    message = "importing weighbridge_bad:Plugin failed: ModuleNotFoundError: No module named 'weighbridge_bad'"
    assert str(error) == f"bad: {message}"


def test_a_plugin_that_was_mended_can_be_loaded(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A failure is no verdict for ever."""
    temporary_plugin("bad", "raise RuntimeError")
    refusal(weighbridge_host, weighbridge_host.load, "bad")
    temporary_plugin("bad", GOOD)
    assert weighbridge_host.load("bad").state == "active"


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application's own module, which plugins can import."""
    module = ModuleType("harbour")
    monkeypatch.setitem(sys.modules, "harbour", module)
    return module


@pytest.fixture
def plain_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python passes over a SystemExit that ends a thread; pytest reports it."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


@pytest.mark.usefixtures("plain_threads")
def test_a_thread_that_outlives_its_module_is_stopped(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The module died at its import and is not in sys.modules, but its thread runs on in Python."""
    temporary_plugin(
        "bad",
        "import threading\n"
        "def spin():\n    while True:\n        pass\n"
        "threading.Thread(target=spin, name='spinner', daemon=True).start()\n"
        "raise RuntimeError('out of oil')",
    )
    error = refusal(weighbridge_host, weighbridge_host.load, "bad")
    assert str(error) == "bad: importing weighbridge_bad:Plugin failed: RuntimeError: out of oil"


@pytest.mark.usefixtures("plain_threads")
def test_a_thread_that_cannot_be_stopped_is_named(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It sleeps in C, where no exception reaches it; as soon as it wakes up it ends."""
    harbour.dawn = threading.Event()
    temporary_plugin(
        "bad",
        "import threading\n"
        "from harbour import dawn\n"
        "def sleep():\n    dawn.wait()\n    while True:\n        pass\n"
        "threading.Thread(target=sleep, name='sleeper', daemon=True).start()\n"
        "raise RuntimeError('out of oil')",
    )
    with nothing_changes(weighbridge_host):
        with pytest.raises(LoadFailed) as caught:
            weighbridge_host.load("bad")
        sleeper = next(thread for thread in threading.enumerate() if thread.name == "sleeper")
        harbour.dawn.set()
        sleeper.join()
    assert str(caught.value) == (
        "bad: importing weighbridge_bad:Plugin failed: RuntimeError: out of oil; "
        "could not be undone: thread 'sleeper' still runs"
    )
    assert caught.value.residue == ("thread 'sleeper' still runs",)


def test_a_thread_of_the_application_is_left_alone(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Threads that ran before a load that fails are none of its business, even of a plugin of the same package."""
    harbour.dawn, harbour.up = threading.Event(), threading.Event()
    files = {
        "__init__.py": "",
        "one.py": "import threading\nfrom harbour import dawn, up\n"
        "def watch():\n    up.set()\n    while not dawn.wait(0.001):\n        pass\n"
        "def Plugin(context):\n    threading.Thread(target=watch, name='watchman').start()\n    return object()",
        "two.py": "raise RuntimeError('out of oil')",
    }
    temporary_plugin("one", files, package="weighbridge_pair", attribute="", distribution="weighbridge-one")
    package = temporary_plugin("two", files, package="weighbridge_pair", distribution="weighbridge-two")
    _point_to(package, "one", "weighbridge_pair.one:Plugin")
    _point_to(package, "two", "weighbridge_pair.two:Plugin")
    weighbridge_host.load("one")
    harbour.up.wait()
    refusal(weighbridge_host, weighbridge_host.load, "two")
    assert "watchman" in {thread.name for thread in threading.enumerate()}
    harbour.dawn.set()
    weighbridge_host.unload("one")


def _point_to(package: str, name: str, value: str) -> None:
    """Have an entry point name something else than the package."""
    entry_points = _site(package) / f"weighbridge_{name}-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text(f"[weighbridge]\n{name} = {value}\n")


def _site(package: str) -> Path:
    """Where a package was installed."""
    return Path(next(entry for entry in sys.path if os.path.isdir(os.path.join(entry, package))))


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "harbour.Quit"])
def test_ctrl_c_passes_through_and_everything_is_undone(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any, raised: str
) -> None:
    """It is the user's wish and no fault of the plugin; the same goes for other exits that are no Exception."""
    harbour.Quit = type("Quit", (BaseException,), {})
    temporary_plugin("bad", f"import harbour\ndef Plugin(context):\n    context.every(1, list)\n    raise {raised}")
    with nothing_changes(weighbridge_host), pytest.raises((KeyboardInterrupt, harbour.Quit)):
        weighbridge_host.load("bad")
    assert [(one.state, one.reason) for one in weighbridge_host.plugins()] == [("failed", "interrupted")]


def test_ctrl_c_of_an_import_passes_through(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A long import is what people interrupt."""
    temporary_plugin("bad", {"__init__.py": "from . import part", "part.py": "raise KeyboardInterrupt"})
    with nothing_changes(weighbridge_host), pytest.raises(KeyboardInterrupt):
        weighbridge_host.load("bad")


# -- plugins that use the application's host -----------------------------------------------------------------------

OUTER: Final = "from harbour import host\ndef Plugin(context):\n    host.load('inner')\n    return object()"
SWALLOWING: Final = (
    "from harbour import host\n"
    "def Plugin(context):\n"
    "    try:\n        host.load('inner')\n    except Exception:\n        pass\n"
    "    return object()"
)


def test_a_plugin_cannot_load_another_one(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It says so in its manifest instead, and the error says how."""
    harbour.host = weighbridge_host
    temporary_plugin("outer", OUTER)
    temporary_plugin("inner", GOOD)
    error = refusal(weighbridge_host, weighbridge_host.load, "outer")
    assert str(error) == (
        "outer: constructing weighbridge_outer:Plugin failed: inner: cannot be loaded while 'outer' is being loaded. "
        "Let the manifest of outer say requires = ['inner']"
    )
    assert [(one.name, one.state) for one in weighbridge_host.plugins()] == [
        ("inner", "discovered"),
        ("outer", "failed"),
    ]


def test_a_plugin_that_swallows_the_refusal_is_loaded_alone(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """The nested load did not happen, and did no harm."""
    harbour.host = weighbridge_host
    temporary_plugin("outer", SWALLOWING)
    temporary_plugin("inner", GOOD)
    assert weighbridge_host.load("outer").state == "active"
    assert "weighbridge_inner" not in sys.modules
    assert weighbridge_host.load("inner").state == "active"


def test_a_plugin_cannot_unload_another_one_while_it_is_loaded(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """One load or unload at a time; there is no advice, for no manifest can say that."""
    harbour.host = weighbridge_host
    temporary_plugin("outer", OUTER.replace("load", "unload"))
    temporary_plugin("inner", GOOD)
    weighbridge_host.load("inner")
    error = refusal(weighbridge_host, weighbridge_host.load, "outer")
    assert str(error) == (
        "outer: constructing weighbridge_outer:Plugin failed: inner: cannot be unloaded while 'outer' is being loaded"
    )


# -- names, and what is the matter with them -----------------------------------------------------------------------


def test_loading_twice_is_refused(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """The plugin that is there goes on."""
    temporary_plugin("good", GOOD)
    weighbridge_host.load("good")
    error = refusal(weighbridge_host, weighbridge_host.load, "good")
    assert isinstance(error, AlreadyLoaded)
    assert str(error) == "good: is loaded already. Reload it to see changes"


def test_unloading_twice_is_refused(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """And so is unloading, reloading or asking for the account of what was never loaded."""
    temporary_plugin("good", GOOD)
    error = refusal(weighbridge_host, weighbridge_host.unload, "good")
    assert isinstance(error, NotLoaded)
    assert str(error) == "good: is not loaded (it is discovered)"
    weighbridge_host.load("good")
    weighbridge_host.unload("good")
    for call in (weighbridge_host.unload, weighbridge_host.reload, weighbridge_host.account):
        error = refusal(weighbridge_host, call, "good")
        assert isinstance(error, NotLoaded)
        assert str(error) == "good: is not loaded (it is unloaded)"


@pytest.mark.parametrize("verb", ["load", "unload", "reload", "account", "ask", "candidate"])
def test_of_an_unknown_name_the_nearest_is_suggested(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, verb: str
) -> None:
    """Whatever was asked for."""
    temporary_plugin("lamplight", GOOD)
    error = refusal(weighbridge_host, getattr(weighbridge_host, verb), "lampligth")
    assert isinstance(error, UnknownPlugin)
    assert str(error) == "no plugin is called 'lampligth' in the group 'weighbridge'; did you mean 'lamplight'?"


def test_where_nothing_is_installed_the_error_says_so(tmp_path: Path) -> None:
    """A wrong environment is a more likely cause than a wrong name."""
    with Host(path=[str(tmp_path)]) as host:
        error = refusal(host, host.load, "lamplight")
        message = "no plugin is called 'lamplight' in the group 'weighbridge'. None is installed at all"
        assert str(error) == message


def test_a_plugin_for_another_contract_is_not_imported(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Its manifest says for which version it was written."""
    temporary_plugin("old", "raise RuntimeError('imported')", manifest="[plugin]\napi = 2\n")
    error = refusal(weighbridge_host, weighbridge_host.load, "old")
    assert isinstance(error, PluginIncompatible)
    assert str(error) == (
        "old: written for version 2 of the contract; this host has version 1. Install a matching version"
    )


@pytest.mark.parametrize(
    ("disabled", "variable", "pattern"),
    [(["good"], "", "good"), (["g*"], "", "g*"), ([], "other, g??d", "g??d")],
)
def test_a_plugin_that_the_operator_disabled_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disabled: list[str], variable: str, pattern: str
) -> None:
    """By name, by glob, or by the environment; the error names the pattern."""
    write_distribution(tmp_path, "good", "raise RuntimeError('imported')")
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", variable)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Host(path=[str(tmp_path)], disabled=disabled) as host:
        error = refusal(host, host.load, "good")
        assert isinstance(error, PluginBlocked)
        assert str(error) == f"good: is disabled by {pattern!r}"
        assert [(one.state, one.reason) for one in host.plugins()] == [("blocked", f"disabled by {pattern!r}")]


def test_what_a_plugin_requires_is_not_loaded_for_one_that_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is imported for the sake of a plugin that could not come in anyway."""
    write_distribution(tmp_path, "base", "raise RuntimeError('imported')")
    write_distribution(tmp_path, "top", GOOD, manifest='[plugin]\nrequires = ["base"]\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with Host(path=[str(tmp_path)], disabled=["top"]) as host:
        error = refusal(host, host.load, "top")
        assert str(error) == "top: is disabled by 'top'"


# -- dependencies --------------------------------------------------------------------------------------------------


def test_a_requirement_that_is_not_installed_is_named(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Nothing of the plugin is imported."""
    temporary_plugin("top", "raise RuntimeError('imported')", manifest='[plugin]\nrequires = ["base"]\n')
    error = refusal(weighbridge_host, weighbridge_host.load, "top")
    assert isinstance(error, MissingRequirement)
    assert str(error) == (
        "top: requires 'base', which is not installed. Install what offers 'base', or correct plugin.requires"
    )


def test_a_requirement_that_fails_is_the_reason(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """With all that is known about its failure."""
    temporary_plugin("base", "raise RuntimeError('out of oil')")
    temporary_plugin("top", "raise RuntimeError('imported')", manifest='[plugin]\nrequires = ["base"]\n')
    error = refusal(weighbridge_host, weighbridge_host.load, "top")
    assert isinstance(error, MissingRequirement)
    assert str(error) == (
        "top: requires 'base', which could not be loaded: base: importing weighbridge_base:Plugin failed: "
        "RuntimeError: out of oil"
    )
    assert [(one.name, one.state) for one in weighbridge_host.plugins()] == [
        ("base", "failed"),
        ("top", "unresolved"),
    ]


def test_a_ring_is_printed(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """All the way round, so that one can see where to cut it."""
    temporary_plugin("a", GOOD, manifest='[plugin]\nrequires = ["b"]\n')
    temporary_plugin("b", GOOD, manifest='[plugin]\nrequires = ["a"]\n')
    temporary_plugin("c", GOOD)
    error = refusal(weighbridge_host, weighbridge_host.load, "b")
    assert isinstance(error, DependencyCycle)
    assert str(error) == (
        "b: is in a ring of dependencies: a -> b -> a. Remove one of these dependencies from a manifest"
    )
    assert error.ring == ("a", "b", "a")
    assert weighbridge_host.load("c").state == "active"


def test_plugins_that_conflict_are_not_loaded_together(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Whichever of the two says so, and whichever comes first."""
    temporary_plugin("cat", GOOD, manifest='[plugin]\nconflicts = ["dog"]\n')
    temporary_plugin("dog", GOOD)
    for first, second in (("cat", "dog"), ("dog", "cat")):
        weighbridge_host.load(first)
        error = refusal(weighbridge_host, weighbridge_host.load, second)
        assert isinstance(error, ConflictingPlugin)
        assert str(error) == f"{second}: conflicts with {first!r}, which is loaded. Unload {first}"
        weighbridge_host.unload(first)


def test_a_name_that_two_distributions_offer_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either could be the wrong one, so neither is taken; the others still load."""
    sites = [tmp_path / "first", tmp_path / "second"]
    for site, distribution in zip(sites, ("acme-lamp", "zeta-lamp"), strict=True):
        write_distribution(site, "lamp", "raise RuntimeError('imported')", distribution=distribution)
    write_distribution(sites[0], "good", GOOD)
    for site in sites:
        monkeypatch.syspath_prepend(str(site))
    message = (
        "lamp: acme-lamp 1.0 and zeta-lamp 1.0 offer it in the group 'weighbridge', as 'acme_lamp:Plugin' and "
        "'zeta_lamp:Plugin'; neither is taken. Uninstall acme-lamp or zeta-lamp"
    )
    with Host(path=[str(site) for site in sites]) as host:
        error = refusal(host, host.load, "lamp")
        assert isinstance(error, DuplicateName)
        assert str(error) == message
        report = host.load_all()
        assert [one.name for one in report.loaded] == ["good"]
        assert [(one.name, one.state, one.reason) for one in report.failed] == [("lamp", "incompatible", message)]


def test_an_invalid_manifest_is_its_plugins_problem_alone(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Every problem of it is listed, nothing of the plugin is imported, and the others still load."""
    manifest = '[plugin]\nactivation = "later"\n[memory]\nload = "12 parsecs"\n'
    temporary_plugin("bad", "raise RuntimeError('imported')", manifest=manifest)
    temporary_plugin("good", GOOD)
    message = (
        "bad: the manifest in weighbridge-bad has 2 problems:\n"
        "  - plugin.activation: must be 'eager' or 'first-call', is 'later'\n"
        f"  - memory.load: '12 parsecs' is not a size: give {SIZE}. Correct this and install weighbridge-bad again"
    )
    error = refusal(weighbridge_host, weighbridge_host.load, "bad")
    assert isinstance(error, ManifestError)
    assert str(error) == message
    assert len(error.problems) == 2
    report = weighbridge_host.load_all()
    assert [one.name for one in report.loaded] == ["good"]
    assert [one.reason for one in report.failed] == [message]


# -- registrations of the application ------------------------------------------------------------------------------


class Quota:
    """A policy of the application's own."""

    @hookimpl
    def weighbridge_event(self) -> None:
        pass


def test_a_plugin_does_not_push_out_what_the_application_registered(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A policy would be gone without a word if a plugin only had to have its name."""
    temporary_plugin("quota", GOOD)
    weighbridge_host.register("quota", Quota())
    error = refusal(weighbridge_host, weighbridge_host.load, "quota")
    assert isinstance(error, ConfigurationError)
    assert str(error) == "quota: the application has registered something else under this name"
    weighbridge_host.unregister("quota")
    assert weighbridge_host.load("quota").state == "active"


def test_the_application_does_not_push_out_a_plugin(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Neither by registering under its name nor by taking back what it never registered."""
    temporary_plugin("quota", GOOD)
    weighbridge_host.load("quota")
    error = refusal(weighbridge_host, weighbridge_host.register, "quota", Quota())
    assert str(error) == "quota: cannot be registered: a loaded plugin has this name"
    error = refusal(weighbridge_host, weighbridge_host.unregister, "quota")
    assert str(error) == "quota: is a plugin and cannot be unregistered. Unload it"


def test_an_application_hook_that_does_not_fit_leaves_nothing_registered(weighbridge_host: IsolatedHost) -> None:
    """The same name can be registered as soon as the mistake was mended."""

    class Wrong:
        @hookimpl
        def weighbridge_event(self, happening):  # type: ignore[no-untyped-def]
            pass

    error = refusal(weighbridge_host, weighbridge_host.register, "quota", Wrong())
    assert str(error) == (
        "quota: cannot be registered: Plugin 'quota' for hook 'weighbridge_event'; hookimpl definition: "
        "weighbridge_event(happening); Argument(s) {'happening'} are declared in the hookimpl but can not be found in "
        "the hookspec"
    )
    weighbridge_host.register("quota", Quota())


def test_errors_hold_nothing_of_the_plugin(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Whoever keeps an error for his log does not keep a plugin alive with it."""
    harbour.alive = []
    temporary_plugin(
        "bad",
        "import weakref\nfrom harbour import alive\n"
        "class Plugin:\n    def __init__(self, context):\n        alive.append(weakref.ref(self))\n"
        "        raise RuntimeError(self)",
    )
    error = refusal(weighbridge_host, weighbridge_host.load, "bad")
    assert isinstance(harbour.alive[0], weakref.ref)
    assert harbour.alive[0]() is None
    assert error.__context__ is None
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
