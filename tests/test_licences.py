"""What somebody gets who installs us: a licence, types, and the entry points, in every distribution."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

OURS: Final = sorted({name for found in distributions() if (name := found.name).split("-")[0] == "weighbridge"})


@pytest.fixture(params=OURS)
def installed(request: pytest.FixtureRequest) -> Distribution:
    return distribution(request.param)


def test_the_parts_are_installed() -> None:
    """The tests below look at the ground parts and at the stranger's plugin, not at nothing."""
    assert {"weighbridge", "weighbridge-hookspecs", "weighbridge-lantern"} <= set(OURS)


def test_licence_is_shipped(installed: Distribution) -> None:
    """The licence is named in the metadata, and its text lies beside it."""
    assert installed.metadata["License-Expression"] == "MIT"
    assert installed.metadata.get_all("License-File") == ["LICENSE"]
    text = installed.read_text("licenses/LICENSE")
    assert text is not None
    assert text.startswith("MIT License")


def test_types_are_shipped(installed: Distribution) -> None:
    """A type checker may use the annotations, for py.typed lies in the package."""
    spec = find_spec(installed.name.replace("-", "_"))
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).with_name("py.typed").is_file()


def test_entry_points_can_be_found(installed: Distribution) -> None:
    """What an entry point names is there, without importing it."""
    for entry_point in installed.entry_points:
        package = find_spec(entry_point.module.partition(".")[0])
        assert package is not None
        assert package.origin is not None
        if entry_point.group == "weighbridge.manifest":
            assert Path(package.origin).with_name(entry_point.attr).is_file()
