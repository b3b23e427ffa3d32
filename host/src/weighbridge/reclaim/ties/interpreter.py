"""What the interpreter itself calls: hooks in ``sys``, trace functions, monitoring tools, audit hooks."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType, FunctionType, TracebackType
from typing import Any, Final

from ..belongings import Belongings
from ..names import name_of, namespace_of
from ..threads import stack
from .tie import Hold, Tie
from .wrapping import beneath, is_own, within

_SYS: Final = vars(sys)


def unhooked(
    place: str, current: Any, default: Any, put: Callable[[Any], object], belongings: Belongings
) -> Iterator[Hold]:
    """Holds of a place for a single hook, which may be wrapped in hooks of others.

    :param default: what the interpreter has there.
    """

    def under(hook: Any) -> Any:
        found = beneath(hook, belongings, lambda thing: thing is default)
        return default if found is None else found

    if is_own(current, belongings):
        yield Hold(place=place, held=name_of(current), cut=partial(put, under(current)))
        return
    for layer in within(current, belongings):
        note = f"{place} wraps it, and wraps now what it wrapped"
        cut = partial(layer.put, under(layer.held))
        yield Hold(place=layer.place, held=name_of(layer.held), cut=cut, note=note)


class SysHooks(Tie):
    """``sys.excepthook`` and the other places for a single function."""

    name = "sys hook"
    sentence = (
        "a function of the plugin's is installed in sys, for example as sys.excepthook; restore it on deactivation"
    )

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """What the interpreter, or the hook beneath, did before is put back."""
        for name in HOOKS:
            if name in _SYS:
                default = _SYS.get(f"__{name}__")
                yield from unhooked(f"sys.{name}", _SYS[name], default, partial(setattr, sys, name), belongings)


class AsyncGeneratorHooks(Tie):
    """``sys.set_asyncgen_hooks`` of the current thread: those of others cannot be seen."""

    name = "asyncgen hook"
    sentence = "sys.set_asyncgen_hooks was called with functions of the plugin's"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """``firstiter`` and ``finalizer``, each of its own."""
        hooks = sys.get_asyncgen_hooks()
        for name, hook in (("firstiter", hooks.firstiter), ("finalizer", hooks.finalizer)):
            put = partial(_put_asyncgen_hook, name)
            yield from unhooked(f"sys.get_asyncgen_hooks().{name}", hook, None, put, belongings)


def _put_asyncgen_hook(name: str, hook: Any) -> None:
    if name == "firstiter":
        sys.set_asyncgen_hooks(firstiter=hook)
    else:
        sys.set_asyncgen_hooks(finalizer=hook)


class TraceFunctions(Tie):
    """``sys.settrace`` and ``sys.setprofile`` of the current thread, and those that ``threading`` gives new threads."""

    name = "trace function"
    sentence = "sys.settrace, sys.setprofile or their like in threading were called with a function of the plugin's"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """The functions, and what they left in running frames, https://docs.python.org/3/library/sys.html#sys.settrace."""
        yield from unhooked("sys.gettrace()", sys.gettrace(), None, sys.settrace, belongings)
        yield from unhooked("sys.getprofile()", sys.getprofile(), None, sys.setprofile, belongings)
        space = vars(threading)
        for place, name in (("threading.gettrace()", "_trace_hook"), ("threading.getprofile()", "_profile_hook")):
            yield from unhooked(place, space.get(name), None, partial(space.__setitem__, name), belongings)
        for innermost in sys._current_frames().values():
            for frame in stack(innermost):
                trace = frame.f_trace
                if trace is not None and is_own(trace, belongings):
                    place = f"{name_of(frame)}, f_trace"
                    yield Hold(place=place, held=name_of(trace), cut=partial(_untrace, frame))


def _untrace(frame: FrameType) -> None:
    frame.f_trace = None


class MonitoringCallbacks(Tie):
    """``sys.monitoring`` (Python 3.12): a callback for each event and each of six tools."""

    name = "sys.monitoring callback"
    sentence = "sys.monitoring.register_callback was called with functions of the plugin's"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A callback can only be seen by replacing it: others are put back at once, before another thread runs."""
        monitoring: Any = _SYS.get("monitoring")
        if monitoring is None:
            return
        for tool in range(_TOOLS):
            if monitoring.get_tool(tool) is None:
                continue
            callbacks = _callbacks(monitoring, tool)
            mine = {event for event, callback in callbacks.items() if callback in belongings}
            others = len(callbacks) > len(mine)
            for event in sorted(mine):
                place = f"sys.monitoring, tool {tool}, {event}"
                is_last = not others and event == max(mine)
                cut = partial(_unmonitor, monitoring, tool, event, is_last=is_last)
                yield Hold(place=place, held=name_of(callbacks[event]), cut=cut)


_TOOLS: Final = 6
"""https://docs.python.org/3/library/sys.monitoring.html#registering-and-using-tools."""
_LONG_SECONDS: Final = 0.1
"""No longer: whoever already waits for the interpreter gets it all the same, and this thread then waits that long."""


def _callbacks(monitoring: Any, tool: int) -> dict[str, Any]:
    """The callbacks of one tool, by the name of their event."""
    found = {}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_LONG_SECONDS)
    try:
        for name, event in _events(monitoring).items():
            callback = monitoring.register_callback(tool, event, None)
            if callback is not None:
                monitoring.register_callback(tool, event, callback)
                found[name] = callback
    finally:
        sys.setswitchinterval(interval)
    return found


def _events(monitoring: Any) -> dict[str, int]:
    """Events with a bit each; ``BRANCH`` of Python 3.14 stands for two others."""
    events = vars(monitoring.events).items()
    return {name: bit for name, bit in events if isinstance(bit, int) and bit.bit_count() == 1}


