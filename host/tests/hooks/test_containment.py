"""Contained hook calls: what pluggy does, and what it does not do when a plugin raises."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Generator
from typing import Any, TypeAlias, TypeVar

import pluggy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.containment import Faults, Overdraft, contained

spec, impl = pluggy.HookspecMarker("test"), pluggy.HookimplMarker("test")
Step: TypeAlias = tuple[str, int]
F = TypeVar("F", bound=Callable[..., object])


class Specs:
    """The hooks that the tests call."""

    @spec
    def every(self, x: int, log: list[Step]) -> Any:
        """All results."""

    @spec(firstresult=True)
    def first(self, x: int, log: list[Step]) -> Any:
        """The first result."""

    @spec(historic=True)
    def past(self, x: int) -> Any:
        """Called for those who come later, too."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def faults_of(
    limit: int = 1000, *, application: str = "application", clock: Callable[[], float] | None = None
) -> tuple[Faults, list[Overdraft]]:
    """A count, and those who failed too often."""
    told: list[Overdraft] = []
    options: dict[str, Any] = {"clock": clock} if clock is not None else {}
    faults = Faults(limit, 60.0, is_plugin=lambda name: name != application, overdrawn=told.append, **options)
    return faults, told


def manager(faults: Faults | None, *plugins: tuple[str, object]) -> pluggy.PluginManager:
    """A plugin manager of pluggy's own, contained or not."""
    made = pluggy.PluginManager("test")
    made.add_hookspecs(Specs)
    if faults is not None:
        made._inner_hookexec = contained(faults, made._inner_hookexec)
    for name, plugin in plugins:
        made.register(plugin, name)
    return made


# -- plugins of every kind ---------------------------------------------------------------------------------------------


def plugin(number: int, kind: str, order: str, fails: str) -> object:
    """One that writes down what it does; `fails` says where it raises, if it does."""

    def step(where: str, log: list[Step]) -> None:
        log.append((where, number))
        if fails == where:
            raise ValueError(number)

    def plain(x: int, log: list[Step]) -> int | None:
        step("plain", log)
        return x + number if number % 3 else None

    def wrapper(x: int, log: list[Step]) -> Generator[None, Any, Any]:
        step("before", log)
        result = yield
        step("after", log)
        return [*result, number] if isinstance(result, list) else (result, number)

    def hookwrapper(x: int, log: list[Step]) -> Generator[None, Any, None]:
        step("before", log)
        outcome = yield
        step("after", log)
        if number % 2 and outcome.exception is None:
            outcome.force_result((outcome.get_result(), number))

    options: dict[str, Any] = {kind: True} if kind != "plain" else {}
    options |= {order: True} if order else {}
    function = {"plain": plain, "wrapper": wrapper, "hookwrapper": hookwrapper}[kind]
    namespace = {name: staticmethod(impl(**options)(function)) for name in ("every", "first")}
    return type("Plugin", (), namespace)()


KINDS = st.tuples(
    st.sampled_from(["plain", "plain", "wrapper", "hookwrapper"]),
    st.sampled_from(["", "tryfirst", "trylast"]),
    st.sampled_from(["", "", "plain", "before", "after"]),
)


def call(made: pluggy.PluginManager, hook: str) -> tuple[Any, list[Step]]:
    """The outcome of one call, and who did what in which order."""
    log: list[Step] = []
    return getattr(made.hook, hook)(x=10, log=log), log


@given(st.lists(KINDS, max_size=7), st.sampled_from(["every", "first"]))
def test_a_call_is_what_it_would_be_without_those_that_failed(kinds: list[tuple[str, str, str]], hook: str) -> None:
    """Whatever kind they are of and wherever they raise; without a fault it is pluggy's call, step by step."""
    faults, _ = faults_of()
    plugins = [(str(number), plugin(number, *kind)) for number, kind in enumerate(kinds)]
    outcome, log = call(manager(faults, *plugins), hook)
    failed = faults.totals()
    assert set(failed.values()) <= {1}
    expected, steps = call(manager(None, *(one for one in plugins if one[0] not in failed)), hook)
    assert outcome == expected
    assert [step for step in log if str(step[1]) not in failed] == steps


@given(st.lists(KINDS, max_size=5), st.sampled_from(["every", "first"]))
def test_without_a_plugin_a_call_is_what_pluggy_makes_of_it(kinds: list[tuple[str, str, str]], hook: str) -> None:
    """What the application itself brings is not contained: the same outcome or the same exception."""
    told: list[Overdraft] = []
    faults = Faults(1, 60.0, is_plugin=lambda name: False, overdrawn=told.append)
    # pluggy warns of an old wrapper that raises after its yield; that is not what this is about
    kinds = [kind for kind in kinds if kind[0] != "hookwrapper" or kind[2] != "after"]
    plugins = [(str(number), plugin(number, *kind)) for number, kind in enumerate(kinds)]

    def outcome(made: pluggy.PluginManager) -> Any:
        try:
            return call(made, hook)
        except ValueError as error:
            return error.args

    assert outcome(manager(faults, *plugins)) == outcome(manager(None, *plugins))
    assert faults.totals() == {}
    assert told == []


