"""Whether this process is in a container: a matter of its own, whatever the machine is.

A file such as ``/.dockerenv`` also stays behind where an image became the disk of a virtual machine, so the namespaces
have the last word: those of the machine itself have numbers that are constants of the kernel, see
``include/uapi/linux/nsfs.h`` (that of the mount namespace is one since Linux 6.17).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..files import is_there, link_name, read_text
from .evidence import Container, Evidence

NAMESPACES: Final = "proc/self/ns"
_INITIAL: Final = {"pid": "pid:[4026531836]", "cgroup": "cgroup:[4026531835]", "mnt": "mnt:[4026531832]"}

_FILES: Final = {".dockerenv": "docker", "run/.containerenv": "podman", "dev/.lxc-boot-id": "lxc"}
# Files in which the runtime's own name stands: https://systemd.io/CONTAINER_INTERFACE
_NAMED: Final = ("run/systemd/container", "run/host/container-manager")
_GROUPS: Final = "proc/self/cgroup"
# The first that fits: which engine runs a pod is not in the path.
_PATHS: Final = {
    "kubepods": "kubernetes",
    "/docker/": "docker",
    "/docker-": "docker",
    "/libpod": "podman",
    "/lxc/": "lxc",
    "/lxc.payload": "lxc",
    "/machine.slice/": "systemd-nspawn",
    "/containerd": "containerd",
    "/cri-containerd": "containerd",
}
_VERSION: Final = "proc/version"
# gVisor is a kernel of its own. Its release has changed, its build has not: pkg/sentry/kernel/version.go
_GVISOR: Final = "#1 SMP Sun Jan 10 15:06:54 PST 2016"
_OPENVZ: Final = ("proc/vz", "proc/bc")


class _Sign(NamedTuple):
    where: str
    said: str
    name: str


def detect(root: Path, environ: Mapping[str, str]) -> Container:
    """Whether the process that this tree belongs to is in a container.

    :param environ: the environment of the process.
    """
    kernels = [*_kernels(root)]
    signs = [*kernels, *_signs(root, environ)]
    spaces = {kind: link_name(root / NAMESPACES / kind) for kind in _INITIAL}
    evidence = [Evidence(source="kernel", where=sign.where, said=sign.said) for sign in signs]
    evidence += [_space(kind, number) for kind, number in spaces.items() if number]
    if kernels:
        return Container(name=kernels[0].name, evidence=tuple(evidence))
    outside = {kind: number == _INITIAL[kind] for kind, number in spaces.items() if number}
    return Container(name=_name([sign.name for sign in signs], outside), evidence=tuple(evidence))


def _name(names: list[str], outside: Mapping[str, bool]) -> str | None:
    """What signs and namespaces come to.

    :param outside: for each namespace whose number can be read, whether it is the machine's own.
    """
    if outside.get("mnt") and outside.get("pid"):
        return "none"
    if names:
        return next((name for name in names if name != "other"), "other")
    if "pid" not in outside:
        return None
    return "none" if outside["pid"] else "other"


def _kernels(root: Path) -> Iterator[_Sign]:
    """Kernels that are themselves a container; their namespaces look like a machine's."""
    version = read_text(root / _VERSION) or ""
    if _GVISOR in version:
        yield _Sign(f"/{_VERSION}", "gVisor's", "gvisor")
    elif "microsoft" in version.lower():
        yield _Sign(f"/{_VERSION}", "the Windows Subsystem for Linux", "wsl")
    there, host = (is_there(root / path) for path in _OPENVZ)
    if there and not host:
        yield _Sign(f"/{_OPENVZ[0]}", f"there, and /{_OPENVZ[1]} is not", "openvz")


def _signs(root: Path, environ: Mapping[str, str]) -> Iterator[_Sign]:
    """What runtimes leave in the tree and in the environment."""
    for path in _NAMED:
        if name := read_text(root / path):
            yield _Sign(f"/{path}", name, _known(name))
    for path, name in _FILES.items():
        if is_there(root / path):
            yield _Sign(f"/{path}", "there", name)
    if name := environ.get("container"):
        yield _Sign("environment, container", name, _known(name))
    if "KUBERNETES_SERVICE_HOST" in environ:
        yield _Sign("environment, KUBERNETES_SERVICE_HOST", "set", "kubernetes")
    groups = read_text(root / _GROUPS) or ""
    found = next((path for path in _PATHS if path in groups), None)
    if found:
        yield _Sign(f"/{_GROUPS}", f"a path with {found}", _PATHS[found])


def _known(name: str) -> str:
    """A runtime's name in lower case; ``"other"`` for one that only says that it is one."""
    return "other" if name.lower() in {"oci", "container-other"} else name.lower()


def _space(kind: str, number: str) -> Evidence:
    said = f"{number}, the machine's own" if number == _INITIAL[kind] else number
    return Evidence(source="kernel", where=f"/{NAMESPACES}/{kind}", said=said)
