"""The configuration file of the command line.

ceiling = "128 MiB"
disabled = ["balloon"]

[plugins.lantern]
seconds = 0.5
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from weighbridge_hookspecs import ConfigurationError

from ..discovery.nearest import did_you_mean

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with ceiling, disabled, and a table [plugins.NAME] of settings for each plugin.",
)


@attrs.frozen(kw_only=True)
class Config:
    """What the file says."""

    ceiling: int | str | None = None
    disabled: tuple[str, ...] = ()
    plugins: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)


def read_config(file: Path | None) -> Config:
    """Read a configuration file; None gives the defaults.

    :raises ConfigurationError: if it cannot be read, is not TOML, or has a key of no meaning.
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
    known = [field.name for field in attrs.fields(Config)]
    for key in content:
        if key not in known:
            raise ConfigurationError(f"{file}: no such key: {key}{did_you_mean(key, known)}", step="configure")
    _check(file, "disabled", content.get("disabled", []), list)
    plugins = content.get("plugins", {})
    _check(file, "plugins", plugins, dict)
    for name, table in plugins.items():
        _check(file, f"plugins.{name}", table, dict)
    return Config(ceiling=content.get("ceiling"), disabled=tuple(content.get("disabled", ())), plugins=plugins)


def _check(file: Path, key: str, value: object, kind: type[Any]) -> None:
    if not isinstance(value, kind):
        wanted = "a table" if kind is dict else "an array of names"
        raise ConfigurationError(f"{file}: {key} has to be {wanted}", step="configure")
