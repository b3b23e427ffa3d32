"""Which modules a module refers to, told by its global names."""

from __future__ import annotations

import functools
import textwrap
from types import ModuleType
from typing import Any

from weighbridge.accounting.references import referenced


def module(source: str, **names: Any) -> ModuleType:
    made = ModuleType("library")
    vars(made).update(names)
    exec(source, vars(made))
    return made


def test_a_function_of_its_own_is_no_reference_whatever_it_says() -> None:
    """attrs writes the name of a class's module into a function of its own, once for each class."""
    library = module("def evolve(): pass")
    vars(library)["evolve"].__module__ = "plugin"
    assert "plugin" not in set(referenced(library))
    assert set(referenced(module("", evolve=vars(library)["evolve"]))) == {"library"}


def test_a_function_of_another_module_is_a_reference() -> None:
    """As ``from textwrap import dedent`` leaves it."""
    assert "textwrap" in set(referenced(module("", dedent=textwrap.dedent)))


def test_a_wrapper_of_its_own_refers_to_the_module_of_what_it_wraps() -> None:
    """The function inside goes on being called."""
    source = """
def logged(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args)
    return call

dedent = logged(textwrap.dedent)
del textwrap
"""
    assert "textwrap" in set(referenced(module(source, functools=functools, textwrap=textwrap)))
