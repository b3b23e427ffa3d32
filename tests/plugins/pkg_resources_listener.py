"""Leaves a loader type and a listener with pkg_resources; where that is not installed, with a module that stands in."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

TIE = "pkg_resources"


class Loader: ...


def provide(module: object) -> None: ...


def listen(distribution: object) -> None: ...


def resources() -> Any:
    if "pkg_resources" not in sys.modules:
        module = ModuleType("pkg_resources")
        vars(module).update(_provider_factories={}, working_set=SimpleNamespace(callbacks=[]))
        sys.modules["pkg_resources"] = module
    return sys.modules["pkg_resources"]


def use() -> None:
    resources()._provider_factories[Loader] = provide
    resources().working_set.callbacks.append(listen)


def intact() -> object:
    return [resources()._provider_factories[Loader] is provide, listen in resources().working_set.callbacks]