# -- faults ------------------------------------------------------------------------------------------------------------


def marked(options: dict[str, Any]) -> Callable[[F], F]:
    """The marker, with options that are not known before."""
    marker: Callable[[F], F] = impl(**options)
    return marker


def raising(error: BaseException | type[BaseException]) -> object:
    class Raising:
        @impl(tryfirst=True)
        def every(self) -> Any:
            raise error

    return Raising()


class Fine:
    """Answers."""

    @impl
    def every(self, x: int) -> int:
        return x


class Unasked(Exception):
    """Cannot even be asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("leave me alone")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), StopIteration(), Unasked()])
def test_what_a_plugin_raises_is_contained(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Counted and logged with its name, and the others answer."""
    faults, _ = faults_of()
    made = manager(faults, ("fine", Fine()), ("bad", raising(error)))
    assert made.hook.every(x=5, log=[]) == [5]
    assert faults.totals() == {"bad": 1}
    [record] = caplog.records
    assert (record.name, record.levelno) == ("weighbridge.hooks", logging.ERROR)
    assert record.getMessage().startswith("bad: every raised, and the call goes on without it:\n")
    assert type(error).__name__ in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_is_not_the_plugins_doing_passes(error: type[BaseException]) -> None:
    """Ctrl-C may come while a plugin runs; wrappers see it on its way out."""
    seen: list[BaseException] = []

    class Seeing:
        @impl(wrapper=True)
        def every(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            except BaseException as error:
                seen.append(error)
                raise

    faults, _ = faults_of()
    made = manager(faults, ("fine", Fine()), ("bad", raising(error)), ("seeing", Seeing()))
    with pytest.raises(error):
        made.hook.every(x=5, log=[])
    assert [type(one) for one in seen] == [error]
    assert faults.totals() == {}


@pytest.mark.parametrize("options", [{"wrapper": True}, {"hookwrapper": True}])
@pytest.mark.parametrize("yields", [0, 2])
def test_a_wrapper_has_to_yield_once(options: dict[str, Any], yields: int, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise it has failed, and the call goes on without it."""

    class Wrapper:
        @marked(options)
        def every(self) -> Generator[None, Any, Any]:
            for _ in range(yields):
                yield

    faults, _ = faults_of()
    assert manager(faults, ("fine", Fine()), ("bad", Wrapper())).hook.every(x=5, log=[]) == [5]
    assert faults.totals() == {"bad": 1}
    assert f"the wrapper {'yielded twice' if yields else 'did not yield'}" in caplog.text


def test_a_wrapper_cannot_swallow_what_interrupts_by_failing() -> None:
    """Its own exception is contained, and Ctrl-C goes on."""

    class Clumsy:
        @impl(wrapper=True)
        def every(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            except BaseException:
                raise ValueError("oh") from None

    faults, _ = faults_of()
    made = manager(faults, ("bad", raising(KeyboardInterrupt)), ("clumsy", Clumsy()))
    with pytest.raises(KeyboardInterrupt):
        made.hook.every(x=5, log=[])
    assert faults.totals() == {"clumsy": 1}


@pytest.mark.parametrize("options", [{"wrapper": True}, {"hookwrapper": True}])
@pytest.mark.parametrize("error", [LookupError("mine"), StopIteration("mine")])
def test_the_applications_own_exception_reaches_it(options: dict[str, Any], error: Exception) -> None:
    """Through wrappers of plugins, which are not to blame for passing it on."""

    class Wrapper:
        @marked(options)
        def every(self) -> Generator[None, Any, Any]:
            outcome = yield
            return outcome

    faults, _ = faults_of()
    made = manager(faults, ("application", raising(error)), ("wrapper", Wrapper()))
    with pytest.raises(type(error)) as caught:
        made.hook.every(x=5, log=[])
    assert caught.value is error
    assert faults.totals() == {}


def test_an_argument_that_the_caller_forgot_is_the_callers_fault() -> None:
    """As with pluggy."""
    faults, _ = faults_of()
    made = manager(faults, ("fine", Fine()))
    with (
        pytest.warns(UserWarning, match="cannot be found in this hook call"),
        pytest.raises(pluggy.HookCallError, match="must provide argument 'x'"),
    ):
        made.hook.every(log=[])
    assert faults.totals() == {}


def test_an_exception_is_not_kept() -> None:
    """Without a collection: it would keep the frames of the plugin."""
    made: list[weakref.ref[BaseException]] = []

    class Kept(Exception):
        pass

    class Bad:
        @impl
        def every(self) -> None:
            error = Kept()
            made.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

    faults, _ = faults_of()
    gc.disable()
    try:
        assert manager(faults, ("fine", Fine()), ("bad", Bad())).hook.every(x=1, log=[]) == [1]
        assert [reference() for reference in made] == [None]
    finally:
        gc.enable()


# -- other ways to call ------------------------------------------------------------------------------------------------


def test_a_method_that_the_caller_brings_along_is_its_own() -> None:
    """``call_extra``: plugins are contained, and the caller's method is not."""

    def extra(x: int) -> int:
        return x * 2

    def broken(x: int) -> int:
        raise LookupError(x)

    faults, _ = faults_of()
    made = manager(faults, ("fine", Fine()), ("bad", raising(ValueError)))
    assert made.hook.every.call_extra([extra], {"x": 5, "log": []}) == [10, 5]
    with pytest.raises(LookupError):
        made.hook.every.call_extra([broken], {"x": 5, "log": []})
    assert faults.totals() == {"bad": 2}


def test_a_subset_is_contained() -> None:
    """``subset_hook_caller`` of pluggy."""
    fine, faults = Fine(), faults_of()[0]
    made = manager(faults, ("fine", fine), ("bad", raising(ValueError)), ("more", Fine()))
    assert made.subset_hook_caller("every", [fine])(x=5, log=[]) == [5]
    assert faults.totals() == {"bad": 1}


def test_history_is_contained() -> None:
    """The call itself, and its repetition for those who come later."""

    class Bad:
        @impl
        def past(self, x: int) -> int:
            raise ValueError(x)

    class Good:
        @impl
        def past(self, x: int) -> int:
            return x

    faults, _ = faults_of()
    made = manager(faults, ("bad", Bad()), ("good", Good()))
    results: list[int] = []
    made.hook.past.call_historic(results.append, {"x": 1})
    made.register(Bad(), "late and bad")
    made.register(Good(), "late and good")
    assert results == [1, 1]
    assert faults.totals() == {"bad": 1, "late and bad": 1}


def test_an_argument_with_a_default_is_passed_as_pluggy_passes_it() -> None:
    """Newer versions pass what the caller gave, older ones leave the default."""

    class Defaulting:
        @impl
        def every(self, x: int = 7) -> int:
            return x

    expected = manager(None, ("plugin", Defaulting())).hook.every(x=5, log=[])
    assert manager(faults_of()[0], ("plugin", Defaulting())).hook.every(x=5, log=[]) == expected


# -- too often ---------------------------------------------------------------------------------------------------------


def fail(faults: Faults, name: str, times: int) -> None:
    for _ in range(times):
        faults.note(name, "every", ValueError("no\nway"))


def test_the_limit_counts_for_each_plugin_and_is_told_once() -> None:
    """With a reason on one line."""
    faults, told = faults_of(3)
    fail(faults, "other", 2)
    fail(faults, "bad", 2)
    assert told == []
    fail(faults, "bad", 3)
    reason = "3 hook calls failed within 60 s, at last every raised ValueError: no way"
    assert [(one.name, one.reason) for one in told] == [("bad", reason)]
    assert faults.out == {"bad"}
    assert faults.totals() == {"other": 2, "bad": 5}


def test_one_can_be_too_many() -> None:
    """The reason names no window then."""
    faults, told = faults_of(1)
    fail(faults, "bad", 1)
    assert [one.reason for one in told] == ["a hook call failed, at last every raised ValueError: no way"]


def test_only_faults_within_the_window_count() -> None:
    """The window moves: any three that are close enough."""
    clock = Clock()
    faults, told = faults_of(3, clock=clock)
    for clock.now in (0.0, 40.0, 61.0, 120.0):
        fail(faults, "bad", 1)
        assert told == []
    clock.now = 121.0
    fail(faults, "bad", 1)
    assert len(told) == 1


def test_who_failed_too_often_is_not_called_any_more() -> None:
    """From the next call on, although it is registered still."""
    faults, told = faults_of(2)
    made = manager(faults, ("fine", Fine()), ("bad", raising(ValueError)))
    for _ in range(5):
        assert made.hook.every(x=5, log=[]) == [5]
    assert faults.totals() == {"bad": 2}
    assert [one.name for one in told] == ["bad"]


def test_the_next_generation_starts_afresh() -> None:
    """And what was told of the one before does not hit it. The total goes on."""
    faults, told = faults_of(2)
    fail(faults, "bad", 2)
    assert faults.is_current(told[0])
    faults.begin("bad")
    assert not faults.is_current(told[0])
    assert faults.out == set()
    fail(faults, "bad", 1)
    assert len(told) == 1
    assert faults.totals() == {"bad": 3}
