"""Every command on small plugins: what it prints, in words and as JSON, and its exit code."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import click
import pytest
from click.testing import CliRunner
from weighbridge_hookspecs import (
    AdmissionDeferred,
    AdmissionRefused,
    ConfigurationError,
    LoadFailed,
    ManifestError,
    NotLoaded,
    UnknownPlugin,
    UnloadTimeout,
    WeighbridgeError,
)

from weighbridge import cli
from weighbridge.accounting.account import Account, Statement
from weighbridge.accounting.process import ProcessMemory
from weighbridge.cli import app
from weighbridge.cli import run as run_module
from weighbridge.cli.extension import CommandTerminal
from weighbridge.cli.list import Listed
from weighbridge.cli.output import one_line
from weighbridge.fabricate import write_distribution
from weighbridge.host import Host
from weighbridge.leases.store import StoreFile
from weighbridge.lifecycle.report import HostStatistics, LoadReport, Outcome
from weighbridge.reclaim.receipt import Receipt, Survivor
from weighbridge.weighing.records import Check, Finding, Weighing

GROUP = "commands"  # nothing that is installed is in it
MANIFEST = '[plugin]\nsummary = "Lifts"\n[memory]\nload = "1 MiB"\npeak = "2 MiB"\n'
SOUND = "class Plugin:\n    def __init__(self, context):\n        self.settings = dict(context.settings)\n"
FOREIGN = "class Plugin:\n    pass\n"
STUBBORN = "import logging\nclass Plugin:\n    pass\nlogging.root.moth = Plugin\n"

Command: TypeAlias = Callable[..., int]


@attrs.define
class Output:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run: TypeAlias = Callable[..., Output]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plugins that is on ``sys.path``; what they hang on the root logger goes with the test."""
    monkeypatch.setattr(logging.root, "moth", None, raising=False)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    for name in ("WEIGHBRIDGE_CEILING", "WEIGHBRIDGE_DISABLED_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


@pytest.fixture
def run(site: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run(*arguments: str) -> Output:
        code = app.run(arguments)
        return Output(code, *capsys.readouterr())

    return run


# --- commands of plugins ----------------------------------------------------------------------------------------------


DIAL = """
import click
from weighbridge_hookspecs import LeaseError, hookimpl

class Plugin:
    def __init__(self, context):
        self.context = context

    @hookimpl
    def weighbridge_command(self, arguments, terminal):
        match arguments:
            case ["break"]: raise LeaseError("is stuck", plugin="dial")
            case ["misuse"]: raise click.UsageError("turn it")
            case ["odd"]: return "seven"
            case ["keep"]: self.context.store.put("turned", b"1")
        terminal.say(f"turned by {' '.join(arguments)}, under {self.context.budget.headroom_bytes is not None}")
        return len(arguments)
"""
DIAL_MANIFEST = '[plugin]\nsummary = "Turns"\nhooks = ["weighbridge_command"]\n'


@pytest.fixture
def dial(site: Path) -> None:
    write_distribution(site, "dial", DIAL, manifest=DIAL_MANIFEST)


@pytest.mark.usefixtures("dial")
def test_a_plugin_with_a_command_is_listed_without_being_imported(run: Run) -> None:
    """Its summary stands beside it, and nothing of it is in memory."""
    done = run("--help")
    assert re.search(r"^  dial +Turns$", done.out, re.MULTILINE)
    assert "weighbridge_dial" not in sys.modules


def test_the_command_of_a_plugin_whose_manifest_is_broken_says_so(site: Path, run: Run) -> None:
    """It is installed, so "no such command" would send the operator the wrong way; the help lists the others."""
    write_distribution(site, "dial", DIAL, manifest=DIAL_MANIFEST + '[memory]\nload = "28 MiB"\npeak = "24 MiB"\n')
    done = run("dial", "left")
    assert (done.code, done.out) == (3, "")
    assert "memory.peak" in done.err
    assert "no such command" not in done.err.lower()
    assert run("--help").code == 0


@pytest.mark.usefixtures("dial")
def test_the_command_of_a_plugin_gets_everything_that_is_not_the_hosts(run: Run, tmp_path: Path) -> None:
    """Options of the host stand first; behind them even --help is the plugin's, and the number is the exit code."""
    assert run("dial", "--help") == Output(1, "turned by --help, under False\n", "")
    done = run("dial", "--ceiling", "1GiB", "left", "--ceiling", "2")
    assert done == Output(3, "turned by left --ceiling 2, under True\n", "")
    assert run("dial", "--store", str(tmp_path / "kept.sqlite3"), "keep").code == 1
    with StoreFile(tmp_path / "kept.sqlite3") as store:
        assert store.namespace("dial").get("turned") == b"1"


@pytest.mark.usefixtures("dial")
@pytest.mark.parametrize(
    ("word", "code", "line"),
    [
        ("break", 3, "weighbridge: dial: is stuck"),
        ("misuse", 2, "weighbridge: turn it (weighbridge dial --help)"),
        ("odd", 2, "weighbridge: dial: weighbridge_command gave no exit code (wanted 0 to 255, or None, had 'seven')"),
    ],
)
def test_what_the_command_of_a_plugin_raises_is_one_line(run: Run, word: str, code: int, line: str) -> None:
    """As with the commands of the host; and the plugin is unloaded all the same."""
    done = run("dial", word)
    assert (done.code, done.out, done.err.strip()) == (code, "", line)
    assert "weighbridge_dial" not in sys.modules


@pytest.mark.usefixtures("dial")
def test_the_command_of_a_plugin_that_does_not_fit_is_refused(run: Run) -> None:
    """Admission comes first here, too."""
    done = run("dial", "--ceiling", "1KiB")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("weighbridge: dial: ")


@pytest.mark.usefixtures("dial")
def test_a_command_is_for_what_is_loaded_and_has_one(site: Path) -> None:
    """The error says which of the two it is."""
    write_distribution(site, "mute", SOUND, manifest=MANIFEST)
    with Host() as host:
        with pytest.raises(NotLoaded, match="dial: is not loaded"):
            host.command("dial", (), CommandTerminal())
        host.load("mute")
        with pytest.raises(ConfigurationError, match="mute: has no command"):
            host.command("mute", (), CommandTerminal())


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_shows_what_is_declared_and_what_is_not(site: Path, run: Run) -> None:
    """A row for each, and a dash where there is nothing to say."""
    write_distribution(site, "crane", SOUND, manifest=MANIFEST, group=GROUP)
    write_distribution(site, "moth", SOUND, group=GROUP, version="2.1")
    done = run("list", "--group", GROUP)
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.lines] == [
        ["plugin", "distribution", "declared", "at", "peak", "weighed", "state"],
        ["crane", "weighbridge-crane", "1.0", "1.0", "MiB", "2.0", "MiB", "-", "discovered"],
        ["moth", "weighbridge-moth", "2.1", "-", "-", "-", "discovered"],
    ]


def test_list_shows_what_the_last_weighing_found(site: Path, run: Run) -> None:
    """Admission goes by that first."""
    write_distribution(site, "crane", FOREIGN, manifest=MANIFEST, group=GROUP)
    assert run("list", "--group", GROUP, "--json").json["plugins"][0]["weighed_bytes"] is None
    weighed = run("weigh", "--group", GROUP, "--json").json["plugins"][0]
    (listed,) = run("list", "--group", GROUP, "--json").json["plugins"]
    assert listed["weighed_bytes"] == max(weighed["resident_bytes"], weighed["traced_bytes"] + weighed["stdlib_bytes"])


def test_list_says_why_a_plugin_is_blocked(site: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By which pattern."""
    write_distribution(site, "moth", SOUND, group=GROUP)
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", "mo*")
    done = run("list", "--group", GROUP)
    assert (done.code, done.lines[1].rpartition("  ")[2]) == (0, "blocked: disabled by 'mo*'")


def test_list_of_a_group_that_nobody_is_in_says_so(run: Run) -> None:
    """That is an answer, not a failure."""
    assert run("list", "--group", "nobody.here") == Output(0, "no plugin is installed in the group 'nobody.here'\n", "")
    assert run("list", "--group", "nobody.here", "--json").json == {"plugins": [], "problems": []}


def test_a_broken_manifest_is_a_line_on_standard_error_beside_the_others(site: Path, run: Run) -> None:
    """All its problems are in it, and the exit code says that something failed."""
    write_distribution(site, "crane", SOUND, group=GROUP)
    write_distribution(site, "moth", SOUND, group=GROUP, manifest="[plugin]\nsumary = 3\n[memory]\nload = 'x'\n")
    done = run("list", "--group", GROUP)
    assert (done.code, [line.split()[0] for line in done.lines]) == (3, ["plugin", "crane"])
    (line,) = done.err.splitlines()
    assert line.startswith("weighbridge: moth: ")
    assert "sumary" in line
    assert "memory.load" in line
    (problem,) = run("list", "--group", GROUP, "--json").json["problems"]
    assert one_line(problem) == line.removeprefix("weighbridge: ")


# --- weigh ------------------------------------------------------------------------------------------------------------


def test_weigh_shows_what_stayed_and_what_keeps_it(site: Path, run: Run) -> None:
    """Plugins that left the same behind are named together; a survivor is exit code 1."""
    for name in ("moth", "wasp"):
        write_distribution(site, name, STUBBORN, group=GROUP)
    write_distribution(site, "crane", FOREIGN, group=GROUP)
    done = run("weigh", "--group", GROUP, "--no-save")
    assert (done.code, done.err) == (1, "")
    table, stayed, hint = done.out.split("\n\n")
    heading = ["plugin", "import", "traced", "resident", "modules", "reclaimed", "share", "survivors"]
    assert [line.split()[0] for line in table.splitlines()] == ["plugin", "crane", "moth", "wasp"]
    assert table.splitlines()[0].split() == heading
    assert [line.split()[-1] for line in table.splitlines()[1:]] == ["none", "1", "1"]
    assert re.split(r"\s{2,}", stayed.splitlines()[1]) == ["moth, wasp", "1 class", "1: logging.root"]
    assert hint == "The way from each survivor to what keeps it: --json\n"


def test_weigh_takes_each_name_once(site: Path, run: Run) -> None:
    """And only those that it was given."""
    for name in ("crane", "moth"):
        write_distribution(site, name, FOREIGN, group=GROUP)
    done = run("weigh", "moth", "moth", "--group", GROUP, "--json")
    assert [one["name"] for one in done.json["plugins"]] == ["moth"]


def test_weights_that_cannot_be_kept_are_one_warning(site: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many plugins there are; the table is shown all the same."""
    for name in ("crane", "moth"):
        write_distribution(site, name, FOREIGN, group=GROUP)
    taken = site.parent / "taken"
    taken.write_text("no folder")
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(taken))
    done = run("weigh", "--group", GROUP)
    assert done.code == 0
    assert [line.split()[0] for line in done.lines] == ["plugin", "crane", "moth"]
    assert done.err == f"weighbridge: warning: the weights cannot be kept in {taken / 'weights'}: Not a directory\n"


def test_weigh_gives_a_plugin_its_settings(site: Path, run: Run) -> None:
    """From the same file as run does."""
    source = "class Plugin:\n    def __init__(self, context):\n        raise ValueError(dict(context.settings))\n"
    write_distribution(site, "crane", source)
    (site.parent / "settings.toml").write_text("[plugins.crane]\nrate = 2.5\n")
    done = run("weigh", "crane", "--config", str(site.parent / "settings.toml"))
    assert done.code == 3
    assert done.err == (
        "weighbridge: crane failed: constructing weighbridge_crane:Plugin failed: ValueError: {'rate': 2.5}\n"
    )


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_shows_accounts_and_then_receipts(site: Path, run: Run) -> None:
    """The last loaded goes first."""
    for name in ("crane", "moth"):
        write_distribution(site, name, FOREIGN, group=GROUP)
    done = run("run", "--once", "--group", GROUP)
    assert (done.code, done.err) == (0, "")
    accounts, summary, receipts = done.out.split("\n\n")
    assert [line.split("  ")[0] for line in accounts.splitlines()][:3] == ["plugin", "crane 1.0", "moth 1.0"]
    assert re.fullmatch(r"in use \d+\.\d MiB, promised 0 B", summary)
    assert [line.split()[:2] for line in receipts.splitlines()] == [
        ["plugin", "state"],
        ["moth", "unloaded"],
        ["crane", "unloaded"],
    ]
    assert not {"weighbridge_crane", "weighbridge_moth"} & set(sys.modules)


def test_run_refuses_what_does_not_fit_and_runs_the_rest(site: Path, run: Run) -> None:
    """The reason is a line on standard error, and the exit code is 1."""
    write_distribution(site, "anvil", FOREIGN, manifest=MANIFEST.replace("2 MiB", "900 GiB"), group=GROUP)
    write_distribution(site, "crane", FOREIGN, group=GROUP)
    done = run("run", "--once", "--group", GROUP, "--ceiling", "800 GiB")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith("weighbridge: anvil: refused: no room: it needs 900.0 GiB (its declared peak)")
    assert re.search(r"in use [\d.]+ MiB of 800\.0 GiB, promised 0 B, headroom [\d.]+ GiB", done.out)
    assert "crane   unloaded" in done.out


def test_run_shows_the_receipt_of_a_plugin_that_was_stranded(site: Path, run: Run) -> None:
    """With the chain from what survived to what holds it."""
    write_distribution(site, "moth", STUBBORN, group=GROUP)
    done = run("run", "--once", "--group", GROUP)
    assert done.code == 1
    assert "moth    stranded" in done.out
    assert done.lines[-1].startswith("moth: class weighbridge_moth.Plugin <- logging.RootLogger.moth")
    assert done.lines[-1].endswith("<- logging.root <- module logging")


def test_run_says_what_failed_and_unloads_the_rest(site: Path, run: Run) -> None:
    """Also what raised on the way out; the receipt is shown all the same."""
    source = (
        "from weighbridge_hookspecs import hookimpl\nclass Plugin:\n    def __init__(self, context):\n        pass\n"
        "    @hookimpl\n    def weighbridge_deactivate(self, reason):\n        raise OSError('the door\\nis stuck')\n"
    )
    write_distribution(site, "door", source)
    write_distribution(site, "fails", "raise ValueError('no')\n")
    done = run("run", "--once", "door", "fails")
    assert done.code == 3
    assert done.err.splitlines()[0] == ("weighbridge: fails: importing weighbridge_fails:Plugin failed: ValueError: no")
    assert done.err.splitlines()[-1] == (
        "weighbridge: door: went wrong on the way out: deactivate: OSError: the door is stuck"
    )
    assert "door    unloaded" in done.out


def test_run_traces_what_came_back_if_it_is_asked_to(site: Path, run: Run) -> None:
    """Only then is it known, and only then is there a column."""
    write_distribution(site, "crane", FOREIGN, group=GROUP)
    assert "reclaimed" not in run("run", "--once", "--group", GROUP).out
    assert "reclaimed" in run("run", "--once", "--group", GROUP, "--meter", "trace").out


def test_run_takes_the_ceiling_from_the_option_before_the_file(site: Path, run: Run) -> None:
    """And the plugins that are disabled from the file."""
    for name in ("crane", "moth"):
        write_distribution(site, name, FOREIGN, group=GROUP)
    file = site.parent / "weighbridge.toml"
    file.write_text('ceiling = "800 GiB"\ndisabled = ["mo*"]\n[plugins.carne]\nrate = 1\n')
    done = run("run", "--once", "--group", GROUP, "--config", str(file))
    assert " of 800.0 GiB," in done.out
    assert done.err.splitlines() == [
        f"weighbridge: warning: {file}: [plugins.carne]: no plugin is called that; did you mean 'crane'?",
        "weighbridge: moth: is disabled by 'mo*'",
    ]
    assert " of 900.0 GiB," in run("run", "--once", "--group", GROUP, "--config", str(file), "--ceiling", "900GiB").out


KEEPING = """
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        context.store.put("oil", b"3")
        self.cache = context.cache(100, 1 << 40)
        for number in range(60):
            self.cache.put(number, b"x" * (1 << 20), nbytes=1 << 20)
    @hookimpl
    def weighbridge_release_memory(self, request):
        return self.cache.trim(request.bytes)
"""


def test_run_stays_under_a_ceiling_if_it_is_asked_to(site: Path, run: Run, tmp_path: Path) -> None:
    """It says how near it is, and what it did; the store is a file that is there afterwards."""
    write_distribution(site, "keeper", KEEPING, manifest=MANIFEST)
    store = tmp_path / "plugins.sqlite3"
    ceiling = f"{ProcessMemory().resident_bytes() + (50 << 20)}"
    done = run("run", "keeper", "--once", "--bounded", "--ceiling", ceiling, "--store", str(store))
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^keeper 1\.0 +[\d.]+ KiB +\d\d\.\d MiB ", done.out, re.MULTILINE)
    assert re.search(
        r"^pressure nominal: the ceiling is [\d.]+ MiB, room is made above [\d.]+ MiB\n"
        r"last made room for the process: [\d.]+ MiB wanted, -[\d.]+ MiB measured \(keeper says [\d.]+ MiB\)$",
        done.out,
        re.MULTILINE,
    )
    with StoreFile(store) as opened:
        assert opened.namespaces() == ("keeper",)


def test_run_says_as_json_how_the_process_was_kept_within_bounds(site: Path, run: Run, tmp_path: Path) -> None:
    """By the file as by the option: levels, the ceiling in force, and every reaction with what it really freed."""
    write_distribution(site, "keeper", KEEPING, manifest=MANIFEST)
    file = tmp_path / "weighbridge.toml"
    ceiling = ProcessMemory().resident_bytes() + (50 << 20)
    file.write_text(f'ceiling = {ceiling}\nstore = "here.sqlite3"\n[memory]\nenabled = true\nfollow_limits = false\n')
    done = run("run", "keeper", "--once", "--config", str(file), "--json")
    statistics = done.json["statistics"]
    assert (statistics["memory"]["level"], statistics["memory"]["ceiling_bytes"]) == ("nominal", ceiling)
    (reaction,) = statistics["reactions"]
    assert reaction["resident_before_bytes"] - reaction["resident_after_bytes"] > 5 << 20
    assert reaction["efforts"][-1]["plugin"] == "keeper"
    assert statistics["services"]["store"]["keys"] == 1
    assert (tmp_path / "here.sqlite3").is_file()
    done = run("run", "--once", "--group", GROUP, "--json")
    assert done.json["statistics"]["memory"] is None


def test_run_without_plugins_has_nothing_to_wait_for(run: Run) -> None:
    """It says so, and ends."""
    done = run("run", "--group", "nobody.here")
    assert (done.code, done.lines[0]) == (0, "no plugin is installed in the group 'nobody.here'")


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_gives_a_verdict_with_reasons(site: Path, run: Run) -> None:
    """A row for each criterion; one that is not met is exit code 1."""
    write_distribution(site, "crane", SOUND, manifest=MANIFEST)
    done = run("check", "crane", "--rounds", "3")
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "crane (weighbridge-crane 1.0): fine"
    assert [line.split()[:2] for line in done.lines[2:]] == [
        ["ok", criterion] for criterion in ("load", "peak", "hooks", "clean", "steady")
    ]
    write_distribution(site, "moth", SOUND)
    done = run("check", "moth", "--rounds", "3")
    assert (done.code, done.lines[0]) == (1, "moth (weighbridge-moth 1.0): not fine")
    assert done.lines[2].split()[:2] == ["NO", "manifest"]


def test_check_does_not_blame_a_plugin_for_a_library_that_cannot_go(site: Path, run: Run) -> None:
    """It says which one stays, and why; what outlives the plugin beside it is blamed."""
    callbacks = "import ctypes\nanswer = ctypes.CFUNCTYPE(None)(lambda: None)\n"
    (site / "quay_library.py").write_text(callbacks, encoding="utf-8")
    write_distribution(site, "crane", "import quay_library\n" + FOREIGN, manifest=MANIFEST, group=GROUP)
    (clean,) = [line for line in run("check", "crane", "--group", GROUP).lines if " clean " in f" {line} "]
    assert clean.startswith("ok")
    assert "quay_library stays with any plugin that uses it (callbacks: C code may have" in clean
    write_distribution(site, "crane", "import quay_library\n" + STUBBORN, manifest=MANIFEST, group=GROUP)
    (clean,) = [line for line in run("check", "crane", "--group", GROUP).lines if " clean " in f" {line} "]
    assert clean.startswith("NO")


def test_check_shows_the_traceback_of_a_plugin_that_cannot_be_loaded(site: Path, run: Run) -> None:
    """For its author, who is the one to read it."""
    write_distribution(site, "fails", "raise ValueError('no')\n")
    done = run("check", "fails")
    assert done.code == 3
    assert done.lines[0] == (
        "fails (weighbridge-fails 1.0): not fine: importing weighbridge_fails:Plugin failed: ValueError: no"
    )
    assert done.lines[1:2] == ["  Traceback (most recent call last):"]
    assert done.lines[-1] == "  ValueError: no"


# --- demo -------------------------------------------------------------------------------------------------------------


def test_demo_without_a_plugin_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And shows the refusal all the same."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    done = run("demo")
    assert done.code == 0
    assert done.lines[0] == "No plugin is installed. Install one, such as the example: pip install ./examples/lantern"
    assert "anvil: refused: no room" in done.out
    assert "receipt" not in done.out


# --- JSON -------------------------------------------------------------------------------------------------------------


def fields(record: type) -> set[str]:
    return {field.name for field in attrs.fields(record)}


def test_the_keys_of_every_document_are_the_fields_of_its_records(site: Path, run: Run) -> None:
    """So that a program may rely on them."""
    write_distribution(site, "moth", STUBBORN, group=GROUP)
    (listed,) = run("list", "--group", GROUP, "--json").json["plugins"]
    (weighed,) = run("weigh", "--group", GROUP, "--json").json["plugins"]
    (checked,) = run("check", "moth", "--group", GROUP, "--rounds", "3", "--json").json["checks"]
    for document, record in (
        (listed, Listed),
        (weighed, Weighing),
        (weighed["survivors"][0], Survivor),
        (checked, Check),
        (checked["findings"][0], Finding),
    ):
        assert set(document) == fields(record)


def test_run_as_json_has_report_statement_and_receipts(site: Path, run: Run) -> None:
    """One document, at the end; what a plugin prints goes to standard error."""
    write_distribution(site, "moth", FOREIGN + "print('hello')\n", group=GROUP)
    done = run("run", "--once", "--group", GROUP, "--json")
    assert (done.code, done.err) == (0, "hello\n")
    assert set(done.json) == {"report", "statement", "statistics", "receipts", "problems"}
    assert set(done.json["report"]) == fields(LoadReport)
    assert set(done.json["report"]["loaded"][0]) == fields(Outcome)
    assert set(done.json["statistics"]) == fields(HostStatistics)
    assert set(done.json["statement"]) == fields(Statement)
    assert set(done.json["statement"]["plugins"][0]) == fields(Account)
    assert set(done.json["receipts"][0]) == fields(Receipt)


def test_demo_as_json_has_the_refusal_besides(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its figures."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    document = run("demo", "--json").json
    assert set(document) == {"refusal", "report", "statement", "receipts", "problems"}
    assert document["refusal"]["plugin"] == "anvil"
    assert document["refusal"]["needs_bytes"] == 512 * 2**20
    assert document["refusal"]["imported"] is False


# --- errors and exit codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("weigh", "--rounds", "0"),
            "Invalid value for '--rounds': 0 is not in the range x>=1. (weighbridge weigh --help)",
        ),
        (("nonsense",), "No such command 'nonsense'. (weighbridge --help)"),
        (("check",), "Missing argument 'NAME|WHEEL'. (weighbridge check --help)"),
        (("run", "--meter", "guess"), "Invalid value for '--meter': 'guess' is not one of"),
        (("run", "--ceiling", "much"), "the ceiling makes no sense: 'much' is not a size"),
        (("run", "--config", "/no/such/file"), "/no/such/file cannot be read: No such file or directory"),
        (("run", "nosuch", "--group", "g"), "no plugin is called 'nosuch' in the group 'g'"),
        (("weigh", "nosuch", "--group", "g"), "no plugin is called 'nosuch' in the group 'g'"),
        (("check", "nosuch", "--group", "g"), "no plugin is called 'nosuch' in the group 'g'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], line: str) -> None:
    """On standard error, and nothing on standard output."""
    done = run(*arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.err.startswith(f"weighbridge: {line}")


def test_no_command_at_all_is_wrong_usage_and_shows_the_help(run: Run) -> None:
    """On standard error, for nobody has asked for it."""
    done = run()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: weighbridge [OPTIONS] [COMMAND]")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError(), 2),
        (UnknownPlugin(), 2),
        (AdmissionRefused(), 1),
        (AdmissionDeferred(), 1),
        (UnloadTimeout(), 1),
        (LoadFailed(), 3),
        (ManifestError(), 3),
    ],
)
def test_every_error_has_its_exit_code(
    error: WeighbridgeError, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is one line."""
    error.message = "something\nwent wrong"
    monkeypatch.setattr(app, "_invoke", raising(error))
    assert run() == Output(code, "", "weighbridge: something went wrong\n")


def test_an_error_that_is_not_ours_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a bug, and whoever reports it needs that."""
    monkeypatch.setattr(app, "_invoke", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        app.run([])


@pytest.mark.parametrize(("missing", "needs"), [(["rich"], "rich"), (["click", "rich"], "click and rich")])
def test_without_its_libraries_the_command_says_what_to_install(
    missing: list[str], needs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it begins anything: the host alone does not need them."""
    find = importlib.util.find_spec
    monkeypatch.setattr("weighbridge.cli.find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(SystemExit, match=rf"needs {needs}\. Install it: pip install 'weighbridge\[cli\]'$"):
        cli.main()


def test_ctrl_c_before_a_command_has_begun_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its modules are still being imported."""
    monkeypatch.setattr(app, "run", raising(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130


def raising(error: BaseException) -> Callable[..., int]:
    def invoke(arguments: object = None) -> int:
        raise error

    return invoke


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *app.weighbridge.commands])
def test_every_help_text_fits_a_terminal_and_has_an_example(name: str | None) -> None:
    """80 columns; and the example can be parsed."""
    shown = CliRunner().invoke(app.weighbridge, [*([name] if name else []), "--help"])
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    examples = re.findall(r"^\s+weighbridge (\w+ .*|demo)$", shown.output, re.MULTILINE)
    assert examples
    for example in examples:
        command, *arguments = example.split()
        app.weighbridge.commands[command].make_context(command, arguments)


def test_every_option_has_a_help_text() -> None:
    """And every command a short one, which the list of commands shows whole."""
    for command in app.weighbridge.commands.values():
        assert command.short_help
        assert len(command.short_help) < 60
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


# --- what happens while plugins run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"kind": "state", "plugin": "moth", "state": "active", "reason": None}, "moth: active"),
        ({"kind": "state", "plugin": "moth", "state": "stranded", "reason": "4 of 6 outlived it"},
         "moth: stranded, 4 of 6 outlived it"),
        ({"kind": "state", "plugin": "moth", "state": "draining", "reason": None}, None),
        ({"kind": "refusal", "plugin": "moth", "reason": "no room"}, None),
        ({"kind": "pressure", "level": "elevated", "reason": "90 % of the ceiling"},
         "memory pressure is elevated, 90 % of the ceiling"),
        ({"kind": "release", "bytes": 4096, "reason": "8192 bytes were needed"},
         "4.0 KiB came back, 8192 bytes were needed"),
    ],
)  # fmt: skip
def test_events_are_lines_for_the_operator(event: dict[str, Any], words: str | None) -> None:
    """What is only on the way to something else is none."""
    from weighbridge_hookspecs import Event

    assert run_module._words(Event(**event)) == words
