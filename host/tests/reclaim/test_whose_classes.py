"""Which classes are the plugin's, where methods have been written by a function."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from weighbridge.reclaim.belongings import Belongings

NAME = "leaver_of_classes"
SOURCE = """
def written(name):
    space = {"__name__": __name__}
    exec(f"def {name}(self): return {name!r}", space)
    return space[name]

class Load:
    weigh = written("weigh")
    def fill(self):
        pass
"""


@pytest.fixture
def generation() -> Iterator[ModuleType]:
    """The plugin's only module."""
    module = sys.modules[NAME] = ModuleType(NAME)
    exec(SOURCE, vars(module))
    yield module
    sys.modules.pop(NAME, None)


def test_a_method_run_from_a_text_under_the_name_of_the_module_makes_no_other_generation(
    generation: ModuleType,
) -> None:
    """As SQLAlchemy writes them: the dictionary that it runs has the module's name, and is no module's."""
    load = vars(generation)["Load"]
    belongings = Belongings.of([NAME])
    assert load in belongings
    assert load.weigh in belongings


def test_a_class_of_an_earlier_generation_is_not_the_later_ones(generation: ModuleType) -> None:
    """Both modules had the same name, and so have the classes: their methods tell them apart."""
    earlier = vars(generation)["Load"]
    later = sys.modules[NAME] = ModuleType(NAME)
    exec(SOURCE, vars(later))
    belongings = Belongings.of([NAME])
    assert vars(later)["Load"] in belongings
    assert earlier not in belongings
