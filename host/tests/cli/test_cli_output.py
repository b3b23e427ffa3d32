"""Lines, tables and figures for people, and JSON for programs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from enum import Enum
from typing import Any

import attrs
import pytest
from weighbridge_hookspecs import ConfigurationError

from weighbridge.accounting.account import Account, Statement
from weighbridge.cli import output
from weighbridge.cli.show import account_rows, report_lines, summary
from weighbridge.lifecycle.report import LoadReport, Outcome

COLUMNS = ("plugin", ">held", "leases")
ROWS = [("lantern 0.1.0", "44.5 KiB", "1 capability, 1 log, 1 timer"), ("moth", "unknown", "")]


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("first\nsecond\r\n\tthird ", "first second third"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("caf\u00e9 \u202e", r"café \u202e"),
        (ConfigurationError("makes no sense", plugin="moth"), "moth: makes no sense"),
    ],
)
def test_text_of_a_plugins_is_one_line_and_no_command(text: object, line: str) -> None:
    """Neither line breaks nor escape sequences reach the terminal."""
    assert output.one_line(text) == line


def test_a_stream_that_is_missing_or_closed_is_no_terminal() -> None:
    """As standard output is None where it was closed before Python began."""
    closed = io.StringIO()
    closed.close()
    assert [output.is_terminal(stream) for stream in (None, closed, io.StringIO(), Terminal())] == [False] * 3 + [True]


def test_what_goes_wrong_is_said_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With the name of the program in front."""
    output.complain("the\nlamp is out", kind="warning")
    assert capsys.readouterr() == ("", "weighbridge: warning: the lamp is out\n")


def test_a_complaint_covers_what_a_terminal_shows_for_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the line does not begin with "^C"."""
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    output.complain("interrupted")
    assert stream.getvalue() == "\rweighbridge: interrupted\n"


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_table_that_no_terminal_shows_is_as_wide_as_it_needs_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that reads it finds a row in each line, and numbers aligned to the right."""
    monkeypatch.setenv("COLUMNS", "30")
    output.print_table(COLUMNS, ROWS)
    assert shown(capsys) == [
        "plugin             held  leases",
        "lantern 0.1.0  44.5 KiB  1 capability, 1 log, 1 timer",
        "moth            unknown",
    ]


def test_a_terminal_folds_text_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers stay whole."""
    monkeypatch.setenv("COLUMNS", "45")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    output.print_table(COLUMNS, ROWS)
    assert stream.getvalue().splitlines() == [
        "plugin             held  leases",
        "lantern 0.1.0  44.5 KiB  1 capability, 1 log,",
        "                         1 timer",
        "moth            unknown",
    ]


def test_a_terminal_that_is_too_narrow_shows_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row under its name; cells with nothing in them are left out."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    output.print_table(COLUMNS, [("lantern-with-a-name 0.1.0", "44.5 KiB", "1 timer"), ROWS[1]])
    assert stream.getvalue().splitlines() == [
        "lantern-with-a-name 0.1.0",
        "  held    44.5 KiB",
        "  leases  1 timer",
        "moth",
        "  held  unknown",
    ]


@pytest.mark.parametrize(("variable", "coloured"), [("COLORTERM", True), ("NO_COLOR", False)])
def test_words_have_colours_unless_the_person_wants_none(
    variable: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR takes bold headings away as well: no escape sequence is left."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    output.print_table(("plugin", "state"), [("moth", "stranded: 4 of 6 outlived it")])
    assert ("\x1b[" in stream.getvalue()) is coloured
    assert "stranded: 4 of 6 outlived it" in stream.getvalue()


# --- JSON -------------------------------------------------------------------------------------------------------------


class Colour(Enum):
    WHITE = "white"


@attrs.frozen
class Lamp:
    colour: Colour
    holds: dict[int, tuple[str, ...]]
    problem: Exception


def test_the_keys_of_json_are_the_fields_of_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    """All the way down."""
    output.print_json({"lamp": Lamp(Colour.WHITE, {1: ("a", "b")}, ConfigurationError("is out", plugin="lamp"))})
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"lamp": {"colour": "white", "holds": {"1": ["a", "b"]}, "problem": "lamp: is out"}}


PRINTING = """
import ctypes, os, sys
from weighbridge.cli.output import print_json, result_alone
with result_alone(True):
    print("a plugin")
    os.write(1, b"its C library\\n")
    ctypes.CDLL(None).puts(b"and its buffer")
    ctypes.CDLL(None).fflush(None)
