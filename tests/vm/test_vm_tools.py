"""What the machine is made with, without a machine: archives, orders of modules, apt's words, and the skip."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import booting, modules, packages
from .archive import END, MAGIC, Archive

pytestmark = pytest.mark.checkout

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9).filter(
    lambda name: name not in (".", "..", END)
)
contents = st.binary(max_size=50)


def members(data: bytes) -> list[tuple[str, int, bytes]]:
    """Name, mode and content of each member, read as the kernel does (init/initramfs.c)."""
    found = []
    position = 0
    while position < len(data):
        assert data[position : position + 6] == MAGIC
        assert position % 4 == 0
        numbers = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        start = position + 110
        content = (start + name_size + 3) // 4 * 4
        found.append((os.fsdecode(data[start : start + name_size - 1]), mode, data[content : content + size]))
        position = (content + size + 3) // 4 * 4
    return found


@given(st.lists(st.tuples(names, names, contents), max_size=5))
def test_archive_holds_what_was_put_in(files: list[tuple[str, str, bytes]]) -> None:
    """Every file is there with its content, below a folder that comes once and before it, and the end is marked."""
    stream = BytesIO()
    archive = Archive(stream)
    for folder, name, content in files:
        archive.file(f"/{folder}/{name}", content)
    archive.close()
    read = members(stream.getvalue())
    assert read[-1] == (END, 0, b"")
    assert [(name, content) for name, mode, content in read if mode == 0o100644] == [
        (f"{folder}/{name}", content) for folder, name, content in files
    ]
    folders = [name for name, mode, _ in read if mode == 0o40755]
    assert folders == list(dict.fromkeys(folder for folder, _, _ in files))


def test_archive_keeps_links_and_what_can_be_run(tmp_path: Path) -> None:
    """A link's content is where it leads; a program stays one; folders of folders are made."""
    program = tmp_path / "program"
    program.write_bytes(b"#!\n")
    program.chmod(0o700)
    stream = BytesIO()
    archive = Archive(stream)
    archive.tree(tmp_path, "/usr/bin")
    archive.link("/bin", "usr/bin")
    assert members(stream.getvalue()) == [
        ("usr", 0o40755, b""),
        ("usr/bin", 0o40755, b""),
        ("usr/bin/program", 0o100755, b"#!\n"),
        ("bin", 0o120777, b"usr/bin"),
    ]


@given(st.binary())
def test_anything_can_be_asked_for_its_dependencies(module: bytes) -> None:
    """Bytes that are no module have none."""
    assert modules.dependencies(module.replace(b"depends=", b"")) == []


def test_modules_come_after_what_they_depend_on(tmp_path: Path) -> None:
    """Each module once, dependencies first, dashes and underscores alike; what has no file is built in."""
    needs = {"virtio-pci": "virtio,virtio_ring", "virtio_ring": "virtio", "virtio": ""}
    for name, others in needs.items():
        (tmp_path / f"{name}.ko").write_bytes(b"\0name=x\0depends=" + others.encode() + b"\0vermagic=1\0")
    order = [name for name, _ in modules.in_order(tmp_path, ["virtio_pci", "virtio", "nvme"])]
    assert order == ["virtio", "virtio_ring", "virtio_pci"]


def test_plan_of_apt_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What would be installed, and what would be installed anew, by name and version; configuring is no package."""
    plan = (
        "Inst libfdt1 (1.6.1-4+b1 Debian:12.5/stable [amd64])\n"
        "Inst qemu-system-x86 [1:7.1] (1:7.2+dfsg-7 Debian:12.5/stable [amd64]) []\n"
        "Conf libfdt1 (1.6.1-4+b1 Debian:12.5/stable [amd64])\n"
    )
    monkeypatch.setattr(packages, "output", lambda *command: plan)
    assert packages.Apt(tmp_path).needed(["x"]) == ["libfdt1=1.6.1-4+b1", "qemu-system-x86=1:7.2+dfsg-7"]


def test_kernel_is_the_one_that_debians_name_means(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not the package without content that depends on it."""
    monkeypatch.setattr(packages, "output", lambda *command: f"{packages.KERNEL}\n  Depends: linux-image-6.1.0-9-x\n")
    assert packages.Apt(tmp_path).kernels() == ["linux-image-6.1.0-9-x"]


def test_what_is_fetched_is_told_without_its_address() -> None:
    """A line about a download has the name and the size."""
    line = "Get:3 mirror:/somewhere stable/main amd64 libfdt1 amd64 1.6.1-4+b1 [19.0 kB]"
    found = packages.FETCHED.match(line)
    assert found is not None
    assert found.groups() == ("libfdt1", "19.0 kB")


def test_one_builds_while_another_waits(tmp_path: Path) -> None:
    """The second one says that it waits, and comes when the first one has left; git ignores the folder."""
    said: list[str] = []
    program = (
        "import sys; from pathlib import Path; from vm.packages import alone\n"
        "with alone(Path(sys.argv[1]), lambda text: print(text, flush=True)): print('in', flush=True)"
    )
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-P", "-c", program, str(tmp_path)]
    with packages.alone(tmp_path, said.append):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, env=variables, text=True)
        assert other.stdout is not None
        assert "another run is building" in other.stdout.readline()
    assert other.communicate()[0] == "in\n"
    assert said == []
    assert (tmp_path / ".gitignore").read_text(encoding="ascii") == "*\n"


def test_without_apt_the_tests_are_skipped_and_say_so(tmp_path: Path) -> None:
    """Every test in the machine is skipped, and a line on the terminal says what was not tested and why."""
    file = Path(__file__).with_name("test_vm_machine.py")
    command = [sys.executable, "-P", "-m", "pytest", "-m", "vm", "-p", "no:cacheprovider", str(file)]
    variables = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, env=variables, cwd=file.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "vm: NOT TESTED: packages are downloaded with apt, and this machine lacks apt-get" in done.stdout
    assert " passed" not in done.stdout.splitlines()[-1]


def test_other_machines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another processor or system the reason says which one it is."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" in (booting.reason_against() or "")
