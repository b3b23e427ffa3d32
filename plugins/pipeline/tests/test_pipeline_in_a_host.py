"""The plugin in a host: these tests need ``weighbridge[testing]``, and are skipped where it is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from weighbridge_hookspecs import ConfigurationError, ContextClosed, Saturated, ScalableSubsystem, ScalingLimits

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]' to test the plugin in a host")

if TYPE_CHECKING:
    from collections.abc import Callable

    # The fixtures' types are the host's; this plugin does not import it.
    IsolatedHost = Any

SOON = 30.0

VENDOR = """
import threading
from weighbridge_hookspecs import hookimpl

class Product:
    pass

class Vendor:
    def __init__(self, context):
        self.context = context
        self.began, self.go_on = threading.Event(), threading.Event()

    @hookimpl
    def weighbridge_capabilities(self, registry):
        registry.register("vendor", self, evidence="a test")

    def contribute(self, stage_class, on_unload):
        secret = Product()
        def make(job):
            self.began.set()
            while not (job.cancel.wait(0.01) or self.go_on.is_set()):
                pass
            if job.inputs == "fail":
                raise ValueError(secret)
            return "made" if secret else None
        def undo(job):
            job.captured, secret
        stage = stage_class(name="make", run=make, undo=undo)
        return self.context.capabilities["pipeline"].contribute(self.context, stage, on_unload=on_unload)
