"""The modules for a test: fetched on the first demand of a run, with lines about what takes long on the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import pytest

from . import packages
from .catalogue import ALL, Module
from .npm import NpmFailed

FETCHED: Final = pytest.StashKey[str | None]()


def wasm(config: pytest.Config, module: Module) -> bytes:
    """The bytes of a module. Where none can be had the test is skipped, loudly; on a machine of CI it fails."""
    if FETCHED not in config.stash:
        config.stash[FETCHED] = reason_against(config)
    if (reason := config.stash[FETCHED]) is not None:
        (pytest.fail if is_ci(os.environ) else pytest.skip)(reason)
    return module.read()


def reason_against(config: pytest.Config) -> str | None:
    """Fetch every module; why that is not possible here, and None if it is."""
    try:
        packages.fetch([module.package for module in ALL], lambda text: say(config, text))
    except NpmFailed as problem:
        say(config, f"NOT TESTED: {problem}.\nThe tests with modules that nobody here wrote are left out.")
        return str(problem)
    return None


def is_ci(variables: Mapping[str, str]) -> bool:
    """Whether a machine that has to have everything runs this; CI services set the variable, mostly to ``true``."""
    return variables.get("CI", "").lower() not in ("", "0", "false")


def say(config: pytest.Config, text: str) -> None:
    """Print at once, past what keeps the output of tests back."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for line in text.splitlines():
            print(f"wasm: {line}", flush=True)
