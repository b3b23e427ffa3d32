"""Registration and calls of hooks: what is refused, what is contained, and what is let go of."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pluggy
import pytest
from weighbridge_hookspecs import ConfigurationError, Event, Fact, ReleaseRequest, hookimpl, hooks, hookspec

from weighbridge.hooks import Hooks, Registration

EVENT = Event(kind="state", plugin="lamp", state="active")
OURS = sorted(name for name in vars(hooks) if name.startswith("weighbridge_"))


class Observer:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        self.seen.append(event)


class Bare:
    """A plugin without hooks."""


def plugin_with(hook: str, implementation: Callable[..., Any], **options: Any) -> object:
    """An object that implements one hook with the given function, which must not be a method."""
    plugin = Bare()
    setattr(plugin, hook, hookimpl(**options)(implementation))
    return plugin


def left_behind(plugged: Hooks, name: str) -> list[str]:
    """What still knows a registration of that name."""
    found = [
        hook for hook, caller in vars(plugged.relay).items() if name in {i.plugin_name for i in caller.get_hookimpls()}
    ]
    return found + (["callers"] if plugged.callers_of(name) else [])


@pytest.fixture
def plugged() -> Hooks:
    return Hooks()


# -- registering -------------------------------------------------------------------------------------------------------


def test_a_registration_tells_what_is_implemented(plugged: Hooks) -> None:
    """The record names the hooks, sorted, and those among them that no specification knows."""

    class Lamp:
        @hookimpl
        def weighbridge_report_memory(self) -> int:
            return 5

        @hookimpl
        def weighbridge_actvate(self) -> None:
            """Misspelt."""

        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            """Observe."""

        def weighbridge_admit(self, request: object) -> None:
            """Not marked, so no hook."""

    implemented = ("weighbridge_actvate", "weighbridge_event", "weighbridge_report_memory")
    assert plugged.register("lamp", Lamp()) == Registration("lamp", implemented, ("weighbridge_actvate",))
    assert plugged.implemented("lamp") == implemented


def test_an_object_without_hooks_can_be_registered(plugged: Hooks) -> None:
    """Nothing implemented is no mistake: a plugin may only provide something to import."""
    assert plugged.register("lamp", Bare()) == Registration("lamp", (), ())
    assert plugged.callers_of("lamp") == ()


def test_a_module_can_be_registered(plugged: Hooks) -> None:
    """A plugin may be a module: its marked functions are its hooks."""
    module = ModuleType("lamp")
    vars(module)["weighbridge_report_memory"] = hookimpl(lambda: 7)
    plugged.register("lamp", module)
    assert plugged.report_memory("lamp") == 7


@pytest.mark.parametrize("old_style", [False, True], ids=["wrapper", "hookwrapper"])
@pytest.mark.parametrize("hook", OURS)
def test_a_wrapper_of_one_of_the_hosts_hooks_is_refused(plugged: Hooks, hook: str, old_style: bool) -> None:
    """The host calls its hooks one plugin at a time, so a wrapper would never see them; nothing of it stays."""

    def wrap() -> Any:
        return (yield)

    plugin = plugin_with(hook, wrap, **{"hookwrapper" if old_style else "wrapper": True})
    vars(plugin)["weighbridge_unknown"] = hookimpl(lambda: None)
    with pytest.raises(ConfigurationError) as caught:
        plugged.register("lamp", plugin)
    assert str(caught.value) == (
        f"lamp: {hook} is implemented as a wrapper, and the host calls that hook one plugin at a time. "
        "Implement it as a plain hook"
    )
    assert (caught.value.plugin, caught.value.step) == ("lamp", "register")
    assert left_behind(plugged, "lamp") == []
    plugged.register("lamp", Observer())


def test_a_wrapper_of_an_application_hook_is_taken(plugged: Hooks) -> None:
    """Hooks of the application's own are called by pluggy itself, where wrappers work."""

    class Specification:
        @hookspec
        def weighbridge_shine(self) -> None:
            """Shine."""

    def wrap() -> Any:
        return [*(yield), "wrapped"]

    plugged.add_specifications(Specification)
    plugged.register("inner", plugin_with("weighbridge_shine", lambda: "shone"))
    plugged.register("outer", plugin_with("weighbridge_shine", wrap, wrapper=True))
    assert plugged.relay.weighbridge_shine() == ["shone", "wrapped"]


