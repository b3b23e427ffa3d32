"""The law of the repository: how a part is laid out, what it is called, and where it has to be wired in.

A check takes a tree and yields complaints. Each runs on this repository, which must give none, and on a small tree in
which one thing was broken, which must give one: a check that cannot fail is worth nothing.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import pytest

pytestmark = pytest.mark.checkout

Check: TypeAlias = Callable[[Path], Iterator[str]]

ROOT: Final = Path(__file__).resolve().parents[1]
BACKEND: Final = {"requires": ["flit_core>=3.12,<5"], "build-backend": "flit_core.buildapi"}
# Parts that have to compile something: these, and no others, choose a backend of their own.
COMPILED: Final[frozenset[str]] = frozenset()
PYTHON: Final = ">=3.11"
LOCK_FILES: Final = ("*.lock", "*-lock.json", "*-lock.yaml", "pylock*.toml")
PIN: Final = re.compile(r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)==[0-9][a-z0-9.!]*")
EDITABLE: Final = re.compile(r"-e \./(?P<folder>[\w/.-]+?)(?:\[[\w,-]+\])?")
# A host named after a registry, the path of an index, or an option that is given an address.
ADDRESS: Final = re.compile(
    r"""https?://[^\s/"'<>)]*(?:pypi|pythonhosted|devpi|artifactory|nexus)"""
    r"""|\b[a-z]+://[^\s"'<>)]*/simple\b"""
    r"""|(?:index[-_]url|find[-_]links)["']?\s*[=:\s]\s*["']?[a-z]+://""",
    re.IGNORECASE,
)


# -- reading a tree ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Part:
    """A folder that becomes a distribution."""

    tree: Path
    folder: str

    @property
    def path(self) -> Path:
        return self.tree / self.folder

    @property
    def short(self) -> str:
        return self.path.name

    @property
    def distribution(self) -> str:
        return "weighbridge" if self.folder == "host" else f"weighbridge-{self.short}"

    @property
    def package(self) -> str:
        return self.distribution.replace("-", "_")

    @property
    def metadata(self) -> dict[str, Any]:
        return toml(self.path / "pyproject.toml")


def parts(tree: Path) -> list[Part]:
    folders = [tree / "hookspecs", tree / "host", *sorted(tree.glob("plugins/*")), *sorted(tree.glob("examples/*"))]
    return [Part(tree, path.relative_to(tree).as_posix()) for path in folders if (path / "pyproject.toml").exists()]


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def git(tree: Path, *arguments: str) -> str:
    # A hook of git's runs with these set, and they would point it at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(tree), *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def tracked(tree: Path) -> list[Path]:
    """Every file that is in the repository or would be added to it."""
    names = git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sorted({path for name in names if name and (path := tree / name).is_file()})


def tox_environment(tree: Path, name: str) -> dict[str, list[str]]:
    """The lines of one environment's settings, with what it takes from other sections written out."""
    tox = ConfigParser(interpolation=None)
    tox.read_string((tree / "tox.ini").read_text(encoding="utf-8"))
    section = f"testenv:{name}"
    if section not in tox or name not in re.split(r"[\s,]+", tox["tox"]["env_list"]):
        return {}

    def written_out(text: str) -> str:
        return re.sub(r"\{\[([\w:-]+)\](\w+)\}", lambda found: written_out(tox[found[1]][found[2]]), text)

    return {key: written_out(value).strip().splitlines() for key, value in tox[section].items()}


