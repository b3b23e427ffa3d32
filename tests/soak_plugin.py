"""The plugin of the soak, installed under nine names: leases whatever there is at random, and counts it.

One thread drives each of them with ``step``; others come in by ``visit``, and whoever needs room by
``weighbridge_release_memory``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from random import Random
from typing import Any, Final

import attrs
from weighbridge_hookspecs import CeilingExceeded, ReleaseRequest, Saturated, hookimpl

KIB: Final = 1024
PAGE_BYTES: Final = 4096
STAMP_BYTES: Final = 8
SECRETS: Final = 20
CHARGES: Final = 20


class Rent:
    """One view that is kept, with what was written at its beginning."""

    __slots__ = ("nbytes", "stamp", "view")

    def __init__(self, view: memoryview, nbytes: int, stamp: bytes) -> None:
        self.view = view
        self.nbytes = nbytes
        self.stamp = stamp

    def is_intact(self) -> bool:
        """Whether nobody else has written into it."""
        return bytes(self.view[: len(self.stamp)]) == self.stamp


class Plugin:
    """Knows no other plugin.

    Its settings are the seed of its dice; ``pooled`` and ``largest``, the longest buffer that a pool keeps and the
    longest that it rents; the bytes of its cache; and whether it is ``alone``, without a subscription and a timer.
    """

    def __init__(self, context: Any) -> None:
        self.name = context.name
        self.context = context
        self.settings = dict(context.settings)
        self.dice = Random(self.settings["seed"])
        self.pool = context.buffers
        self.gate = context.gate(2, max_waiting=2)
        self.cache = context.cache(64, self.settings["cache_bytes"], on_evict=self.on_evict)
        self.kept: deque[Rent] = deque()
        self.kept_bytes = 0
        self.secrets: deque[Any] = deque()
        self.charges: deque[tuple[Any, int]] = deque()
        # Held while it rents, and wanted by those who ask it for memory: what makes a host deadlock that waits.
        self.lock = threading.RLock()
        self.counting = threading.Lock()
        self.tally: Counter[str] = Counter()
        self.serial = 0
        self.timer: Any = None
        if not self.settings["alone"]:
            policy = self.dice.choice(["reject", "drop_oldest"])
            context.bus.subscribe("soak", self.receive, max_pending=16, policy=policy)

    def count(self, what: str, number: int = 1) -> None:
        with self.counting:
            self.tally[what] += number

    # -- hooks ---------------------------------------------------------------------------------------------------------

    @hookimpl
    def step(self, who: str, appetite: int) -> bool | None:
        """Do one thing at random, and keep at most `appetite` bytes of what was rented."""
        if who != self.name:
            return None
        if self.timer is None and not self.settings["alone"]:
            self.timer = self.context.every(0.02, self.tick)
        act = self.dice.choices(
            [self.rent_one, self.use_cache, self.publish, self.charge, self.use_secret],
            [20, 4, 2, 2, 2],
        )[0]
        if self.dice.random() < 0.5:
            with self.lock:
                act()
        else:
            act()
        while self.kept_bytes > appetite:
            self.give_back()
        return True

    @hookimpl
    def visit(self, who: str, nbytes: int) -> bool | None:
        """Come in from another thread, through the gate, and rent there."""
        if who != self.name:
            return None
        try:
            with self.gate.enter(timeout_seconds=0.01):
                self.count("entered")
                view = self.try_to_rent(nbytes, clear=False)
                if view is not None:
                    view.release()
        except Saturated:
            self.count("turned_away")
        return True

    @hookimpl
    def report(self, who: str) -> dict[str, Any] | None:
        """What it counted, and what the services counted."""
        if who != self.name:
            return None
        return {
            **self.counted_of_the_cache(),
            "kept": len(self.kept),
            "kept_bytes": self.kept_bytes,
            "secrets": len(self.secrets),
            "charged": sum(nbytes for _, nbytes in self.charges),
            "pool": attrs.asdict(self.pool.statistics()),
            "gate": attrs.asdict(self.gate.statistics()),
        }

    def counted_of_the_cache(self) -> dict[str, Any]:
        """Of one moment, if there is one: what leaves it on a timer is counted by the cache first, and then here."""
        for _ in range(1000):
            cache, tally = self.cache.statistics(), dict(self.tally)
            if tally.get("left_the_cache", 0) == cache.evictions + cache.rejected + cache.replaced + cache.removed:
                break
            time.sleep(0.001)
        return {"cache": attrs.asdict(cache), "tally": tally}

    @hookimpl
    def settle(self, who: str) -> bool | None:
        """Give everything back, and do nothing more."""
        if who != self.name:
            return None
        if self.timer is not None:
            self.timer.release()
        while self.kept:
            self.give_back()
        while self.secrets:
            self.secrets.popleft().release()
        while self.charges:
            self.charges.popleft()[0].release()
        return True

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int | None:
        """Drop the cache, and say what is true, or too little, too much, or nothing."""
        with self.lock:
            self.count("asked")
            freed = self.cache.trim(self.settings["cache_bytes"])
        return (freed, 0, 1 << 40, None)[self.tally["asked"] % 4]

    # -- what a step may be --------------------------------------------------------------------------------------------

    def rent_one(self) -> None:
        nbytes, clear = self.length(), self.dice.random() < 0.1
        view = self.try_to_rent(nbytes, clear=clear)
        if view is None:
            self.give_half_back()
            return
        view[::PAGE_BYTES] = bytes(-(-nbytes // PAGE_BYTES))  # all of it is occupied from now on
        self.serial += 1
        stamp = self.serial.to_bytes(STAMP_BYTES, "big")[: len(view)]
        view[: len(stamp)] = stamp
        fate = self.dice.random()
        if fate < 0.4:
            self.keep(view, nbytes, stamp)
        elif fate < 0.6:
            self.keep(view[: len(view) // 2], nbytes, stamp[: len(view) // 2])
            view.release()
        elif fate < 0.9:
            with view:
                self.check(Rent(view, nbytes, stamp))
        # otherwise it is dropped as it is

    def length(self) -> int:
        """Many small ones, and some that no pool keeps."""
        kind, pooled = self.dice.random(), self.settings["pooled"]
        if kind < 0.2:
            return self.dice.randrange(KIB)
        if kind < 0.98:
            return self.dice.randrange(KIB + 1, pooled + 1)
        return self.dice.randrange(pooled + 1, self.settings["largest"] + 1)

    def try_to_rent(self, nbytes: int, *, clear: bool) -> memoryview | None:
        try:
            view: memoryview = self.pool.rent(nbytes, clear=clear)
        except CeilingExceeded:
            self.count("refused")
            return None
        self.count("rented")
        if len(view) != nbytes:
            self.count("corrupt")
        return view

    def keep(self, view: memoryview, nbytes: int, stamp: bytes) -> None:
        self.kept.append(Rent(view, nbytes, stamp))
        self.kept_bytes += nbytes

    def give_back(self) -> None:
        """The oldest one: properly, or by forgetting it."""
        rent = self.kept.popleft()
        self.kept_bytes -= rent.nbytes
        self.check(rent)
        if self.dice.random() < 0.8:
            rent.view.release()

    def give_half_back(self) -> None:
        for _ in range(len(self.kept) // 2):
            self.give_back()

    def check(self, rent: Rent) -> None:
        if not rent.is_intact():
            self.count("corrupt")

    def use_cache(self) -> None:
        key, act = self.dice.randrange(100), self.dice.random()
        if act < 0.6:
            value = bytes(self.dice.randrange(KIB, 40 * KIB if act < 0.05 else 4 * KIB))
            self.count("puts")
            self.cache.put(key, value, nbytes=len(value))
        elif act < 0.8:
            self.cache.get(key)
        elif act < 0.9:
            self.cache.discard(key)
        elif act < 0.98:
            self.cache.trim(8 * KIB)
        else:
            self.cache.clear()

    def on_evict(self, key: int, value: bytes) -> None:
        self.count("left_the_cache")

    def use_secret(self) -> None:
        if len(self.secrets) < SECRETS:
            content = self.dice.randbytes(32)
            self.secrets.append(self.context.secret(content))
            self.count("secrets_made")
            with self.secrets[-1].view() as view:
                if view != content:
                    self.count("corrupt")
        else:
            self.secrets.popleft().release()

    def charge(self) -> None:
        if len(self.charges) < CHARGES:
            nbytes = self.dice.randrange(1000)
            self.charges.append((self.context.charge(nbytes, "arena"), nbytes))
        else:
            self.charges.popleft()[0].release()

    def publish(self) -> None:
        self.count("published")
        try:
            self.context.bus.publish("soak", 1)
        except Saturated:
            self.count("rejected")

    def receive(self, message: int) -> None:
        self.count("received", message)

    def tick(self) -> None:
        self.publish()
        self.cache.trim(KIB)