def test_a_name_is_given_once(plugged: Hooks) -> None:
    """A second object under the same name is refused, and the first one is not touched."""
    first, second = Observer(), Observer()
    plugged.register("lamp", first)
    with pytest.raises(ConfigurationError) as caught:
        plugged.register("lamp", second)
    assert str(caught.value) == "lamp: cannot be registered: the name is taken"
    plugged.event(EVENT)
    assert (first.seen, second.seen) == ([EVENT], [])


def test_an_object_is_registered_once(plugged: Hooks) -> None:
    """One object under two names would be called twice, and is refused under the second."""
    observer = Observer()
    plugged.register("lamp", observer)
    with pytest.raises(ConfigurationError, match=r"^torch: cannot be registered: .*already registered"):
        plugged.register("torch", observer)
    plugged.event(EVENT)
    assert observer.seen == [EVENT]


def test_a_signature_that_does_not_fit_is_refused(plugged: Hooks) -> None:
    """The message names plugin, hook and argument, and holds no object; nothing of the plugin stays registered."""

    class Lamp:
        @hookimpl
        def weighbridge_admit(self, question: object) -> None:
            """Ask for an argument that the hook does not have."""

        @hookimpl
        def weighbridge_activate(self) -> None:
            """Fit."""

    lamp = Lamp()
    with pytest.raises(ConfigurationError) as caught:
        plugged.register("lamp", lamp)
    assert str(caught.value).startswith("lamp: cannot be registered: Plugin 'lamp' for hook 'weighbridge_admit'; ")
    assert "question" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None
    assert left_behind(plugged, "lamp") == []
    plugged.register("lamp", Observer())


def test_specifications_that_a_registered_plugin_does_not_fit_are_refused(plugged: Hooks) -> None:
    """The host's error comes in place of pluggy's, which would hold the plugin."""

    class Specification:
        @hookspec
        def weighbridge_shine(self, brightness: int) -> None:
            """Shine."""

    plugged.register("lamp", plugin_with("weighbridge_shine", lambda colour: None))
    with pytest.raises(ConfigurationError, match=r"^these hooks cannot be added: Plugin 'lamp'.*colour") as caught:
        plugged.add_specifications(Specification)
    assert caught.value.__context__ is None
    with pytest.raises(ConfigurationError, match=r"^these hooks cannot be added: did not find any"):
        plugged.add_specifications(Bare)


# -- unregistering -----------------------------------------------------------------------------------------------------


def test_unregistering_takes_every_hook_out(plugged: Hooks) -> None:
    """No call reaches an object that was taken out, and taking out what is not there is fine."""
    observer = Observer()
    plugged.register("lamp", observer)
    plugged.unregister("lamp")
    plugged.unregister("lamp")
    plugged.event(EVENT)
    plugged.relay.weighbridge_event(event=EVENT)
    assert observer.seen == []
    assert left_behind(plugged, "lamp") == []


def test_a_plugin_that_is_false_can_be_unregistered(plugged: Hooks) -> None:
    """An object that says that it is empty is an object all the same."""

    class Empty(Observer):
        def __len__(self) -> int:
            return 0

    plugged.register("lamp", Empty())
    plugged.unregister("lamp")
    assert left_behind(plugged, "lamp") == []
    plugged.register("lamp", Empty())


def test_nothing_of_a_plugin_is_kept_after_it_was_unregistered(plugged: Hooks) -> None:
    """Registering, calling every kind of hook and unregistering leaves no reference, not even in a cycle."""

    class Lamp(Observer):
        @hookimpl
        def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
            return request.bytes

        @hookimpl
        def weighbridge_report_memory(self) -> int:
            raise RuntimeError("no idea")

        @hookimpl
        def weighbridge_unknown(self) -> None:
            """Known to nobody."""

    gc.collect()
    gc.disable()
    try:
        lamp = Lamp()
        reference = weakref.ref(lamp)
        plugged.register("lamp", lamp)
        plugged.event(EVENT)
        plugged.relay.weighbridge_event(event=EVENT)
        assert plugged.release_memory("lamp", ReleaseRequest(bytes=3)) == 3
        assert plugged.report_memory("lamp") is None
        plugged.unregister("lamp")
        del lamp
        assert reference() is None
    finally:
        gc.enable()


