"""``weighbridge pipeline``: pipelines from the command line."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
from weighbridge_hookspecs import ConfigurationError, InvalidPipeline, StateRefused

from weighbridge_pipeline import (
    OpenTransaction,
    Pipeline,
    PipelineScaling,
    PipelineSettings,
    Recovery,
    StageReport,
    TransactionResult,
)
from weighbridge_pipeline.words import counted, in_time

click = pytest.importorskip("click")
command = pytest.importorskip("weighbridge_pipeline.command")

SHOP = """
from weighbridge_pipeline import Builder, Stage, build

order = Builder("order")

@order.stage(undo=lambda job: None)
def reserve(job):
    return 7

@order.stage(undo=lambda job: None, undo_retries=2)
def pay(job):
    return float("nan")

@order.stage(needs=("reserve", "pay"), deadline_seconds=20)
def ship(job):
    print("a van comes")
    if job.inputs:
        raise RuntimeError(job.inputs["because"])
    return {"van": job["reserve"]}
"""
TWO = """
from weighbridge_pipeline import Stage, build

one, other = (build(name, [Stage(name=name, run=print)]) for name in ("one", "other"))
number = 1

def made():
    return one

def broken():
    raise OSError("no disk")

def nothing():
    return 5
"""
RING = """
from weighbridge_pipeline import Stage, build

ring = build("ring", [Stage(name="a", run=print, needs="b"), Stage(name="b", run=print, needs="a")])
"""

WAITS = """
from weighbridge_pipeline import Builder

p = Builder("p")

@p.stage(undo=lambda job: None)
def first(job):
    return 1

@p.stage(needs="first")
def second(job):
    job.cancel.wait()
    job.cancel.raise_if_set()
"""


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def release(self, n: int = 1) -> None:
        super().release(n)


class Surroundings:
    """A context that lends a gate, and no store."""

    store: Any = None

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(limit)


class Screen:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.complaints: list[str] = []
        self.tables: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = []
        self.documents: list[dict[str, Any]] = []

    def say(self, text: str = "") -> None:
        self.lines.append(text)

    def complain(self, text: object) -> None:
        self.complaints.append(str(text))

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self.tables.append((tuple(columns), [tuple(row) for row in rows]))

    def print_json(self, document: Mapping[str, Any]) -> None:
        self.documents.append(json.loads(json.dumps(document, allow_nan=False)))

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
        return nullcontext(lambda step: None)


@attrs.define
class Ran:
    """What became of a command."""

    code: int
    screen: Screen

    @property
    def said(self) -> str:
        return "\n".join(self.screen.lines)

    @property
    def document(self) -> dict[str, Any]:
        (document,) = self.screen.documents
        assert not self.screen.lines
        assert not self.screen.tables
        return document

    @property
    def fates(self) -> dict[str, str]:
        ((columns, rows),) = self.screen.tables
        assert columns[:2] == ("stage", "fate")
        return {row[0]: row[1] for row in rows}


@pytest.fixture
def scaling() -> Iterator[PipelineScaling]:
    made = PipelineScaling(PipelineSettings(max_depth=7), Surroundings())
    yield made
    made.close()


@pytest.fixture
def run(scaling: PipelineScaling) -> Callable[..., Ran]:
    """Type words after ``weighbridge pipeline``."""

    def type_words(*words: object, screen: Screen | None = None) -> Ran:
        screen = Screen() if screen is None else screen
        return Ran(command.run(scaling, [str(word) for word in words], screen), screen)

    return type_words


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return written(tmp_path / "shop.py", SHOP)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(run: Callable[..., Ran], *words: object) -> str:
    with pytest.raises(click.UsageError) as caught:
        run(*words)
    return str(caught.value.format_message())


# -- which pipeline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two.py:one", "two.py:made", "two:one", "two:made"])
def test_a_pipeline_is_found_by_module_or_file(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A pipeline, or a function that gives one, in a file or in a module of the working folder."""
    written(tmp_path / "two.py", TWO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "two", raising=False)
    path = list(sys.path)
    assert run("show", name, "--json").document["pipeline"] == "one"
    assert sys.path == path
    sys.modules.pop("two", None)


