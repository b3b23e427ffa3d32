"""Waiting until nobody is inside a plugin: who is seen, who is named, and who is nobody."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from weighbridge_hookspecs import Event, hookimpl, hookspec

from weighbridge.hooks import Hooks
from weighbridge.reclaim.drain import Drain
from weighbridge.reclaim.watch import namespaces

FILE = "/plugins/lamp.py"
SOURCE = """\
def work(entered, leave):
    entered.set()
    leave.wait()

def through(call):
    return call()

class Lamp:
    called = 0
    def weighbridge_event(self, event):
        Lamp.called += 1

async def serve(pause):
    await pause()

async def stream(pause):
    yield 1
    await pause()
    yield 2
"""
EVENT = Event(kind="state")


@pytest.fixture
def lamp() -> Iterator[ModuleType]:
    """A plugin's module."""
    module = ModuleType("lamp_to_drain")
    exec(compile(SOURCE, FILE, "exec"), vars(module))
    module.Lamp.weighbridge_event = hookimpl(module.Lamp.weighbridge_event)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def drain_of(module: ModuleType, *, callers: tuple[object, ...] = (), leased: tuple[int, ...] = ()) -> Drain:
    return Drain(namespaces([module.__name__]), callers, leased)


@contextmanager
def in_thread(call: Callable[..., object], *arguments: object, name: str = "worker") -> Iterator[threading.Thread]:
    """A thread that calls something that has two events as its last arguments: it is inside for the block's length."""
    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=call, args=(*arguments, entered, leave), name=name)
    thread.start()
    entered.wait()
    try:
        yield thread
    finally:
        leave.set()
        thread.join()


def call_through(function: Callable[..., object], entered: threading.Event, leave: threading.Event) -> None:
    """The application's code, calling into a plugin."""
    function(entered, leave)


def wait_in_application(function: Callable[..., object], entered: threading.Event, leave: threading.Event) -> None:
    """The application's code, called by a plugin."""

    def wait() -> None:
        entered.set()
        leave.wait()

    function(wait)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_nobody_is_inside_a_plugin_that_nobody_calls(lamp: ModuleType) -> None:
    """Without a frame of the plugin the wait is over at once, even with no time to wait."""
    drain = drain_of(lamp)
    assert drain.inside() == []
    assert drain.wait(0) == []
    assert not drain.is_inside(threading.get_ident())


def test_a_thread_inside_is_named_with_its_place(lamp: ModuleType) -> None:
    """The line says which thread is at which line of the plugin, and the plugin cannot go meanwhile."""
    with in_thread(call_through, lamp.work) as thread:
        drain = drain_of(lamp)
        assert drain.inside() == [f"thread 'worker' at {FILE}:3 in work"]
        assert drain.is_inside(thread.ident or 0)
        assert not drain.is_inside(threading.get_ident())
        assert drain.wait(0) == [f"thread 'worker' at {FILE}:3 in work"]
    assert drain.inside() == []
    assert not drain.is_inside(thread.ident or 0)


def test_a_plugin_that_has_called_the_application_is_still_under_way(lamp: ModuleType) -> None:
    """The plugin's frame need not be the innermost: the call will come back to it."""
    with in_thread(wait_in_application, lamp.through):
        assert drain_of(lamp).inside() == [f"thread 'worker' at {FILE}:6 in through"]


def test_each_thread_inside_is_named(lamp: ModuleType) -> None:
    """Two threads are two lines."""
    with in_thread(call_through, lamp.work, name="one"), in_thread(wait_in_application, lamp.through, name="two"):
        assert sorted(drain_of(lamp).inside()) == [
            f"thread 'one' at {FILE}:3 in work",
            f"thread 'two' at {FILE}:6 in through",
        ]


def test_the_wait_ends_when_the_last_thread_has_left(lamp: ModuleType) -> None:
    """Who leaves in time is no reason to refuse: the answer is empty once all have gone."""
    answers = list[list[str]]()
    with in_thread(call_through, lamp.work):
        drain = drain_of(lamp)
        waiter = threading.Thread(target=lambda: answers.append(drain.wait(60)))
        waiter.start()
        waiter.join(0.01)
        assert waiter.is_alive()
    waiter.join()
    assert answers == [[]]


