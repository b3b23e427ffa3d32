"""Plugins that sleep until the application first calls one of their hooks."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from weighbridge_hookspecs import Candidate, Manifest, ReleaseRequest, hookspec

from weighbridge.isolation import IsolatedHost
from weighbridge.lifecycle.dormant import make_stub, may_sleep
from weighbridge.lifecycle.plugin import Plugin
from weighbridge.testing import TemporaryPlugin
from weighbridge.units import MIB

SINGER = """\
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        self.name = context.name
    @hookimpl
    def song(self, verse, loud):
        return f"{self.name} sings verse {verse}" + "!" * loud
"""
ASLEEP = '[plugin]\nactivation = "first-call"\nhooks = ["song"]\n'


class Songs:
    """The application's hooks."""

    @hookspec
    def song(self, verse: int, loud: int) -> str:
        raise NotImplementedError

    @hookspec(firstresult=True)
    def solo(self) -> str:
        raise NotImplementedError


@pytest.fixture
def host(weighbridge_host: IsolatedHost) -> IsolatedHost:
    weighbridge_host.add_hookspecs(Songs)
    return weighbridge_host


def state(host: IsolatedHost, name: str = "singer") -> str:
    return {one.name: one.state for one in host.plugins()}[name]


def sing(host: IsolatedHost) -> list[str]:
    songs: list[str] = host.hook.song(verse=2, loud=1)
    return songs


