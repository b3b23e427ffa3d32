"""The plugin in a host, with stages in other processes; skipped where ``weighbridge[testing]`` is not installed."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]' to test the plugin in a host")

if TYPE_CHECKING:
    # The fixture's type is the host's; this plugin does not import it.
    IsolatedHost = Any


def test_stages_in_other_processes_leave_nothing_behind(weighbridge_host: IsolatedHost) -> None:
    """Neither results nor errors that came from a pool keep the plugin, and the pool goes on without it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        weighbridge_host.allow("pipeline")
        weighbridge_host.load("pipeline")
        pipelines: Any = weighbridge_host.capabilities["pipeline"]
        stage = sys.modules["weighbridge_pipeline"].Stage
        # Built-in functions of one argument: a worker needs no module of a test for them.
        chain = [stage(name="a", run=repr, undo=id), stage(name="b", run=repr, needs="a")]
        assert pipelines.run(pipelines.build("p", chain), b"x" * 2**21, executor=pool).outcome == "done"
        with pytest.raises(ExceptionGroup):
            pipelines.run(pipelines.build("p", [*chain, stage(name="c", run=len, needs="b")]), executor=pool)
        del pipelines, stage, chain
        receipt = weighbridge_host.unload("pipeline")
        # Other tests hold classes and functions of the same names: a first copy of the modules.
        assert [one for one in receipt.survivors if one.kind not in ("class", "function")] == []
        assert receipt.failures == ()
        assert pool.submit(len, "abc").result(60) == 3
