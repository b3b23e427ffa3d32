"""Our parts as wheels, built from the checkout, and the libraries that they need, as this environment has them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

CHECKOUT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("hookspecs", "host", "plugins/numa", "plugins/balloon")
EXTRAS: Final = ("", "cli")


def build_all(into: Path) -> list[Path]:
    """A wheel of each part."""
    for folder in FOLDERS:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(into)]
        done = subprocess.run([*build, str(CHECKOUT / folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{folder} cannot be built: {done.stdout}{done.stderr}")
    return sorted(into.glob("*.whl"))


def install(wheels: Iterable[Path], into: Path) -> None:
    """Unpack wheels of pure Python, and put beside them what they need."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(into)
    ours = {found.name: found for found in distributions(path=[str(into)])}
    for needed in requirements(ours.values(), set(ours)):
        copy(needed, into)


def requirements(of: Iterable[Distribution], known: set[str]) -> Iterator[Distribution]:
    """What distributions need, and what that needs, each once; of extras, those of the command line."""
    for one in of:
        for text in one.requires or ():
            wanted = Requirement(text)
            if wanted.name not in known and is_for_guest(wanted):
                known.add(wanted.name)
                found = distribution(wanted.name)
                yield found
                yield from requirements([found], known)


def is_for_guest(wanted: Requirement) -> bool:
    """Whether a requirement holds on this Python, which is the guest's, too."""
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in EXTRAS)


def copy(installed: Distribution, into: Path) -> None:
    """The files of an installed distribution that can be imported, and its metadata."""
    for file in installed.files or ():
        source = Path(str(file.locate()))
        if ".." not in file.parts and file.suffix != ".pyc" and source.is_file():
            target = into / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
