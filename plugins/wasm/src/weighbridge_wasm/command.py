"""``weighbridge wasm run`` and ``weighbridge wasm stats``. It needs click, the extra ``cli``."""

from __future__ import annotations

import difflib
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
import wasmtime
from weighbridge_hookspecs import DeadlineExceeded, InvalidModule, OutOfFuel, Terminal, Trapped

from .failures import Exited
from .figures import figures
from .values import Value, fit
from .wasi import INHERIT
from .words import counted, in_bytes, in_time

if TYPE_CHECKING:
    from .binary import FunctionType
    from .report import Reports
    from .scaling import WasmScaling
    from .state import StateSlots

FINE: Final = 0
USAGE: Final = 2
TRAPPED: Final = 3
"""Exit codes. Most wrong usage is an error of click's, which is 2 on the command line."""

_MAGIC: Final = b"\0asm"
_NAME: Final = "command-line"
_START: Final = "_start"
_NOTHING: Final = "none"
_AGAIN_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 1.0
"""After which it is told how to end a call that cannot be ended from here."""


@attrs.frozen
class _Session:
    """What the commands work on."""

    scaling: WasmScaling
    terminal: Terminal
    states: StateSlots | None
    reports: Reports | None


def run(
    scaling: WasmScaling,
    arguments: Sequence[str],
    terminal: Terminal,
    *,
    states: StateSlots | None = None,
    reports: Reports | None = None,
) -> int:
    """Run what somebody typed after ``weighbridge wasm``; the exit code.

    :param states: what is kept of modules, if there is a store.
    :param reports: what other processes say of themselves, if there is a folder for it.
    :raises click.UsageError: if the words make no sense.
    :raises WeighbridgeError: if a module cannot be run.
    """
    session = _Session(scaling, terminal, states, reports)
    try:
        with _wasm.make_context("weighbridge wasm", list(arguments), obj=session) as context:
            code = _wasm.invoke(context)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    return code if isinstance(code, int) else FINE


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.pass_context
def _wasm(context: click.Context) -> None:
    """Run WebAssembly modules, each call isolated, and see how they do.

    Before run or stats may stand --ceiling SIZE, --store FILE and --config FILE, as of weighbridge run.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE)


# --- run --------------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Outcome:
    """What became of the calls."""

    results: tuple[Value, ...] = ()
    seconds: tuple[float, ...] = ()
    exit_code: int = FINE
    error: str | None = None


def _pair(text: str, sign: str, wanted: str) -> tuple[str, str]:
    first, separator, second = text.partition(sign)
    if not separator or not first:
        raise click.BadParameter(f"wanted {wanted}, had {text!r}")
    return first, second


def _read_variables(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    return dict(_pair(text, "=", "KEY=VALUE") for text in texts)


def _read_folders(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> list[dict[str, Any]]:
    folders = []
    for text in texts:
        guest, host = _pair(text, "=", "GUEST=HOST or GUEST=HOST:rw")
        writable = host.endswith(":rw")
        path = host.removesuffix(":rw") if writable else host.removesuffix(":ro")
        if not Path(path).is_dir():
            raise click.BadParameter(f"{path!r} is no folder")
        folders.append({"guest": guest, "host": path, "writable": writable})
    return folders


@_wasm.command("run", short_help="Call a function of a module.", context_settings={"ignore_unknown_options": True})
@click.argument("file", metavar="MODULE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("function", required=False)
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@click.option("--max-pages", type=int, metavar="N", help="What its memory may grow to, in pages of 64 KiB.")
@click.option("--fuel", type=int, metavar="N", help="What a call may use, about one for each instruction.")
@click.option("--deadline", type=float, metavar="SECONDS", help="How long a call may take.")
@click.option("--times", type=click.IntRange(1), metavar="N", help="Call it N times, and show what a call takes.")
@click.option("--arg", "words", multiple=True, metavar="TEXT", help="A word of the command line of the module.")
@click.option("--env", multiple=True, metavar="KEY=VALUE", callback=_read_variables, help="A variable that it sees.")
@click.option(
    "--folder",
    "folders",
    multiple=True,
    metavar="GUEST=HOST[:rw]",
    callback=_read_folders,
    help="A folder that it sees.",
)
@click.option("--clock", is_flag=True, help="Let it know the time, and wait.")
@click.option("--random", is_flag=True, help="Let it have random bytes.")
@click.option(
    "--stdin", metavar="FILE", default=_NOTHING, help="What it reads: a file, inherit, or none (the default)."
)
@click.option(
    "--stdout", metavar="FILE", help="Where it writes: a file, none, or inherit (the default without --json)."
)
@click.option("--stderr", metavar="FILE", default=INHERIT, help="Where it writes errors: a file, none, or inherit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def _run(
    session: _Session,
    file: Path,
    function: str | None,
    arguments: tuple[str, ...],
    max_pages: int | None,
    fuel: int | None,
    deadline: float | None,
    times: int | None,
    words: tuple[str, ...],
    env: dict[str, str],
    folders: list[dict[str, Any]],
    clock: bool,
    random: bool,
    stdin: str,
    stdout: str | None,
    stderr: str,
    as_json: bool,
) -> int:
    """Call FUNCTION of MODULE, a .wasm or a .wat file, and print what it returns.

    Without a FUNCTION, a WASI command is started, and of any other module the functions are listed. A module sees
    nothing of this machine but what the options grant.

    \b
    Exit codes: 0 fine, 2 wrong usage, 3 it is no valid module, trapped or did
    not end in time; that of the module if it ends itself.

    \b
    Example:
      weighbridge wasm run sums.wasm add 40 2
    """
    streams = {
        "stdin": _stream(stdin, sys.stdin),
        "stdout": _stream(stdout or (_NOTHING if as_json else INHERIT), sys.stdout),
        "stderr": _stream(stderr, sys.stderr),
    }
    granted = {
        "arguments": [file.name, *words],
        "environment": env,
        "folders": folders,
        "clock": clock,
        "random": random,
        **{name: stream for name, stream in streams.items() if stream != _NOTHING},
    }
    bounds = {"max_pages": max_pages, "fuel": fuel, "deadline_seconds": deadline}
    config = {"wasi": granted, **{name: bound for name, bound in bounds.items() if bound is not None}}
    # a name of its own: an application may have the same module, with bounds and a state that are none of ours
    module_id = session.scaling.register(_read_module(file), {**config, "keep_state": False}, name=_NAME)
    try:
        return _run_registered(session, module_id, file.name, function, arguments, times, as_json)
    finally:
        session.scaling.unregister(module_id)


def _stream(wanted: str, ours: object) -> str:
    """What to grant. Where this process has none its number is soon that of another file, which is not to be had."""
    return _NOTHING if wanted == INHERIT and ours is None else wanted


def _run_registered(
    session: _Session,
    module_id: str,
    title: str,
    function: str | None,
    arguments: Sequence[str],
    times: int | None,
    as_json: bool,
) -> int:
    exports = session.scaling.exports(module_id)
    if function is None and _START not in exports:
        _show_exports(session.terminal, title, exports, as_json)
        return FINE
    name = function or _START
    values = _read_values(title, name, exports, arguments)
    outcome = _call(session, module_id, name, values, times or 1)
    isolation = _isolation(session.scaling, module_id)
    if as_json:
        session.terminal.print_json({"module": title, "function": name, **_outcome_document(outcome), **isolation})
    else:
        _show_outcome(session.terminal, outcome, isolation, with_times=times is not None)
    return outcome.exit_code


def _read_module(path: Path) -> bytes:
    """The binary, made of the text where it is text."""
    if not (path.is_file() or path.is_fifo()):
        raise click.UsageError(f"{path} is no file: a device may have no end")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    if content.startswith(_MAGIC) or path.suffix != ".wat":
        return content
    try:
        return bytes(wasmtime.wat2wasm(content))
    except wasmtime.WasmtimeError as error:
        problem = InvalidModule(f"{path}: {' '.join(str(error).split())}")
    raise problem


def _read_values(
    title: str, function: str, exports: Mapping[str, FunctionType], arguments: Sequence[str]
) -> list[Value]:
    """The arguments as the function's signature wants them."""
    signature = exports.get(function)
    if signature is None:
        near = difflib.get_close_matches(function, exports, 1)
        advice = f"Did you mean {near[0]}?" if near else f"It has {', '.join(sorted(exports)) or 'none'}"
        raise click.UsageError(f"{title} exports no function {function!r}. {advice}")
    if len(arguments) != len(signature.params):
        wanted = f"{counted(len(signature.params), 'argument')} ({', '.join(signature.params)})"
        raise click.UsageError(f"{function}: wanted {wanted if signature.params else 'none'}, had {len(arguments)}")
    return [
        _read_value(kind, text, f"{function}, argument {position}")
        for position, (kind, text) in enumerate(zip(signature.params, arguments, strict=True), 1)
    ]


