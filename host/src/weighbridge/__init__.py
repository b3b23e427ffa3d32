"""Weighbridge: a plugin host that weighs plugins.

Names are imported on first use (PEP 562), so that ``import weighbridge`` costs next to nothing, and a scan for plugins
does not pay for the host.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; importing typing for it would cost more than a scan for plugins
if TYPE_CHECKING:
    from typing import Any

    from .accounting.account import Account, Statement
    from .admission.budget import Budget
    from .admission.weights import Weight, Weights
    from .discovery.candidates import Discovery
    from .host import Host
    from .lifecycle.report import HostStatistics, LoadReport, Outcome
    from .lifecycle.states import State
    from .pressure.monitor import MemoryStatistics
    from .pressure.settings import MemorySettings
    from .reclaim.receipt import Receipt, Survivor
    from .units import format_bytes, parse_bytes

__version__ = "0.1.0"

__all__ = [
    "Account",
    "Budget",
    "Discovery",
    "Host",
    "HostStatistics",
    "LoadReport",
    "MemorySettings",
    "MemoryStatistics",
    "Outcome",
    "Receipt",
    "State",
    "Statement",
    "Survivor",
    "Weight",
    "Weights",
    "format_bytes",
    "parse_bytes",
]

_HOMES = {
    "Account": "accounting.account",
    "Budget": "admission.budget",
    "Discovery": "discovery.candidates",
    "Host": "host",
    "HostStatistics": "lifecycle.report",
    "LoadReport": "lifecycle.report",
    "MemorySettings": "pressure.settings",
    "MemoryStatistics": "pressure.monitor",
    "Outcome": "lifecycle.report",
    "Receipt": "reclaim.receipt",
    "State": "lifecycle.states",
    "Statement": "accounting.account",
    "Survivor": "reclaim.receipt",
    "Weight": "admission.weights",
    "Weights": "admission.weights",
    "format_bytes": "units",
    "parse_bytes": "units",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