def test_the_class_of_a_plugin_is_not_kept_either(plugged: Hooks) -> None:
    """Looking for hooks makes Python remember the class that it looked at; that memory is emptied."""

    class Mortal(Observer):
        """Its name is never looked up again."""

    plugged.register("lamp", Mortal())
    plugged.unregister("lamp")
    reference = weakref.ref(Mortal)
    del Mortal
    gc.collect()
    assert reference() is None


def test_nothing_of_a_plugin_is_kept_after_it_was_refused(plugged: Hooks) -> None:
    """A registration that fails leaves no reference either, while its error is still at hand."""

    def wrap() -> Any:
        return (yield)

    refused: list[weakref.ref[Any]] = []
    errors = []
    for hook, options in (("weighbridge_event", {"wrapper": True}), ("weighbridge_activate", {})):
        plugin: Any = plugin_with(hook, wrap if options else lambda brightness: None, **options)
        refused.append(weakref.ref(plugin))
        with pytest.raises(ConfigurationError) as caught:
            plugged.register("lamp", plugin)
        errors.append(caught.value.with_traceback(None))
        del caught, plugin
    gc.collect()
    assert len(errors) == 2
    assert [reference() for reference in refused] == [None, None]


# -- calling one plugin ------------------------------------------------------------------------------------------------


def test_a_bound_call_works_after_the_plugin_was_unregistered(plugged: Hooks) -> None:
    """That is how a plugin is told to stop although no hook reaches it any more."""
    stopped = []

    def stop(reason: str) -> None:
        stopped.append(reason)

    plugged.register("lamp", plugin_with("weighbridge_deactivate", stop))
    call = plugged.bound("lamp", "weighbridge_deactivate", reason="it is day")
    plugged.unregister("lamp")
    assert call is not None
    call()
    assert stopped == ["it is day"]


def test_a_hook_that_a_plugin_does_not_have_has_no_call(plugged: Hooks) -> None:
    """None for a hook that it does not implement, for one that nobody knows, and for a plugin that is not there."""
    plugged.register("lamp", Observer())
    assert plugged.bound("lamp", "weighbridge_activate") is None
    assert plugged.bound("lamp", "weighbridge_nonsense") is None
    assert plugged.bound("torch", "weighbridge_event", event=EVENT) is None


def test_a_hook_may_have_arguments_of_any_name(plugged: Hooks) -> None:
    """An application's hook with arguments called ``name`` and ``hook`` can be bound, too."""

    class Specification:
        @hookspec
        def weighbridge_greet(self, name: str, hook: str) -> None:
            """Greet."""

    plugged.add_specifications(Specification)
    plugged.register("lamp", plugin_with("weighbridge_greet", lambda hook, name: f"{name} on {hook}"))
    call = plugged.bound("lamp", "weighbridge_greet", name="coat", hook="wall")
    assert call is not None
    assert call() == "coat on wall"


def test_an_argument_with_a_default_is_passed(plugged: Hooks) -> None:
    """An implementation that gives an argument a default gets the real value, as from pluggy itself."""
    got: list[object] = []

    def observe(event: Event | None = None, volume: int = 3) -> None:
        got.append((event, volume))

    plugged.register("lamp", plugin_with("weighbridge_event", observe))
    plugged.event(EVENT)
    plugged.relay.weighbridge_event(event=EVENT)
    assert got == [(EVENT, 3), (EVENT, 3)]


