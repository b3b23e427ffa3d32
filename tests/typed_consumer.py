"""What a user's own module may look like: mypy --strict has to accept it with nothing but our wheels installed."""

from __future__ import annotations

from typing import assert_type

from weighbridge_hookspecs import AdmissionRequest, PluginContext, Refused, Verdict, hookimpl

from weighbridge import Account, Host, Receipt
from weighbridge.units import parse_bytes

LIMIT_BYTES = assert_type(parse_bytes("64 MiB"), int)


class Quota:
    """A policy of the user's own."""

    def __init__(self, context: PluginContext) -> None:
        self.held_bytes = assert_type(context.budget.held_bytes, int)

    @hookimpl
    def weighbridge_admit(self, request: AdmissionRequest) -> Verdict | None:
        if request.needs_bytes + self.held_bytes > LIMIT_BYTES:
            return Refused(reason="over the quota", needs_bytes=request.needs_bytes)
        return None


def embed() -> Receipt:
    """Host plugins under a ceiling."""
    with Host("64 MiB", settings={"lantern": {"keep": 10}}) as host:
        report = host.load_all()
        held = [assert_type(host.account(outcome.name), Account).held_bytes for outcome in report.loaded]
        assert sum(held) <= LIMIT_BYTES
        return assert_type(host.unload("lantern", dependencies=True), Receipt)