def test_nothing_is_imported_before_the_first_call(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """The call is passed on with its arguments, and from then on the plugin is one like any other."""
    package = temporary_plugin("singer", SINGER, manifest=ASLEEP)
    assert [one.name for one in host.load_all().dormant] == ["singer"]
    assert (package in sys.modules, state(host)) == (False, "dormant")
    assert sing(host) == ["singer sings verse 2!"]
    assert (package in sys.modules, state(host)) == (True, "active")
    assert sing(host) == ["singer sings verse 2!"]
    assert host.statistics().loads == 1
    assert host.unload("singer").state == "unloaded"
    assert sing(host) == []


def test_a_plugin_that_nothing_could_wake_is_loaded_at_once(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Hooks of the life cycle wake nobody, and of a hook without a specification the arguments are not known."""
    sleepy = '[plugin]\nactivation = "first-call"\nhooks = '
    temporary_plugin("quiet", SINGER, manifest=sleepy + "[]")
    temporary_plugin("driver", SINGER, manifest=sleepy + '["weighbridge_release_memory"]')
    temporary_plugin("dancer", SINGER, manifest=sleepy + '["song", "dance"]')
    assert [one.name for one in host.load_all().loaded] == ["dancer", "driver", "quiet"]


def test_the_life_cycle_wakes_nobody(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A sleeping plugin holds nothing that could be reported, released or observed."""
    manifest = ASLEEP.replace('["song"', '["song", "weighbridge_event", "weighbridge_release_memory"')
    package = temporary_plugin("singer", SINGER, manifest=manifest)
    temporary_plugin("other", SINGER)
    host.load_all()
    host.accounts()
    host.unload("other")
    host.hook.weighbridge_release_memory(request=ReleaseRequest(bytes=1))
    assert (state(host), package in sys.modules) == ("dormant", False)


def test_loading_by_name_wakes_a_plugin(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Its stub is gone then, so that it is called once."""
    temporary_plugin("singer", SINGER, manifest=ASLEEP)
    host.load_all()
    assert host.load("singer").state == "active"
    assert sing(host) == ["singer sings verse 2!"]


def test_a_sleeping_requirement_is_loaded_when_it_is_needed(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Not for one that sleeps itself, but as soon as that one wakes up."""
    temporary_plugin("alto", SINGER, manifest=ASLEEP)
    temporary_plugin("bass", SINGER, manifest=ASLEEP + 'requires = ["alto"]\n')
    temporary_plugin("choir", SINGER, manifest='[plugin]\nrequires = ["bass"]\n')
    host.load_all(["bass"])
    assert (state(host, "alto"), state(host, "bass")) == ("dormant", "dormant")
    assert [one.name for one in host.load_all().loaded] == ["choir"]
    assert (state(host, "alto"), state(host, "bass")) == ("active", "active")
    assert sorted(sing(host)) == [f"{name} sings verse 2!" for name in ("alto", "bass", "choir")]


def test_the_first_call_brings_in_what_is_required(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Even if that was never loaded, or has gone since."""
    temporary_plugin("base", "class Plugin:\n    def __init__(self, context):\n        pass\n")
    temporary_plugin("singer", SINGER, manifest=ASLEEP + 'requires = ["base"]\n')
    host.load_all()
    host.unload("base")
    assert state(host) == "dormant"
    assert sing(host) == ["singer sings verse 2!"]
    assert state(host, "base") == "active"


def test_looking_again_lets_sleepers_sleep(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Neither a discovery nor another load_all puts a second stub in its place."""
    temporary_plugin("singer", SINGER, manifest=ASLEEP)
    host.load_all()
    host.discover()
    report = host.load_all()
    assert (report.dormant, report.failed, state(host)) == ((), (), "dormant")
    assert sing(host) == ["singer sings verse 2!"]


@pytest.fixture
def crowded(temporary_plugin: TemporaryPlugin) -> Iterator[IsolatedHost]:
    """A host whose room is promised to somebody else, and a singer that sleeps."""
    with IsolatedHost(psutil.Process().memory_info().rss + 700 * MIB) as host:
        host.add_hookspecs(Songs)
        memory = '[memory]\nload = "1 MiB"\npeak = "600 MiB"\n'
        temporary_plugin("heavy", SINGER.replace("song", "hum"), manifest="[plugin]\n" + memory)
        temporary_plugin("singer", SINGER, manifest=ASLEEP + memory)
        host.allow("heavy", "singer")
        host.load_all()
        yield host


def test_a_plugin_that_is_refused_sleeps_on(crowded: IsolatedHost, caplog: pytest.LogCaptureFixture) -> None:
    """The call gets no answer from it, and a later one, when there is room, does."""
    with caplog.at_level(logging.ERROR):
        assert sing(crowded) == []
    assert "singer could not be woken by song: singer: refused: no room" in caplog.text
    assert (state(crowded), "weighbridge_singer" in sys.modules) == ("dormant", False)
    assert crowded.load_all().failed == ()
    crowded.discover()
    assert sing(crowded) == []
    crowded.unload("heavy")
    assert sing(crowded) == ["singer sings verse 2!"]


def test_a_plugin_whose_requirement_is_refused_sleeps_on(
    crowded: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """It is as if it had been refused itself."""
    temporary_plugin("choir", SINGER, manifest=ASLEEP + 'requires = ["singer"]\n')
    crowded.allow("choir")
    crowded.load_all()
    assert sing(crowded) == []
    assert (state(crowded, "choir"), state(crowded)) == ("dormant", "dormant")
    crowded.unload("heavy")
    assert sorted(sing(crowded)) == ["choir sings verse 2!", "singer sings verse 2!"]


def test_a_plugin_that_fails_is_not_tried_at_every_call(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again when it is asked for by name."""
    temporary_plugin("singer", "raise RuntimeError('hoarse')", manifest=ASLEEP)
    host.load_all()
    with caplog.at_level(logging.ERROR):
        assert sing(host) == []
        assert sing(host) == []
    assert caplog.text.count("RuntimeError: hoarse") == 1
    assert state(host) == "failed"
    temporary_plugin("singer", SINGER, manifest=ASLEEP)
    host.load("singer")
    assert sing(host) == ["singer sings verse 2!"]


def test_several_threads_may_make_the_first_call(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """It is loaded once, and each gets its answer."""
    temporary_plugin("singer", SINGER, manifest=ASLEEP)
    host.load_all()
    start, songs = threading.Barrier(8), []

    def call() -> None:
        start.wait()
        songs.append(sing(host))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert songs == [["singer sings verse 2!"]] * 8
    assert host.statistics().loads == 1


def test_a_call_in_the_middle_of_a_load_wakes_nobody(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a nested load; the caller gets no answer, and the next call does."""
    harbour: Any = type(sys)("harbour")
    harbour.host, harbour.heard = host, []
    monkeypatch.setitem(sys.modules, "harbour", harbour)
    temporary_plugin("singer", SINGER, manifest=ASLEEP)
    temporary_plugin(
        "listener",
        "from harbour import heard, host\n"
        "def Plugin(context):\n    heard.append(host.hook.song(verse=1, loud=0))\n    return object()\n",
    )
    host.load_all(["singer"])
    host.load("listener")
    assert harbour.heard == [[]]
    assert state(host) == "dormant"
    assert sing(host) == ["singer sings verse 2!"]


def test_closing_takes_the_stubs_away(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A call after that wakes nobody."""
    temporary_plugin("singer", SINGER, manifest=ASLEEP)
    host.load_all()
    host.close()
    assert sing(host) == []
    assert (state(host), "weighbridge_singer" in sys.modules) == ("unloaded", False)


def test_an_opaque_plugin_never_sleeps(host: IsolatedHost) -> None:
    """Nobody calls it, so nobody would wake it."""
    manifest = Manifest(activation="first-call", hooks=("song",))
    candidate = Candidate(
        name="lamp", group="llm", value="lamp:Lamp", distribution="lamp", version="1.0", manifest=manifest
    )
    assert may_sleep(Plugin(candidate), host.hook) == ()


def test_a_stub_takes_the_arguments_of_its_hook(host: IsolatedHost) -> None:
    """pluggy passes what a function names, so a stub has to name everything."""
    calls: list[tuple[str, dict[str, object]]] = []
    host.register("stub", make_stub(["song", "solo"], host.hook, lambda hook, given: calls.append((hook, dict(given)))))
    host.hook.song(verse=1, loud=0)
    host.hook.solo()
    assert calls == [("song", {"verse": 1, "loud": 0}), ("solo", {})]