def test_activation_goes_in_order(plugged: Hooks) -> None:
    """Capabilities come first, then the plugin starts, then it hands out what scales; no other plugin is called."""
    called: list[str] = []
    registry: Any = object()

    class Lamp:
        @hookimpl
        def weighbridge_scalable(self) -> None:
            called.append("scalable")

        @hookimpl
        def weighbridge_activate(self) -> None:
            called.append("activate")

        @hookimpl
        def weighbridge_capabilities(self, registry: object) -> None:
            called.append(f"capabilities {registry is the_registry}")

    the_registry = registry
    plugged.register("lamp", Lamp())
    plugged.register("other", plugin_with("weighbridge_activate", lambda: called.append("other")))
    for hook, call in plugged.activation("lamp", registry):
        called.append(hook)
        call()
    assert called == [
        "weighbridge_capabilities",
        "capabilities True",
        "weighbridge_activate",
        "activate",
        "weighbridge_scalable",
        "scalable",
    ]


@pytest.mark.parametrize(
    ("answer", "reported"), [(0, 0), (7, 7), (None, 0), (-1, None), (1.5, None), (True, None), ("7", None)], ids=repr
)
def test_reported_memory_is_a_size_or_unknown(
    plugged: Hooks, caplog: pytest.LogCaptureFixture, answer: object, reported: int | None
) -> None:
    """Nothing to report is 0; what makes no sense is unknown, never 0, and is logged."""
    plugged.register("lamp", plugin_with("weighbridge_report_memory", lambda: answer))
    assert plugged.report_memory("lamp") == reported
    logged = [record.getMessage() for record in caplog.records]
    wanted = f"lamp: weighbridge_report_memory gave {answer!r}; wanted a number of bytes from 0 up"
    assert logged == ([wanted] if reported is None else [])


def test_a_report_that_raises_is_unknown(plugged: Hooks, caplog: pytest.LogCaptureFixture) -> None:
    """The host learns None, and the log has the traceback as text."""

    def report() -> int:
        raise RuntimeError("no idea")

    plugged.register("lamp", plugin_with("weighbridge_report_memory", report))
    assert plugged.report_memory("lamp") is None
    (record,) = caplog.records
    assert record.getMessage().startswith("lamp: weighbridge_report_memory raised:\nTraceback")
    assert "RuntimeError: no idea" in record.getMessage()
    assert record.exc_info is None
    assert all(isinstance(argument, str) for argument in record.args or ())


def test_a_plugin_that_reports_nothing_holds_nothing_native(plugged: Hooks) -> None:
    """Not implementing the hook is 0, as is not being there."""
    plugged.register("lamp", Observer())
    assert plugged.report_memory("lamp") == 0
    assert plugged.report_memory("torch") == 0


@pytest.mark.parametrize(
    ("answer", "believed"), [(5, 5), (0, 0), (None, 0), (-3, 0), (2.5, 0), (True, 0), ("all", 0)], ids=repr
)
def test_released_memory_is_what_the_plugin_believes_if_it_makes_sense(
    plugged: Hooks, answer: object, believed: int
) -> None:
    """Anything but a number of bytes counts as nothing released."""
    asked = []

    def release(request: ReleaseRequest) -> object:
        asked.append(request)
        return answer

    plugged.register("lamp", plugin_with("weighbridge_release_memory", release))
    request = ReleaseRequest(bytes=99, level="critical")
    assert plugged.release_memory("lamp", request) == believed
    assert asked == [request]


