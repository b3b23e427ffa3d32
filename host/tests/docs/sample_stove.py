"""A plugin for the pages on services: one use of each that is cached, limited, kept or passed on."""

from __future__ import annotations

import threading

from weighbridge_hookspecs import (
    Capabilities,
    PluginContext,
    ReadsInto,
    ReleaseRequest,
    Saturated,
    hookimpl,
)


class Stove:
    """Uses everything that the kettle does not."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.seen: list[str] = []
        self.replayed: list[bytes] = []
        self.gather()
        self.queue_up()
        self.remember()
        self.listen()
        self.lock_up()
        self.recover()

    # snippet: cache
    def gather(self) -> None:
        self.pages = self.context.cache(max_items=100, max_bytes=64 * 1024)

    def page(self, name: str) -> bytes:
        found: bytes | None = self.pages.get(name)
        if found is None:
            found = name.encode() * 1000
            self.pages.put(name, found, nbytes=len(found))
        return found

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        return self.pages.trim(request.bytes)

    # end snippet
    # snippet: buffers
    def pour(self, source: ReadsInto) -> int:
        poured = 0
        while True:
            with self.context.buffers.read_into(source, 64 * 1024) as part:
                if not part:
                    return poured
                poured += len(part)

    # end snippet
    # snippet: gate
    def queue_up(self) -> None:
        self.gate = self.context.gate(limit=4, max_waiting=100, reserve=0.25)

    def answer(self, request: str) -> str:
        try:
            with self.gate.enter(priority="high", timeout_seconds=2.0):
                return f"200 {request}"
        except Saturated as full:
            return f"503, try again in {full.retry_after_seconds} s"

    def simmer(self, stop: threading.Event) -> None:
        with self.gate.enter(priority="low", on_preempt=stop.set):
            stop.wait()

    # end snippet
    # snippet: store
    def remember(self) -> None:
        lit = int(self.context.store.get("lit") or b"0")
        self.context.store.put("lit", str(lit + 1).encode())

    # end snippet
    # snippet: bus
    def listen(self) -> None:
        self.context.bus.subscribe("kettle.boils", self.note, max_pending=100)

    def note(self, message: str) -> None:
        self.seen.append(message)

    def boil(self) -> None:
        self.context.bus.publish("kettle.boils", "95 degrees")

    # end snippet
    # snippet: secret
    def lock_up(self) -> None:
        self.key = self.context.secret(b"open sesame")

    def first_letter(self) -> int:
        with self.key.view() as view:
            return view[0]

    # end snippet
    # snippet: journal
    def recover(self) -> None:
        self.orders = self.context.journal("orders", max_bytes=1024 * 1024)
        self.orders.replay(lambda sequence, payload: self.replayed.append(payload))

    def order(self, dish: bytes) -> int:
        return self.orders.append(dish)  # returns once it would survive a crash

    def serve(self, up_to: int) -> None:
        self.orders.truncate(up_to)

    # end snippet
    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Hand the plugin object to the test."""
        registry.register("stove", self, evidence="for the test")
