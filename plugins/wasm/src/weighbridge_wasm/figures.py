"""Statistics as one JSON document, without what must not be written down: values of the environment may be secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from .wasi import WasiGrants

if TYPE_CHECKING:
    from .config import ModuleConfig
    from .statistics import ModuleStatistics, WasmStatistics


def figures(statistics: WasmStatistics) -> dict[str, Any]:
    """All of it, with the names of its fields as keys; what a module is granted of WASI is a list of words."""
    document = {name: _plain(value) for name, value in _fields(statistics) if name != "modules"}
    document["modules"] = {name: _module(module) for name, module in statistics.modules.items()}
    return document


def _module(module: ModuleStatistics) -> dict[str, Any]:
    document = {name: _plain(value) for name, value in _fields(module) if name != "config"}
    document["config"] = _config(module.config)
    return document


def _config(config: ModuleConfig) -> dict[str, Any]:
    document = {name: _plain(value) for name, value in _fields(config) if name != "wasi"}
    document["wasi"] = list(WasiGrants.read(config.wasi).in_words())
    return document


def _fields(record: attrs.AttrsInstance) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in attrs.fields(type(record))]


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return {name: _plain(inner) for name, inner in _fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
