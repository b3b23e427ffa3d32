"""What the page about this plugin shows, run."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from weighbridge_hookspecs import Cache, PluginContext, Saturated, UndoFailed, hookimpl

from weighbridge_pipeline import (
    Builder,
    CancelToken,
    Job,
    Pipeline,
    PipelineScaling,
    Progress,
    Stage,
    TransactionFailed,
    TransactionResult,
    UndoJob,
    build,
)
from weighbridge_pipeline.settings import PipelineSettings, read_settings

if TYPE_CHECKING:
    IsolatedHost = Any
    """The fixture's type is the host's; this plugin does not import it."""


class Warehouse:
    """What stages of the page change."""

    def __init__(self) -> None:
        self.reserved: dict[str, int] = {}
        self.paid: dict[str, int] = {}
        self.vans = 1

    def reserve(self, article: int, key: str) -> str:
        self.reserved[key] = article
        return key

    def release(self, key: str) -> None:
        del self.reserved[key]

    def pay(self, amount: int, key: str) -> str:
        self.paid[key] = amount
        return key

    def pay_back(self, payment: str, key: str) -> None:
        del self.paid[payment]

    def ship(self, reservation: str, payment: str) -> str:
        if not self.vans:
            raise RuntimeError("no van")
        self.vans -= 1
        return f"van with {self.reserved[reservation]}"


shop = Warehouse()

# snippet: decorator
order = Builder("order")


def release(job: UndoJob) -> None:
    shop.release(job.captured)


def pay_back(job: UndoJob) -> None:
    shop.pay_back(job.captured, key=job.key)  # the same key at each attempt


@order.stage(undo=release)
def reserve(job: Job) -> str:
    return shop.reserve(job.inputs["article"], key=job.key)


@order.stage(undo=pay_back, undo_retries=3, undo_retry_seconds=0.2)
def pay(job: Job) -> str:
    return shop.pay(job.inputs["amount"], key=job.key)


@order.stage(needs=("reserve", "pay"), deadline_seconds=5)
def ship(job: Job) -> str:
    return shop.ship(job["reserve"], job["pay"])


pipeline = order.build()
# end snippet


# snippet: explicit
def words(file: Path, job: Job) -> int:
    return len(file.read_text().split())


def counting(folder: Path) -> Pipeline:
    """One stage for each file, side by side, and one behind all of them."""
    files = sorted(folder.glob("*.txt"))
    each = [Stage(name=file.name, run=partial(words, file)) for file in files]
    total = Stage(name="total", run=lambda job: sum(job.results.values()), needs=[file.name for file in files])
    return build("counting", [*each, total])


# end snippet


# snippet: run
class Shop:
    """Takes orders: each of them whole, or not at all."""

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self._pipelines = context.capabilities["pipeline"]

    def order(self, article: int, amount: int) -> str | None:
        try:
            result = self._pipelines.run(pipeline, {"article": article, "amount": amount}, deadline_seconds=10)
        except TransactionFailed as failed:
            self._log.warning("%s", failed)
            return None
        shipped: str = result["ship"]
        return shipped


# end snippet


# snippet: errors
def unsettled(failed: TransactionFailed) -> list[str]:
    """What somebody has to see to by hand."""
    return [f"{error.stage}: {error.__cause__}" for error in failed.exceptions if isinstance(error, UndoFailed)]


# end snippet


# snippet: rollback
def worked_example(undone: list[str]) -> Pipeline:
    example = Builder("example")
    example.add(*(Stage(name=name, run=lambda job: job.stage, undo=undo_into(undone)) for name in "abcd"))
    example.add(Stage(name="e", run=lambda job: job.stage, undo=undo_into(undone), needs=("a", "b")))

    @example.stage(needs=("c", "d", "e"))
    def x(job: Job) -> None:
        raise RuntimeError("x does not work")

    return example.build()


# end snippet


def undo_into(undone: list[str]) -> Callable[[UndoJob], None]:
    def undo(job: UndoJob) -> None:
        undone.append(job.captured)
        if job.captured == "e" and "fail" in undone:
            raise OSError("the undo of e does not work")

    return undo


# snippet: capture
def resize(job: Job) -> dict[str, Any]:
    return {"path": job.inputs, "before": b"old content", "after": b"new"}


resizing = Stage(
    name="resize",
    run=resize,
    capture=lambda result: (result["path"], result["before"]),  # and not what nobody needs for the undo
    undo=lambda job: Path(job.captured[0]).write_bytes(job.captured[1]),
)
# end snippet


# snippet: cancel
def copy(job: Job) -> int:
    copied = 0
    while copied < job.inputs:
        job.cancel.raise_if_set()  # called off, or out of time: the stage ends as "cancelled"
        copied += 1
    return copied


def copy_some(pipelines: PipelineScaling, stop: CancelToken) -> TransactionResult:
    copying = build("copying", [Stage(name="copy", run=copy)])
    return pipelines.run(copying, 1_000, deadline_seconds=60, cancel=stop)


# end snippet


# snippet: progress
def watched(pipelines: PipelineScaling, tell: Callable[[str], object]) -> TransactionResult:
    def show(progress: Progress) -> None:
        if progress.kind == "stage done":
            tell(f"{progress.stage}: {progress.finished} of {progress.total}")

    handle = pipelines.submit(pipeline, {"article": 1, "amount": 5}, progress=show)
    return handle.result()  # handle.cancel() would call it off


# end snippet


# snippet: saturated
def order_later(pipelines: PipelineScaling, again: Callable[[float], None]) -> TransactionResult | None:
    try:
        return pipelines.run(pipeline, {"article": 1, "amount": 5}, priority="high")
    except Saturated as full:
        again(full.retry_after_seconds or 1.0)
        return None


# end snippet


# snippet: contribute
class Scanner:
    """A plugin whose stage others may use. Its manifest says requires = ["pipeline"]."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._known = {b"virus"}

    @hookimpl
    def weighbridge_activate(self) -> None:
        pipelines = self._context.capabilities["pipeline"]
        pipelines.contribute(self._context, Stage(name="scan", run=self._scan))

    def _scan(self, job: Job) -> bool:
        return job.inputs not in self._known


