"""What the event loops of asyncio were told to run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from ..belongings import Belongings
from ..holders import strangers
from ..names import name_of, namespace_of, short
from .interpreter import unhooked
from .running import loaded, subclasses
from .suspended import finish
from .tie import Hold, Tie

_WAIT_SECONDS: Final = 1.0


class Tasks(Tie):
    """Tasks that run a coroutine of the plugin's."""

    name = "asyncio task"
    sentence = "a task of asyncio has a coroutine of the plugin's that has not ended; it is cancelled"

    def wanted(self) -> Iterable[type]:
        """The one in C, and the one in Python that stands behind it."""
        yield from loaded("_asyncio", "Task")
        yield from loaded("asyncio.tasks", "_PyTask")

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A task each. Where its loop does not run in another thread the coroutine is closed at once."""
        for kind in self.wanted():
            for task in belongings.heap.get(kind, ()):
                coroutine = task.get_coro()
                if not task.done() and coroutine is not None and coroutine in belongings:
                    cut = partial(_end, task, coroutine)
                    yield Hold(place=f"asyncio task {short(task.get_name())}", held=name_of(coroutine), cut=cut)


def _end(task: Any, coroutine: Any) -> None:
    loop = task.get_loop()
    task.add_done_callback(_retrieve)
    if _runs_elsewhere(loop):
        ended = threading.Event()

        def cancel() -> None:
            task.add_done_callback(lambda _: ended.set())
            task.cancel()

        loop.call_soon_threadsafe(cancel)
        if not ended.wait(_WAIT_SECONDS):
            raise TimeoutError
        return
    if not loop.is_closed():
        task.cancel()
    finish(coroutine)
    task._log_destroy_pending = (
        False  # nobody will finish it: https://github.com/python/cpython/blob/3.11/Lib/asyncio/tasks.py
    )


def _retrieve(task: Any) -> None:
    """Nobody waits for this task, so that how it ended is no news."""
    if not task.cancelled():
        task.exception()


def _runs_elsewhere(loop: Any) -> bool:
    ident = namespace_of(loop).get("_thread_id")
    return bool(loop.is_running()) and ident != threading.get_ident()


def _on_loop(loop: Any, call: Callable[[], object]) -> None:
    """Call it in the thread of the loop, if another one runs it; else here."""
    if not _runs_elsewhere(loop):
        call()
        return
    called = threading.Event()

    def call_there() -> None:
        try:
            call()
        finally:
            called.set()

    loop.call_soon_threadsafe(call_there)
    if not called.wait(_WAIT_SECONDS):
        raise TimeoutError


def _loops(belongings: Belongings) -> Iterator[tuple[Any, str]]:
    """Event loops that are not of a class of the plugin's, each with its name."""
    for kind in _kinds():
        yield from ((loop, name_of(loop)) for loop in belongings.heap.get(kind, ()) if loop not in belongings)


def _kinds() -> Iterable[type]:
    for base in loaded("asyncio.base_events", "BaseEventLoop"):
        yield from subclasses(base)


class LoopCallbacks(Tie):
    """``call_soon``, ``call_later`` and ``call_at``."""

    name = "asyncio callback"
    sentence = "an event loop was told to call the plugin soon or later; the call is cancelled"

    def wanted(self) -> Iterable[type]:
        """Both kinds of handles, and loops."""
        yield from loaded("asyncio.events", "Handle", "TimerHandle")
        yield from _kinds()

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A handle each: https://docs.python.org/3/library/asyncio-eventloop.html#asyncio.Handle.cancel."""
        others = {id(handle) for loop, _ in _loops(belongings) for handle in _bound(loop)}
        found = [
            (handle,)
            for kind in loaded("asyncio.events", "Handle", "TimerHandle")
            for handle in belongings.heap.get(kind, ())
            if id(handle) not in others and _calls(handle, belongings)
        ]
        where = strangers(found, belongings)
        for (handle,) in found:
            if id(handle) in where:
                yield Hold(place=where[id(handle)], held=name_of(handle._callback), cut=handle.cancel)


def _calls(handle: Any, belongings: Belongings) -> bool:
    return handle is not None and any(part in belongings for part in (handle._callback, *(handle._args or ())))


