"""``weighbridge pipeline``: ``show``, ``run``, ``status`` and ``recover``. It needs click, the extra ``cli``."""

from __future__ import annotations

import json
import reprlib
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from weighbridge_hookspecs import Cancelled, Terminal

from .cancel import CancelToken
from .named import PREFIX, opened
from .result import TransactionFailed
from .words import counted, in_time

if TYPE_CHECKING:
    from .graph import Pipeline
    from .recovery import Recovery
    from .result import Progress, TransactionResult
    from .scaling import PipelineScaling
    from .stage import Stage

FINE: Final = 0
USAGE: Final = 2
FAILED: Final = 3
"""Exit codes. Most wrong usage is an error of click's, which is 2 on the command line."""

_SHOWN: Final = {
    "stage started": "started",
    "stage done": "done",
    "stage failed": "failed",
    "undo started": "undo started",
    "undo done": "undone",
    "undo failed": "undo failed",
}


@attrs.frozen
class _Session:
    """What the commands work on."""

    scaling: PipelineScaling
    terminal: Terminal


def run(scaling: PipelineScaling, arguments: Sequence[str], terminal: Terminal) -> int:
    """Run what somebody typed after ``weighbridge pipeline``; the exit code.

    :raises click.UsageError: if the words make no sense.
    :raises WeighbridgeError: if the pipeline cannot be built, or gets no place.
    :raises KeyboardInterrupt: if somebody called it off; it was undone by then.
    """
    try:
        with _pipeline.make_context(
            "weighbridge pipeline", list(arguments), obj=_Session(scaling, terminal)
        ) as context:
            code = _pipeline.invoke(context)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    return code if isinstance(code, int) else FINE


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.pass_context
def _pipeline(context: click.Context) -> None:
    """Look at pipelines, and run them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE)


# --- show -------------------------------------------------------------------------------------------------------------


@_pipeline.command("show", short_help="The stages of a pipeline.")
@click.argument("name", metavar="MODULE:NAME")
@click.option("--mermaid", is_flag=True, help="Print the graph as text for Mermaid, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def _show(session: _Session, name: str, mermaid: bool, as_json: bool) -> int:
    """Show the stages of a pipeline, what they need, and whether they can be undone.

    NAME is a pipeline, a builder, or a function that gives one, in a module or in a file that ends in .py; where there
    is only one pipeline it can be left out.

    \b
    Example:
      weighbridge pipeline show shop.orders:order --mermaid
    """
    if mermaid and as_json:
        raise click.UsageError("--mermaid and --json: give one of them; the document has the graph, too")
    with _quiet(mermaid or as_json), opened(name) as pipeline:
        graph, document = pipeline.to_mermaid(), _document(pipeline, session.scaling.max_depth)
        rows = [_row(stage) for stage in pipeline.stages]
    if mermaid:
        session.terminal.say(graph.rstrip("\n"))
    elif as_json:
        session.terminal.print_json({**document, "mermaid": graph})
    else:
        session.terminal.say(_sentence(document))
        session.terminal.print_table(("stage", "needs", "undo", ">deadline", "function"), rows)
    return FINE


def _document(pipeline: Pipeline, max_depth: int) -> dict[str, Any]:
    return {
        "pipeline": pipeline.name,
        "depth": pipeline.depth,
        "max_depth": max_depth,
        "longest_path": list(pipeline.longest_path),
        "stages": [_stage_document(stage) for stage in pipeline.stages],
    }


def _stage_document(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "needs": list(stage.needs),
        "function": _function(stage),
        "has_undo": stage.undo is not None,
        "undo_retries": stage.undo_retries,
        "deadline_seconds": stage.deadline_seconds,
        "undo_deadline_seconds": stage.undo_deadline_seconds,
        "keep": stage.keep,
    }


def _row(stage: Stage) -> tuple[str, ...]:
    again = f", {counted(stage.undo_retries, 'more attempt')}" if stage.undo_retries else ""
    undo = "-" if stage.undo is None else f"yes{again}"
    return stage.name, ", ".join(stage.needs) or "-", undo, in_time(stage.deadline_seconds), _function(stage)


def _function(stage: Stage) -> str:
    """Where its code is to be found."""
    function = getattr(stage.run, "function", stage.run)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', '?').removeprefix(PREFIX)}.{name}"


def _sentence(document: Mapping[str, Any]) -> str:
    stages, path = document["stages"], " -> ".join(document["longest_path"])
    without = sum(not stage["has_undo"] for stage in stages)
    undo = f", {without:,} without an undo" if without else ""
    depth = f"{document['depth']:,} deep of at most {document['max_depth']:,}"
    return f"{document['pipeline']}: {counted(len(stages), 'stage')}{undo}, {depth}: {path}"


# --- run --------------------------------------------------------------------------------------------------------------


def _read_json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        problem = click.BadParameter(f"{text!r} is no JSON: {error}")
    raise problem


@_pipeline.command("run", short_help="Run a pipeline as a transaction.")
@click.argument("name", metavar="MODULE:NAME")
@click.option("--inputs", metavar="JSON", callback=_read_json, help="What its stages find in job.inputs.")
@click.option("--deadline", type=float, metavar="SECONDS", help="How long it may wait and run.")
@click.option(
    "--durable", is_flag=True, help="Have each step in the journal of the store, so that it can be recovered."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and no progress.")
@click.pass_obj
def _run(session: _Session, name: str, inputs: Any, deadline: float | None, durable: bool, as_json: bool) -> int:
    """Run a pipeline, and show what became of every stage. If one fails, what was done is undone.

    NAME is the same as for "show". Ctrl-C calls it off: what was done is undone, and what became of it is shown.

    \b
    Exit codes: 0 fine, 2 wrong usage, 3 it failed, 130 it was interrupted.

    \b
    Example:
      weighbridge pipeline run shop/orders.py:order --inputs '{"article": 7}'
    """
    driver = _Driver(session.scaling)
    lines = None if as_json else _Lines(session.terminal)
    with _quiet(as_json), opened(name) as pipeline:
        try:
            driver.begin(pipeline, inputs, deadline_seconds=deadline, progress=lines, durable=durable)
            ending = driver.ending()
        except KeyboardInterrupt:
            session.terminal.complain("called off; what was done is undone first")
            if driver.call_off():
                _show_ending(session.terminal, driver.ending(), as_json)
            raise
    _show_ending(session.terminal, ending, as_json)
    return FINE if ending.result is not None and ending.result.outcome == "done" else FAILED


class _Driver:
    """Runs a pipeline in a thread, so that Ctrl-C, which comes to the main thread, finds it waiting and no more.

    It is there before anything begins: a handle that `submit` returns would be lost if Ctrl-C came just then.
    """

    def __init__(self, scaling: PipelineScaling) -> None:
        self._scaling = scaling
        self._token = CancelToken()
        self._future: Future[TransactionResult] = Future()
        self._thread: threading.Thread | None = None

    def begin(self, pipeline: Pipeline, inputs: Any, **options: Any) -> None:
        """Run it with these options of ``PipelineScaling.run``."""
        arguments = (pipeline, inputs, options)
        self._thread = threading.Thread(target=self._run, args=arguments, name="weighbridge-pipeline-command")
        self._thread.start()

    def ending(self) -> _Ending:
        """Wait for it."""
        try:
            return _Ending(self._future.result())
        except TransactionFailed as failed:
            return _Ending(failed.result, tuple(str(error) for error in failed.exceptions))
        except Cancelled as error:
            return _Ending(None, (str(error),))

    def call_off(self) -> bool:
        """End it early; whether it had begun."""
        self._token.set()
        return self._thread is not None and self._thread.ident is not None

    def _run(self, pipeline: Pipeline, inputs: Any, options: dict[str, Any]) -> None:
        try:
            self._future.set_result(self._scaling.run(pipeline, inputs, cancel=self._token, **options))
        except BaseException as error:
            self._future.set_exception(error)


@attrs.frozen
class _Ending:
    """What became of a transaction."""

    result: TransactionResult | None
    """None if it was called off before it had begun."""
    errors: tuple[str, ...] = ()


class _Lines:
    """A line for each step. Stages end in many threads."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        """Print one."""
        words = _SHOWN.get(progress.kind)
        if words is None:
            return
        count = f" ({progress.finished:,} of {progress.total:,})" if words == "done" else ""
        with self._lock:
            self._terminal.say(f"{progress.stage}: {words}{count}")


def _quiet(is_alone: bool) -> AbstractContextManager[Any]:
    """Inside, what stages print goes to standard error if the result has to stand alone."""
    return redirect_stdout(sys.stderr) if is_alone else nullcontext()


def _show_ending(terminal: Terminal, ending: _Ending, as_json: bool) -> None:
    result = ending.result
    if as_json:
        terminal.print_json({**_result_document(result), "errors": list(ending.errors)})
        return
    if result is not None:
        _show_result(terminal, result)
    for error in ending.errors:
        terminal.complain(error)


def _result_document(result: TransactionResult | None) -> dict[str, Any]:
    if result is None:
        return {"outcome": "not begun"}
    return {
        **attrs.asdict(result, recurse=False),
        "stages": [attrs.asdict(report) for report in result.stages.values()],
        "results": {name: _plain(value) for name, value in result.results.items()},
    }


def _plain(value: Any) -> Any:
    """As JSON knows it, or else in words: it has no infinity, and no bytes."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return reprlib.repr(value)


