"""The plugin's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import attrs
from weighbridge_hookspecs import ConfigurationError

from .build import MAX_DEPTH
from .capture import LIMIT_BYTES
from .stage import is_number, senseless

JOURNAL_BYTES: Final = 64 * 1024 * 1024
MOST_SECONDS: Final = 10 * 365 * 24 * 3600.0
MOST_WORKERS: Final = 1_000
_MOST: Final = 1_000_000


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _whole(least: int, most: int, unit: str) -> Any:
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise senseless(attribute.name, value, f"Give a whole number of {unit} from {least:,} to {most:,}")

    return check


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not (is_number(value) and 0 < value <= MOST_SECONDS):
        raise senseless(attribute.name, value, f"Give a number of seconds above 0 and up to {MOST_SECONDS:,.0f}")


@attrs.frozen(kw_only=True)
class PipelineSettings:
    """The plugin's settings.

    :raises ConfigurationError: if a value makes no sense; the text names the setting, the value and what is allowed.
    """

    max_depth: int = attrs.field(default=MAX_DEPTH, validator=_whole(1, _MOST, "stages"))
    """How many stages the longest path of a pipeline may have."""
    max_transactions: int = attrs.field(factory=lambda: 2 * _cores(), validator=_whole(1, _MOST, "transactions"))
    """How many run at a time; by default two for each processor."""
    max_waiting: int = attrs.field(default=1_000, validator=_whole(0, _MOST, "transactions"))
    """How many wait for a place; one more is `Saturated`."""
    wait_seconds: float = attrs.field(default=30.0, validator=_seconds)
    """How long one waits for a place, within its own deadline."""
    deadline_seconds: float = attrs.field(default=30.0, validator=_seconds)
    """How long a transaction may wait and run that does not say otherwise."""
    undo_deadline_seconds: float = attrs.field(default=30.0, validator=_seconds)
    """How long an attempt to undo a stage may take that does not say otherwise."""
    rollback_seconds: float = attrs.field(default=60.0, validator=_seconds)
    """How long a caller waits for the rollback; it goes on then, and nobody waits."""
    drain_seconds: float = attrs.field(default=5.0, validator=_seconds)
    """How long transactions are waited for when a plugin leaves with stages in them; then they are called off."""
    capture_bytes: int = attrs.field(default=LIMIT_BYTES, validator=_whole(0, 2**63 - 1, "bytes"))
    """What the captured state of one stage may have in memory; more goes to the store."""
    journal_bytes: int = attrs.field(default=JOURNAL_BYTES, validator=_whole(64 * 1024, 2**63 - 1, "bytes"))
    """What the journal of durable transactions may take on the disk."""
    workers: int = attrs.field(default=32, validator=_whole(1, MOST_WORKERS, "threads"))
    """How many threads run stages and undos, at most; they are begun as they are needed."""


def read_settings(settings: Mapping[str, Any]) -> PipelineSettings:
    """The plugin's settings.

    :raises ConfigurationError: if a key is unknown (the nearest is named), or a value makes no sense.
    """
    known = sorted(field.name for field in attrs.fields(PipelineSettings))
    for key in settings:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            raise ConfigurationError(
                f"[plugins.pipeline] has {key!r}, which is no setting",
                step="configure",
                advice=f"It may have {', '.join(known)}" + (f'; did you mean "{near[0]}"?' if near else ""),
            )
    return PipelineSettings(**settings)