print_json({})
"""


@pytest.mark.parametrize("closed", [False, True])
def test_what_plugins_print_is_kept_out_of_the_document(closed: bool) -> None:
    """It goes to standard error, whoever prints it; where that is closed it goes nowhere."""
    script = f"import os; os.close(2)\n{PRINTING}" if closed else PRINTING
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "{}\n"
    assert sorted(done.stderr.splitlines()) == ([] if closed else ["a plugin", "and its buffer", "its C library"])


def test_a_stream_without_a_descriptor_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    """As those of a test are, or of an application that embeds the command."""
    with output.result_alone(True):
        print("a plugin")
    print("the document")
    assert capsys.readouterr() == ("the document\n", "a plugin\n")


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "figure"),
    [
        (output.seconds(None), "unknown"),
        (output.seconds(0.0004), "< 1 ms"),
        (output.seconds(0.0416), "42 ms"),
        (output.seconds(1.26), "1.3 s"),
        (output.share(None), "unknown"),
        (output.share(0.955), "96%"),
        (output.size(None), "-"),
        (output.size(24 * 2**20), "24.0 MiB"),
        (output.change(132 * 1024), "+132.0 KiB"),
        (output.change(-252 * 1024), "-252.0 KiB"),
        (output.change(0), "0 B"),
        (output.count(1, "class"), "1 class"),
        (output.count(2, "class"), "2 classes"),
        (output.count(0, "plugin"), "0 plugins"),
    ],
)
def test_figures_are_for_people(words: str, figure: str) -> None:
    """What is not known says so."""
    assert words == figure


def account(**figures: Any) -> Account:
    known: dict[str, Any] = dict.fromkeys(field.name for field in attrs.fields(Account))
    known |= {"plugin": "moth", "version": "1.0", "held_bytes": 3072, "peak_bytes": 3072, "leases": {"timer": 2}}
    return Account(**known | figures)


def statement(**figures: Any) -> Statement:
    known: dict[str, Any] = dict.fromkeys(field.name for field in attrs.fields(Statement))
    known |= {"plugins": (), "stranded_bytes": 0, "usage_bytes": 2**20, "promised_bytes": 0}
    return Statement(**known | figures)


def test_an_account_shows_what_is_held_now_where_that_is_known() -> None:
    """And what the load brought in where it is not."""
    rows = account_rows(statement(plugins=(account(live_bytes=1024, traced_bytes=2048), account(traced_bytes=2048))))
    assert rows[0] == ("moth 1.0", "1.0 KiB", "-", "unknown", "3.0 KiB", "3.0 KiB", "-", "2 timers")
    assert rows[1][1] == "2.0 KiB"
    row, *_ = account_rows(statement(plugins=(account(leased_bytes=512),)))
    assert row[2] == "512 B"


def test_lines_of_nobody_are_left_out_where_there_is_nothing() -> None:
    """Nothing is 0 bytes; what is unknown is not nothing."""
    rows = account_rows(statement(shared_bytes=0, stdlib_bytes=4096, unattributed_bytes=None))
    assert [(row[0], row[4]) for row in rows] == [("(standard library)", "4.0 KiB"), ("(unattributed)", "unknown")]


def test_the_ceiling_is_part_of_the_summary_if_there_is_one() -> None:
    """Without one there is no headroom either."""
    assert summary(statement()) == "in use 1.0 MiB, promised 0 B"
    assert summary(statement(ceiling_bytes=2**21, headroom_bytes=2**20)) == (
        "in use 1.0 MiB of 2.0 MiB, promised 0 B, headroom 1.0 MiB"
    )


def test_a_report_names_each_plugin_once() -> None:
    """Reasons that begin with the name are left as they are."""
    report = LoadReport(
        loaded=(Outcome(name="moth", state="active", warnings=("flies low",)),),
        dormant=(Outcome(name="owl", state="dormant", reason="until the first call of hunt"),),
        refused=(Outcome(name="anvil", state="refused", reason="anvil: refused: no room"),),
    )
    assert report_lines(report) == [
        "owl: dormant until the first call of hunt",
        "anvil: refused: no room",
        "moth: flies low",
    ]