def test_a_file_with_one_pipeline_needs_no_name(run: Callable[..., Ran], shop: Path) -> None:
    """A builder counts, where there is no pipeline; and its module is not kept."""
    before = set(sys.modules)
    assert run("show", shop, "--json").document["pipeline"] == "order"
    assert set(sys.modules) <= before | {"weighbridge_pipeline.named"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("two.py", "two.py has more than one pipeline; say which, as in two.py:name. It has one, other"),
        ("two.py:othe", "two.py has no 'othe'. Did you mean other?"),
        ("two.py:xyz", "two.py has no 'xyz'. It has one, other"),
        ("two.py:number", "two.py:number is int, and no pipeline"),
        ("two.py:nothing", "two.py:nothing gave int, and no pipeline"),
        ("two.py:broken", "two.py:broken raised OSError: no disk"),
        ("json", "json has no pipeline; say which, as in json:name"),
        (
            "nowhere_at_all:x",
            "nowhere_at_all cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'",
        ),
        ("a b:x", "'a b' is no module; give package.module:name or file.py:name"),
        ("missing.py", "missing.py: there is no such file"),
        ("leaves.py:x", "leaves.py cannot be imported: SystemExit: 4"),
    ],
)
def test_what_is_no_pipeline_is_wrong_usage(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    """The error says what was found instead."""
    written(tmp_path / "two.py", TWO)
    written(tmp_path / "leaves.py", "raise SystemExit(4)")
    monkeypatch.chdir(tmp_path)
    assert refusal(run, "show", name) == says


def test_a_ring_is_named_and_not_taken_for_an_import_that_failed(run: Callable[..., Ran], tmp_path: Path) -> None:
    """What is wrong with the graph is what the author wants to see."""
    with pytest.raises(InvalidPipeline, match=r"ring: a -> b -> a|ring: b -> a -> b"):
        run("show", written(tmp_path / "ring.py", RING))


# -- show --------------------------------------------------------------------------------------------------------------


def test_the_stages_are_shown(run: Callable[..., Ran], shop: Path) -> None:
    """Each with what it needs, whether it can be undone, its deadline, and where its code is."""
    shown = run("show", shop)
    ((columns, rows),) = shown.screen.tables
    assert columns == ("stage", "needs", "undo", ">deadline", "function")
    assert rows == [
        ("reserve", "-", "yes", "-", "shop.reserve"),
        ("pay", "-", "yes, 2 more attempts", "-", "shop.pay"),
        ("ship", "reserve, pay", "-", "20 s", "shop.ship"),
    ]
    assert shown.said == "order: 3 stages, 1 without an undo, 2 deep of at most 7: reserve -> ship"


def test_the_document_has_the_graph(run: Callable[..., Ran], shop: Path) -> None:
    """Programs get all of it: depth, the longest path, stages and the text for Mermaid."""
    document = run("show", shop, "--json").document
    assert (document["depth"], document["max_depth"], document["longest_path"]) == (2, 7, ["reserve", "ship"])
    assert document["stages"][2]["needs"] == ["reserve", "pay"]
    assert [stage["has_undo"] for stage in document["stages"]] == [True, True, False]
    assert document["mermaid"] == run("show", shop, "--mermaid").said + "\n"


def test_the_graph_as_text_stands_alone(run: Callable[..., Ran], shop: Path) -> None:
    """So that it can be piped into a page."""
    shown = run("show", shop, "--mermaid")
    assert shown.said.splitlines()[0] == "flowchart TD"
    assert not shown.screen.tables
    assert "give one of them" in refusal(run, "show", shop, "--mermaid", "--json")


# -- run ---------------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_run(run: Callable[..., Ran], shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step has a line, each stage a row, and each result that is kept a line."""
    ran = run("run", shop)
    assert (ran.code, ran.screen.complaints) == (0, [])
    assert ran.fates == {"reserve": "done", "pay": "done", "ship": "done"}
    assert "ship: done (3 of 3)" in ran.screen.lines
    assert "ship gave {'van': 7}" in ran.screen.lines
    assert ran.screen.lines[-1].startswith("order: done in ")
    assert capsys.readouterr().out == "a van comes\n"


def test_a_pipeline_that_fails_is_undone(run: Callable[..., Ran], shop: Path) -> None:
    """The code is 3, the reason is complained about, and inputs came as JSON."""
    ran = run("run", shop, "--inputs", '{"because": "no van"}')
    assert ran.code == 3
    assert ran.fates == {"reserve": "undone", "pay": "undone", "ship": "failed"}
    assert ran.screen.complaints == ["stage 'ship' failed: RuntimeError: no van"]
    assert ran.screen.lines[-1].startswith("order: rolled back in ")


def test_the_document_stands_alone(run: Callable[..., Ran], shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stages print goes to standard error, and what JSON does not know is put into words."""
    document = run("run", shop, "--json").document
    assert document["outcome"] == "done"
    assert document["results"] == {"ship": {"van": 7}}
    assert [stage["fate"] for stage in document["stages"]] == ["done"] * 3
    assert document["errors"] == []
    failed = run("run", shop, "--json", "--inputs", '{"because": "no van"}')
    assert failed.code == 3
    assert failed.document["errors"] == ["stage 'ship' failed: RuntimeError: no van"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(float("nan"), "nan"), (b"x", "b'x'"), ({"a": (1, 2)}, {"a": [1, 2]}), ({1}, "{1}")]
)
def test_a_result_is_plain_or_put_into_words(value: Any, shown: Any) -> None:
    """A document has what JSON knows, and words for the rest."""
    assert command._plain(value) == shown


def test_wrong_inputs_and_deadlines_are_wrong_usage(run: Callable[..., Ran], shop: Path) -> None:
    """Nothing was begun then."""
    assert "'{' is no JSON" in refusal(run, "run", shop, "--inputs", "{")
    with pytest.raises(ConfigurationError, match=r"deadline_seconds is -1\.0"):
        run("run", shop, "--deadline", "-1")


def test_a_deadline_is_kept(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A stage that heeds its token ends, and the deadline is what is complained about."""
    path = written(tmp_path / "waits.py", WAITS)
    ran = run("run", path, "--deadline", "0.05")
    assert ran.code == 3
    assert "did not end within 0.05 s" in ran.screen.complaints[0]


class Impatient(Screen):
    """Somebody presses Ctrl-C when a certain line appears."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._line = line

    def say(self, text: str = "") -> None:
        super().say(text)
        if text == self._line:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="a signal for one thread is POSIX")
def test_ctrl_c_undoes_what_was_done_and_says_so(run: Callable[..., Ran], tmp_path: Path) -> None:
    """The running stage is told to end, the rollback is waited for and shown, and the interruption goes on."""
    screen = Impatient("second: started")
    with pytest.raises(KeyboardInterrupt):
        run("run", written(tmp_path / "waits.py", WAITS), screen=screen)
    assert Ran(0, screen).fates == {"first": "undone", "second": "cancelled"}
    assert screen.complaints == ["called off; what was done is undone first", "the transaction was called off"]


# -- what a crash left -------------------------------------------------------------------------------------------------


class Left:
    """Pipelines that a crash left with one open transaction, or with none."""

    max_depth = 7

    def __init__(self, outcome: str | None, refused: str = "") -> None:
        self._outcome = outcome
        self._refused = (StateRefused(refused),) if refused else ()
        self.asked: list[tuple[list[str], dict[str, Any]]] = []

    def open_transactions(self) -> tuple[OpenTransaction, ...]:
        stages: dict[str, Any] = {"reserve": "done", "pay": "running"}
        one = OpenTransaction(transaction="t", pipeline="order", is_rolling_back=False, stages=stages)
        return (one, attrs.evolve(one, is_rolling_back=True, stages={})) if self._outcome else ()

    def recover(self, pipelines: Iterable[Pipeline], **options: Any) -> Recovery:
        self.asked.append(([pipeline.name for pipeline in pipelines], options))
        if self._outcome is None:
            return Recovery(results=(), refused=self._refused)
        result: Any = TransactionResult(
            transaction="t",
            pipeline="order",
            outcome=self._outcome,  # type: ignore[arg-type]  # one of them
            stages={"reserve": StageReport(name="reserve", fate="undone", undo_attempts=2)},
            results={},
            seconds=0.5,
            waited_seconds=0.0,
        )
        return Recovery(results=(result,), refused=self._refused)


def left(scaling: Any, *words: object) -> Ran:
    screen = Screen()
    return Ran(command.run(scaling, [str(word) for word in words], screen), screen)


def test_open_transactions_are_shown() -> None:
    """Each with the way that it went, and what had become of its stages."""
    ((columns, rows),) = left(Left("done"), "status").screen.tables
    assert columns == ("transaction", "pipeline", "went", "stages")
    assert rows == [("t", "order", "forwards", "reserve done, pay running"), ("t", "order", "backwards", "none begun")]
    (one, _) = left(Left("done"), "status", "--json").document["open"]
    assert one["stages"] == {"reserve": "done", "pay": "running"}
    assert left(Left(None), "status").said == "no transaction is open"


@pytest.mark.parametrize(
    ("outcome", "refused", "code"),
    [("done", "", 0), ("rolled back", "", 0), ("incomplete", "", 3), ("rolled back", "another graph", 3)],
)
def test_what_was_left_open_is_brought_to_an_end(shop: Path, outcome: str, refused: str, code: int) -> None:
    """The code says whether anything is left to do, and what was refused is complained about."""
    scaling = Left(outcome, refused)
    ran = left(scaling, "recover", shop, "--resume", "--deadline", "9")
    assert scaling.asked == [(["order"], {"on_open": "resume", "deadline_seconds": 9.0})]
    assert (ran.code, ran.fates) == (code, {"reserve": "undone"})
    assert ran.screen.complaints == ([refused] if refused else [])
    assert left(scaling, "recover", shop, "--json").document["refused"] == ([refused] if refused else [])
    assert scaling.asked[1][1]["on_open"] == "rollback"


def test_recovering_nothing_is_fine(shop: Path) -> None:
    """It says that there was nothing."""
    ran = left(Left(None), "recover", shop)
    assert (ran.code, ran.said) == (0, "no transaction is open")
    with pytest.raises(click.UsageError):
        left(Left(None), "recover")


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_no_word_is_answered_with_help(run: Callable[..., Ran], capsys: pytest.CaptureFixture[str]) -> None:
    """The help names the commands, and the code is that of wrong usage."""
    assert run().code == 2
    assert "show" in capsys.readouterr().err
    assert run("run", "--help").code == 0
    assert "--deadline" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (1.5e-6, "1.5 µs"), (0.0123, "12.3 ms"), (0.99996, "1 s"), (20, "20 s"), (1234.5, "1234 s")],
)
def test_times_have_three_digits(seconds: float | None, words: str) -> None:
    """In the unit that needs the fewest."""
    assert in_time(seconds) == words


def test_one_thing_is_no_plural() -> None:
    """Large numbers have commas."""
    assert [counted(number, "stage") for number in (0, 1, 12345)] == ["0 stages", "1 stage", "12,345 stages"]