def uploading(pipelines: PipelineScaling, save: Callable[[Job], object]) -> Pipeline:
    scan = pipelines.stage("scanner", "scan")
    return pipelines.build("uploading", [scan, Stage(name="save", run=save, needs="scan")])


# end snippet


# snippet: durable
class Orders:
    """Takes orders that outlive its process."""

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self._pipelines = context.capabilities["pipeline"]

    @hookimpl
    def weighbridge_activate(self) -> None:
        recovery = self._pipelines.recover([pipeline], on_open="rollback")
        for result in recovery.results:
            self._log.warning("order %s: %s", result.transaction, result.outcome)

    def order(self, article: int, amount: int) -> TransactionResult:
        result: TransactionResult = self._pipelines.run(pipeline, {"article": article, "amount": amount}, durable=True)
        return result


# end snippet


SETTINGS = """
# snippet: settings
[plugins.pipeline]
max_transactions = 8
max_waiting = 200
deadline_seconds = 120.0
capture_bytes = 1048576
# end snippet
"""


class Gate(threading.Semaphore):
    """Room for so many, and nobody waits."""

    def enter(self, **options: Any) -> Gate:
        return self

    def __enter__(self, *_: Any) -> bool:
        if not self.acquire(blocking=False):
            raise Saturated("the gate is full", retry_after_seconds=2.5)
        return True

    def release(self, n: int = 1) -> None:
        super().release(n)


class Box(dict[str, Any]):
    """As much of a cache as a contribution needs."""

    def put(self, key: str, value: Any, *, nbytes: int) -> None:
        self[key] = value

    def release(self) -> None:
        self.clear()


class Pages(list[bytes]):
    """A journal in memory."""

    reason: str | None = None

    def append(self, payload: bytes, **options: Any) -> int:  # type: ignore[override]  # it is no list to its user
        super().append(payload)
        return len(self)

    def replay(self, receive: Callable[[int, bytes], object], *, after: int = 0) -> None:
        for number, payload in enumerate(list(self)[after:], after + 1):
            receive(number, payload)

    def truncate(self, up_to: int) -> int:
        return 0

    def release(self) -> None:
        """Nothing."""


class Context:
    """What the plugins of the page need of a host."""

    store: Any = None
    pages: Any = None

    def __init__(self, name: str = "shop", limit: int = 4) -> None:
        self.name, self._limit = name, limit
        self.log = threading  # replaced where it is used
        self.capabilities: dict[str, Any] = {}

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(self._limit)

    def journal(self, name: str, **options: Any) -> Any:
        return self.pages

    def cache(self, items: int, nbytes: int) -> Cache:
        return Box()  # type: ignore[return-value]


@pytest.fixture
def pipelines() -> Iterator[PipelineScaling]:
    scaling = PipelineScaling(PipelineSettings(), Context())
    yield scaling
    scaling.close()


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    new = Warehouse()
    monkeypatch.setattr(f"{__name__}.shop", new)
    return new


