"""Every service of a host, used once: what they make at their first use is the host's, and no plugin's."""

from __future__ import annotations

from weighbridge_hookspecs import BudgetView

from ..leases.capabilities import CapabilityRegistry
from ..leases.charges import Charges
from ..leases.ledger import LeaseLedger
from ..lifecycle.context import HostContext
from ..lifecycle.services import Services

_NAME = "weighbridge"


def rehearse(services: Services) -> None:
    """Lease one of everything, use it, and give it back."""
    ledger = LeaseLedger()
    context = HostContext(
        _NAME,
        leases=ledger,
        charges=Charges(),
        tracked=[],
        settings={},
        services=services,
        capabilities=CapabilityRegistry(),
        budget=lambda: BudgetView(load_bytes=None, peak_bytes=None, held_bytes=0, headroom_bytes=None),
        relieve=lambda nbytes, level, owner: 0,
    )
    _use_what_lasts(context)
    _use_what_passes(context)
    ledger.revoke()


def _use_what_lasts(context: HostContext) -> None:
    context.store.put("key", b"value")
    context.store.get("key")
    list(context.store.keys())
    context.store.delete("key")
    journal = context.journal()
    journal.truncate(journal.append(b"record"))


def _use_what_passes(context: HostContext) -> None:
    context.cache(1, 1).put("key", None, nbytes=1)
    with context.gate(1).enter(), context.buffers.rent(4096), context.secret(b"secret").view():
        context.bus.subscribe("topic", lambda message: None)
        context.bus.publish("topic", None)
        context.every(3600, lambda: None)
        context.spawn(lambda stop: None)
