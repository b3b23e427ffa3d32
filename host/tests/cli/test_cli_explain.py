"""``weighbridge explain``: the tree, the ties, what stays, and the picture."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest

from weighbridge.cli import app
from weighbridge.cli import explain as explain_module
from weighbridge.fabricate import write_distribution
from weighbridge.reclaim.receipt import Survivor
from weighbridge.reclaim.ties.tie import Finding
from weighbridge.weighing.records import Explanation

GROUP = "explanations"  # nothing that is installed is in it
SOUND = "class Plugin:\n    pass\n"
MOTH = """
import logging
class Dust(logging.Handler):
    def emit(self, record): pass
class Plugin:
    pass
logging.root.addHandler(Dust())
"""
TREE = """\
module logging (3)
└── logging.root (3)
    └── logging.RootLogger.handlers[0] (3)
        └── weighbridge_moth.Dust (3)
            ├── class weighbridge_moth.Dust
            ├── class weighbridge_moth.Plugin
            └── function weighbridge_moth.Dust.emit"""


@attrs.define
class Output:
    code: int
    out: str
    err: str

    @property
    def explanation(self) -> Any:
        return json.loads(self.out)["explanation"]


Run: TypeAlias = Callable[..., Output]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of plugins that is on ``sys.path``, beside the working folder."""
    for name in ("WEIGHBRIDGE_CEILING", "WEIGHBRIDGE_DISABLED_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "site"


@pytest.fixture
def run(site: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def run(*arguments: str) -> Output:
        code = app.run(["explain", "--group", GROUP, *arguments])
        return Output(code, *capsys.readouterr())

    return run


@pytest.fixture
def moth(site: Path) -> None:
    """A plugin that hangs a handler on the root logger."""
    write_distribution(site, "moth", MOTH, group=GROUP)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_program(folder: Path, name: str, source: str) -> None:
    """A program in the shell's language."""
    (folder / name).write_text(f"#!/bin/sh\n{source}\n")
    (folder / name).chmod(0o755)


def explanation(**fields: Any) -> Explanation:
    """One that no plugin was loaded for."""
    return Explanation(
        **{"name": "moth", "distribution": "d", "version": "1", "group": GROUP, "status": "ok", "state": "unloaded"}
        | fields
    )


@pytest.fixture
def answer(moth: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the command show an explanation that the test makes."""

    def answer(**fields: Any) -> None:
        monkeypatch.setattr(explain_module, "explain_one", lambda *_, **__: explanation(**fields))

    return answer


# --- words ------------------------------------------------------------------------------------------------------------


def test_a_plugin_that_left_nothing_behind_is_one_line(site: Path, run: Run) -> None:
    """With the exit code that says so."""
    write_distribution(site, "crane", SOUND, group=GROUP)
    line = "crane (weighbridge-crane 1.0): nothing outlived it; nothing had to be cut\n"
    assert run("crane") == Output(0, line, "")


@pytest.mark.usefixtures("moth")
def test_what_was_cut_is_said_in_the_line(run: Run) -> None:
    """For without the cut it would not be gone."""
    line = "moth (weighbridge-moth 1.0): nothing outlived it; what was cut: logging handler (1)\n"
    assert run("moth") == Output(0, line, "")
    assert not any("Dust" in type(handler).__name__ for handler in logging.root.handlers)  # all in another process


@pytest.mark.usefixtures("moth")
def test_without_cutting_the_tree_shows_what_would_hold_it(run: Run) -> None:
    """From the root down to what is held, and below it the tie with its sentence."""
    done = run("moth", "--cut", "none")
    assert (done.code, done.err) == (1, "")
    verdict, chains, ties = done.out.rstrip("\n").split("\n\n")
    assert verdict.startswith("moth (weighbridge-moth 1.0): stranded, 3 of ")
    assert verdict.endswith(" outlived it: 2 classes, 1 function")
    assert chains == TREE
    head, *rows = ties.splitlines()
    assert head.split() == ["tie", "places", "outcome", "such", "as", "why"]
    (row,) = [row for row in rows if row.startswith("logging handler ")]
    assert " 1  found " in row
    assert "  logging.root.handlers[0]  " in row
    assert "a logger keeps a handler of the plugin's" in row


@pytest.mark.usefixtures("moth")
def test_where_the_output_has_no_lines_to_draw_with_letters_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a log of ASCII."""
    monkeypatch.setattr(explain_module._Lines, "encoding", "ascii")
    assert "\n`-- logging.root (3)\n" in run("moth", "--cut", "none").out


@pytest.mark.usefixtures("moth")
def test_as_json_every_survivor_has_its_chain(run: Run) -> None:
    """And every tie its place and outcome."""
    found = run("moth", "--cut", "none", "--json").explanation
    assert (found["status"], found["state"], found["graph"]) == ("ok", "stranded", None)
    (dust,) = [one for one in found["survivors"] if one["name"] == "weighbridge_moth.Dust"]
    assert dust["chain"] == [
        "weighbridge_moth.Dust",
        "logging.RootLogger.handlers[0]",
        "logging.root",
        "module logging",
    ]
    ties = [(one["tie"], one["place"], one["outcome"]) for one in found["ties"]]
    assert ("logging handler", "logging.root.handlers[0]", "found") in ties


def test_dependencies_that_were_to_stay_are_named_with_the_reason(site: Path, run: Run) -> None:
    """They go unless somebody wants to keep them."""
    write_distribution(site, "helper", "class Help: pass\n", group="others")
    write_distribution(site, "crane", f"import weighbridge_helper\n{SOUND}", group=GROUP)
    assert len(run("crane").out.splitlines()) == 1
    done = run("crane", "--keep-dependencies")
    assert done.code == 0
    assert done.out.splitlines()[2:] == [
        "what stays                 why",
        "module weighbridge_helper  dependency: dependencies were not asked to go",
    ]


def test_a_plugin_that_fails_is_no_explanation(site: Path, run: Run) -> None:
    """What it raised is shown, and the exit code says that something failed."""
    write_distribution(site, "moth", f"raise RuntimeError('no light')\n{SOUND}", group=GROUP)
    done = run("moth", "--graph", "moth.dot")
    assert done.code == 3
    (line,) = done.err.splitlines()
    assert line.startswith("weighbridge: moth (weighbridge-moth 1.0): failed: ")
    assert "RuntimeError: no light" in done.out
    assert list(Path().iterdir()) == []


def test_an_unknown_plugin_is_wrong_usage(run: Run) -> None:
    """As for every command."""
    assert run("moth").code == 2


def test_survivors_without_a_chain_stand_below_the_tree(run: Run, answer: Callable[..., None]) -> None:
    """Those with the same reason in one row, the first ones with their names."""
    stuck = [Survivor(kind="module", name=f"_speed{n}", tie="compiled", chain=()) for n in range(5)]
    answer(state="stranded", survivors=tuple(stuck), watched=9, kept_modules=("helper (dependency)",))
    done = run("moth")
    assert (done.code, done.out.splitlines()) == (
        1,
        [
            "moth (d 1): stranded, 5 of 9 outlived it: 5 modules",
            "",
            "what stays                                                 why",
            "module _speed0, module _speed1, module _speed2 and 2 more  compiled",
            "module helper                                              dependency",
        ],
    )


def test_many_survivors_of_one_place_are_counted_by_kind(run: Run, answer: Callable[..., None]) -> None:
    """And overloads of a function, which have one name, are named once."""
    chain = ("app.calls", "module app")
    stuck = [Survivor(kind="function", name=f"m.f{n}", tie="app.calls", chain=chain) for n in (0, 0, 1, 2, 3)]
    answer(state="stranded", survivors=tuple(stuck), watched=5)
    assert run("moth").out.splitlines()[-1] == "    └── 5 functions, such as function m.f0 (2)"
    answer(state="stranded", survivors=tuple(stuck[:3]), watched=5)
    assert run("moth").out.splitlines()[-2:] == ["    ├── function m.f0 (2)", "    └── function m.f1"]


def test_what_the_limit_leaves_out_is_counted(run: Run, answer: Callable[..., None]) -> None:
    """In the place where it would stand, and for whole roots at the end."""
    stuck = [
        Survivor(kind="function", name=f"m.f{n}{root}", tie="", chain=(f"{root}.calls['{n}']", f"module {root}"))
        for n, root in enumerate(("app", "app", "other"))
    ]
    answer(state="stranded", survivors=tuple(stuck), watched=3)
    lines = run("moth", "--limit", "1").out.splitlines()
    more = "more; --limit shows more places, --json has them all"
    assert lines[-2:] == [f"    └── and 1 {more}", f"and 1 {more}"]


def test_ties_with_the_same_end_are_one_row_with_its_reason(run: Run, answer: Callable[..., None]) -> None:
    """A tie that was left says why; failures of the unload go to standard error."""
    stuck = Survivor(kind="function", name="m.f", tie="app.calls", chain=("app.calls", "module app"))
    left = [Finding(tie="strange", place=f"x[{n}]", held="m.f", outcome="left", note="too late") for n in range(2)]
    answer(state="stranded", survivors=(stuck,), watched=1, ties=tuple(left), failures=("cut: it broke",))
    done = run("moth")
    assert done.out.splitlines()[-1].split() == ["strange", "2", "left", "x[0]", ";", "too", "late"]
    assert done.err == "weighbridge: moth: went wrong on the way out: cut: it broke\n"


# --- the picture ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("moth")
def test_a_graph_for_graphviz_needs_no_graphviz(run: Run, bin_folder: Path) -> None:
    """It has the root, the way and the survivors, and nothing of the host's."""
    done = run("moth", "--cut", "none", "--graph", "moth.dot")
    assert (done.code, done.err) == (1, "")
    text = Path("moth.dot").read_text(encoding="utf-8")
    assert text.startswith("digraph ObjectGraph {")
    for label in ("module\\nlogging\\nlogging", "RootLogger", "weighbridge_moth.Dust", "weighbridge_moth.Plugin"):
        assert label in text
    assert "weighbridge.weighing" not in text
    assert "frame" not in text
    assert list(bin_folder.iterdir()) == []


@pytest.mark.usefixtures("moth")
def test_dot_draws_the_graph(run: Run, bin_folder: Path) -> None:
    """Told the format by the ending of the file."""
    write_program(bin_folder, "dot", 'format=$1; shift 2; { echo "$format"; while read -r line; do :; done; } > "$1"')
    done = run("moth", "--cut", "none", "--graph", "moth.SVG")
    assert (done.code, done.err) == (1, "")
    assert Path("moth.SVG").read_text() == "-Tsvg\n"
    assert [path.name for path in Path().iterdir()] == ["moth.SVG"]


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.usefixtures("moth")
@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_graphviz_takes_the_graph(run: Run, ending: str, start: bytes) -> None:
    """Whatever is in the names."""
    done = run("moth", "--cut", "none", "--graph", f"moth.{ending}")
    assert (done.code, done.err) == (1, "")
    assert Path(f"moth.{ending}").read_bytes().startswith(start)


@pytest.mark.usefixtures("moth", "bin_folder")
def test_without_graphviz_the_graph_is_written_and_how_to_draw_it_said(run: Run) -> None:
    """The explanation is complete all the same; the exit code says that the picture is missing."""
    done = run("moth", "--cut", "none", "--graph", "moth.svg")
    advice = "wrote moth.dot; install Graphviz, then: dot -Tsvg moth.dot -o moth.svg"
    assert (done.code, done.err) == (2, f"weighbridge: Graphviz's dot is not on PATH: {advice}\n")
    assert TREE in done.out
    assert Path("moth.dot").read_text(encoding="utf-8").startswith("digraph")


@pytest.mark.usefixtures("moth")
@pytest.mark.parametrize(
    ("program", "said"),
    [("echo 'no fonts' >&2; exit 1", "no fonts"), ("exit 7", "it ended with exit code 7")],
)
def test_what_dot_complains_about_is_passed_on(run: Run, bin_folder: Path, program: str, said: str) -> None:
    """And the graph is kept for another try."""
    write_program(bin_folder, "dot", program)
    done = run("moth", "--cut", "none", "--graph", "moth.png")
    line = f"weighbridge: Graphviz's dot did not draw moth.png, but see moth.dot: {said}\n"
    assert (done.code, done.err) == (2, line)
    assert Path("moth.dot").is_file()


@pytest.mark.usefixtures("moth")
def test_a_dot_that_hangs_is_given_up(run: Run, bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is, not the explanation."""
    monkeypatch.setattr(explain_module, "_DRAW_SECONDS", 0.2)
    write_program(bin_folder, "dot", "while :; do :; done")
    done = run("moth", "--cut", "none", "--graph", "moth.png")
    assert done.code == 2
    assert done.err.endswith("it took more than 0.2 s\n")


@pytest.mark.usefixtures("moth")
def test_there_is_no_picture_of_nothing(run: Run) -> None:
    """That is said, and is no failure."""
    done = run("moth", "--graph", "moth.svg")
    assert (done.code, done.err) == (0, "weighbridge: there is no chain to draw: moth.svg was not written\n")
    assert list(Path().iterdir()) == []


def test_a_picture_of_another_format_is_wrong_usage(run: Run) -> None:
    """Before anything is loaded."""
    done = run("moth", "--graph", "moth.gif")
    assert (done.code, done.out) == (2, "")
    assert "'moth.gif' does not end in .svg, .png, .pdf or .dot" in done.err


def test_without_objgraph_there_is_no_picture_but_advice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is loaded."""
    monkeypatch.setattr(explain_module, "find_spec", lambda _: None)
    done = run("moth", "--graph", "moth.svg")
    assert (done.code, done.out) == (2, "")
    assert done.err.rstrip().endswith("python -m pip install objgraph")


def test_a_file_that_cannot_be_written_is_one_line(run: Run, answer: Callable[..., None]) -> None:
    """After the explanation, which is there."""
    answer(graph="digraph {}")
    done = run("moth", "--graph", "nowhere/moth.dot")
    assert (done.code, len(done.out.splitlines())) == (2, 1)
    assert done.err.startswith("weighbridge: nowhere/moth.dot cannot be written: No such file")


def test_a_plugin_that_cannot_be_drawn_is_explained_all_the_same(site: Path, run: Run) -> None:
    """What is drawn is asked what it is, and may answer with anything."""
    hostile = MOTH + "class Lie(Dust):\n    __class__ = property(lambda self: 1 / 0)\nlogging.root.addHandler(Lie())\n"
    write_distribution(site, "moth", hostile, group=GROUP)
    done = run("moth", "--cut", "none", "--graph", "moth.dot")
    assert done.code == 2
    assert "class weighbridge_moth.Lie" in done.out
    assert done.err == "weighbridge: moth.dot was not drawn: ZeroDivisionError: division by zero\n"
