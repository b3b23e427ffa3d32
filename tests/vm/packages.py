"""Debian packages, downloaded and unpacked into a folder, without installing them."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import attrs

Say: TypeAlias = Callable[[str], None]

PROGRAMS: Final = ("qemu-system-x86", "busybox-static")
KERNEL: Final = "linux-image-cloud-amd64"
TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb", "ldd", "setpriv")
INSTALLED: Final = re.compile(r"^Inst (\S+) (?:\[\S*\] )?\((\S+)", re.MULTILINE)
FETCHED: Final = re.compile(r"^Get:\d+ \S+ \S+ \S+ (\S+) .*\[(.+)\]$")
NEWEST: Final = re.compile(r"^ +Depends: (linux-image-\S+)$", re.MULTILINE)


class AptFailed(Exception):
    """apt is there and did not do what was asked."""


@attrs.frozen
class Apt:
    """apt with caches of its own, so that no lock of the system's and no privilege is needed.

    :param folder: where the caches are.
    :param own_lists: take lists of packages from there too, and not those of the system.
    """

    folder: Path
    own_lists: bool = False

    @property
    def options(self) -> list[str]:
        """Options for apt-get and apt-cache (apt.conf(5))."""
        options = [f"Dir::Cache={self.folder}", "Debug::NoLocking=true", "APT::Sandbox::User=root"]
        if self.own_lists:
            options.append(f"Dir::State::Lists={self.folder / 'lists'}")
        return [word for option in options for word in ("-o", option)]

    def update(self) -> None:
        """Fetch the lists of packages from where this machine's settings say."""
        (self.folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        output("apt-get", *self.options, "update")

    def needed(self, names: Sequence[str]) -> list[str]:
        """Each of `names` with what it depends on and this machine lacks, as ``name=version``."""
        plan = output("apt-get", *self.options, "-s", "--no-install-recommends", "--reinstall", "install", *names)
        return [f"{name}={version}" for name, version in INSTALLED.findall(plan)]

    def kernels(self) -> list[str]:
        """The kernel that Debian means by its name for the newest one. What it depends on serves its installation."""
        return NEWEST.findall(output("apt-cache", *self.options, "depends", "--important", KERNEL))

    def download(self, packages: Sequence[str], into: Path, say: Say) -> None:
        """Fetch files of packages into a folder, with a line for each."""
        command = ["apt-get", *self.options, "download", *packages]
        with subprocess.Popen(command, cwd=into, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            assert running.stderr is not None
            for line in running.stdout:
                if found := FETCHED.match(line.rstrip()):
                    say(f"downloading {found[1]} ({found[2]})")
            problems = running.stderr.read()
        if running.returncode:
            raise AptFailed(f"apt-get download ended with {running.returncode}: {problems.strip()}")


def missing_tools() -> list[str]:
    """What is needed to download, unpack and start, and is not on this machine."""
    return [name for name in TOOLS if shutil.which(name) is None]


def unpacked(cache: Path, say: Say) -> Path:
    """The folder in which all packages are unpacked; what is missing is fetched.

    :raises AptFailed: a package cannot be had.
    """
    root = cache / "root"
    with alone(cache, say):
        if not root.is_dir():
            fetch(cache, root, say)
    return root


def fetch(cache: Path, root: Path, say: Say) -> None:
    """Download and unpack everything; the folder has its name only once it is complete."""
    apt, debs, unfinished = cache / "apt", cache / "debs", cache / "unfinished"
    for folder in (apt / "archives" / "partial", debs, unfinished):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        download(Apt(apt), debs, say)
    except AptFailed as problem:
        say(f"with this machine's lists of packages it does not work; fetching newer ones ({problem})")
        newer = Apt(apt, own_lists=True)
        newer.update()
        download(newer, debs, say)
    for package in sorted(debs.glob("*.deb")):
        say(f"unpacking {package.name.partition('_')[0]}")
        output("dpkg-deb", "-x", str(package), str(unfinished))
    unfinished.rename(root)
    shutil.rmtree(debs)
    shutil.rmtree(apt)


def download(apt: Apt, into: Path, say: Say) -> None:
    """Fetch what is wanted and what it depends on."""
    packages = [*apt.needed(PROGRAMS), *apt.kernels()]
    say(f"{len(packages)} packages are needed; they are kept, so this happens once")
    apt.download(packages, into, say)


def output(*command: str) -> str:
    """What a command prints.

    :raises AptFailed: it ended with another code than 0.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AptFailed(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def alone(cache: Path, say: Say) -> Iterator[None]:
    """Nobody else builds in this folder meanwhile. The lock goes with the process that holds it."""
    cache.mkdir(parents=True, exist_ok=True)
    # The folder ignores itself, as pytest's own cache does.
    (cache / ".gitignore").write_text("*\n", encoding="ascii")
    with open(cache / "lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run is building in {cache}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
