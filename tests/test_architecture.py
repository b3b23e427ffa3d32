"""The rooms of the host: imports point down, one room prints, and what is heavy waits until it is needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

import weighbridge

# Top to bottom. A room imports from rooms below it and from itself, never from one above; ARCHITECTURE.md says why.
ROOMS: Final = (
    "cli",
    "testing",
    "weighing",
    "isolation",
    "host",
    "lifecycle",
    "pressure",
    "reclaim",
    "accounting",
    "admission",
    "leases",
    "discovery",
    "hooks",
    "containment",
    "fabricate",
    "limits",
    "units",
)
PRINTS: Final = "cli"
HEAVY: Final = ("click", "importlib_metadata", "objgraph", "psutil", "rich", "tracemalloc")
SOURCES: Final = Path(weighbridge.__file__).parent


# -- reading sources ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Import:
    """One module that a file imports: where, and which."""

    file: str
    line: int
    module: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def room(module: str) -> str:
    """The room of a dotted name below the package; empty for the package itself."""
    return module.partition(".")[0]


def name_of(root: Path, file: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imports(root: Path, file: Path) -> Iterator[Import]:
    """What a file imports of its own package, as dotted names below it."""
    relative = file.relative_to(root)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(level=0, module=str(module), names=names) if room(module) == root.name:
                below = module.partition(".")[2]
                for alias in names:
                    yield Import(relative.as_posix(), node.lineno, below or alias.name)
            case ast.ImportFrom(level=level, module=module, names=names) if level > 0:
                folder = ".".join(relative.parts[: len(relative.parts) - level])
                for alias in names:
                    target = ".".join(filter(None, (folder, module)))
                    yield Import(relative.as_posix(), node.lineno, target or alias.name)
            case ast.Import(names=names):
                for alias in names:
                    if room(alias.name) == root.name:
                        yield Import(relative.as_posix(), node.lineno, alias.name.partition(".")[2])


def prints(file: Path) -> Iterator[int]:
    """The lines on which a file writes to the terminal."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="print" | "input")):
                yield node.lineno
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__"):
                yield node.lineno
            case ast.ImportFrom(module="sys", names=names) if {"stdout", "stderr"} & {one.name for one in names}:
                yield node.lineno
            case ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho"):
                yield node.lineno


# -- checks ------------------------------------------------------------------------------------------------------------


def check_rooms(root: Path) -> Iterator[str]:
    for file in files(root):
        own = room(name_of(root, file))
        if own and own not in ROOMS:
            yield f"{file.relative_to(root).as_posix()}: {own} has no place in the list of rooms"


def check_direction(root: Path) -> Iterator[str]:
    for file in files(root):
        own = room(name_of(root, file))
        if own not in ROOMS:
            continue  # the package itself stands for all rooms, and imports them when they are asked for
        for found in imports(root, file):
            other = room(found.module)
            if other in ROOMS and other != own and ROOMS.index(other) <= ROOMS.index(own):
                yield f"{found.place}: {own} imports {other}, which is above it"
            elif other not in ROOMS and other != "__version__":
                yield f"{found.place}: {own} imports {other or 'the package'}, which stands for all rooms"


def check_prints(root: Path) -> Iterator[str]:
    for file in files(root):
        if room(name_of(root, file)) != PRINTS:
            for line in prints(file):
                yield f"{file.relative_to(root).as_posix()}:{line}: prints; only {PRINTS} does"


def check_page(root: Path, page: str) -> Iterator[str]:
    """Compare the table of rooms on a page with the list and with what each room imports."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", page, re.MULTILINE)
    if [name for name, _ in rows] != list(ROOMS):
        yield "the page has other rooms, or another order"
    for name, said in rows:
        real = imported_rooms(root, name)
        if "everything below" not in said and set(re.findall(r"`(\w+)`", said)) != real:
            yield f"{name} imports {', '.join(sorted(real)) or 'no room'}, and the page says{said}"


def imported_rooms(root: Path, name: str) -> set[str]:
    mine = (file for file in files(root) if room(name_of(root, file)) == name)
    return {room(found.module) for file in mine for found in imports(root, file)} & set(ROOMS) - {name}


CHECKS: Final = [check_rooms, check_direction, check_prints]


# -- a small package, and ways to break it -----------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The smallest package that keeps the law."""
    sources = {
        "__init__.py": "from .host import Host\n",
        "host.py": "from .lifecycle.states import State\nfrom .units import MIB\n",
        "units.py": "MIB = 1024 * 1024\n",
        "lifecycle/__init__.py": "",
        "lifecycle/states.py": "from ..units import MIB\nfrom . import other\n",
        "lifecycle/other.py": "from .states import State\n",
        "cli/__init__.py": "import sys\nfrom .. import __version__\nfrom ..host import Host\nprint(sys.stdout)\n",
    }
    for name, source in sources.items():
        file = tmp_path / "weighbridge" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    return tmp_path / "weighbridge"


