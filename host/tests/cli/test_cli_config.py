"""The configuration file of the command line, and what is wrong with it in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from weighbridge_hookspecs import ConfigurationError

from weighbridge import MemorySettings
from weighbridge.cli.config import Config, read_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weighbridge.toml"


def test_no_file_is_the_defaults() -> None:
    """Nothing is looked for in the current folder."""
    assert read_config(None) == Config(ceiling=None, disabled=(), plugins={})


def test_a_file_has_a_ceiling_names_and_settings(file: Path) -> None:
    """All of them may be left out."""
    file.write_text('ceiling = "64 MiB"\ndisabled = ["moth", "test-*"]\n[plugins.crane]\nrate = 2.5\n')
    assert read_config(file) == Config(ceiling="64 MiB", disabled=("moth", "test-*"), plugins={"crane": {"rate": 2.5}})
    file.write_text("")
    assert read_config(file) == Config()


def test_a_file_says_how_the_process_is_bounded_and_where_data_is_kept(file: Path) -> None:
    """Sizes may be texts, and the store is looked for beside the file, wherever the command is started."""
    file.write_text(
        'store = "data/plugins.sqlite3"\n[memory]\nenabled = true\npool_max_array = "256 KiB"\ncheck_seconds = 1\n'
        "pressure_threshold = 0.9\nfollow_limits = false\n"
    )
    config = read_config(file)
    assert config.store == file.parent / "data/plugins.sqlite3"
    assert config.memory == MemorySettings(
        enabled=True, pool_max_array_bytes=256 << 10, check_seconds=1, pressure_threshold=0.9, follow_limits=False
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cieling = 1", "no such key: cieling; did you mean 'ceiling'?"),
        ("ceiling = [1]", "ceiling: [1] is not a size: "),
        ("ceiling = true", "ceiling: True is not a size: "),
        ('ceiling = "much"', "ceiling: 'much' is not a size: "),
        ("ceiling = -1", "ceiling: -1 is below 0"),
        ('disabled = "moth"', "disabled has to be an array of names"),
        ("disabled = [1]", "disabled has to be an array of names"),
        ("plugins = 3", "plugins has to be a table"),
        ("[plugins]\ncrane = 3", "plugins.crane has to be a table"),
        ("store = 3", "store is 3; give the path of a file, which is looked for beside this one"),
        ('store = ""', "store is ''; give the path of a file"),
        ("memory = true", "memory has to be a table"),
        ("[memory]", "memory: say enabled = true, or enabled = false"),
        ("[memory]\nceiling = 1", "memory.ceiling: the ceiling is a key of its own, above every table"),
        ("[memory]\nenabled = true\npool_max = 1", "no such key: memory.pool_max; did you mean 'pool_max_array'?"),
        ("[memory]\nenabled = 1", "memory: enabled is 1. Give True or False"),
        ('[memory]\nenabled = true\npool_max_array = "much"', "memory: 'much' is not a size: "),
        ("[memory]\nenabled = true\npool_max_array = -1", "memory: -1 is below 0"),
        ("[memory]\nenabled = true\npressure_threshold = 85", "memory: pressure_threshold is 85. Give a share"),
    ],
)
def test_what_makes_no_sense_is_named(file: Path, text: str, problem: str) -> None:
    """With the file that it is in, in one line."""
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_config(file)
    assert str(caught.value).startswith(f"{file}: {problem}")
    assert "\n" not in str(caught.value)


def test_what_is_not_toml_says_where(file: Path) -> None:
    """Bytes that are no text are not TOML either."""
    file.write_text("ceiling = \n")
    with pytest.raises(ConfigurationError, match=r"weighbridge\.toml is not TOML: .*line 1"):
        read_config(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"weighbridge\.toml is not TOML: "):
        read_config(file)


def test_a_file_that_cannot_be_read_says_why(file: Path) -> None:
    """One that is missing, and one that is a folder."""
    with pytest.raises(ConfigurationError, match=r"weighbridge\.toml cannot be read: No such file or directory"):
        read_config(file)
    file.mkdir()
    with pytest.raises(ConfigurationError, match=r"weighbridge\.toml cannot be read: Is a directory"):
        read_config(file)


def test_settings_of_a_plugin_that_does_not_exist_are_found_out() -> None:
    """Most likely a spelling mistake: the nearest name is offered."""
    config = Config(plugins={"crane": {}, "lantrn": {}})
    assert config.strangers(["crane", "lantern"]) == [
        "[plugins.lantrn]: no plugin is called that; did you mean 'lantern'?"
    ]
