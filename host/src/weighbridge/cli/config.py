"""The configuration file of the command line.

ceiling = "128 MiB"
disabled = ["balloon"]
store = "plugins.sqlite3"

[memory]
enabled = true
pool_max_array = "1 MiB"

[plugins.lantern]
seconds = 0.5
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import click
from weighbridge_hookspecs import ConfigurationError

from ..discovery.nearest import did_you_mean
from ..host import Host
from ..pressure.settings import MemorySettings
from ..units import parse_bytes

_SIZES: Final = frozenset({"pool_max_array"})

ceiling_option = click.option("--ceiling", metavar="SIZE", help="What the process may hold, such as 128MiB.")
store_option = click.option("--store", metavar="FILE", type=click.Path(path_type=Path), help="Where plugins keep data.")
config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML file with ceiling, disabled, store, a table [memory], and a table [plugins.NAME] for each plugin.",
)


@attrs.frozen(kw_only=True)
class Config:
    """What the file says."""

    ceiling: int | str | None = None
    disabled: tuple[str, ...] = ()
    store: Path | None = None
    memory: MemorySettings = attrs.field(factory=MemorySettings)
    plugins: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)

    def strangers(self, known: Iterable[str]) -> list[str]:
        """A line for each plugin that has settings and does not exist, most likely a spelling mistake."""
        known = list(known)
        return [
            f"[plugins.{name}]: no plugin is called that{did_you_mean(name, known)}"
            for name in self.plugins
            if name not in known
        ]


def make_host(config: Config, *, ceiling: str | None, store: Path | None, **options: Any) -> Host:
    """A host as the file says; what was typed goes first.

    :param options: what else :class:`Host` takes.
    """
    given: dict[str, Any] = {
        "settings": config.plugins,
        "disabled": config.disabled,
        "store": config.store if store is None else store,
        "memory": config.memory,
    }
    return Host(config.ceiling if ceiling is None else ceiling, **given | options)


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
    store = content.get("store")
    return Config(
        ceiling=content.get("ceiling"),
        disabled=tuple(content.get("disabled", ())),
        store=file.parent / store if store else None,
        memory=_memory(file, content.get("memory")),
        plugins=content.get("plugins", {}),
    )


def _memory(file: Path, table: Mapping[str, Any] | None) -> MemorySettings:
    """The table [memory]; sizes in it may be texts, and the ceiling is not in it."""
    if table is None:
        return MemorySettings()
    given = {f"{key}_bytes" if key in _SIZES else key: value for key, value in table.items()}
    problem = ""
    try:
        for key in _SIZES & set(table):
            given[f"{key}_bytes"] = parse_bytes(table[key])
        return MemorySettings(**given)
    except ValueError as error:
        problem = str(error)
    except ConfigurationError as error:
        problem = str(error)
    raise ConfigurationError(f"{file}: memory: {problem}", step="configure")


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
    store = content.get("store", "x")
    if not isinstance(store, str) or not store:
        return f"store is {store!r}; give the path of a file, which is looked for beside this one"
    if (problem := _memory_problem(content.get("memory", {"enabled": False}))) is not None:
        return problem
    plugins = content.get("plugins", {})
    if not isinstance(plugins, dict):
        return "plugins has to be a table"
    for name, table in plugins.items():
        if not isinstance(table, dict):
            return f"plugins.{name} has to be a table"
    return None


def _memory_problem(table: object) -> str | None:
    if not isinstance(table, dict):
        return "memory has to be a table"
    fields = (field.name for field in attrs.fields(MemorySettings) if field.name != "ceiling_bytes")
    known = [name.removesuffix("_bytes") for name in fields]
    for key in table:
        if key == "ceiling":
            return "memory.ceiling: the ceiling is a key of its own, above every table"
        if key not in known:
            return f"no such key: memory.{key}{did_you_mean(key, known)}"
    return None if "enabled" in table else "memory: say enabled = true, or enabled = false"
