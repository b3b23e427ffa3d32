"""How modules come from npm: once, as what they were, and loudly where they cannot."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import catalogue, npm, packages, wanted
from .packages import Package, WrongChecksum

pytestmark = pytest.mark.checkout

HERE = Path(__file__).parent


def tarball(**files: bytes) -> bytes:
    """A package as npm packs it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return stream.getvalue()


CONTENT = tarball(module=b"\0asm" * 123)
PACKAGE = Package("@here/thing", "1.2.3", packages.integrity(CONTENT))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program ``npm`` that packs what lies beside it, and writes down what it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "npm").write_text(
        f"#!{sys.executable}\n"
        "import os, shutil, sys\n"
        "from pathlib import Path\n"
        "here = Path(__file__).parent\n"
        "with open(here / 'asked', 'a') as asked: print(sys.argv[-1], file=asked)\n"
        "if not (here / 'thing.tgz').exists():\n"
        "    print('npm error code ENOTFOUND', 'npm error request to somewhere failed', sep='\\n', file=sys.stderr)\n"
        "    sys.exit(1)\n"
        "into = next(word.partition('=')[2] for word in sys.argv if word.startswith('--pack-destination'))\n"
        "shutil.copyfile(here / 'thing.tgz', into + '/here-thing-1.2.3.tgz')\n"
    )
    (folder / "npm").chmod(0o700)
    (folder / "thing.tgz").write_bytes(CONTENT)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def asked(registry: Path) -> list[str]:
    """What npm was asked for."""
    file = registry / "asked"
    return file.read_text().split() if file.exists() else []


def test_package_is_fetched_once(registry: Path, tmp_path: Path) -> None:
    """The second time it comes out of the folder, which git ignores."""
    cache = tmp_path / "cache"
    said: list[str] = []
    for _ in range(2):
        packages.fetch([PACKAGE], said.append, cache)
        assert packages.member(PACKAGE, "module", cache) == b"\0asm" * 123
    assert asked(registry) == ["@here/thing@1.2.3"]
    assert said == ["fetching @here/thing@1.2.3"]
    assert (cache / ".gitignore").read_text(encoding="ascii") == "*\n"
    assert sorted(file.name for file in cache.iterdir()) == [".gitignore", "here-thing-1.2.3.tgz", "lock"]


def test_other_content_under_the_same_version_is_an_error(registry: Path, tmp_path: Path) -> None:
    """The error has both checksums, and nothing is kept."""
    other = tarball(module=b"other")
    (registry / "thing.tgz").write_bytes(other)
    with pytest.raises(WrongChecksum) as caught:
        packages.fetch([PACKAGE], print, tmp_path / "cache")
    assert PACKAGE.integrity in str(caught.value)
    assert packages.integrity(other) in str(caught.value)
    assert not list((tmp_path / "cache").glob("*.tgz"))


def test_damaged_file_is_fetched_again(registry: Path, tmp_path: Path) -> None:
    """A file that was cut off is not taken for the package."""
    kept = tmp_path / PACKAGE.file_name
    kept.write_bytes(CONTENT[:-1])
    packages.fetch([PACKAGE], print, tmp_path)
    assert kept.read_bytes() == CONTENT


def test_without_network_the_reason_has_a_code_and_no_address(registry: Path, tmp_path: Path) -> None:
    """What npm says of its registry stays out of it."""
    (registry / "thing.tgz").unlink()
    with pytest.raises(npm.NpmFailed, match=r"^npm pack @here/thing@1.2.3 ended with ENOTFOUND$"):
        packages.fetch([PACKAGE], print, tmp_path / "cache")


def test_two_runs_at_once_fetch_once(registry: Path, tmp_path: Path) -> None:
    """The second process waits, says so, and finds what the first one fetched."""
    cache = tmp_path / "cache"
    program = (
        "import sys; from pathlib import Path; from foreign import packages\n"
        "one = packages.Package(*sys.argv[2:])\n"
        "packages.fetch([one], lambda text: print(text, flush=True), Path(sys.argv[1]))\n"
        "print(len(packages.member(one, 'module', Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-P", "-c", program, str(cache), PACKAGE.name, PACKAGE.version, PACKAGE.integrity]
    variables = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with packages.alone(cache, print):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True)
        assert other.stdout is not None
        assert "another run fetches" in other.stdout.readline()
        (cache / PACKAGE.file_name).write_bytes(CONTENT)
    assert other.communicate()[0] == f"{4 * 123}\n"
    assert asked(registry) == []


def test_where_there_is_no_npm_one_comes_from_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without npm on PATH a virtual environment is made, whose Python runs npm, and which goes again."""
    made: list[Path] = []

    def installed(folder: Path) -> Path:
        (folder / "bin").mkdir(parents=True)
        made.append(folder)
        return folder / "bin" / "python"

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(npm, "_installed", installed)
    said: list[str] = []
    with npm.program(said.append) as command:
        assert command[0] == str(made[0] / "bin" / "python")
        assert made[0].is_dir()
    assert not made[0].exists()
    assert "no npm here" in said[0]


@pytest.mark.parametrize(("ci", "outcome"), [("", "skipped"), ("true", "errors")])
def test_without_modules_tests_are_skipped_loudly_but_not_in_ci(ci: str, outcome: str, tmp_path: Path) -> None:
    """With no network and nothing kept, a line on the terminal says what was not tested; in CI it is a failure."""
    program = (
        "import sys, pytest; from pathlib import Path; from foreign import npm, packages\n"
        "def fails(packages, say):\n"
        "    raise npm.NpmFailed('npm pack x ended with ENOTFOUND')\n"
        "packages.fetch = fails\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = ["-p", "no:cacheprovider", "-k", "test_module_from_npm_agrees and (Lz4 or Sqlite)"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *options, str(HERE / "test_wasm_drivers.py")],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(HERE.parent)},
        cwd=HERE.parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("wasm: NOT TESTED: npm pack x ended with ENOTFOUND") == 1, done.stdout + done.stderr
    assert f" 2 {outcome}" in done.stdout.splitlines()[-1]
    assert done.returncode == (1 if ci else 0)


def test_ci_is_told_by_its_variable() -> None:
    """Services of CI set it; a developer's machine does not."""
    assert wanted.is_ci({"CI": "true"})
    assert wanted.is_ci({"CI": "1"})
    assert not wanted.is_ci({"CI": "false"})
    assert not wanted.is_ci({})


@given(st.binary())
def test_checksum_is_of_all_bytes(content: bytes) -> None:
    """A byte more is another package."""
    assert packages.integrity(content) != packages.integrity(content + b"\0")


def test_names_of_files_are_those_of_npm() -> None:
    """A scope becomes a part of the name."""
    assert catalogue.SQLITE.package.file_name == "sqlite.org-sqlite-wasm-3.41.2.tgz"
    assert str(catalogue.SQLITE.package) == "@sqlite.org/sqlite-wasm@3.41.2"
