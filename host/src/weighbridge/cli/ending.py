"""Unloading everything at the end of a command that loaded plugins, and what it all came to."""

from __future__ import annotations

from typing import Final

import attrs
from weighbridge_hookspecs import CleanupFailed

from ..host import Host
from ..lifecycle.report import LoadReport
from ..reclaim.receipt import Receipt
from .interrupts import interruptible

INTERRUPTED: Final = 130


@attrs.frozen(kw_only=True)
class Ending:
    """How the unloading went."""

    receipts: tuple[Receipt, ...]
    """The last loaded first."""
    problems: tuple[Exception, ...]
    """What kept a plugin from being unloaded at all."""
    failed: bool
    """Whether something raised on the way; the receipts say what."""
    interrupted: bool


def unload_all(host: Host) -> Ending:
    """Unload everything; a Ctrl-C during this one leaves the rest as it is."""
    problems: tuple[Exception, ...] = ()
    interrupted = False
    try:
        with interruptible():
            host.close()
    except ExceptionGroup as group:
        problems = group.exceptions
    except KeyboardInterrupt:
        interrupted = True
    return Ending(
        receipts=tuple(host.receipts.values()),
        problems=tuple(one for one in problems if not isinstance(one, CleanupFailed)),
        failed=any(isinstance(one, CleanupFailed) for one in problems),
        interrupted=interrupted,
    )


def exit_code(report: LoadReport, ending: Ending) -> int:
    """The exit code of it all."""
    if ending.interrupted:
        return INTERRUPTED
    if report.failed or ending.failed:
        return 3
    held_back = report.refused or report.deferred or ending.problems
    return 1 if held_back or any(one.state == "stranded" for one in ending.receipts) else 0