class Log:
    """Remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *values: object) -> None:
        self.lines.append(text % values)


def test_an_order_is_shipped_or_undone(pipelines: PipelineScaling, warehouse: Warehouse) -> None:
    """The first order gets the van; of the second nothing is left, and the log says why."""
    context: Any = Context()
    context.log, context.capabilities["pipeline"] = Log(), pipelines
    taker = Shop(context)
    assert taker.order(7, 5) == "van with 7"
    assert taker.order(8, 5) is None
    assert list(warehouse.reserved.values()) == [7]
    assert list(warehouse.paid.values()) == [5]
    assert context.log.lines == [
        "pipeline 'order': stage 'ship' failed: RuntimeError: no van; 2 undone (1 sub-exception)"
    ]


def test_stages_are_made_of_what_is_there(pipelines: PipelineScaling, tmp_path: Path) -> None:
    """A pipeline made in a loop: each file by itself, and all together."""
    for number in range(1, 4):
        (tmp_path / f"{number}.txt").write_text("word " * number)
    assert pipelines.run(counting(tmp_path))["total"] == 6


def test_the_worked_example_is_undone_in_the_order_of_the_page(pipelines: PipelineScaling) -> None:
    """c, d and e before anything else that e needs; a and b behind e."""
    undone: list[str] = []
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(worked_example(undone))
    assert sorted(undone) == ["a", "b", "c", "d", "e"]
    assert min(undone.index("a"), undone.index("b")) > undone.index("e")
    assert caught.value.result is not None
    assert caught.value.result.outcome == "rolled back"
    assert unsettled(caught.value) == []


def test_an_undo_that_fails_strands_no_other(pipelines: PipelineScaling) -> None:
    """a and b are undone although the undo of e, which needed them, raised."""
    undone = ["fail"]
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(worked_example(undone))
    result = caught.value.result
    assert result is not None
    assert result.outcome == "incomplete"
    assert sorted(result.with_fate("undone")) == ["a", "b", "c", "d"]
    assert result.with_fate("undo failed") == ("e",)
    assert unsettled(caught.value) == ["e: the undo of e does not work"]


def test_an_undo_gets_what_was_picked_for_it(pipelines: PipelineScaling, tmp_path: Path) -> None:
    """The content from before is back."""
    path = tmp_path / "picture"
    with pytest.raises(TransactionFailed):
        pipelines.run(build("p", [resizing, Stage(name="fails", run=lambda job: 1 / 0, needs="resize")]), str(path))
    assert path.read_bytes() == b"old content"


def test_a_stage_ends_early_where_it_asks(pipelines: PipelineScaling) -> None:
    """With a token that is set it does not begin; without, it comes to its end."""
    assert copy_some(pipelines, CancelToken())["copy"] == 1_000
    stop = CancelToken()
    began = threading.Event()

    def work(job: Job) -> None:
        began.set()
        job.cancel.wait()
        copy(job)

    handle = pipelines.submit(build("p", [Stage(name="w", run=work)]), 5, cancel=stop)
    began.wait()
    stop.set()
    with pytest.raises(TransactionFailed) as caught:
        handle.result()
    assert caught.value.result is not None
    assert caught.value.result.with_fate("cancelled") == ("w",)


def test_progress_comes_as_stages_end(pipelines: PipelineScaling, warehouse: Warehouse) -> None:
    """A line for each, and a count that goes up."""
    lines: list[str] = []
    assert watched(pipelines, lines.append)["ship"] == "van with 1"
    assert sorted(line.partition(":")[0] for line in lines) == ["pay", "reserve", "ship"]
    assert "ship: 3 of 3" in lines


def test_who_gets_no_place_is_told_when_to_come_again(warehouse: Warehouse) -> None:
    """Nothing of it has begun."""
    scaling = PipelineScaling(PipelineSettings(), Context(limit=0))
    later: list[float] = []
    assert order_later(scaling, later.append) is None
    assert later == [2.5]
    assert warehouse.reserved == {}
    scaling.close()


def test_a_contributed_stage_is_built_with(pipelines: PipelineScaling) -> None:
    """The stage of one plugin works in the pipeline of another."""
    context: Any = Context("scanner")
    context.capabilities["pipeline"] = pipelines
    Scanner(context).weighbridge_activate()
    saved = uploading(pipelines, lambda job: "saved" if job["scan"] else "refused")
    assert pipelines.run(saved, b"text")["save"] == "saved"
    assert pipelines.run(saved, b"virus")["save"] == "refused"


def test_the_settings_are_those_of_the_page() -> None:
    """What the page shows is understood."""
    settings = read_settings(tomllib.loads(SETTINGS)["plugins"]["pipeline"])
    assert (settings.max_transactions, settings.max_waiting) == (8, 200)
    assert (settings.deadline_seconds, settings.capture_bytes) == (120.0, 1048576)


def test_an_order_that_a_crash_left_is_undone_at_the_next_start(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in the journal when a process was paying is found by the next one, and undone."""
    context: Any = Context()
    context.log, context.pages = Log(), Pages()
    left: list[tuple[Pages, dict[str, int]]] = []
    pay = warehouse.pay

    def crash(amount: int, key: str) -> str:
        left.append((Pages(context.pages), dict(warehouse.reserved)))
        return pay(amount, key)

    with monkeypatch.context() as while_it_lasts:
        while_it_lasts.setattr(warehouse, "pay", crash)
        context.capabilities["pipeline"] = scaling = PipelineScaling(PipelineSettings(), context)
        assert Orders(context).order(7, 5)["ship"] == "van with 7"
        scaling.close()
    ((context.pages, warehouse.reserved),) = left
    warehouse.paid.clear()
    context.capabilities["pipeline"] = scaling = PipelineScaling(PipelineSettings(), context)
    Orders(context).weighbridge_activate()
    scaling.close()
    assert (warehouse.reserved, warehouse.paid) == ({}, {})
    (line,) = context.log.lines
    assert line.endswith(": rolled back")