def _read_value(kind: str, text: str, where: str) -> Value:
    try:
        return fit(kind, _number(kind, text), where)
    except (TypeError, ValueError) as error:
        problem = click.UsageError(str(error))
    raise problem


def _number(kind: str, text: str) -> object:
    """What was typed as a value; the text itself if it is none, so that the error shows it."""
    try:
        if kind in ("i32", "i64"):
            return int(text, 0)
        return bytes.fromhex(text.removeprefix("0x")) if kind == "v128" else float(text)
    except ValueError:
        return text


def _call(session: _Session, module_id: str, function: str, values: Sequence[Value], times: int) -> _Outcome:
    if sys.stdout is not None:
        sys.stdout.flush()  # what was printed before is to stand before what the module prints
    taken: list[float] = []
    stop = threading.Event()

    def call() -> Any:
        found: Any = None
        for _ in range(times):
            if stop.is_set():
                break
            begin = time.perf_counter()
            try:
                found = session.scaling.call(module_id, function, *values)
            finally:
                taken.append(time.perf_counter() - begin)
        return found

    try:
        found = _interruptibly(call, stop, session)
    except Exited as end:
        return _Outcome(seconds=tuple(taken), exit_code=end.code)
    except (Trapped, OutOfFuel, DeadlineExceeded) as error:
        return _Outcome(seconds=tuple(taken), exit_code=TRAPPED, error=str(error))
    results = found if isinstance(found, tuple) else () if found is None else (found,)
    return _Outcome(results=results, seconds=tuple(taken))