@pytest.mark.parametrize("error", [RuntimeError("stuck"), SystemExit(1)], ids=["error", "exit"])
def test_a_plugin_that_cannot_release_does_not_stop_the_host(
    plugged: Hooks, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Raising when memory is wanted back is 0 bytes and a line in the log, even sys.exit."""

    def release(request: ReleaseRequest) -> int:
        raise error

    plugged.register("lamp", plugin_with("weighbridge_release_memory", release))
    assert plugged.release_memory("lamp", ReleaseRequest(bytes=1)) == 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# -- calling everybody -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("blind"), SystemExit(1)], ids=["error", "exit"])
def test_a_failing_observer_does_not_silence_the_next(
    plugged: Hooks, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Every observer is told, whoever raises before it; what was raised is in the log under the plugin's name."""

    def fail(event: Event) -> None:
        raise error

    first, last = Observer(), Observer()
    plugged.register("last", last)
    plugged.register("broken", plugin_with("weighbridge_event", fail))
    plugged.register("first", first)
    plugged.event(EVENT)
    assert (first.seen, last.seen) == ([EVENT], [EVENT])
    (record,) = caplog.records
    assert record.getMessage().startswith("broken: weighbridge_event raised:\nTraceback")


def test_ctrl_c_in_an_observer_is_not_swallowed(plugged: Hooks) -> None:
    """What the user asked for reaches the user."""

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    plugged.register("lamp", plugin_with("weighbridge_event", interrupt))
    with pytest.raises(KeyboardInterrupt):
        plugged.event(EVENT)


def test_who_leaves_while_others_are_told_is_not_called(plugged: Hooks) -> None:
    """An observer that was unregistered while the one before it was at work hears nothing, and is held by nobody."""
    entered, leave = threading.Event(), threading.Event()

    def linger(event: Event) -> None:
        entered.set()
        leave.wait()

    gone = Observer()
    seen, reference = gone.seen, weakref.ref(gone)
    plugged.register("gone", gone)
    plugged.register("slow", plugin_with("weighbridge_event", linger))
    thread = threading.Thread(target=plugged.event, args=(EVENT,))
    thread.start()
    entered.wait()
    plugged.unregister("gone")
    del gone
    gc.collect()
    held = reference()
    leave.set()
    thread.join()
    assert held is None
    assert seen == []


def test_observers_are_told_in_pluggys_order(plugged: Hooks) -> None:
    """The last registered is told first, but for those that ask to be first or last."""
    order: list[str] = []

    def observer(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    for name, options in (("a", {}), ("b", {"tryfirst": True}), ("c", {}), ("d", {"trylast": True})):
        plugged.register(name, plugin_with("weighbridge_event", observer(name), **options))
    plugged.event(EVENT)
    ours, order = order, []
    plugged.relay.weighbridge_event(event=EVENT)
    assert ours == order == ["b", "c", "a", "d"]


def test_the_first_buffer_is_taken(plugged: Hooks) -> None:
    """A plugin that gives None is passed over, and without any buffer the answer is None."""
    assert plugged.allocate_buffer(10, None) is None
    buffer = object()
    plugged.register(
        "pool", plugin_with("weighbridge_allocate_buffer", lambda size, node: buffer if size == 10 else None)
    )
    plugged.register("shy", plugin_with("weighbridge_allocate_buffer", lambda size: None))
    assert plugged.allocate_buffer(10, 0) is buffer
    assert plugged.allocate_buffer(11, 0) is None


def test_the_callers_of_a_plugin_are_those_of_its_hooks(plugged: Hooks) -> None:
    """Through these and no others could a call reach the plugin."""
    plugged.register("lamp", Observer())
    (caller,) = plugged.callers_of("lamp")
    assert caller is plugged.relay.weighbridge_event
    assert isinstance(caller, pluggy.HookCaller)


def test_fifty_registrations_leave_nothing(plugged: Hooks) -> None:
    """After warming up, plugins that came, were called and went leave as many objects as there were."""

    def come_and_go() -> None:
        plugged.register("lamp", Observer())
        plugged.event(EVENT)
        plugged.unregister("lamp")

    come_and_go()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        come_and_go()
    gc.collect()
    assert len(gc.get_objects()) - before < 10


def test_facts_come_with_the_name_of_who_says_so(plugged: Hooks, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises, and one that says something else, are logged and do not silence the others."""
    fact = Fact(subject="light", finding="on", evidence="it shines")
    plugged.register("lamp", plugin_with("weighbridge_examine", lambda: [fact, "and more"]))
    plugged.register("mute", plugin_with("weighbridge_examine", lambda: None))

    def broken() -> list[Fact]:
        raise OSError("no light")

    plugged.register("torch", plugin_with("weighbridge_examine", broken))
    assert list(plugged.examine()) == [("lamp", fact)]
    assert "torch: weighbridge_examine raised" in caplog.text
    assert "lamp: weighbridge_examine gave str; wanted a Fact" in caplog.text
