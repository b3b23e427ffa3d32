"""One pipeline object on threads, on a pool of processes, and on a cluster of dask: the same comes of it."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import attrs
import pytest
from weighbridge_hookspecs import Cancelled, DeadlineExceeded, InvalidPipeline, StageFailed, StorageDamaged

from weighbridge_pipeline import (
    CancelToken,
    Pipeline,
    PipelineScaling,
    PipelineSettings,
    Stage,
    TransactionFailed,
    TransactionResult,
    build,
)
from weighbridge_pipeline.elsewhere import Cluster
from weighbridge_pipeline.folder import PREFIX, PrivateFolder
from weighbridge_pipeline.parcel import FLAG, LIMIT_BYTES, Order, Packed, lodge, work

SOON = 60.0
MIB = 1024 * 1024


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def resize(self, limit: int) -> None:
        """Nothing."""

    def release(self, n: int = 1) -> None:
        super().release(n)


class Surroundings:
    """A context that lends a gate, and no store."""

    store: Any = None

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(limit)


@attrs.frozen
class Place:
    """Where stages run."""

    name: str
    executor: Executor

    @property
    def is_elsewhere(self) -> bool:
        return self.name != "threads"


@pytest.fixture(scope="module", autouse=True)
def stages() -> Iterator[Any]:
    """The module with the stages; workers find it along the path, which they are given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield import_module("pipeline_executor_stages")
    del sys.modules["pipeline_executor_stages"]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineScaling]:
    """Large values go to a folder of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("rooms")))
        with closing(PipelineScaling(PipelineSettings(), Surroundings())) as scaling:
            yield scaling


@pytest.fixture(scope="module")
def cluster(stages: Any) -> Iterator[Any]:
    """Two worker processes that do not try again what killed one of them."""
    distributed = pytest.importorskip("distributed", reason="pip install 'weighbridge-pipeline[distributed]'")
    with (
        import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None
        ) as made,
        distributed.Client(made) as client,
    ):
        yield client


def processes(workers: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


@pytest.fixture(scope="module", params=["threads", "processes", "dask"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """One after the other, each for all tests that can share it."""
    if request.param == "dask":
        yield Place("dask", request.getfixturevalue("cluster").get_executor(pure=False))
        return
    with ThreadPoolExecutor(2) if request.param == "threads" else processes() as executor:
        yield Place(request.param, executor)


@pytest.fixture(params=["processes", "dask"])
def frail(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Workers that a test may kill."""
    if request.param == "dask":
        yield Place("dask", request.getfixturevalue("cluster").get_executor(pure=False))
        return
    with processes() as executor:
        yield Place("processes", executor)


def failure(scaling: PipelineScaling, pipeline: Pipeline, inputs: Any, executor: Executor) -> TransactionFailed:
    with pytest.raises(TransactionFailed) as caught:
        scaling.run(pipeline, inputs, executor=executor, deadline_seconds=SOON)
    return caught.value


def fates(error: TransactionFailed) -> dict[str, str]:
    assert error.result is not None
    return {name: report.fate for name, report in error.result.stages.items()}


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def rooms() -> list[Path]:
    """What transactions have left of their large values."""
    return [
        room for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") for room in folder.iterdir() if room.is_dir()
    ]


# snippet: processes
def on_processes(pipelines: PipelineScaling, pipeline: Pipeline, inputs: Any) -> TransactionResult:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as executor:
        return pipelines.run(pipeline, inputs, executor=executor)


# end snippet


# snippet: cluster
def on_a_cluster(pipelines: PipelineScaling, pipeline: Pipeline, inputs: Any, client: Any) -> TransactionResult:
    # client = distributed.Client("tcp://scheduler.example:8786")
    return pipelines.run(pipeline, inputs, executor=client.get_executor(pure=False))


# end snippet


# -- the same on all three ---------------------------------------------------------------------------------------------


def test_results_are_the_same_everywhere(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """A diamond gives the caller what it gives on threads, and one that was kept on the way."""
    needs: dict[str, list[str]] = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]}
    diamond = build(
        "diamond",
        [Stage(name=name, run=stages.number, needs=wanted, keep=name == "left") for name, wanted in needs.items()],
    )
    result = pipelines.run(diamond, 1, executor=place.executor)
    assert result.results == {"left": 2, "bottom": 5}
    assert result.outcome == "done"


