"""Hook calls in which the fault of one plugin stays with that plugin.

pluggy ends a call at the first implementation that raises. :func:`contained` makes the loop that pluggy runs for a
call, with an exception handler around each implementation. A handler that is not needed costs nothing since Python
3.11 (https://docs.python.org/3.11/whatsnew/3.11.html#faster-runtime), so neither does a call in which nobody raises.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NoReturn, Protocol, TypeAlias

import attrs
import pluggy

_Wrapper: TypeAlias = Generator[None, object, object]

_log: Final = logging.getLogger("weighbridge.hooks")
_FAULTS: Final = (Exception, SystemExit)
"""What a plugin may be blamed for. ``sys.exit`` is no way for it to end its host; Ctrl-C is not its doing."""
_NAME_OF: Final = type.__dict__["__name__"]
_NO_YIELD: Final = "the wrapper did not yield"
_LONGEST_REASON: Final = 200
"""Characters."""


class HookExec(Protocol):
    """The loop of one hook call, as pluggy calls it."""

    def __call__(
        self,
        hook_name: str,
        hook_impls: Sequence[pluggy.HookImpl],
        caller_kwargs: Mapping[str, object],
        firstresult: bool,
    ) -> object:
        """The results, or the first one."""


@attrs.frozen(eq=False)
class Overdraft:
    """A plugin that failed once too often."""

    name: str
    reason: str
    times: deque[float]
    """The record that it came from: of one generation of the plugin, and of no other."""


class Faults:
    """How often each plugin failed in a hook call, and who failed too often.

    :param limit: so many faults of one plugin are too many,
    :param window_seconds: if they come within this time.
    :param is_plugin: whether a registered name is a plugin's; faults of others are not contained.
    :param overdrawn: is told once of a plugin that failed too often, in the thread of the call and while that call goes
        on: it must not wait for anything.
    :param clock: in seconds.
    """

    def __init__(
        self,
        limit: int,
        window_seconds: float,
        *,
        is_plugin: Callable[[str], bool],
        overdrawn: Callable[[Overdraft], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._window_seconds = limit, window_seconds
        self._is_plugin, self._overdrawn, self._clock = is_plugin, overdrawn, clock
        self._times: dict[str, deque[float]] = {}
        self._totals: Counter[str] = Counter()
        # held for a few lines that call nothing; a finalizer may run between them, and call a hook that fails
        self._lock = threading.RLock()
        self.out: Final[set[str]] = set()
        """Names of those that failed too often: no new call reaches them."""

    def begin(self, name: str) -> None:
        """A new generation of `name` starts with a clean record. Its total goes on."""
        with self._lock:
            self._times.pop(name, None)
            self.out.discard(name)

    def is_current(self, overdraft: Overdraft) -> bool:
        """Whether the generation that failed too often is still the one that is registered."""
        return self._times.get(overdraft.name) is overdraft.times

    def totals(self) -> Mapping[str, int]:
        """Contained faults by plugin, since the beginning."""
        with self._lock:
            return MappingProxyType(dict(self._totals))

    def is_contained(self, impl: pluggy.HookImpl) -> bool:
        """Whether a fault of `impl` stays with it: what the application itself brought to the call is not a plugin's.

        The methods of ``call_extra`` have no plugin (``HookCaller.call_extra`` of pluggy).
        """
        return impl.plugin is not None and self._is_plugin(impl.plugin_name)

    def note(self, name: str, hook: str, error: BaseException) -> None:
        """Count and log a fault, as text: an exception object would hold the plugin's frames."""
        cause, trace = _told(error)
        overdraft = self._count(name, f"{hook} raised {cause}")
        _log.error("%s: %s raised, and the call goes on without it:\n%s", name, hook, trace)
        if overdraft is not None:
            self._overdrawn(overdraft)

    def _count(self, name: str, last: str) -> Overdraft | None:
        now = self._clock()
        with self._lock:
            self._totals[name] += 1
            times = self._times.setdefault(name, deque(maxlen=self._limit))
            times.append(now)
            if name in self.out or len(times) < self._limit or now - times[0] > self._window_seconds:
                return None
            self.out.add(name)
        count = f"{self._limit} hook calls" if self._limit > 1 else "a hook call"
        within = f" within {self._window_seconds:g} s" if self._limit > 1 else ""
        return Overdraft(name, f"{count} failed{within}, at last {last}", times)


