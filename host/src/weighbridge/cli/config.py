"""The configuration file of the command line.

ceiling = "128 MiB"
disabled = ["balloon"]

[plugins.lantern]
seconds = 0.5
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from weighbridge_hookspecs import ConfigurationError

from ..discovery.nearest import did_you_mean
from ..units import parse_bytes

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML file with ceiling, disabled, and a table [plugins.NAME] of settings for each plugin.",
)


@attrs.frozen(kw_only=True)
class Config:
    """What the file says."""

    ceiling: int | str | None = None
    disabled: tuple[str, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)

    def strangers(self, known: Iterable[str]) -> list[str]:
        """A line for each plugin that has settings and does not exist, most likely a spelling mistake."""
        known = list(known)
        return [
            f"[plugins.{name}]: no plugin is called that{did_you_mean(name, known)}"
            for name in self.plugins
            if name not in known
        ]


def read_config(file: Path | None) -> Config:
    """Read a configuration file; None gives the defaults.

    :raises ConfigurationError: if it cannot be read, is not TOML, or has a key or a value that makes no sense.
    """
    if file is None:
        return Config()
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}", step="configure") from None
    except ValueError as error:
        raise ConfigurationError(f"{file} is not TOML: {error}", step="configure") from None
    problem = _problem(content)
    if problem:
        raise ConfigurationError(f"{file}: {problem}", step="configure")
    return Config(
        ceiling=content.get("ceiling"),
        disabled=tuple(content.get("disabled", ())),
        plugins=content.get("plugins", {}),
    )


def _problem(content: Mapping[str, Any]) -> str | None:
    """The first thing in it that makes no sense."""
    known = [field.name for field in attrs.fields(Config)]
    for key in content:
        if key not in known:
            return f"no such key: {key}{did_you_mean(key, known)}"
    try:
        parse_bytes(content.get("ceiling", 1))
    except ValueError as error:
        return f"ceiling: {error}"
    disabled = content.get("disabled", [])
    if not isinstance(disabled, list) or not all(isinstance(name, str) for name in disabled):
        return "disabled has to be an array of names"
    plugins = content.get("plugins", {})
    if not isinstance(plugins, dict):
        return "plugins has to be a table"
    for name, table in plugins.items():
        if not isinstance(table, dict):
            return f"plugins.{name} has to be a table"
    return None