def _interruptibly(call: Callable[[], Any], stop: threading.Event, session: _Session) -> Any:
    """What `call` gives, in another thread: this one would not notice Ctrl-C while a module's code runs.

    Ctrl-C may come at any moment, also before the thread has begun; then it finds `stop` set and does nothing.
    """
    begun, ended = False, threading.Lock()  # no Event or Future: an exception that is raised in one may keep it locked
    found: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        nonlocal begun
        begun = True
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)
        finally:
            ended.release()

    thread = threading.Thread(target=work, name="weighbridge-wasm-run")
    ended.acquire()
    try:
        thread.start()
        while not ended.acquire(timeout=_AGAIN_SECONDS):
            pass  # a signal that comes just before a wait does not end it, and is seen after it
    except KeyboardInterrupt:
        stop.set()
        if begun:
            _end(lambda: bool(found or failed), ended, session)
        raise
    finally:
        if begun:
            thread.join()
    if failed:
        raise failed.pop()
    return found.pop()


def _end(is_over: Callable[[], bool], ended: threading.Lock, session: _Session) -> None:
    """End the call that runs, and say what to do if that takes long."""
    patient_until: float | None = time.monotonic() + _PATIENCE_SECONDS
    while not is_over():
        session.scaling.interrupt()
        ended.acquire(timeout=_AGAIN_SECONDS)
        if patient_until is not None and time.monotonic() >= patient_until and not is_over():
            patient_until = None
            session.terminal.complain(
                "the call waits for input, or has hours left: Ctrl-C twice more ends this process at once"
            )


def _isolation(scaling: WasmScaling, module_id: str) -> dict[str, Any]:
    """What each call had for an instance. None can know of another."""
    obstacles = scaling.statistics().modules[module_id].obstacles
    return {"instances": "fresh" if obstacles else "reset", "obstacles": list(obstacles)}


def _show_outcome(terminal: Terminal, outcome: _Outcome, isolation: Mapping[str, Any], *, with_times: bool) -> None:
    if outcome.results:
        terminal.say(" ".join(map(_shown, outcome.results)))
    if outcome.error is not None:
        terminal.complain(outcome.error)
    if with_times:
        terminal.say(_times(outcome.seconds))
        terminal.say(_isolation_sentence(isolation))


def _times(seconds: Sequence[float]) -> str:
    middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
    spread = f"median {in_time(middle)}, from {in_time(least)} to {in_time(most)}"
    return f"{counted(len(seconds), 'call')}: {spread if len(seconds) > 1 else in_time(middle)}"


def _isolation_sentence(isolation: Mapping[str, Any]) -> str:
    if isolation["instances"] == "fresh":
        return f"isolated: each call had a fresh instance ({'; '.join(isolation['obstacles'])})"
    return "isolated: instances are reset after each call"