def _unmonitor(monitoring: Any, tool: int, event: str, *, is_last: bool) -> None:
    bit = _events(monitoring)[event]
    monitoring.register_callback(tool, bit, None)
    if is_last:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


class LastException(Tie):
    """``sys.last_traceback`` and its like: what an interactive interpreter printed last.

    An exception of somebody else's that came through the plugin loses its frames only: the tie of tracebacks does that.
    """

    name = "last exception"
    sentence = "sys.last_traceback keeps the frames of the exception that was printed last"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A traceback with frames of the plugin's; an exception of a class of the plugin's, and that class."""
        for name in LAST:
            value = _SYS.get(name)
            if belongings.is_code(value) or belongings.is_code(type(value)) or _is_trace(value, belongings):
                yield Hold(place=f"sys.{name}", held=name_of(value), cut=partial(_SYS.pop, name, None))


def _is_trace(value: object, belongings: Belongings) -> bool:
    return type(value) is TracebackType and value in belongings


class Streams(Tie):
    """``sys.stdout`` and its like, replaced by an object of the plugin's."""

    name = "wrapped stream"
    sentence = "sys.stdout, sys.stderr or sys.stdin is an object of the plugin's; put the stream back on deactivation"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """The stream beneath is put back, or that of the process."""
        for name in STREAMS:
            if name in _SYS:
                default = _SYS.get(f"__{name}__")
                yield from unhooked(f"sys.{name}", _SYS[name], default, partial(setattr, sys, name), belongings)


class Prompts(Tie):
    """``sys.ps1`` and ``sys.ps2``, which may be any object whose text changes."""

    name = "prompt"
    sentence = "sys.ps1 or sys.ps2 is an object of the plugin's"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """They exist in an interactive interpreter only, so elsewhere they are taken away."""
        for name, text in PROMPTS.items():
            if name in _SYS and is_own(_SYS[name], belongings):
                is_interactive = "__file__" not in namespace_of(sys.modules.get("__main__"))
                cut = partial(setattr, sys, name, text) if is_interactive else partial(_SYS.pop, name, None)
                yield Hold(place=f"sys.{name}", held=name_of(_SYS[name]), cut=cut)


class AuditHooks(Tie):
    """``sys.addaudithook``: cannot be undone, and the list is hidden even from the collector.

    https://github.com/python/cpython/blob/3.11/Python/sysmodule.c (``sys_addaudithook_impl``).
    """

    name = "audit hook"
    sentence = "sys.addaudithook cannot be undone by design; do without it, or unload by restarting the process"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An event of our own is raised, and the functions of the plugin's that it calls are the hooks."""
        candidates = {id(function.__code__): function for function in belongings.functions if _takes_event(function)}
        if not candidates:
            return
        for code in _elsewhere(lambda: _called_by_audit(candidates, belongings)):
            note = "an audit hook cannot be removed before the process ends"
            yield Hold(place="sys.addaudithook", held=name_of(candidates[code]), cut=None, note=note)


_EVENT: Final = "weighbridge.who_listens"
_ARGUMENTS: Final = 2
_VARIABLE: Final = 4
"""``inspect.CO_VARARGS``."""


def _takes_event(function: FunctionType) -> bool:
    code = function.__code__
    return code.co_argcount >= _ARGUMENTS or bool(code.co_flags & _VARIABLE)


def _elsewhere(call: Callable[[], set[int]]) -> set[int]:
    """Call it in a thread that has no profile function: not in the way of somebody's profiler in this one.

    It is not one of ``threading``'s, which may have been told to give each of its threads a profile function.
    """
    if sys.getprofile() is None:
        return call()
    came, done = [], _thread.allocate_lock()

    def run() -> None:
        with suppress(Exception):
            came.append(call())
        done.release()

    done.acquire()
    _thread.start_new_thread(run, ())
    with done:
        return came[0] if came else set()


def _called_by_audit(candidates: Mapping[int, FunctionType], belongings: Belongings) -> set[int]:
    """Identities of the codes that an audit event runs, seen by a profile function in this thread.

    Hooks are hidden from it unless they say ``__cantrace__``: https://docs.python.org/3/library/sys.html#sys.addaudithook.
    """
    called: set[int] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and id(frame.f_code) in candidates:
            called.add(id(frame.f_code))

    with (
        _traceable(candidates.values(), belongings),
        suppress(Exception),
    ):  # a hook may forbid whatever it does not know
        try:
            sys.setprofile(profile)
            sys.audit(_EVENT)
        finally:
            sys.setprofile(None)
    return called


@contextmanager
def _traceable(functions: Any, belongings: Belongings) -> Iterator[None]:
    """Let a profile function see these functions, and instances that can be called, where they are audit hooks."""
    mark = "__cantrace__"
    spaces = [namespace_of(function) for function in functions]
    fresh = [space for space in spaces if mark not in space]
    callable_ones = [cls for cls in belongings.classes if "__call__" in namespace_of(cls)]
    classes = [cls for cls in callable_ones if mark not in namespace_of(cls)]
    for space in fresh:
        space[mark] = True
    for cls in classes:
        type.__setattr__(cls, mark, True)
    try:
        yield
    finally:
        for space in fresh:
            space.pop(mark, None)
        for cls in classes:
            type.__delattr__(cls, mark)


LAST: Final = ("last_exc", "last_value", "last_traceback", "last_type")
HOOKS: Final = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")
STREAMS: Final = ("stdin", "stdout", "stderr")
PROMPTS: Final[Mapping[str, str]] = {"ps1": ">>> ", "ps2": "... "}