def test_another_plugins_thread_is_nobody(lamp: ModuleType) -> None:
    """Only the namespaces of the plugin count: the same code of an earlier generation does not."""
    old = vars(lamp)["work"]
    new = ModuleType(lamp.__name__)
    exec(compile(SOURCE, FILE, "exec"), vars(new))
    with in_thread(call_through, old):
        sys.modules[lamp.__name__] = new
        assert drain_of(new).inside() == []
        sys.modules[lamp.__name__] = lamp
        assert len(drain_of(lamp).inside()) == 1


def test_a_thread_that_the_plugin_began_is_nobody(lamp: ModuleType) -> None:
    """A plugin's own thread would be waited for in vain; it is stopped later. So would a leased one."""
    with in_thread(lamp.work):
        assert drain_of(lamp).inside() == []
    with in_thread(call_through, lamp.work) as thread:
        assert drain_of(lamp, leased=(thread.ident or 0,)).inside() == []


def test_an_idle_thread_pool_is_nobody(lamp: ModuleType) -> None:
    """Threads of a pool that wait for work hold no frame of the plugin; one that is at work does."""
    entered, leave = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
        pool.submit(lamp.through, int).result()
        drain = drain_of(lamp)
        assert drain.inside() == []
        busy = pool.submit(lamp.work, entered, leave)
        entered.wait()
        assert drain.inside() == [f"thread 'pool_0' at {FILE}:3 in work"]
        leave.set()
        busy.result()
        assert drain.wait(60) == []


# -- hook calls --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooks() -> Hooks:
    return Hooks()


def slow_observer(entered: threading.Event, leave: threading.Event) -> object:
    """Another plugin, which lingers in the hook before the plugin's turn."""

    class Slow:
        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            entered.set()
            leave.wait()

    return Slow()


def test_a_call_under_way_that_may_come_to_the_plugin_yet_is_waited_for(lamp: ModuleType, hooks: Hooks) -> None:
    """A call that took its list before the plugin was unregistered still comes to it, so it counts as inside."""
    entered, leave, answers = threading.Event(), threading.Event(), list[list[str]]()
    hooks.register("lamp", lamp.Lamp())
    hooks.register("slow", slow_observer(entered, leave))
    caller = threading.Thread(target=lambda: hooks.relay.weighbridge_event(event=EVENT), name="caller")
    caller.start()
    entered.wait()
    callers = hooks.callers_of("lamp")
    hooks.unregister("lamp")
    drain = drain_of(lamp, callers=callers)
    (line,) = drain.inside()
    assert line.startswith("thread 'caller' at ")
    assert line.endswith(" in HookCaller.__call__")
    assert drain.is_inside(caller.ident or 0)
    waiter = threading.Thread(target=lambda: answers.append(drain.wait(60)))
    waiter.start()
    leave.set()
    waiter.join()
    caller.join()
    assert answers == [[]]
    assert lamp.Lamp.called == 1


def test_a_call_that_began_later_is_not_waited_for(lamp: ModuleType, hooks: Hooks) -> None:
    """Once the plugin is unregistered a new call of the same hook cannot reach it, however long it takes."""
    hooks.register("lamp", lamp.Lamp())
    entered, leave = threading.Event(), threading.Event()
    hooks.register("slow", slow_observer(entered, leave))
    callers = hooks.callers_of("lamp")
    hooks.unregister("lamp")
    drain = drain_of(lamp, callers=callers)
    caller = threading.Thread(target=lambda: hooks.relay.weighbridge_event(event=EVENT))
    caller.start()
    entered.wait()
    assert drain.inside() == []
    leave.set()
    caller.join()
    assert lamp.Lamp.called == 0


def test_a_call_of_another_hook_is_not_waited_for(lamp: ModuleType, hooks: Hooks) -> None:
    """Only hooks that the plugin implements could lead to it."""
    entered, leave = threading.Event(), threading.Event()

    class Slow:
        @hookimpl
        def weighbridge_report_memory(self) -> None:
            entered.set()
            leave.wait()

    hooks.register("lamp", lamp.Lamp())
    hooks.register("slow", Slow())
    caller = threading.Thread(target=lambda: hooks.relay.weighbridge_report_memory())  # noqa: PLW0108 - a frame of ours
    caller.start()
    entered.wait()
    callers = hooks.callers_of("lamp")
    hooks.unregister("lamp")
    assert drain_of(lamp, callers=callers).inside() == []
    leave.set()
    caller.join()


