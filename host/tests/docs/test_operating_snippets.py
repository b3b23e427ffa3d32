"""What the page on operating says about the command line, run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from weighbridge.cli.app import run
from weighbridge.cli.config import read_config
from weighbridge.limits import OutsideLimits
from weighbridge.testing import TemporaryPlugin

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "operating.md"
SIZE = re.compile(r"[\d.]+ [KM]?i?B")
GIB = 1 << 30
EMPTY = "class Plugin:\n    def __init__(self, context):\n        pass\n"

CONFIG = """\
# snippet: config
ceiling = "4 GiB"
disabled = ["moth", "test-*"]
store = "plugins.sqlite3"

[memory]
enabled = true
pool_max_array = "256 KiB"

[plugins.crane]
rate = 20.0
# end snippet
"""


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)
    monkeypatch.setattr(OutsideLimits, "lowest", lambda self: None)  # the machine may be a small container


@pytest.fixture(autouse=True)
def _installed(temporary_plugin: TemporaryPlugin) -> None:
    for name, attribute in (("crane", "Crane"), ("ear", "Ear"), ("moth", "Moth")):
        temporary_plugin(name, (HERE / f"sample_{name}.py").read_text(encoding="utf-8"), attribute=attribute)
    temporary_plugin("anvil", EMPTY, manifest='[memory]\nload = "64 GiB"\n')
    temporary_plugin("broken", "raise ValueError('out of order')\n")


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "weighbridge-config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return str(file)


def test_configuration_file(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The file sets the ceiling, bounds the process, names the store, disables plugins, and gives each its settings."""
    assert run(["run", "--once", "--json", "--config", config, "crane"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["statement"]["ceiling_bytes"] == document["statistics"]["memory"]["own_ceiling_bytes"] == 4 * GIB
    assert document["statistics"]["memory"]["level"] == "nominal"
    assert read_config(Path(config)).store == Path(config).parent / "plugins.sqlite3"
    assert run(["run", "--once", "--config", config, "moth"]) == 3
    assert "is disabled by 'moth'" in capsys.readouterr().err


def test_option_goes_before_file_before_environment(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ceiling comes from the option, else from the file, else from the environment."""
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "2 GiB")
    ceilings = []
    for arguments in (["--ceiling", "3 GiB", "--config", config], ["--config", config], []):
        assert run(["run", "--once", "--json", *arguments, "crane"]) == 0
        ceilings.append(json.loads(capsys.readouterr().out)["statement"]["ceiling_bytes"] // 1024**3)
    assert ceilings == [3, 4, 2]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "--once", "crane"], 0),
        (["run", "--once", "--ceiling", "4 GiB", "anvil"], 1),
        (["run", "--once", "moth"], 1),
        (["run", "--once", "no-such-plugin"], 2),
        (["run", "--once", "--ceiling", "0", "crane"], 2),
        (["run", "--no-such-option"], 2),
        (["run", "--once", "broken"], 3),
    ],
)
def test_exit_codes(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code says how it ended."""
    assert run(arguments) == code


@pytest.mark.parametrize(
    ("command", "code"), [("explain moth", 1), ("explain ear", 0), ("explain ear --cut none", 1), ("check moth", 1)]
)
def test_the_page_shows_what_the_command_prints(command: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Line for line; sizes may be others."""
    assert run(command.split()) == code
    came, shown = (SIZE.sub("...", text).splitlines() for text in (capsys.readouterr().out, block(command)))
    assert [line.rstrip() for line in came] == shown


def block(command: str) -> str:
    """What the page has below a command."""
    [text] = re.findall(
        rf"^\$ weighbridge {command}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return str(text)


@pytest.mark.parametrize("pattern", ["crane", "cr*", "moth,crane"])
def test_disabled_by_the_environment(
    pattern: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and globs, separated by commas, block plugins before anything is imported."""
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", pattern)
    assert run(["list", "--json"]) == 0
    plugins = {one["name"]: one for one in json.loads(capsys.readouterr().out)["plugins"]}
    assert plugins["crane"]["state"] == "blocked"
    assert plugins["broken"]["state"] == "discovered"


def test_weighing_does_not_see_the_operators_limits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plugin that is disabled, or too heavy for the ceiling, is weighed all the same."""
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "1 MiB")
    monkeypatch.setenv("WEIGHBRIDGE_DISABLED_PLUGINS", "crane")
    assert run(["weigh", "crane"]) == 0


def test_weight_is_kept_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One small file holds what one entry point weighed."""
    assert run(["weigh", "crane"]) == 0
    [file] = (tmp_path / "cache" / "weights").rglob("*.json")
    assert file.name == "weighbridge-crane+1.0+weighbridge+crane.json"
    assert set(json.loads(file.read_bytes())) == {"traced_bytes", "resident_bytes", "import_seconds"}
    capsys.readouterr()
    assert run(["weigh", "--no-save", "--json", "moth"]) == 1
    [weighing] = json.loads(capsys.readouterr().out)["plugins"]
    assert weighing["survivors"]
    assert len(list((tmp_path / "cache" / "weights").rglob("*.json"))) == 1
