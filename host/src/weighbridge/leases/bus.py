"""Messages by topic, between parties that hold no references to each other."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias

import attrs
from weighbridge_hookspecs import ConfigurationError, ContextClosed, Lease, Saturated

from .checks import can_be_called, seconds_from_0, whole_number
from .schedule import TaskStillRunning, still_running

Policy: TypeAlias = Literal["drop_oldest", "reject"]

_log: Final = logging.getLogger("weighbridge.bus")
_POLICIES: Final = ("drop_oldest", "reject")
_MAX_PENDING: Final = 10_000


@attrs.frozen(kw_only=True)
class SubscriptionStatistics:
    """What became of the messages to one subscriber.

    ``accepted == pending + delivering + delivered + dropped + withdrawn + discarded`` at every moment.
    """

    topic: str
    max_pending: int
    pending: int
    delivering: int
    """1 while the subscriber is called, else 0."""
    accepted: int
    delivered: int
    """Calls that have ended, the failures among them."""
    failures: int
    """Calls that raised."""
    dropped: int
    """The oldest ones, which gave way to newer ones."""
    rejected: int
    """Messages that found the queue full and were not accepted."""
    withdrawn: int
    """Messages whose sender left before they were delivered."""
    discarded: int
    """Messages that were waiting when the subscription was released."""


@attrs.frozen(kw_only=True)
class BusStatistics:
    """How a bus stands, and the sums over all subscriptions there ever were; the equation is the same."""

    subscriptions: int
    topics: int
    """Topics that somebody subscribes to."""
    threads: int
    published: int
    """Calls of `publish`, those without any subscriber among them."""
    pending: int
    delivering: int
    accepted: int
    delivered: int
    failures: int
    dropped: int
    rejected: int
    withdrawn: int
    discarded: int


@attrs.define
class _Tally:
    accepted: int = 0
    delivered: int = 0
    failures: int = 0
    dropped: int = 0
    rejected: int = 0
    withdrawn: int = 0
    discarded: int = 0

    def count_delivery(self, *, failed: bool) -> None:
        self.delivered += 1
        self.failures += failed

    def add(self, other: _Tally) -> None:
        for name, number in attrs.asdict(other).items():
            setattr(self, name, getattr(self, name) + number)


class _Sender:
    """Whose messages they are; nothing but an identity, so that a queue leads to nobody."""

    closed = False


_Item: TypeAlias = tuple[_Sender, Any]


class _Worker:
    """A thread that delivers, and what it is delivering."""

    def __init__(self, run: Callable[[_Worker], None], name: str) -> None:
        self.thread: Final = threading.Thread(target=run, args=(self,), name=name, daemon=True)
        self.signal: Final = threading.Lock()
        self.signal.acquire()
        self.subscription: Subscription | None = None
        self.sender: _Sender | None = None
        self.call: tuple[Callable[[Any], object], Any] | None = None  # receiver and message
        self.failed = False

    def make_call(self) -> None:
        """Call the receiver once. When this returns nothing here holds it or the message."""
        assert self.call is not None
        (receive, message), self.call = self.call, None
        receive(message)


class Subscription:
    """A lease on the messages of one topic. It holds the receiver until it is released, and nothing else does."""

    def __init__(
        self, bus: MessageBus, topic: str, receive: Callable[[Any], object], name: str, max_pending: int, policy: Policy
    ) -> None:
        self.topic: Final = topic
        self.name: Final = name
        self.max_pending: Final = max_pending
        self.policy: Final = policy
        self._bus = bus
        self._receive: Callable[[Any], object] | None = receive
        self._queue: deque[_Item] = deque()
        self._tally = _Tally()
        self._worker: _Worker | None = None
        self._in_line = False
        self._quiet: threading.Event | None = None

    def __repr__(self) -> str:
        return f"<Subscription {self.name!r} of {self.topic!r} {'released' if self._receive is None else 'held'}>"

    def release(self) -> None:
        """End it: what waits is discarded, and a call under way is waited for, unless this is that call.

        Releasing twice does nothing.

        :raises TaskStillRunning: if the call does not end by the deadline of the bus; the subscription is over all the
            same. The text has the stack of the call.
        """
        self._bus._release(self)

    def statistics(self) -> SubscriptionStatistics:
        """What became of its messages, all of one moment."""
        with self._bus._lock:
            return SubscriptionStatistics(
                topic=self.topic,
                max_pending=self.max_pending,
                pending=len(self._queue),
                delivering=int(self._worker is not None),
                **attrs.asdict(self._tally),
            )


class MessageBus:
    """Publish and subscribe. Thread-safe; a bounded queue for each subscriber.

    Each subscriber is called by one thread at a time, with the messages in the order in which they were published.
    A thread is started when there is something to deliver and the others are busy, so a subscriber that takes long
    does not hold up the others until there are `max_threads` of them. Threads that have nothing to do end; the last
    one ends with the last subscription.

    A message is handed over as it is, and not copied: publish what nobody changes.

    :param name: names the threads.
    :param max_threads: threads at most, from 1 up.
    :param join_seconds: how long a release waits for the call under way, and a close for the threads.
    :param idle_seconds: how long a thread more than one stays without work.
    :raises ConfigurationError: if one of them makes no sense.
    """

    def __init__(
        self, name: str = "weighbridge", *, max_threads: int = 8, join_seconds: float = 5.0, idle_seconds: float = 5.0
    ) -> None:
        self.name: Final = name
        self.max_threads: Final = whole_number("max_threads", max_threads, least=1)
        self.join_seconds: Final = seconds_from_0("join_seconds", join_seconds)
        self._idle_seconds = seconds_from_0("idle_seconds", idle_seconds)
        # A finalizer that the collector runs may publish while its thread is at work in here.
        self._lock = threading.RLock()
        self._topics: dict[str, dict[Subscription, None]] = {}
        self._count = 0  # of subscriptions
        self._line: deque[Subscription] = deque()  # those with messages that no thread has taken on yet
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []  # the last one is called first, so that those not needed stay idle and end
        self._busy = 0  # of the workers
        self._ending: list[threading.Thread] = []
        self._anybody = _Sender()
        self._past = _Tally()
        self._published = 0
        self._closed = False

    def publish(self, topic: str, message: Any) -> None:
        """Put `message` into the queue of every subscriber of `topic`; it never waits.

        :raises ValueError: if `topic` is no text, or empty.
        :raises Saturated: if a subscriber with the policy ``"reject"`` has a full queue. All others have the message
            then, and get it twice if it is published again. ``retry_after_seconds`` is None: it is not known.
        :raises ContextClosed: if the bus is closed.
        """
        self._publish(topic, message, self._anybody)

    def subscribe(
        self,
        topic: str,
        receive: Callable[[Any], object],
        *,
        max_pending: int = _MAX_PENDING,
        policy: Policy = "drop_oldest",
        name: str | None = None,
    ) -> Subscription:
        """Have `receive` called with every message of `topic`, in a thread of the bus, until the lease is released.

        What `receive` raises is logged as text and counted, and the next message comes all the same.

        :param max_pending: messages that wait at most, from 1 up.
        :param policy: at a full queue, ``"drop_oldest"`` lets the oldest message go, and ``"reject"`` does not take
            the new one and tells the publisher.
        :param name: what the log calls the subscriber; the name of the function if it is None.
        :raises ValueError: if `topic` is no text, or empty.
        :raises ConfigurationError: if another argument makes no sense.
        :raises ContextClosed: if the bus is closed.
        :raises RuntimeError: if the system gives no thread; nothing is subscribed then.
        """
        can_be_called("receive", receive)
        whole_number("max_pending", max_pending, least=1)
        if policy not in _POLICIES:
            raise ConfigurationError(
                f"policy is {policy!r}", step="lease", advice=f"Take one of {', '.join(_POLICIES)}"
            )
        label = name or str(getattr(receive, "__qualname__", type(receive).__name__))
        subscription = Subscription(self, _checked(topic), receive, label, max_pending, policy)
        with self._lock:
            self._check_open()
            if not self._workers:
                self._start_worker()
            self._topics.setdefault(topic, {})[subscription] = None
            self._count += 1
        return subscription

    def close(self) -> None:
        """End every subscription and every thread. Closing twice does nothing.

        :raises TaskStillRunning: if calls do not end by the deadline; the text has their stacks. They are the last.
        """
        with self._lock:
            self._closed = True
            threads = [*self._ending, *(worker.thread for worker in self._workers)]
            left = [self._detach(subscription) for topic in [*self._topics.values()] for subscription in [*topic]]
            self._dismiss()
        left.clear()  # outside of the lock: messages and receivers may have finalizers
        deadline = time.monotonic() + self.join_seconds
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0))
        stuck = [str(still_running(f"thread {thread.name!r}", thread)) for thread in threads if _goes_on(thread)]
        if stuck:
            raise TaskStillRunning("\n".join(stuck))

    def thread_idents(self) -> frozenset[int]:
        """Identifiers of the threads of this bus, those that are ending among them."""
        with self._lock:
            threads = [*self._ending, *(worker.thread for worker in self._workers)]
        return frozenset(thread.ident for thread in threads if thread.is_alive() and thread.ident is not None)

    def statistics(self) -> BusStatistics:
        """How it stands, all of one moment."""
        with self._lock:
            tally, pending = attrs.evolve(self._past), 0
            for topic in self._topics.values():
                for subscription in topic:
                    tally.add(subscription._tally)
                    pending += len(subscription._queue)
            return BusStatistics(
                subscriptions=self._count,
                topics=len(self._topics),
                threads=len(self._workers),
                published=self._published,
                pending=pending,
                delivering=self._busy,
                **attrs.asdict(tally),
            )

    # --- publishing --------------------------------------------------------------------------------------------------

    def _publish(self, topic: str, message: Any, sender: _Sender) -> None:
        item, full = (sender, message), 0
        gone: list[_Item] = []  # let go of at the end, outside of the lock: a message may have a finalizer
        _checked(topic)
        with self._lock:
            self._check_open()
            if sender.closed:
                raise ContextClosed("the bus is closed to this publisher", step="lease", advice=_ADVICE)
            self._published += 1
            subscriptions = tuple(self._topics.get(topic, ()))
            for subscription in subscriptions:
                full += not self._offer(subscription, item, gone)
        if full:
            raise Saturated(
                f"{full} of {len(subscriptions)} subscribers of {topic!r} have a full queue and reject more"
            )

    def _offer(self, subscription: Subscription, item: _Item, gone: list[_Item]) -> bool:
        queue, tally = subscription._queue, subscription._tally
        while len(queue) >= subscription.max_pending:
            if subscription.policy == "reject":
                tally.rejected += 1
                return False
            gone.append(queue.popleft())
            tally.dropped += 1
        queue.append(item)
        tally.accepted += 1
        if subscription._worker is None and not subscription._in_line:
            self._call_worker(subscription)
        return True

    def _call_worker(self, subscription: Subscription) -> None:
        """Have a thread deliver: an idle one, or a new one; or the first one that is done with its own."""
        if self._idle:
            worker = self._idle.pop()
            self._take_on(worker, subscription)
            worker.signal.release()
            return
        subscription._in_line = True
        self._line.append(subscription)
        on_their_way = len(self._workers) - self._busy  # started, and not yet at the line
        if len(self._line) > on_their_way and len(self._workers) < self.max_threads:
            try:
                self._start_worker()
            except (RuntimeError, MemoryError):  # no more threads; there is one at least, and it will come to it
                if not self._workers:
                    raise

    def _start_worker(self) -> None:
        worker = _Worker(self._work, f"{self.name}-bus")
        self._workers.add(worker)
        try:
            worker.thread.start()
        except (RuntimeError, MemoryError):
            self._workers.discard(worker)
            raise

    # --- delivering --------------------------------------------------------------------------------------------------

    def _work(self, worker: _Worker) -> None:
        while True:
            try:
                while worker.call is not None or self._find_work(worker):
                    self._deliver(worker)
                return
            except BaseException:  # raised from outside, between two calls; whoever is subscribed needs the thread
                _log.error("a thread of the bus goes on after\n%s", traceback.format_exc())

    def _deliver(self, worker: _Worker) -> None:
        """Call the receiver. Nothing passes, not even a ``sys.exit``: the thread is there for others, too."""
        failure = ""
        try:
            worker.make_call()
        except BaseException:
            failure = traceback.format_exc()  # as text: an exception object would keep its frames alive
        worker.failed = bool(failure)
        if failure and worker.subscription is not None:
            _log.error(
                "%s, a subscriber of %r, raised:\n%s", worker.subscription.name, worker.subscription.topic, failure
            )

    def _find_work(self, worker: _Worker) -> bool:
        """End the last delivery and begin the next one; false if the thread should end."""
        with self._lock:
            self._finish(worker)
            if self._take_from_line(worker):
                return True
            if not self._count:
                self._end(worker)
                return False
            self._idle.append(worker)
            is_last = len(self._idle) == 1
        while not worker.signal.acquire(timeout=-1 if is_last else self._idle_seconds):
            if self._retire(worker):
                return False
        return worker.subscription is not None

    def _finish(self, worker: _Worker) -> None:
        subscription, worker.subscription, worker.sender = worker.subscription, None, None
        if subscription is None:
            return
        self._busy -= 1
        subscription._tally.count_delivery(failed=worker.failed)
        if subscription._receive is None:  # it was released meanwhile, and its tally added to the others
            self._past.count_delivery(failed=worker.failed)
        subscription._worker = None
        if subscription._quiet is not None:
            subscription._quiet.set()
            subscription._quiet = None
        if subscription._queue:
            subscription._in_line = True
            self._line.append(subscription)

    def _take_from_line(self, worker: _Worker) -> bool:
        while self._line:
            subscription = self._line.popleft()
            subscription._in_line = False
            if subscription._queue:  # it may have been released, or its messages withdrawn
                self._take_on(worker, subscription)
                return True
        return False

    def _take_on(self, worker: _Worker, subscription: Subscription) -> None:
        worker.subscription, subscription._worker = subscription, worker
        worker.sender, message = subscription._queue.popleft()
        assert subscription._receive is not None
        worker.call = (subscription._receive, message)
        self._busy += 1

    def _retire(self, worker: _Worker) -> bool:
        """End an idle thread, unless it was given something to do in this very moment."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self._end(worker)
            return True

    def _end(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        self._ending.append(worker.thread)

    def _dismiss(self) -> None:
        """End the idle threads once there is nobody left to deliver to; the busy ones see for themselves."""
        while self._idle and not self._count:
            worker = self._idle.pop()
            self._end(worker)
            worker.signal.release()

    # --- taking back -------------------------------------------------------------------------------------------------

    def _release(self, subscription: Subscription) -> None:
        with self._lock:
            left = self._detach(subscription)
            under_way = self._under_way([subscription])
            self._dismiss()
        del left  # outside of the lock: messages and receivers may have finalizers
        self._await(under_way)

    def _detach(self, subscription: Subscription) -> tuple[object, object]:
        """Take a subscription out of the books; gives what it held, which is to be dropped outside of the lock."""
        left = (subscription._receive, subscription._queue)
        if subscription._receive is None:
            return left
        subscription._tally.discarded += len(subscription._queue)
        subscription._receive, subscription._queue = None, deque()
        self._past.add(subscription._tally)
        self._count -= 1
        del self._topics[subscription.topic][subscription]
        if not self._topics[subscription.topic]:
            del self._topics[subscription.topic]
        return left

    def _withdraw(self, sender: _Sender) -> None:
        """Take back every message of `sender` that was not delivered, and wait for those that are just delivered."""
        gone: list[object] = []
        with self._lock:
            sender.closed = True
            for topic in self._topics.values():
                for subscription in topic:
                    queue = subscription._queue
                    subscription._queue = deque(item for item in queue if item[0] is not sender)
                    subscription._tally.withdrawn += len(queue) - len(subscription._queue)
                    gone.append(queue)
            delivering = [worker for worker in self._workers if worker.sender is sender]
            under_way = self._under_way(worker.subscription for worker in delivering)
        gone.clear()
        self._await(under_way)

    def _under_way(
        self, subscriptions: Iterable[Subscription | None]
    ) -> list[tuple[threading.Event, Subscription, threading.Thread]]:
        """Calls of others than this thread, each with the event of its end."""
        found = []
        for subscription in subscriptions:
            worker = subscription._worker if subscription is not None else None
            if subscription is None or worker is None or worker.thread is threading.current_thread():
                continue
            subscription._quiet = subscription._quiet or threading.Event()
            found.append((subscription._quiet, subscription, worker.thread))
        return found

    def _await(self, under_way: list[tuple[threading.Event, Subscription, threading.Thread]]) -> None:
        deadline = time.monotonic() + self.join_seconds
        stuck = [
            str(still_running(f"subscriber {subscription.name!r} of {subscription.topic!r}", thread))
            for ended, subscription, thread in under_way
            if not ended.wait(max(deadline - time.monotonic(), 0))
        ]
        if stuck:
            raise TaskStillRunning("\n".join(stuck))

    def _check_open(self) -> None:
        if self._closed:
            raise ContextClosed("the bus is closed", step="lease", advice=_ADVICE)


class OwnedBus:
    """A bus as one owner sees it: everything it gets from the bus and puts into it comes back through `lend`.

    :param lend: writes down a lease: kind, label, undo. It is called once at the start, for the messages, which are
        taken out of the queues of others at the end (they may be objects of the owner's), and once for each
        subscription.
    """

    def __init__(self, bus: MessageBus, owner: str, lend: Callable[[str, str, Callable[[], object]], Lease]) -> None:
        self._bus = bus
        self._owner = owner
        self._lend = lend
        sender = self._sender = _Sender()
        lend("messages", owner, lambda: bus._withdraw(sender))

    def publish(self, topic: str, message: Any) -> None:
        """Put `message` into the queue of every subscriber of `topic`; see `MessageBus.publish`."""
        self._bus._publish(topic, message, self._sender)

    def subscribe(
        self,
        topic: str,
        receive: Callable[[Any], object],
        *,
        max_pending: int = _MAX_PENDING,
        policy: Policy = "drop_oldest",
    ) -> Lease:
        """Have `receive` called with every message of `topic`; see `MessageBus.subscribe`."""
        name = f"{self._owner}.{getattr(receive, '__name__', 'subscriber')}"
        subscription = self._bus.subscribe(topic, receive, max_pending=max_pending, policy=policy, name=name)
        return self._lend("subscription", f"{name} of {topic}", subscription.release)


_ADVICE: Final = "Drop it when the plugin is unloaded"


def _checked(topic: object) -> str:
    if not isinstance(topic, str) or not topic:
        raise ValueError(f"a topic of {topic!r}: give a text that is not empty")
    return topic


def _goes_on(thread: threading.Thread) -> bool:
    return thread.is_alive() and thread is not threading.current_thread()
