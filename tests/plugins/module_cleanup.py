"""Leaves a clean-up of a module with unittest, outside of any run of tests."""

from __future__ import annotations

import unittest
import unittest.case
from typing import Any

TIE = "unittest clean-up"
entries: list[Any] = vars(unittest.case)["_module_cleanups"]


def clean(what: str) -> None: ...


unittest.addModuleCleanup(clean, what="everything")


def intact() -> object:
    return [entry[0] is clean for entry in entries].count(True)