"""


@pytest.fixture(autouse=True)
def _like_a_fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was weighed yet, and nothing imported: what is imported already, a load does not bring in."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "weighbridge_pipeline"]:
        monkeypatch.delitem(sys.modules, name)


def loaded(host: IsolatedHost) -> Any:
    host.allow("pipeline")
    host.load("pipeline")
    return host.capabilities["pipeline"]


def stage(pipelines: Any, **options: Any) -> Any:
    """A stage of the package that is loaded now: these tests import it anew."""
    return sys.modules["weighbridge_pipeline"].Stage(**options)


def vendor(host: IsolatedHost, temporary_plugin: Callable[..., Any], on_unload: str) -> tuple[Any, Any, Any]:
    """A plugin that contributes one stage; the pipelines, that plugin, and a pipeline with its stage."""
    temporary_plugin("vendor", VENDOR, attribute="Vendor")
    pipelines = loaded(host)
    host.load("vendor")
    plugin = host.capabilities["vendor"]
    plugin.contribute(sys.modules["weighbridge_pipeline"].Stage, on_unload)
    after = stage(pipelines, name="after", run=lambda job: job["make"], needs="make")
    return pipelines, plugin, pipelines.build("p", [pipelines.stage("vendor", "make"), after])


def test_it_keeps_to_its_manifest(weighbridge_host: IsolatedHost) -> None:
    """The hooks that it implements, the capability that it provides, and the memory that it declares."""
    weighbridge_host.allow("pipeline")
    account = weighbridge_host.load("pipeline")
    manifest = weighbridge_host.candidate("pipeline").manifest
    assert manifest is not None
    assert set(manifest.hooks) == set(weighbridge_host.implemented("pipeline"))
    assert set(manifest.provides) == {one.name for one in weighbridge_host.capabilities.describe()}
    assert 0 < account.held_bytes < manifest.load_bytes


def test_its_load_starts_no_thread(weighbridge_host: IsolatedHost) -> None:
    """It leases a gate; threads come with the first transaction."""
    before = threading.active_count()
    loaded(weighbridge_host)
    assert threading.active_count() == before
    assert set(weighbridge_host.account("pipeline").leases) <= {"capability", "log", "gate"}


def test_it_leaves_nothing_behind() -> None:
    """Loaded and unloaded again and again, in a process where no other test holds its classes: nothing outlives it."""
    command = "import sys; from weighbridge.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", command, "check", "pipeline", "--json"], capture_output=True, text=True, check=False
    )
    (checked,) = json.loads(run.stdout)["checks"]
    passed = {one["criterion"]: one["passed"] for one in checked["findings"]}
    assert passed["load"], checked
    assert passed["hooks"], checked
    assert passed["clean"], checked


def left(receipt: Any) -> list[Any]:
    """Objects that outlived the plugin. Other tests hold classes and functions of the same names: a first copy."""
    return [one for one in receipt.survivors if one.kind not in ("class", "function")]


def test_it_leaves_nothing_behind_after_work(weighbridge_host: IsolatedHost) -> None:
    """Neither transactions that ended well nor such that failed keep anything of it."""
    pipelines = loaded(weighbridge_host)
    good = stage(pipelines, name="a", run=lambda job: [1], undo=lambda job: None)
    bad = stage(pipelines, name="b", run=lambda job: 1 / 0, needs="a")
    assert pipelines.run(pipelines.build("p", [good])).outcome == "done"
    with pytest.raises(ExceptionGroup):
        pipelines.run(pipelines.build("p", [good, bad]))
    del pipelines, good, bad
    receipt = weighbridge_host.unload("pipeline")
    assert left(receipt) == []
    assert receipt.failures == ()


def test_it_scales_as_the_contract_says(weighbridge_host: IsolatedHost) -> None:
    """A scalable subsystem with two transactions for each processor, whose bounds change while it works."""
    pipelines = loaded(weighbridge_host)
    scales: object = pipelines
    assert isinstance(scales, ScalableSubsystem)
    assert pipelines.limits.max_concurrent_operations >= 2
    pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1, max_waiting=3, wait_seconds=5))
    assert pipelines.limits == ScalingLimits(max_concurrent_operations=1, max_waiting=3, wait_seconds=5)
    with pytest.raises(ConfigurationError, match="max_waiting is -1"):
        pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1, max_waiting=-1))
    with pytest.raises(ConfigurationError):
        pipelines.reconfigure(ScalingLimits(max_concurrent_operations=0))
    assert pipelines.limits.max_waiting == 3
    pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1, max_waiting=1001))
    assert (pipelines.limits.max_waiting, pipelines.limits.wait_seconds) == (1001, 5)
    pipelines.max_depth = 1
    chain = [stage(pipelines, name="a", run=print), stage(pipelines, name="b", run=print, needs="a")]
    with pytest.raises(Exception, match="the longest path has 2 stages"):
        pipelines.build("p", chain)


def test_a_full_queue_says_when_to_come_back(weighbridge_host: IsolatedHost) -> None:
    """One runs, one waits, the third is rejected; who waits gets the place when it is free."""
    pipelines = loaded(weighbridge_host)
    pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1, max_waiting=1))
    began, go_on = threading.Event(), threading.Event()

    def run(job: Any) -> Any:
        began.set()
        assert go_on.wait(SOON)
        return job.inputs

    pipeline = pipelines.build("p", [stage(pipelines, name="a", run=run)])
    first = pipelines.submit(pipeline, 1)
    assert began.wait(SOON)
    second = pipelines.submit(pipeline, 2)
    while pipelines.metrics().waiting < 1:
        threading.Event().wait(0.001)
    assert not pipelines.backpressure().accepting
    with pytest.raises(Saturated):
        pipelines.run(pipeline, 3)
    go_on.set()
    assert [handle.result(SOON)["a"] for handle in (first, second)] == [1, 2]
    assert pipelines.backpressure().accepting
    metrics = pipelines.metrics()
    assert (metrics.running, metrics.waiting, metrics.completed, metrics.rejected) == (0, 0, 2, 1)
    assert metrics.utilization is not None


def test_who_waits_too_long_is_rejected(weighbridge_host: IsolatedHost) -> None:
    """The deadline covers the waiting: it ends with it, and nothing has run."""
    pipelines = loaded(weighbridge_host)
    pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1))
    began, go_on = threading.Event(), threading.Event()
    ran: list[Any] = []

    def hold(job: Any) -> None:
        began.set()
        assert go_on.wait(SOON)

    holds = stage(pipelines, name="a", run=hold)
    holder = pipelines.submit(pipelines.build("p", [holds]))
    assert began.wait(SOON)
    with pytest.raises(Saturated, match="no place became free within"):
        pipelines.run(pipelines.build("q", [stage(pipelines, name="a", run=ran.append)]), deadline_seconds=0.05)
    go_on.set()
    holder.result(SOON)
    assert ran == []


def test_higher_priorities_go_first(weighbridge_host: IsolatedHost) -> None:
    """Among those who wait; within a priority who came first."""
    pipelines = loaded(weighbridge_host)
    pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1))
    began, go_on, order = threading.Event(), threading.Event(), []

    def run(job: Any) -> None:
        began.set()
        assert go_on.wait(SOON)
        order.append(job.inputs)

    pipeline = pipelines.build("p", [stage(pipelines, name="a", run=run)])
    handles = [pipelines.submit(pipeline, "first")]
    assert began.wait(SOON)
    for count, (name, priority) in enumerate(
        [("low", "low"), ("normal 1", "normal"), ("normal 2", "normal"), ("high", "high")], start=1
    ):
        handles.append(pipelines.submit(pipeline, name, priority=priority))
        while pipelines.metrics().waiting < count:
            threading.Event().wait(0.001)
    go_on.set()
    for handle in handles:
        handle.result(SOON)
    assert order == ["first", "high", "normal 1", "normal 2", "low"]


def test_the_unload_calls_off_what_was_submitted(weighbridge_host: IsolatedHost) -> None:
    """What runs in a thread of the plugin's is undone, what waits is sent away, and the plugin goes clean."""
    pipelines = loaded(weighbridge_host)
    pipelines.reconfigure(ScalingLimits(max_concurrent_operations=1))
    began, undone = threading.Event(), threading.Event()

    def waits(job: Any) -> None:
        began.set()
        job.cancel.wait(0.5)

    first = stage(pipelines, name="a", run=lambda job: 1, undo=lambda job: undone.set())
    pipeline = pipelines.build("p", [first, stage(pipelines, name="b", run=waits, needs="a")])
    running = pipelines.submit(pipeline)
    assert began.wait(SOON)
    pipelines.close()
    assert undone.is_set()
    with pytest.raises(ExceptionGroup):
        running.result(SOON)
    with pytest.raises(ContextClosed):
        pipelines.run(pipeline)
    del running, first, pipeline, pipelines
    assert left(weighbridge_host.unload("pipeline")) == []