def requirement_name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def imported(source: str, *, by_name: bool = True) -> Iterator[str]:
    """The names of all modules that a source imports; also those imported by a call, unless not `by_name`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ) if by_name:
                yield name


# -- checks ------------------------------------------------------------------------------------------------------------


def check_layout(tree: Path) -> Iterator[str]:
    for part in parts(tree):
        licence = part.path / "LICENSE"
        if licence.is_symlink() or not licence.is_file():
            yield f"{part.folder}: LICENSE is not a real file, so a wheel would lack it"
        elif licence.read_bytes() != (tree / "LICENSE").read_bytes():
            yield f"{part.folder}: LICENSE differs from the one in the root"
        for name in ("README.md", f"src/{part.package}/py.typed"):
            if not (part.path / name).is_file():
                yield f"{part.folder}: {name} is missing"
        if not any(part.path.glob("tests/**/test_*.py")):
            yield f"{part.folder}: tests/ is missing or holds no test"


def check_metadata(tree: Path) -> Iterator[str]:
    for part in parts(tree):
        project = part.metadata["project"]
        if part.folder not in COMPILED and part.metadata["build-system"] != BACKEND:
            yield f"{part.folder}: the build-system is not {BACKEND}"
        for key, value in (("requires-python", PYTHON), ("license", "MIT"), ("license-files", ["LICENSE"])):
            if project.get(key) != value:
                yield f"{part.folder}: {key} is not {value!r}"


def check_names(tree: Path) -> Iterator[str]:
    for part in parts(tree):
        project = part.metadata["project"]
        if project["name"] != part.distribution:
            yield f"{part.folder}: the distribution has to be called {part.distribution}"
        if part.folder not in COMPILED and part.metadata["tool"]["flit"]["module"]["name"] != part.package:
            yield f"{part.folder}: the import package has to be called {part.package}"
        if part.folder in {"hookspecs", "host"}:
            continue
        groups = project.get("entry-points", {})
        plugins = groups.get("weighbridge", {})
        if list(plugins) != [part.short] or plugins[part.short].partition(":")[0] != part.package:
            yield f"{part.folder}: the group weighbridge has to hold {part.short} of {part.package}, and no other"
        manifests = groups.get("weighbridge.manifest", {part.short: f"{part.package}:weighbridge.toml"})
        if manifests != {part.short: f"{part.package}:weighbridge.toml"}:
            yield f"{part.folder}: the manifest has to be {part.short} = {part.package}:weighbridge.toml"


def check_requirements(tree: Path) -> Iterator[str]:
    listed = lines(tree / "requirements-dev.txt")
    if "-c constraints.txt" not in listed:
        yield "requirements-dev.txt: -c constraints.txt is missing"
    editable = {found["folder"] for line in listed if (found := EDITABLE.fullmatch(line))}
    for part in parts(tree):
        if part.folder not in editable:
            yield f"requirements-dev.txt: -e ./{part.folder} is missing"


def check_constraints(tree: Path) -> Iterator[str]:
    pins = lines(tree / "constraints.txt")
    yield from (f"constraints.txt: {pin!r} is not name==version" for pin in pins if not PIN.fullmatch(pin))
    pinned = {requirement_name(pin) for pin in pins}
    ours = {part.distribution for part in parts(tree)}
    yield from (f"constraints.txt: {name} is a part of this repository" for name in sorted(ours & pinned))
    wanted = {line for line in lines(tree / "requirements-dev.txt") if not line.startswith(("#", "-"))}
    for part in parts(tree):
        project = part.metadata["project"]
        wanted.update(project.get("dependencies", []), *project.get("optional-dependencies", {}).values())
    missing = {requirement_name(requirement) for requirement in wanted} - pinned - ours
    yield from (f"constraints.txt: {name} is not pinned" for name in sorted(missing))


def check_alone(tree: Path) -> Iterator[str]:
    for part in parts(tree):
        environment = tox_environment(tree, f"alone-{part.short}")
        if not environment:
            yield f"tox.ini: alone-{part.short} is missing, there or in env_list"
            continue
        ours = {found["folder"] for line in environment["deps"] if (found := EDITABLE.fullmatch(line))}
        if ours != {"hookspecs", part.folder}:
            yield f"tox.ini: alone-{part.short} has to install ./hookspecs and ./{part.folder}, and no other part"
        commands = "\n".join(environment["commands"])
        if f"pytest {part.folder}/tests" not in commands and f"--only {part.folder}/tests" not in commands:
            yield f"tox.ini: alone-{part.short} does not run {part.folder}/tests"
        if part.folder != "host" and "find_spec('weighbridge')" not in commands:
            yield f"tox.ini: alone-{part.short} does not prove that the host is absent"


def check_wheels(tree: Path) -> Iterator[str]:
    commands = [command.split() for command in tox_environment(tree, "wheels").get("commands", [])]
    built = {words[-1] for words in commands if words[:3] == ["python", "-m", "build"]}
    installs = [
        {word.partition("[")[0] for word in words}
        for words in commands
        if words[:4] == ["python", "-m", "pip", "install"]
    ]
    for part in parts(tree):
        if f"{{tox_root}}/{part.folder}".replace("/", "{/}") not in built:
            yield f"tox.ini: wheels does not build {part.folder}"
        if not installs or not all(part.distribution in words for words in installs):
            yield f"tox.ini: wheels does not install {part.distribution}"


def check_tools(tree: Path) -> Iterator[str]:
    root = toml(tree / "pyproject.toml")
    if {"project", "build-system"} & set(root):
        yield "pyproject.toml: nothing is published from the root"
    tool = root["tool"]
    for part in parts(tree):
        if not any(fnmatch(part.folder, member) for member in tool["uv"]["workspace"]["members"]):
            yield f"pyproject.toml: {part.folder} is no member of the uv workspace"
        if tool["uv"]["sources"].get(part.distribution) != {"workspace": True}:
            yield f"pyproject.toml: {part.distribution} does not come from the uv workspace"
        if f"$MYPY_CONFIG_FILE_DIR/{part.folder}/src" not in tool["mypy"]["mypy_path"]:
            yield f"pyproject.toml: {part.folder}/src is not in mypy_path"
        if not any(fnmatch(f"{part.folder}/tests", path) for path in tool["pytest"]["ini_options"]["testpaths"]):
            yield f"pyproject.toml: {part.folder}/tests is not in testpaths"


def check_addresses(tree: Path) -> Iterator[str]:
    for path in tracked(tree):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if ADDRESS.search(line):
                yield f"{path.relative_to(tree)}:{number}: the address of a package registry"


def check_lock_files(tree: Path) -> Iterator[str]:
    for path in tracked(tree):
        if any(fnmatch(path.name, pattern) for pattern in LOCK_FILES):
            yield f"{path.relative_to(tree)}: a lock file records the addresses of registries"


def check_test_names(tree: Path) -> Iterator[str]:
    named: defaultdict[str, list[str]] = defaultdict(list)
    for path in tracked(tree):
        if fnmatch(path.name, "test_*.py") or path.name == "conftest.py":
            named[path.name].append(path.relative_to(tree).as_posix())
    yield from (f"{' and '.join(paths)} share a name" for paths in named.values() if len(paths) > 1)


def check_imports(tree: Path) -> Iterator[str]:
    for path in tracked(tree):
        name = path.relative_to(tree).as_posix()
        if fnmatch(name, "plugins/*.py") or fnmatch(name, "examples/*/src/*.py"):
            # tests that need the host are skipped where it is not installed, and import it by name
            is_test = fnmatch(name, "plugins/*/tests/*")
            for module in imported(path.read_text(encoding="utf-8"), by_name=not is_test):
                if module.partition(".")[0] == "weighbridge":
                    yield f"{name}: imports {module}; a plugin never imports the host"


CHECKS: Final[list[Check]] = [
    check_layout,
    check_metadata,
    check_names,
    check_requirements,
    check_constraints,
    check_alone,
    check_wheels,
    check_tools,
    check_addresses,
    check_lock_files,
    check_test_names,
    check_imports,
]


# -- a small tree, and ways to break it --------------------------------------------------------------------------------


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def plant(tree: Path) -> None:
    """Write the smallest tree that keeps the law: both ground parts, a plugin and an example."""
    write(tree / "LICENSE", "Do as you like.\n")
    folders = ("hookspecs", "host", "plugins/oak", "examples/fern")
    planted = [Part(tree, folder) for folder in folders]
    for part in planted:
        write(part.path / "LICENSE", "Do as you like.\n")
        write(part.path / "README.md")
        write(part.path / "src" / part.package / "py.typed")
        write(part.path / "src" / part.package / "__init__.py", "import attrs\n")
        write(part.path / "tests" / f"test_{part.short}.py")
        write(
            part.path / "pyproject.toml",
            f"""