def add(name: str, text: str) -> Callable[[Path], None]:
    def added(root: Path) -> None:
        file = root / name
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        file.write_text(before + text, encoding="utf-8")

    return added


UP: Final = "which is above it"

BROKEN: Final[list[tuple[Callable[[Path], Iterator[str]], Callable[[Path], None], str]]] = [
    (check_rooms, add("attic.py", ""), "attic.py: attic has no place"),
    (check_direction, add("units.py", "from .host import Host\n"), f"units.py:2: units imports host, {UP}"),
    (check_direction, add("units.py", "from . import host\n"), f"units.py:2: units imports host, {UP}"),
    (
        check_direction,
        add("units.py", "def f():\n    import weighbridge.host\n"),
        f"units.py:3: units imports host, {UP}",
    ),
    (check_direction, add("units.py", "from weighbridge.host import Host\n"), f"units imports host, {UP}"),
    (check_direction, add("units.py", "from weighbridge import host\n"), f"units imports host, {UP}"),
    (check_direction, add("units.py", "from weighbridge import Host\n"), "units imports Host, which stands for all"),
    (check_direction, add("units.py", "import weighbridge\n"), "units imports the package, which stands for all"),
    (check_direction, add("lifecycle/states.py", "from ..cli import main\n"), f"lifecycle imports cli, {UP}"),
    (check_direction, add("lifecycle/states.py", "from .. import Host\n"), "states.py:3: lifecycle imports Host"),
    (check_prints, add("host.py", "print('here')\n"), "host.py:3: prints; only cli does"),
    (check_prints, add("host.py", "import sys\nsys.stderr.write('')\n"), "host.py:4: prints"),
    (check_prints, add("host.py", "from sys import stdout\n"), "host.py:3: prints"),
    (check_prints, add("host.py", "import click\nclick.echo('')\n"), "host.py:4: prints"),
]


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_host_keeps_the_law(check: Callable[[Path], Iterator[str]]) -> None:
    """No check has anything to say about the host that is installed here."""
    complaints = list(check(SOURCES))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("check", CHECKS)
def test_sound_package_has_no_complaints(check: Callable[[Path], Iterator[str]], root: Path) -> None:
    """The small package keeps the law before it is broken, so a complaint is about what was broken."""
    assert list(check(root)) == []


@pytest.mark.parametrize(("check", "broken", "complaint"), BROKEN)
def test_broken_package_is_found_out(
    check: Callable[[Path], Iterator[str]], broken: Callable[[Path], None], complaint: str, root: Path
) -> None:
    """A package with one thing broken gets the complaint that names it."""
    broken(root)
    assert [found for found in check(root) if complaint in found]


@pytest.mark.checkout
def test_page_has_the_rooms_and_what_they_import() -> None:
    """ARCHITECTURE.md shows the list that is checked here, and what each room really imports."""
    page = (Path(__file__).resolve().parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    complaints = list(check_page(SOURCES, page))
    assert not complaints, "\n".join(complaints)


def test_page_that_differs_is_found_out() -> None:
    """A room that is missing, and an import that is not there, are complaints."""
    rows = "\n".join(f"| `{name}` | what is in it | everything below |" for name in ROOMS)
    assert list(check_page(SOURCES, rows)) == []
    assert list(check_page(SOURCES, rows.replace("| `units` |", "| `attic` |"))) == [
        "the page has other rooms, or another order"
    ]
    wrong = rows.replace("| `units` | what is in it | everything below |", "| `units` | what is in it | `hooks` |")
    assert list(check_page(SOURCES, wrong)) == ["units imports no room, and the page says `hooks` "]


def test_every_room_is_there() -> None:
    """The list holds no room that was given up."""
    assert {room(name_of(SOURCES, file)) for file in files(SOURCES)} - {""} == set(ROOMS)


@pytest.mark.parametrize("module", ["weighbridge", "weighbridge.host", "weighbridge_hookspecs"])
def test_nothing_heavy_is_imported(module: str) -> None:
    """What a host may never need is not in memory after its import, in an interpreter of its own."""
    assert imported_by(module) & set(HEAVY) == set()


def test_package_alone_imports_no_room() -> None:
    """A scan for plugins does not pay for the host: the package brings none of its rooms."""
    assert {name for name in imported_by("weighbridge") if name.startswith("weighbridge.")} == set()


def test_heavy_import_would_be_seen() -> None:
    """The interpreter that the tests above ask does tell what was imported."""
    assert "tracemalloc" in imported_by("tracemalloc")


def imported_by(module: str) -> set[str]:
    """Top names and dotted names of all modules that the import brings in."""
    program = f"import sys; before = set(sys.modules); import {module}; print(*set(sys.modules) - before)"
    command = [sys.executable, "-P", "-c", program]
    names = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout.split()
    return {*names, *(name.partition(".")[0] for name in names)}