def test_captured_state_is_on_the_account(weighbridge_host: IsolatedHost) -> None:
    """It comes with the work: the plugin reports it while it is there."""
    pipelines = loaded(weighbridge_host)
    held = [weighbridge_host.account("pipeline").held_bytes]
    look = stage(
        pipelines,
        name="b",
        run=lambda job: held.append(weighbridge_host.account("pipeline").held_bytes),
        needs="a",
    )
    first = stage(pipelines, name="a", run=lambda job: bytes(3 << 20), undo=print)
    pipelines.run(pipelines.build("p", [first, look]))
    assert held[1] == held[0] + (3 << 20)
    assert weighbridge_host.account("pipeline").held_bytes == held[0]


# -- stages of other plugins -------------------------------------------------------------------------------------------


def test_a_contributor_goes_clean_though_pipelines_with_its_stages_stay(
    weighbridge_host: IsolatedHost, temporary_plugin: Callable[..., Any]
) -> None:
    """Neither the pipeline, nor results, errors caught and dropped, or captured state keep the contributor."""
    pipelines, plugin, pipeline = vendor(weighbridge_host, temporary_plugin, "wait")
    plugin.go_on.set()
    result = pipelines.run(pipeline)
    assert result["after"] == "made"
    with pytest.raises(ExceptionGroup):
        pipelines.run(pipeline, "fail")
    del plugin
    receipt = weighbridge_host.unload("vendor")
    assert receipt.survivors == ()
    assert receipt.failures == ()
    assert receipt.ties == ()
    with pytest.raises(Exception, match="its stages are no longer there: make"):
        pipelines.run(pipeline)
    with pytest.raises(KeyError):
        pipelines.stage("vendor", "make")


@pytest.mark.parametrize("on_unload", ["wait", "cancel"])
def test_the_unload_of_a_contributor_sees_its_transactions_off(
    weighbridge_host: IsolatedHost, temporary_plugin: Callable[..., Any], on_unload: str
) -> None:
    """They are waited for, or called off at once, as the contributor said; then it goes clean."""
    pipelines, plugin, pipeline = vendor(weighbridge_host, temporary_plugin, on_unload)
    handle = pipelines.submit(pipeline)
    assert plugin.began.wait(SOON)
    if on_unload == "wait":
        threading.Timer(0.05, plugin.go_on.set).start()
    del plugin
    receipt = weighbridge_host.unload("vendor")
    assert (receipt.survivors, receipt.failures) == ((), ())
    if on_unload == "wait":
        assert handle.result(SOON)["after"] == "made"
    else:
        with pytest.raises(ExceptionGroup, match="was called off"):
            handle.result(SOON)
    assert pipelines.metrics().running == 0


def test_a_contributor_can_come_back(weighbridge_host: IsolatedHost, temporary_plugin: Callable[..., Any]) -> None:
    """Loaded again it contributes again, and a pipeline built anew runs."""
    pipelines, plugin, _ = vendor(weighbridge_host, temporary_plugin, "wait")
    with pytest.raises(ConfigurationError, match="it has contributed stages before"):
        plugin.contribute(sys.modules["weighbridge_pipeline"].Stage, "wait")
    del plugin
    weighbridge_host.unload("vendor")
    weighbridge_host.load("vendor")
    plugin = weighbridge_host.capabilities["vendor"]
    plugin.contribute(sys.modules["weighbridge_pipeline"].Stage, "wait")
    plugin.go_on.set()
    assert pipelines.run(pipelines.build("p", [pipelines.stage("vendor", "make")]))["make"] == "made"


def test_the_plugin_itself_may_go_before_a_contributor(
    weighbridge_host: IsolatedHost, temporary_plugin: Callable[..., Any]
) -> None:
    """It gives the contributor's lease back, and nothing of it stays there."""
    pipelines, plugin, pipeline = vendor(weighbridge_host, temporary_plugin, "wait")
    plugin.go_on.set()
    pipelines.run(pipeline)
    assert weighbridge_host.account("vendor").leases.get("cache") == 1
    del pipelines, plugin, pipeline
    receipt = weighbridge_host.unload("pipeline")
    assert left(receipt) == []
    assert "cache" not in weighbridge_host.account("vendor").leases