def _outcome_document(outcome: _Outcome) -> dict[str, Any]:
    return {**attrs.asdict(outcome), "results": [_plain(value) for value in outcome.results]}


def _plain(value: Value) -> int | float | str:
    """As JSON knows it: it has no infinity, no NaN and no bytes."""
    return value if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else _shown(value)


def _shown(value: Value) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)


def _show_exports(terminal: Terminal, title: str, exports: Mapping[str, FunctionType], as_json: bool) -> None:
    if as_json:
        listed = {name: {"params": kind.params, "results": kind.results} for name, kind in exports.items()}
        terminal.print_json({"module": title, "exports": listed})
        return
    if not exports:
        terminal.say(f"{title} exports no function")
        return
    rows = [(name, " ".join(kind.params) or "-", " ".join(kind.results) or "-") for name, kind in exports.items()]
    terminal.print_table(("function", "takes", "gives"), rows)


# --- stats ------------------------------------------------------------------------------------------------------------


@_wasm.command("stats", short_help="How modules do in processes that run now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def _stats(session: _Session, as_json: bool) -> int:
    """Show modules in running processes, what is compiled in the cache, and what is kept in the store.

    Processes report every few seconds, as long as the plugin is loaded there and they share the cache folder. States
    are shown of the store that stands before: weighbridge wasm --store FILE stats.
    """
    document = _stats_document(session)
    if as_json:
        session.terminal.print_json(document)
    else:
        _show_stats(session.terminal, document, has_reports=session.reports is not None)
    return FINE


def _stats_document(session: _Session) -> dict[str, Any]:
    own = figures(session.scaling.statistics())
    processes = [{"pid": None, "age_seconds": 0.0, **own}] if own["modules"] else []
    for report in session.reports.read() if session.reports else ():
        processes.append({**report.document, "pid": report.pid, "age_seconds": report.age_seconds})
    return {"processes": processes, "cache": own["cache"], "states": _states(session.states)}


def _states(states: StateSlots | None) -> dict[str, Any] | None:
    """What is kept, by module; None without a store."""
    if states is None:
        return None
    kept = ((module_id, states.describe(module_id)) for module_id in states.modules())
    return {module_id: attrs.asdict(state) for module_id, state in kept if state is not None}


def _show_stats(terminal: Terminal, document: Mapping[str, Any], *, has_reports: bool) -> None:
    if has_reports and not document["processes"]:
        terminal.say("no process has modules, or none that shares this cache folder")
    for process in document["processes"]:
        _show_process(terminal, process)
    cache = document["cache"]
    where = (
        cache["unusable"] or f"{cache['files']} compiled, {in_bytes(cache['bytes'])} of {in_bytes(cache['max_bytes'])}"
    )
    terminal.say(f"cache {cache['folder']}: {where}")
    if not has_reports:
        terminal.say("other processes are not known: running-wasm beside the cache has to be this user's alone")
    _show_states(terminal, document["states"])


def _show_process(terminal: Terminal, process: Mapping[str, Any]) -> None:
    title = (
        "this process" if process["pid"] is None else f"process {process['pid']}, {in_time(process['age_seconds'])} ago"
    )
    gate, limit = process["gate"], process["concurrency"]
    load = "unknown" if limit["load"] is None else f"{limit['load']:.0%}"
    terminal.say(
        f"{title}: {gate['inside']} running, {gate['waiting']} waiting, limit {limit['limit']}"
        f" ({limit['floor']} to {limit['ceiling']}), load {load}, {in_bytes(process['resident_bytes'])} resident"
    )
    columns = ("module", ">uses", ">failed", ">idle", ">in use", ">resident", ">code", "instances")
    terminal.print_table(columns, [_module_row(module) for module in process["modules"].values()])


def _module_row(module: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        module["module_id"],
        f"{module['uses']:,}",
        f"{sum(module['failed'].values()):,}",
        str(module["idle"]),
        str(module["in_use"]),
        in_bytes(module["resident_bytes"]),
        in_bytes(module["code_bytes"]),
        f"fresh: {'; '.join(module['obstacles'])}" if module["obstacles"] else "reset",
    )


def _show_states(terminal: Terminal, states: Mapping[str, Any] | None) -> None:
    if states is None:
        return
    if not states:
        terminal.say("no state is kept")
        return
    rows = [(name, in_bytes(kept["bytes"]), f"{kept['pages']:,}", kept["slot"]) for name, kept in states.items()]
    terminal.print_table(("state of", ">kept", ">pages", "slot"), rows)