[build-system]
requires = {BACKEND["requires"]}
build-backend = "{BACKEND["build-backend"]}"
[project]
name = "{part.distribution}"
requires-python = "{PYTHON}"
license = "MIT"
license-files = ["LICENSE"]
dependencies = ["attrs>=23"]
[project.entry-points.weighbridge]
{part.short} = "{part.package}:Plant"
[project.entry-points."weighbridge.manifest"]
{part.short} = "{part.package}:weighbridge.toml"
[tool.flit.module]
name = "{part.package}"
""",
        )
    write(tree / "requirements-dev.txt", "\n".join(["-c constraints.txt", *(f"-e ./{f}" for f in folders), "pytest"]))
    write(tree / "constraints.txt", "attrs==26.1.0\npytest==9.2.0\n")
    alone = [
        f"""
[testenv:alone-{part.short}]
deps =
    -e ./hookspecs
    -e ./{part.folder}
commands =
    python -c "find_spec('weighbridge')"
    pytest {part.folder}/tests
"""
        for part in planted
    ]
    built = [f"    python -m build {{tox_root}}{{/}}{folder.replace('/', '{/}')}" for folder in folders]
    names = " ".join(part.distribution for part in planted)
    environments = ["[tox]", "env_list =", *(f"    alone-{part.short}" for part in planted), "    wheels", *alone]
    wheels = ["[testenv:wheels]", "commands =", *built, f"    python -m pip install {names}"]
    write(tree / "tox.ini", "\n".join([*environments, *wheels]))
    sources = [f"{part.distribution} = {{ workspace = true }}" for part in planted]
    write(
        tree / "pyproject.toml",
        "\n".join(
            [
                "[tool.uv.workspace]",
                'members = ["hookspecs", "host", "plugins/*", "examples/fern"]',
                "[tool.uv.sources]",
                *sources,
                "[tool.mypy]",
                f"mypy_path = {[f'$MYPY_CONFIG_FILE_DIR/{folder}/src' for folder in folders]}",
                "[tool.pytest.ini_options]",
                'testpaths = ["hookspecs/tests", "host/tests", "plugins/*/tests", "examples/*/tests"]',
            ]
        ),
    )
    git(tree, "init", "--quiet")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    plant(tmp_path)
    return tmp_path


def put(name: str, text: str = "") -> Callable[[Path], None]:
    return lambda tree: write(tree / name, text)


def drop(name: str) -> Callable[[Path], None]:
    return lambda tree: (tree / name).unlink()


def swap(name: str, old: str, new: str) -> Callable[[Path], None]:
    def swapped(tree: Path) -> None:
        text = (tree / name).read_text(encoding="utf-8")
        assert old in text
        write(tree / name, text.replace(old, new))

    return swapped


def link_licence(tree: Path) -> None:
    licence = tree / "plugins/oak/LICENSE"
    licence.unlink()
    licence.symlink_to(tree / "LICENSE")


def put_two_conftests(tree: Path) -> None:
    write(tree / "conftest.py")
    write(tree / "host/tests/conftest.py")


OAK: Final = "plugins/oak/pyproject.toml"
LEAF: Final = "plugins/oak/src/weighbridge_oak/leaf.py"
# In two pieces, so that this file holds no address itself.
INDEX: Final = "https:" + "//packages.example/simple"

BROKEN: Final[list[tuple[Check, Callable[[Path], None], str]]] = [
    (check_layout, link_licence, "plugins/oak: LICENSE is not a real file"),
    (check_layout, drop("plugins/oak/LICENSE"), "plugins/oak: LICENSE is not a real file"),
    (check_layout, put("host/LICENSE", "Ask first.\n"), "host: LICENSE differs"),
    (check_layout, drop("hookspecs/README.md"), "hookspecs: README.md is missing"),
    (check_layout, drop("host/src/weighbridge/py.typed"), "host: src/weighbridge/py.typed is missing"),
    (check_layout, drop("examples/fern/tests/test_fern.py"), "examples/fern: tests/ is missing"),
    (check_metadata, swap(OAK, "flit_core.buildapi", "hatchling.build"), "plugins/oak: the build-system"),
    (check_metadata, swap(OAK, "flit_core>=3.12,<5", "flit_core"), "plugins/oak: the build-system"),
    (check_metadata, swap(OAK, ">=3.11", ">=3.9"), "plugins/oak: requires-python"),
    (check_metadata, swap(OAK, '"MIT"', '"GPL-3.0-only"'), "plugins/oak: license is not"),
    (check_metadata, swap(OAK, '["LICENSE"]', "[]"), "plugins/oak: license-files"),
    (check_names, swap(OAK, "weighbridge-oak", "oak"), "called weighbridge-oak"),
    (check_names, swap(OAK, 'name = "weighbridge_oak"', 'name = "oak"'), "called weighbridge_oak"),
    (check_names, swap(OAK, "oak = ", "acorn = "), "the group weighbridge has to hold oak"),
    (check_names, swap(OAK, "weighbridge_oak:Plant", "oak:Plant"), "the group weighbridge has to hold oak"),
    (check_names, swap(OAK, ":weighbridge.toml", ":oak.toml"), "the manifest has to be"),
    (check_requirements, swap("requirements-dev.txt", "-e ./plugins/oak\n", ""), "-e ./plugins/oak is missing"),
    (check_requirements, swap("requirements-dev.txt", "-c constraints.txt", ""), "-c constraints.txt is missing"),
    (check_constraints, put("constraints.txt", "attrs==26.1.0\npytest>=9\n"), "'pytest>=9' is not name==version"),
    (check_constraints, put("constraints.txt", "attrs==26.1.0\npytest[x]==9\n"), "'pytest[x]==9' is not"),
    (check_constraints, put("constraints.txt", "# attrs\n"), "'# attrs' is not name==version"),
    (check_constraints, put("constraints.txt", f"--index-url {INDEX}\n"), "is not name==version"),
    (check_constraints, put("constraints.txt", "weighbridge-oak==0.1.0\n"), "weighbridge-oak is a part"),
    (check_constraints, put("constraints.txt", "attrs==26.1.0\n"), "pytest is not pinned"),
    (check_constraints, put("constraints.txt", "pytest==9.2.0\n"), "attrs is not pinned"),
    (check_alone, swap("tox.ini", "[testenv:alone-oak]", "[testenv:oak]"), "alone-oak is missing"),
    (check_alone, swap("tox.ini", "    alone-oak\n", ""), "alone-oak is missing"),
    (check_alone, swap("tox.ini", "-e ./plugins/oak\n", "-e ./plugins/oak\n    -e ./host\n"), "and no other part"),
    (check_alone, swap("tox.ini", "pytest plugins/oak/tests", "pytest"), "does not run plugins/oak/tests"),
    (check_alone, swap("tox.ini", "find_spec", "print"), "alone-oak does not prove"),
    (check_wheels, swap("tox.ini", "build {tox_root}{/}plugins{/}oak", "build ."), "does not build plugins/oak"),
    (check_wheels, swap("tox.ini", " weighbridge-oak", ""), "does not install weighbridge-oak"),
    (check_tools, swap("pyproject.toml", '"plugins/*", ', ""), "plugins/oak is no member"),
    (check_tools, swap("pyproject.toml", "weighbridge-oak = ", "oak = "), "weighbridge-oak does not come"),
    (check_tools, swap("pyproject.toml", "/plugins/oak/src", "/oak/src"), "plugins/oak/src is not in mypy_path"),
    (check_tools, swap("pyproject.toml", ', "plugins/*/tests"', ""), "plugins/oak/tests is not in testpaths"),
    (check_tools, swap("pyproject.toml", "[tool.mypy]", "[project]\n[tool.mypy]"), "nothing is published"),
    (check_addresses, put("docs/install.md", f"See\n<{INDEX}/attrs>"), "docs/install.md:2: the address"),
    (check_addresses, put("README.md", "https:" + "//pypi.example/project/oak"), "README.md:1: the address"),
    (check_addresses, put(".ci/run", "pip install --index-url " + "http:" + "//mirror.example"), ".ci/run:1: the add"),
    (check_lock_files, put("uv.lock"), "uv.lock: a lock file"),
    (check_lock_files, put("plugins/oak/pylock.dev.toml"), "pylock.dev.toml: a lock file"),
    (check_test_names, put("tests/test_oak.py"), "plugins/oak/tests/test_oak.py and tests/test_oak.py share a name"),
    (check_test_names, put_two_conftests, "conftest.py and host/tests/conftest.py share a name"),
    (check_imports, put(LEAF, "import weighbridge"), "leaf.py: imports weighbridge;"),
    (check_imports, put(LEAF, "def f():\n    from weighbridge.units import MIB"), "imports weighbridge.units;"),
    (check_imports, put(LEAF, "import importlib\nimportlib.import_module('weighbridge.host')"), "weighbridge.host;"),
    (check_imports, put("plugins/oak/tests/test_oak.py", "import weighbridge.testing"), "weighbridge.testing;"),
    (check_imports, put("examples/fern/src/weighbridge_fern/leaf.py", "from weighbridge import Host"), "leaf.py: imp"),
]


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_repository_keeps_the_law(check: Check) -> None:
    """No check has anything to say about this repository."""
    complaints = list(check(ROOT))
    assert not complaints, "\n".join(complaints)


def test_every_folder_of_parts_is_looked_at() -> None:
    """The ground parts and the example are found, so the checks do not pass by looking at nothing."""
    assert {"hookspecs", "host", "examples/lantern"} <= {part.folder for part in parts(ROOT)}


@pytest.mark.parametrize("check", CHECKS)
def test_sound_tree_has_no_complaints(check: Check, tree: Path) -> None:
    """The small tree keeps the law before it is broken, so a complaint is about what was broken."""
    assert list(check(tree)) == []


@pytest.mark.parametrize(("check", "broken", "complaint"), BROKEN)
def test_broken_tree_is_found_out(check: Check, broken: Callable[[Path], None], complaint: str, tree: Path) -> None:
    """A tree with one thing broken gets the complaint that names it."""
    broken(tree)
    assert [found for found in check(tree) if complaint in found]


def test_every_check_can_fail() -> None:
    """For every check there is a tree that it complains about."""
    assert {check for check, _, _ in BROKEN} == set(CHECKS)


def test_ignored_files_are_no_part_of_the_repository(tree: Path) -> None:
    """A lock file that git ignores is nobody's business."""
    write(tree / ".gitignore", "uv.lock\n")
    write(tree / "uv.lock")
    assert list(check_lock_files(tree)) == []


def test_names_like_the_hosts_are_not_the_host(tree: Path) -> None:
    """A plugin may import the contract, itself, and a sibling of its own."""
    write(tree / LEAF, "import weighbridge_hookspecs\nimport weighbridge_oak\nfrom .weighbridge import x\n")
    assert list(check_imports(tree)) == []