def _bound(loop: Any) -> Iterator[Any]:
    """Handles that belong to a descriptor or a signal, not to a time."""
    for _, reader, writer in _descriptors(loop):
        yield from (reader, writer)
    yield from namespace_of(loop).get("_signal_handlers", {}).values()


def _descriptors(loop: Any) -> Iterator[tuple[int, Any, Any]]:
    """https://github.com/python/cpython/blob/3.11/Lib/asyncio/selector_events.py (_add_reader)."""
    selector = namespace_of(loop).get("_selector")
    table = None if selector is None else selector.get_map()
    for descriptor, key in list((table or {}).items()):
        if type(key.data) is tuple and len(key.data) == 2:
            yield descriptor, *key.data


class LoopReaders(Tie):
    """``add_reader`` and ``add_writer``."""

    name = "asyncio reader"
    sentence = "an event loop calls the plugin when a descriptor is ready; the descriptor is no longer looked at"

    def wanted(self) -> Iterable[type]:
        """Every class of loops."""
        return _kinds()

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A descriptor in one direction each. It is the plugin's to close: it stays open."""
        for loop, name in _loops(belongings):
            for descriptor, reader, writer in _descriptors(loop):
                for handle, add, remove in (
                    (reader, "add_reader", "_remove_reader"),
                    (writer, "add_writer", "_remove_writer"),
                ):
                    if _calls(handle, belongings):
                        cut = partial(_on_loop, loop, partial(getattr(loop, remove), descriptor))
                        yield Hold(place=f"{name}.{add}({descriptor})", held=name_of(handle._callback), cut=cut)


class LoopSignals(Tie):
    """``add_signal_handler``."""

    name = "asyncio signal handler"
    sentence = "an event loop calls the plugin on a signal; the default is set"

    def wanted(self) -> Iterable[type]:
        """Every class of loops."""
        return _kinds()

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A signal each.

        Away from the main thread only the call is cancelled; the loop removes the handler when the signal comes.
        https://github.com/python/cpython/blob/3.11/Lib/asyncio/unix_events.py (_handle_signal)
        """
        is_main = threading.current_thread() is threading.main_thread()
        for loop, name in _loops(belongings):
            for number, handle in list(namespace_of(loop).get("_signal_handlers", {}).items()):
                if _calls(handle, belongings):
                    cut = partial(loop.remove_signal_handler, number) if is_main else handle.cancel
                    note = "" if is_main else "it is removed when the signal next comes: not in the main thread"
                    place = f"{name}.add_signal_handler({int(number)})"
                    yield Hold(place=place, held=name_of(handle._callback), cut=cut, note=note)


class LoopHooks(Tie):
    """What a loop calls for tasks and errors."""

    name = "asyncio hook"
    sentence = "the plugin set an event loop's exception handler or task factory; the default is set"

    def wanted(self) -> Iterable[type]:
        """Every class of loops."""
        return _kinds()

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A hook of one loop each."""
        for loop, name in _loops(belongings):
            for hook in ("exception_handler", "task_factory"):
                held = namespace_of(loop).get(f"_{hook}")
                if held is not None:
                    yield from unhooked(f"{name}.set_{hook}", held, None, getattr(loop, f"set_{hook}"), belongings)


class LoopPolicy(Tie):
    """The policy that makes event loops, and what watches child processes for it."""

    name = "asyncio policy"
    sentence = "the plugin set asyncio's event loop policy or child watcher; the default is made when it is needed"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Both are attributes, set here without their functions, which are deprecated.

        https://github.com/python/cpython/blob/3.13/Lib/asyncio/events.py (_event_loop_policy)
        """
        module: Any = sys.modules.get("asyncio.events")
        policy = namespace_of(module).get("_event_loop_policy")
        if policy is None:
            return
        if policy in belongings:
            cut = partial(setattr, module, "_event_loop_policy", None)
            yield Hold(place="asyncio.events._event_loop_policy", held=name_of(policy), cut=cut)
            return
        watcher = namespace_of(policy).get("_watcher")
        if watcher is not None and watcher in belongings:
            cut = partial(setattr, policy, "_watcher", None)
            yield Hold(place="asyncio.events._event_loop_policy._watcher", held=name_of(watcher), cut=cut)