def test_stages_run_in_the_workers(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """On threads in this process, and else in others."""
    result = pipelines.run(build("p", [Stage(name="a", run=stages.process)]), executor=place.executor)
    assert (result["a"] != os.getpid()) == place.is_elsewhere


def test_a_failure_is_rolled_back_with_what_was_captured(
    pipelines: PipelineScaling, stages: Any, place: Place, tmp_path: Path
) -> None:
    """Undos come in reverse order, with copies that no other stage has changed, and with their keys."""
    log = tmp_path / "log"
    chain = [
        Stage(name="a", run=stages.write, undo=stages.unwrite),
        Stage(name="b", run=stages.write, undo=stages.unwrite, needs="a"),
        Stage(name="c", run=stages.spoil, needs=["a", "b"]),
        Stage(name="d", run=stages.write, needs="c"),
    ]
    error = failure(pipelines, build("p", chain), {"log": str(log)}, place.executor)
    assert lines(log) == ["run a", "run b", "undo b True", "undo a True"]
    assert fates(error) == {"a": "undone", "b": "undone", "c": "failed", "d": "not started"}
    (member,) = error.exceptions
    assert isinstance(member, StageFailed)
    assert isinstance(member.__cause__, ValueError)
    notes = "".join(getattr(member.__cause__, "__notes__", ()))
    assert ("in spoil" in notes) == place.is_elsewhere


def test_large_values_come_whole(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """Inputs and results above the limit, to several stages; nothing of them is left afterwards."""
    inputs = os.urandom(2 * MIB)
    graph = [
        Stage(name="a", run=stages.big),
        Stage(name="b", run=stages.big),
        Stage(name="c", run=stages.digest, needs=["a", "b"]),
        Stage(name="d", run=stages.digest, needs="a"),
        Stage(name="e", run=stages.big, needs=["c", "d"]),
    ]
    result = pipelines.run(
        build("p", [attrs.evolve(stage, keep=stage.name in "cd") for stage in graph]), inputs, executor=place.executor
    )
    one = bytes([2 * MIB % 251]) * (3 * MIB)
    ours = hashlib.blake2b(inputs).hexdigest()
    assert result["c"] == (ours, hashlib.blake2b(2 * one).hexdigest())
    assert result["d"] == (ours, hashlib.blake2b(one).hexdigest())
    assert result["e"] == one
    assert rooms() == []


def test_large_captured_state_comes_to_the_undo(
    pipelines: PipelineScaling, stages: Any, place: Place, tmp_path: Path
) -> None:
    """It goes by reference as any other value does."""
    log = tmp_path / "log"
    graph = [
        Stage(name="a", run=stages.big_state, undo=stages.undo_big_state),
        Stage(name="b", run=stages.spoil, needs="a"),
    ]
    failure(pipelines, build("p", graph), {"log": str(log)}, place.executor)
    assert lines(log) == [f"undo {2 * MIB}"]
    assert rooms() == []


def test_a_deadline_reaches_the_worker(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """What travels is the time that is left: the stage ends by its own token, and the deadline is what went wrong."""
    graph = build("p", [Stage(name="a", run=stages.until_late), Stage(name="b", run=stages.number, needs="a")])
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(graph, 1, executor=place.executor, deadline_seconds=1)
    assert [type(member) for member in caught.value.exceptions] == [DeadlineExceeded]
    assert fates(caught.value) == {"a": "cancelled", "b": "not started"}


def test_a_stage_that_runs_on_is_undone_only_when_it_has_ended(
    pipelines: PipelineScaling, stages: Any, place: Place, tmp_path: Path
) -> None:
    """Calling off begins nothing more; a stage that does not look at its token is waited for."""
    log, go, token = tmp_path / "log", tmp_path / "go", CancelToken()
    graph = [
        Stage(name="a", run=stages.linger, undo=stages.unwrite),
        Stage(name="b", run=stages.write, needs="a"),
    ]
    handle = pipelines.submit(
        build("p", graph),
        {"log": str(log), "go": str(go)},
        executor=place.executor,
        cancel=token,
        deadline_seconds=SOON,
    )
    stages.wait_for(log)
    token.set()
    assert not handle.is_done()
    go.touch()
    with pytest.raises(TransactionFailed) as caught:
        handle.result(SOON)
    assert [type(member) for member in caught.value.exceptions] == [Cancelled]
    assert fates(caught.value) == {"a": "undone", "b": "not started"}
    assert lines(log) == ["run a", "end a", "undo a True"]


def test_coroutine_functions_mix_with_stages_elsewhere(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """They stay in the driver's loop, get what workers gave, and their results go to workers."""
    homes = []

    async def between(job: Any) -> int:
        homes.append(os.getpid())
        return int(job["a"]) + 10

    graph = [
        Stage(name="a", run=stages.number),
        Stage(name="b", run=between, needs="a"),
        Stage(name="c", run=stages.number, needs=["a", "b"]),
    ]
    assert pipelines.run(build("p", graph), 1, executor=place.executor)["c"] == 13
    assert homes == [os.getpid()]


def test_an_error_that_cannot_be_sent_comes_as_text(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """It neither breaks the pool nor is lost."""
    error = failure(pipelines, build("p", [Stage(name="a", run=stages.fail_peculiarly)]), None, place.executor)
    cause = error.exceptions[0].__cause__
    assert isinstance(cause, RuntimeError) == place.is_elsewhere
    assert "this and that" in str(cause)
    assert pipelines.run(build("p", [Stage(name="a", run=stages.number)]), 1, executor=place.executor)["a"] == 1


# -- what cannot be sent -----------------------------------------------------------------------------------------------


def test_what_cannot_be_sent_is_refused_before_anything_runs(
    pipelines: PipelineScaling, stages: Any, place: Place, tmp_path: Path
) -> None:
    """Every stage with such a function is named, and so are inputs; on threads they are as good as any other."""
    log, lock = tmp_path / "log", threading.Lock()

    def locked(job: Any) -> None:
        with lock:
            pass

    graph = build(
        "p",
        [
            Stage(name="a", run=stages.number),
            Stage(name="b", run=locked),
            Stage(name="c", run=stages.number, undo=locked),
        ],
    )
    if not place.is_elsewhere:
        assert pipelines.run(graph, 1, executor=place.executor).outcome == "done"
        return
    with pytest.raises(InvalidPipeline) as caught:
        pipelines.run(graph, {"log": str(log), "lock": lock}, executor=place.executor)
    assert [problem.split(" cannot")[0] for problem in caught.value.problems] == [
        "the function of stage 'b'",
        "the undo of stage 'c'",
        "the value of inputs",
    ]
    assert lines(log) == []
    assert pipelines.statistics().running == 0


def test_a_result_that_cannot_be_sent_fails_its_stage(pipelines: PipelineScaling, stages: Any, place: Place) -> None:
    """The error names the stage and the kind of result; on threads nothing has to be sent."""
    graph = build("p", [Stage(name="a", run=stages.give_a_lock)])
    if not place.is_elsewhere:
        assert pipelines.run(graph, executor=place.executor).outcome == "done"
        return
    error = failure(pipelines, graph, None, place.executor)
    assert "stage 'a' failed: TypeError: the result, a lock, cannot be sent to the driver" in str(error.exceptions[0])


# -- workers that are killed -------------------------------------------------------------------------------------------


def test_a_worker_killed_in_mid_stage_leads_to_a_rollback(
    pipelines: PipelineScaling, stages: Any, frail: Place, tmp_path: Path
) -> None:
    """What was done is undone, where that is possible: a broken pool takes nothing, and the driver's threads do it."""
    log = tmp_path / "log"
    graph = [
        Stage(name="a", run=stages.write, undo=stages.unwrite),
        Stage(name="b", run=stages.write, undo=stages.unwrite, needs="a"),
        Stage(name="c", run=stages.die, undo=stages.unwrite, needs="b"),
        Stage(name="d", run=stages.write, needs="c"),
    ]
    error = failure(pipelines, build("p", graph), {"log": str(log)}, frail.executor)
    assert lines(log) == ["run a", "run b", "run c", "undo b True", "undo a True"]
    assert fates(error) == {"a": "undone", "b": "undone", "c": "failed", "d": "not started"}
    cause = error.exceptions[0].__cause__
    assert type(cause).__name__ == {"processes": "BrokenProcessPool", "dask": "KilledWorker"}[frail.name]


def test_an_undo_whose_worker_is_killed_is_made_again_here(
    pipelines: PipelineScaling, stages: Any, frail: Place, tmp_path: Path
) -> None:
    """Nobody can say how far it came, so it gets the same key; the others are undone as well."""
    log = tmp_path / "log"
    graph = [
        Stage(name="a", run=stages.write, undo=stages.unwrite),
        Stage(name="b", run=stages.write, undo=stages.undo_and_die, needs="a"),
        Stage(name="c", run=stages.spoil, needs="b"),
    ]
    error = failure(pipelines, build("p", graph), {"log": str(log), "driver": os.getpid()}, frail.executor)
    assert error.result is not None
    key = f"{error.result.transaction}/b"
    assert lines(log) == ["run a", "run b", f"undo b there {key}", f"undo b here {key}", "undo a True"]
    assert fates(error) == {"a": "undone", "b": "undone", "c": "failed"}
    assert error.result.stages["b"].undo_attempts == 2


def test_no_worker_of_a_broken_pool_runs_when_the_rollback_begins(
    pipelines: PipelineScaling, stages: Any, tmp_path: Path
) -> None:
    """The pool says that it is broken before it ends its workers; nothing is undone beside them."""
    log = tmp_path / "log"
    graph = [
        Stage(name="a", run=stages.write, undo=stages.undo_if_alone),
        Stage(name="b", run=stages.linger_by_pid, needs="a"),
        Stage(name="c", run=stages.die_beside, needs="a"),
    ]
    inputs = {"log": str(log), "pid": str(tmp_path / "pid")}
    with processes() as executor:
        error = failure(pipelines, build("p", graph), inputs, executor)
    assert fates(error) == {"a": "undone", "b": "failed", "c": "failed"}
    assert {str(member.__cause__) for member in error.exceptions} == {str(error.exceptions[0].__cause__)}
    assert lines(log) == ["run a", "undo a alone"]


def test_a_pool_that_breaks_rolls_back_all_that_use_it(pipelines: PipelineScaling, stages: Any, tmp_path: Path) -> None:
    """Another transaction, whose stage was at work in the other worker, comes to its end and is undone as well."""
    first = Stage(name="a", run=stages.write, undo=stages.unwrite)
    others = [Stage(name=f"b{number}", run=stages.write, undo=stages.unwrite, needs="a") for number in range(6)]
    killer = build("killer", [first, Stage(name="c", run=stages.die_beside, needs="a"), *others])
    victim = build("victim", [first, Stage(name="c", run=stages.linger_by_pid, needs="a")])
    with processes() as executor:
        handles = [
            pipelines.submit(
                pipeline,
                {"log": str(tmp_path / pipeline.name), "pid": str(tmp_path / "pid")},
                executor=executor,
                deadline_seconds=SOON,
            )
            for pipeline in (killer, victim)
        ]
        for handle in handles:
            with pytest.raises(TransactionFailed) as caught:
                handle.result(SOON)
            assert caught.value.result is not None
            assert caught.value.result.outcome == "rolled back"
            assert caught.value.result.stages["c"].fate == "failed"
            said = lines(tmp_path / caught.value.result.pipeline)
            assert {line.split()[1] for line in said if line.startswith("undo")} == set(
                caught.value.result.with_fate("undone")
            )
            assert "a" in caught.value.result.with_fate("undone")


def test_a_broken_pool_takes_no_transaction(pipelines: PipelineScaling, stages: Any, tmp_path: Path) -> None:
    """It stays the caller's, who makes a new one; the first stage fails with what the pool says."""
    with processes(1) as executor:
        failure(pipelines, build("p", [Stage(name="a", run=stages.die)]), {"log": str(tmp_path / "log")}, executor)
        error = failure(pipelines, build("p", [Stage(name="a", run=stages.number)]), 1, executor)
    assert isinstance(error.exceptions[0].__cause__, BrokenProcessPool)


# -- one after the other -----------------------------------------------------------------------------------------------


def test_one_pipeline_object_goes_from_place_to_place(pipelines: PipelineScaling, stages: Any, cluster: Any) -> None:
    """Threads, processes, and a scheduler that is reached by its address: what was built once runs on all of them."""
    stage = [Stage(name="a", run=stages.number), Stage(name="b", run=stages.number, needs="a")]
    once = build("once", stage)
    results = [pipelines.run(once, 3), on_processes(pipelines, once, 3)]
    with import_module("distributed").Client(cluster.scheduler.address, set_as_default=False) as client:
        results.append(on_a_cluster(pipelines, once, 3, client))
    assert [result["b"] for result in results] == [6, 6, 6]


def test_a_cluster_takes_functions_that_its_workers_cannot_import(pipelines: PipelineScaling, cluster: Any) -> None:
    """The code of a lambda goes along; a pool says before anything runs that it cannot be sent."""
    graph = build("p", [Stage(name="a", run=lambda job: job.inputs + os.getpid() * 0)])
    assert pipelines.run(graph, 3, executor=cluster.get_executor(pure=False))["a"] == 3
    with processes(1) as executor, pytest.raises(InvalidPipeline, match="the function of stage 'a' cannot be pickled"):
        pipelines.run(graph, 3, executor=executor)


def test_large_values_of_a_cluster_are_scattered_once(cluster: Any) -> None:
    """However many stages need one; a small one goes with each call."""
    sent: list[int] = []

    class Counting:
        """A client, as far as values are scattered with it, and an executor that has it."""

        def scatter(self, content: bytes, **options: Any) -> Any:
            sent.append(len(content))
            return cluster.scatter(content, **options)

    executor, counting = cluster.get_executor(pure=False), cluster.get_executor(pure=False)
    counting._client = Counting()
    carrier = Cluster(counting)
    large, small = Packed(bytes(LIMIT_BYTES + 1)), Packed(bytes(LIMIT_BYTES))
    claims = [carrier.send(large) for _ in range(3)]
    assert {executor.submit(len, claim).result(SOON) for claim in claims} == {LIMIT_BYTES + 1}
    assert carrier.send(small) == small.content
    assert sent == [LIMIT_BYTES + 1]


def test_undos_run_here_where_a_cluster_has_lost_its_workers(
    pipelines: PipelineScaling, stages: Any, cluster: Any, tmp_path: Path
) -> None:
    """Dask would keep them until a worker comes; what was done is undone all the same."""
    log = tmp_path / "log"
    graph = [
        Stage(name="a", run=stages.write, undo=stages.undo_and_die),
        Stage(name="b", run=stages.spoil, needs="a"),
    ]
    with import_module("distributed").Client(cluster.scheduler.address, set_as_default=False) as client:
        client.nthreads = dict
        inputs = {"log": str(log), "driver": os.getpid()}
        error = failure(pipelines, build("p", graph), inputs, client.get_executor(pure=False))
    assert fates(error) == {"a": "undone", "b": "failed"}
    assert [line.split()[:3] for line in lines(log)] == [["run", "a"], ["undo", "a", "here"]]


# -- what only a pool on the same machine can --------------------------------------------------------------------------


def test_a_pool_of_this_machine_is_told_that_it_is_called_off(
    pipelines: PipelineScaling, stages: Any, tmp_path: Path
) -> None:
    """The token of a stage in another process is set, long before its time is up."""
    log, token = tmp_path / "log", CancelToken()
    with processes(1) as executor:
        graph = build("p", [Stage(name="a", run=stages.until_told)])
        inputs = {"log": str(log), "pid": str(tmp_path / "pid")}
        handle = pipelines.submit(graph, inputs, executor=executor, cancel=token, deadline_seconds=SOON)
        stages.wait_for(log)
        token.set()
        with pytest.raises(TransactionFailed) as caught:
            handle.result(SOON)
    assert [type(member) for member in caught.value.exceptions] == [Cancelled]
    assert fates(caught.value) == {"a": "cancelled"}


def order(folder: Path, **changes: Any) -> Order:
    made = Order(
        function=pickle.dumps(undo_nothing),
        transaction="t",
        stage="a",
        attempt=0,
        needs=(),
        remaining_seconds=SOON,
        folder=str(folder),
        by_value=False,
    )
    return attrs.evolve(made, **changes)


def undo_nothing(job: Any) -> str:
    return f"{job.stage} ran"


def test_a_worker_begins_nothing_that_was_called_off(tmp_path: Path) -> None:
    """What waited in the pool's queue meanwhile is not run; undos are, for they come after that."""
    content = pickle.dumps(None)
    assert work(order(tmp_path), content).kind == "done"
    (tmp_path / FLAG).touch()
    refused = work(order(tmp_path), content)
    assert refused.kind == "not begun"
    assert isinstance(refused.failure(), Cancelled)
    assert work(order(tmp_path, attempt=1), content).kind == "done"
    assert work(order(tmp_path / "another", remaining_seconds=0), content).kind == "not begun"


def test_an_undo_that_a_worker_cannot_read_has_not_begun(tmp_path: Path) -> None:
    """So it is made in the driver: the function is of a module that the worker does not have."""
    answer = work(order(tmp_path, function=b"cno.such.module\nundo\n.", attempt=1), pickle.dumps(None))
    assert answer.kind == "not begun"
    assert isinstance(answer.failure(), ModuleNotFoundError)


def test_a_large_result_goes_into_a_file_of_its_user_alone(tmp_path: Path) -> None:
    """The answer has a claim, and the file goes with the last reference to the value."""
    answer = work(order(tmp_path, function=pickle.dumps(bytearray_of_the_limit)), pickle.dumps(None))
    assert not isinstance(answer.content, bytes)
    path = Path(answer.content.path)
    assert path.stat().st_mode & 0o777 == 0o600
    packed = Packed(answer.content)
    assert packed.open() == bytearray_of_the_limit(None)
    del packed
    assert not path.exists()


def bytearray_of_the_limit(job: Any) -> bytearray:
    return bytearray(LIMIT_BYTES)


def test_what_was_tampered_with_is_not_unpickled(tmp_path: Path) -> None:
    """A file with another content, or none at all, is an error that says what to do."""
    ran = tmp_path / "ran"
    claim = lodge(str(tmp_path), pickle.dumps("ours"))
    Path(claim.path).write_bytes(pickle.dumps(Evil(str(ran))))
    with pytest.raises(StorageDamaged, match="is not what was put there"):
        claim.redeem()
    assert work(order(tmp_path), claim).kind == "not begun"
    Path(claim.path).unlink()
    with pytest.raises(StorageDamaged, match=r"cannot be read: No such file or directory.*same user"):
        claim.redeem()
    assert not ran.exists()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


# -- what is left ------------------------------------------------------------------------------------------------------


def test_the_folder_is_private_and_goes_with_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else may enter it; closing it removes it, and nobody gets a room in it after that."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = PrivateFolder()
    assert list(tmp_path.iterdir()) == []
    room = Path(folder.room("t"))
    assert folder.room("t") == str(room)
    assert folder.path is not None
    assert {path.stat().st_mode & 0o777 for path in (room, Path(folder.path))} == {0o700}
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="removed"):
        folder.room("t")


def test_folders_of_killed_drivers_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes the next folder removes them, and none of those that live."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = """
        import os, signal
        from weighbridge_pipeline.folder import PrivateFolder
        open(PrivateFolder().room("t") + "/value", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    (killed,) = tmp_path.iterdir()
    assert (killed / "t" / "value").exists()
    with closing(PrivateFolder()) as living, closing(PrivateFolder()) as another:
        rooms_now = {Path(one.room("t")).parent for one in (living, another)}
        assert set(tmp_path.iterdir()) == rooms_now


def test_interrupting_leaves_no_worker(stages: Any, tmp_path: Path) -> None:
    """Ctrl-C reaches driver and workers: what was done is undone, and the pool of the caller ends with its block."""
    script = """
        import sys
        import threading
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import active_children, get_context
        import pipeline_executor_stages as stages
        from weighbridge_pipeline import PipelineScaling, PipelineSettings, Stage, build

        class Gate(threading.Semaphore):
            def enter(self, **options):
                return self

            def release(self, n=1):
                super().release(n)

        class Surroundings:
            def gate(self, limit, **options):
                return Gate(limit)

        if __name__ == "__main__":
            scaling = PipelineScaling(PipelineSettings(), Surroundings())
            graph = build("p", [
                Stage(name="a", run=stages.write, undo=stages.unwrite),
                Stage(name="b", run=stages.until_told, needs="a"),
            ])
            try:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
                    scaling.run(graph, {"log": sys.argv[1], "pid": sys.argv[2]}, executor=executor)
            except KeyboardInterrupt:
                scaling.close()
                print(len(active_children()), "left")
    """
    log, pid, program = tmp_path / "log", tmp_path / "pid", tmp_path / "program.py"
    program.write_text(textwrap.dedent(script))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, str(program), str(log), str(pid)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as running:
        stages.wait_for(log, "run b")
        os.killpg(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=SOON)
    assert said == "0 left\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert lines(log) == ["run a", "run b", "undo a True"]
    assert list(tmp_path.glob(f"{PREFIX}*")) == []
