"""What the machine boots: a kernel, and an initial file system in two layers.

The first layer (busybox, modules, Python) is kept with the packages; the second (our parts and the programs that run in
the guest) is made anew for each run.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs

from . import interpreter, modules, parts
from .archive import Archive
from .packages import Say, alone, unpacked

CACHE: Final = parts.CHECKOUT / ".cache" / "vm"
PROGRAMS: Final = Path(__file__).with_name("guest")
MODULES: Final = ("virtio_pci", "virtio_balloon", "virtio_blk", "nvme", "ext4")
SITE: Final = "/site"


@attrs.frozen
class Image:
    """A kernel and what it unpacks first, and the folder of packages that QEMU is in."""

    root: Path
    kernel: Path
    initrd: Path


@contextmanager
def image(say: Say) -> Iterator[Image]:
    """Make what the machine boots. The initial file system goes when the context ends.

    :raises AptFailed: a package cannot be had.
    """
    root = unpacked(CACHE, say)
    kernel = next((root / "boot").glob("vmlinuz-*"))
    ground = ground_layer(root, kernel.name.partition("-")[2], say)
    with TemporaryDirectory(prefix="weighbridge-vm-") as scratch:
        say("building our wheels")
        initrd = Path(scratch) / "initrd"
        shutil.copyfile(ground, initrd)
        with open(initrd, "ab") as stream:
            add_parts(Archive(stream), Path(scratch))
        yield Image(root, kernel, initrd)


def ground_layer(root: Path, release: str, say: Say) -> Path:
    """The archive of what does not depend on the checkout, one for each Python."""
    digest = hashlib.sha256(f"{sys.version} {interpreter.executable()} {release} {MODULES}".encode()).hexdigest()
    path = root.parent / f"ground-{digest[:16]}.cpio"
    with alone(root.parent, say):
        if not path.exists():
            say(f"packing busybox, the modules of {release} and Python {sys.version.partition(' ')[0]}")
            unfinished = path.with_suffix(".unfinished")
            with open(unfinished, "wb") as stream:
                add_ground(Archive(stream), root, release)
            unfinished.rename(path)
    return path


def add_ground(archive: Archive, root: Path, release: str) -> None:
    """Busybox, modules of the kernel, Python."""
    for folder in ("/proc", "/sys", "/dev", "/tmp", "/run"):
        archive.folder(folder)
    archive.copy(first(root, "bin/busybox", "usr/bin/busybox"), "/bin/busybox")
    names = []
    for name, module in modules.in_order(first(root, f"lib/modules/{release}", f"usr/lib/modules/{release}"), MODULES):
        archive.file(f"/modules/{name}.ko", module)
        names.append(name)
    archive.file("/modules/order", "".join(f"{name}\n" for name in names).encode())
    add_python(archive)
    archive.close()


def add_python(archive: Archive) -> None:
    """Python where it is on this machine, since it looks for its library beside itself; compiled beforehand."""
    program, top = interpreter.executable(), interpreter.standard_library()
    files = list(interpreter.library_files())
    archive.copy(program, str(program))
    archive.link("/bin/python3", str(program))
    for library in sorted(interpreter.shared_libraries([program, *(file for file in files if file.suffix == ".so")])):
        archive.copy(library, str(library))
    with TemporaryDirectory(prefix="weighbridge-vm-") as scratch:
        copied = Path(scratch) / "library"
        for file in files:
            target = copied / file.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        interpreter.compile_all(copied)
        archive.tree(copied, str(top))


def add_parts(archive: Archive, scratch: Path) -> None:
    """Our parts, what they need, and the programs that run in the guest."""
    site = scratch / "site"
    parts.install(parts.build_all(scratch / "wheels"), site)
    shutil.copytree(PROGRAMS, site / "guest", ignore=shutil.ignore_patterns("__pycache__"))
    interpreter.compile_all(site)
    archive.tree(site, SITE)
    for library in sorted(interpreter.shared_libraries(interpreter.extensions(site))):
        archive.copy(library, str(library))
    archive.file("/init", (PROGRAMS / "init").read_bytes(), executable=True)
    archive.close()


def first(root: Path, *names: str) -> Path:
    """The first of some places that is there: newer Debian has moved its folders together."""
    return next(path for name in names if (path := root / name).exists())