def test_a_historic_call_and_one_with_extras_are_waited_for(lamp: ModuleType, hooks: Hooks) -> None:
    """pluggy's other two ways of calling take their lists before, too."""

    class Specification:
        @hookspec(historic=True)
        def weighbridge_began(self, entered: object, leave: object) -> None:
            """Tell those, too, who come later."""

    class Slow:
        @hookimpl
        def weighbridge_began(self, entered: threading.Event, leave: threading.Event) -> None:
            entered.set()
            leave.wait()

    def extra(event: tuple[threading.Event, threading.Event]) -> None:
        event[0].set()
        event[1].wait()

    hooks.add_specifications(Specification)
    plugin = lamp.Lamp()
    vars(plugin)["weighbridge_began"] = hookimpl(lambda: None)
    hooks.register("lamp", plugin)
    hooks.register("slow", Slow())

    def call_historic(entered: object, leave: object) -> None:
        hooks.relay.weighbridge_began.call_historic(kwargs={"entered": entered, "leave": leave})

    def call_extra(entered: object, leave: object) -> None:
        hooks.relay.weighbridge_event.call_extra([extra], {"event": (entered, leave)})

    for call, frame in ((call_historic, "HookCaller.call_historic"), (call_extra, "HookCaller.call_extra")):
        with in_thread(call):
            (line,) = drain_of(lamp, callers=hooks.callers_of("lamp")).inside()
            assert line.endswith(f" in {frame}")


# -- coroutines --------------------------------------------------------------------------------------------------------


@types.coroutine
def pause() -> Generator[None]:
    """Give control back to whoever runs the coroutine."""
    yield


def test_a_coroutine_suspended_inside_is_named(lamp: ModuleType) -> None:
    """A coroutine that has begun and not ended will run the plugin's code again, though no thread is in it."""
    assert asyncio is not None  # they are looked for where a loop could be
    coroutine = lamp.serve(pause)
    drain = drain_of(lamp)
    assert drain.inside() == []
    coroutine.send(None)
    assert drain.inside() == [f"coroutine serve at {FILE}:14 in serve"]
    assert drain.wait(0) == [f"coroutine serve at {FILE}:14 in serve"]
    coroutine.close()
    assert drain.inside() == []


def test_a_coroutine_of_the_application_that_awaits_the_plugin_is_inside(lamp: ModuleType) -> None:
    """It is the plugin's coroutine on the way that is named; the loop's own are nobody."""

    async def application() -> None:
        await lamp.serve(pause)

    coroutine = application()
    coroutine.send(None)
    assert drain_of(lamp).inside() == [f"coroutine serve at {FILE}:14 in serve"]
    coroutine.close()


def test_a_task_is_inside_until_it_is_done(lamp: ModuleType) -> None:
    """With a real loop: the task is named while it waits, and gone when it has ended."""

    async def main() -> tuple[list[str], list[str]]:
        event = asyncio.Event()
        task = asyncio.create_task(lamp.serve(event.wait))
        await asyncio.sleep(0)
        drain = drain_of(lamp)
        during = drain.inside()
        event.set()
        await task
        return during, drain.inside()

    assert asyncio.run(main()) == ([f"coroutine serve at {FILE}:14 in serve"], [])


def test_an_asynchronous_generator_that_waits_is_inside(lamp: ModuleType) -> None:
    """While it awaits something it is under way; between two items it is only held by somebody."""

    async def walk(generator: Any) -> None:
        async for _ in generator:
            pass

    generator = lamp.stream(pause)
    coroutine = walk(generator)
    coroutine.send(None)
    assert drain_of(lamp).inside() == [f"coroutine stream at {FILE}:18 in stream"]
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert drain_of(lamp).inside() == []


def test_without_a_loop_nobody_looks_for_coroutines(lamp: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither asyncio nor trio was imported no walk over the heap is paid for."""
    coroutine = lamp.serve(pause)
    coroutine.send(None)
    monkeypatch.delitem(sys.modules, "asyncio")
    assert drain_of(lamp).inside() == []
    monkeypatch.undo()
    assert len(drain_of(lamp).inside()) == 1
    coroutine.close()


def test_looking_for_coroutines_asks_no_object(lamp: ModuleType) -> None:
    """Among all live objects there are some that answer every question with an error."""

    def refuse(thing: object) -> None:
        raise RuntimeError("it was asked")

    hostile = [type("Hostile", (), {"__class__": property(refuse)})()]
    assert drain_of(lamp).inside() == []
    assert len(hostile) == 1