def _show_result(terminal: Terminal, result: TransactionResult) -> None:
    rows = [
        (
            report.name,
            report.fate,
            in_time(report.seconds),
            in_time(report.undo_seconds),
            str(report.undo_attempts or "-"),
            report.error or "",
        )
        for report in result.stages.values()
    ]
    terminal.print_table(("stage", "fate", ">run", ">undo", ">attempts", "error"), rows)
    for name, value in result.results.items():
        if value is not None:
            terminal.say(f"{name} gave {reprlib.repr(value)}")
    terminal.say(f"{result.pipeline}: {result.outcome} in {in_time(result.seconds)}")


# --- what a crash left ------------------------------------------------------------------------------------------------


@_pipeline.command("status", short_help="Durable transactions that a crash left open.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def _status(session: _Session, as_json: bool) -> int:
    """Show the durable transactions that an earlier process left open in a store, and how far each had come.

    \b
    Example:
      weighbridge pipeline --store FILE status
    """
    found = session.scaling.open_transactions()
    if as_json:
        session.terminal.print_json({"open": [attrs.asdict(one) for one in found]})
        return FINE
    if not found:
        session.terminal.say("no transaction is open")
        return FINE
    rows = [
        (
            one.transaction,
            one.pipeline,
            "backwards" if one.is_rolling_back else "forwards",
            ", ".join(f"{name} {fate}" for name, fate in one.stages.items()) or "none begun",
        )
        for one in found
    ]
    session.terminal.print_table(("transaction", "pipeline", "went", "stages"), rows)
    return FINE


@_pipeline.command("recover", short_help="Bring to an end what a crash left open.")
@click.argument("names", metavar="MODULE:NAME...", nargs=-1, required=True)
@click.option("--resume", is_flag=True, help="Let those go on that went forwards; by default all are undone.")
@click.option("--deadline", type=float, metavar="SECONDS", help="How long each may take.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def _recover(session: _Session, names: tuple[str, ...], resume: bool, deadline: float | None, as_json: bool) -> int:
    """Bring the durable transactions to an end that an earlier process left open in a store.

    NAMES are those of their pipelines, as for "show". One whose pipeline is not given, or has changed, stays as it is.

    \b
    Example:
      weighbridge pipeline --store FILE recover shop/orders.py:order
    """
    with _quiet(as_json), ExitStack() as stack:
        pipelines = [stack.enter_context(opened(name)) for name in names]
        recovery = session.scaling.recover(
            pipelines, on_open="resume" if resume else "rollback", deadline_seconds=deadline
        )
    if as_json:
        results = [_result_document(result) for result in recovery.results]
        session.terminal.print_json({"recovered": results, "refused": list(map(str, recovery.refused))})
    else:
        _show_recovery(session.terminal, recovery)
    is_fine = not recovery.refused and all(result.outcome != "incomplete" for result in recovery.results)
    return FINE if is_fine else FAILED


def _show_recovery(terminal: Terminal, recovery: Recovery) -> None:
    if not recovery.results and not recovery.refused:
        terminal.say("no transaction is open")
    for result in recovery.results:
        terminal.say(f"transaction {result.transaction}")
        _show_result(terminal, result)
    for problem in recovery.refused:
        terminal.complain(problem)
