"""Where the functions of stages run: threads of the plugin's own, an event loop, or any executor."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol


class Landing(NamedTuple):
    """What came of a call that ran elsewhere."""

    result: Any
    failure: BaseException | None
    has_run: bool
    """False where nobody can say that the function came to its end: its worker was killed, or did not begin."""


class Runner(Protocol):
    """Runs one call elsewhere.

    :ivar can_run_inline: whether it runs in this process, so that a worker that has ended a stage may go on with the
        next one by itself. Where it cannot, each call is one of a stage's own functions with its one argument.
    """

    can_run_inline: bool

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Have it called; what comes of it comes with the future."""

    def receive(self, future: Future[Any], /) -> Landing:
        """What came of a call that has ended. An error is not raised: its traceback would lead to who has it."""

    def leave(self) -> None:
        """The transaction is over."""


class Here:
    """What runners of this process have in common."""

    def receive(self, future: Future[Any], /) -> Landing:
        """What came of a call that has ended."""
        if future.cancelled():
            return Landing(None, CancelledError(), True)
        failure = future.exception()
        return Landing(None if failure else future.result(), failure, True)

    def leave(self) -> None:
        """Nothing: it is there for other transactions, too."""


class Given(Here):
    """Threads that the caller has and keeps."""

    can_run_inline = True

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.submit: Final = executor.submit


class Threads(Here):
    """Threads of the plugin's own, begun at first use."""

    can_run_inline = True

    def __init__(self, workers: int) -> None:
        self.workers: Final = workers
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._begun: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._is_closed = False

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Have it called in one of them.

        :raises RuntimeError: once it is closed, or where the system gives no thread.
        """
        pool = self._pool
        return (self._begin() if pool is None else pool).submit(call, *arguments)

    def close(self, seconds: float = threading.TIMEOUT_MAX) -> bool:
        """End and join the threads; what was submitted is done first. Closing twice does nothing.

        :param seconds: how long they are waited for.
        :returns: whether all have ended.
        """
        with self._lock:
            self._is_closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)
        return join(self._begun, seconds)

    def _begin(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the threads of the pipelines were ended")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    self.workers, "weighbridge-pipeline", initializer=_note, initargs=(self._begun,)
                )
            return self._pool


def _note(begun: weakref.WeakSet[threading.Thread]) -> None:
    """A pool joins its threads without a limit of time, or not at all: what does so here has to know them."""
    begun.add(threading.current_thread())


def join(threads: Iterable[threading.Thread], seconds: float) -> bool:
    """Wait for threads to end, all together for so many seconds; whether all have."""
    deadline = time.monotonic() + seconds
    waited_for = list(threads)
    for thread in waited_for:
        thread.join(min(max(deadline - time.monotonic(), 0), threading.TIMEOUT_MAX))
    return not any(thread.is_alive() for thread in waited_for)


class Loop(Here):
    """One event loop in a thread of its own, begun at first use: coroutine functions run there."""

    can_run_inline = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(self, call: Callable[..., Coroutine[Any, Any, Any]], /, *arguments: Any) -> Future[Any]:
        """Have the coroutine run that `call` gives.

        :raises RuntimeError: once it is closed.
        """
        return asyncio.run_coroutine_threadsafe(_called(call, arguments), self._begin())

    def close(self) -> None:
        """Cancel what runs, wait for its end, and end the thread. Closing twice does nothing."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _begin(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the event loop of the pipelines was ended")
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(loop,), name="weighbridge-pipeline-loop", daemon=True)
                thread.start()
                self._loop, self._thread = loop, thread
            return self._loop


async def _called(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Called in the loop, so that what raises before the first await is a failure of the stage as well."""
    found = call(*arguments)
    return await found if asyncio.iscoroutine(found) else found


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        _cancel_all(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