def contained(faults: Faults, replaced: HookExec) -> HookExec:
    """The loop of a call that contains faults, in place of pluggy's own.

    It does what ``_multicall`` of pluggy does (https://github.com/pytest-dev/pluggy/blob/main/src/pluggy/_callers.py),
    and goes on where that would end: after a plugin that raised, and after a wrapper that raised or did not yield once.

    :param replaced: pluggy's loop; newer ones pass arguments that an implementation has a default for.
    """
    out, with_defaults = faults.out, "kwargnames" in replaced.__code__.co_names  # type: ignore[attr-defined]

    # every call of every hook runs through these lines, so they call nothing that is ours unless it is needed

    def multicall(
        hook_name: str, hook_impls: Sequence[pluggy.HookImpl], caller_kwargs: Mapping[str, object], firstresult: bool
    ) -> object:
        __tracebackhide__ = True
        if out:
            hook_impls = [impl for impl in hook_impls if impl.plugin_name not in out]
        results: list[object] = []
        begun: list[tuple[pluggy.HookImpl, _Wrapper]] = []
        exception = None
        try:
            for impl in reversed(hook_impls):
                try:
                    args = [caller_kwargs[name] for name in impl.argnames]
                except KeyError as missing:  # the caller's mistake
                    raise pluggy.HookCallError(f"hook call must provide argument {missing.args[0]!r}") from missing
                kwargs = _defaults(impl, caller_kwargs) if impl.kwargnames and with_defaults else None
                try:
                    if impl.hookwrapper:
                        result: Any = _old_style(impl, args, kwargs or {})
                    else:
                        result = impl.function(*args, **kwargs) if kwargs else impl.function(*args)
                        if not impl.wrapper:
                            if result is not None:
                                results.append(result)
                                if firstresult:
                                    break
                            continue
                    if next(result, begun) is begun:
                        raise RuntimeError(_NO_YIELD)
                    begun.append((impl, result))
                except _FAULTS as error:
                    if not faults.is_contained(impl):
                        raise
                    faults.note(impl.plugin_name, hook_name, error)
        except BaseException as error:
            exception = error
        outcome = (results[0] if results else None) if firstresult else results
        if not begun and exception is None:
            return outcome
        try:
            return _unwind(faults, hook_name, begun, outcome, exception)
        finally:
            del exception  # its traceback holds this frame

    return multicall


def _defaults(impl: pluggy.HookImpl, arguments: Mapping[str, object]) -> dict[str, object]:
    return {name: arguments[name] for name in impl.kwargnames if name in arguments}


def _unwind(
    faults: Faults,
    hook: str,
    begun: list[tuple[pluggy.HookImpl, _Wrapper]],
    outcome: object,
    exception: BaseException | None,
) -> object:
    """Resume the wrappers, the innermost first; each may change the outcome, or turn an exception into one."""
    __tracebackhide__ = True
    try:
        for impl, wrapper in reversed(begun):
            try:
                if exception is None:
                    wrapper.send(outcome)
                else:
                    wrapper.throw(exception)
                _second(wrapper)
            except StopIteration as end:  # only its end can raise this: https://peps.python.org/pep-0479/
                outcome, exception = end.value, None
            except _FAULTS as error:
                if _is_same(error, exception):
                    continue
                if faults.is_contained(impl):
                    faults.note(impl.plugin_name, hook, error)
                else:
                    exception = error
            except BaseException as error:
                exception = error
        if exception is not None:
            raise exception
        return outcome
    finally:
        del exception  # its traceback holds this frame


def _old_style(impl: pluggy.HookImpl, args: Sequence[object], kwargs: Mapping[str, object]) -> _Wrapper:
    """A wrapper of the old style, which is sent a :class:`pluggy.Result`, as one of the new."""
    wrapper: Any = impl.function(*args, **kwargs)
    if next(wrapper, wrapper) is wrapper:
        raise RuntimeError(_NO_YIELD)
    try:
        result = pluggy.Result((yield), None)
    except BaseException as error:
        result = pluggy.Result(None, error)
    try:
        wrapper.send(result)
    except StopIteration:
        return result.get_result()
    _second(wrapper)


def _second(wrapper: _Wrapper) -> NoReturn:
    """A wrapper that was resumed, and did not end."""
    wrapper.close()
    raise RuntimeError("the wrapper yielded twice")


def _is_same(error: BaseException, exception: BaseException | None) -> bool:
    """Whether `error` is the exception that a wrapper was resumed with.

    A StopIteration leaves a generator as the cause of a RuntimeError (https://peps.python.org/pep-0479/).
    """
    return exception is not None and (
        error is exception
        or (isinstance(exception, StopIteration) and type(error) is RuntimeError and error.__cause__ is exception)
    )


def _told(error: BaseException) -> tuple[str, str]:
    """Type and text of an exception on one line, and its traceback; it is a stranger's, and asking it can raise."""
    kind = _NAME_OF.__get__(type(error))  # past what a metaclass of its may say
    try:
        text = " ".join(str(error).split())[:_LONGEST_REASON]
        return (f"{kind}: {text}" if text else kind), "".join(traceback.format_exception(error)).rstrip()
    except _FAULTS:
        return kind, f"{kind} (no text: asking for it raised)"
