"""A temporary environment, in which a wheel is installed in front of what is installed here."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs
from weighbridge_hookspecs import ConfigurationError

_OURS: Final = ("weighbridge", "weighbridge-hookspecs")


@attrs.frozen
class Environment:
    """A virtual environment in `folder`, in which everything that can be imported here can be imported, too.

    What is installed in it comes first. ``--system-site-packages`` would show the packages of the base interpreter, not
    those of the environment we are in.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        """Make one; quick where pip can be imported here, for then it can be there.

        :raises ConfigurationError: if there is no pip, and none can be had.
        """
        try:
            venv.EnvBuilder(symlinks=os.name != "nt", with_pip=find_spec("pip") is None).create(folder)
        except subprocess.CalledProcessError:
            problem = "there is no pip here, and this Python has no ensurepip"
        else:
            environment = cls(folder)
            (environment.site / "weighbridge-here.pth").write_text(_here(), encoding="utf-8")
            return environment
        raise ConfigurationError(problem, step="check", advice="Install pip beside weighbridge, or check by name")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._path("scripts") / ("python.exe" if sys.platform == "win32" else "python")

    @property
    def site(self) -> Path:
        """Its folder of packages."""
        return self._path("purelib")

    def _path(self, name: str) -> Path:
        base = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path(name, scheme="venv", vars=base))

    def install(self, wheel: Path) -> None:
        """Install a wheel, and of what it depends on what is not here; Weighbridge's own parts are always ours.

        :raises ConfigurationError: with what pip said last.
        """
        ours = self.folder / "ours.txt"
        ours.write_text("".join(f"{name}=={version(name)}\n" for name in _OURS), encoding="utf-8")
        # twice, for what is installed here may be the same version of the same plugin, which pip would take for it;
        # and if it was forced to install the dependencies as well, it would fetch all of them anew
        self._pip(wheel, "--force-reinstall", "--no-deps")
        self._pip(wheel, "--constraint", str(ours))

    def _pip(self, wheel: Path, *options: str) -> None:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        environment.pop("PYTHONPATH", None)  # its folders are in the .pth file, behind what is installed here
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        done = subprocess.run(
            [*command, "--no-user", *options, str(wheel)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise ConfigurationError(f"{wheel.name} cannot be installed: {_last_words(done)}", step="check")


def _here() -> str:
    """A .pth file that adds what can be imported here: https://docs.python.org/3/library/site.html.

    Folders of packages may have .pth files of their own, by which editable installations are found.
    """
    packages = {*site.getsitepackages(), site.getusersitepackages()}
    lines = []
    for path in (os.path.abspath(path) for path in sys.path if path and os.path.isdir(path)):
        lines.append(f"import site; site.addsitedir({path!r})" if path in packages else path)
    return "\n".join([*lines, ""])


def _last_words(pip: subprocess.CompletedProcess[str]) -> str:
    """The last line of what pip said; where that is a link to its manual, the reason."""
    lines = [line.strip() for line in pip.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if errors and errors[-1].startswith("ResolutionImpossible"):
        _, _, conflict = pip.stdout.partition("The conflict is caused by:\n")
        reasons = [line.strip() for line in conflict.splitlines() if line.startswith("    ")]
        return "; ".join(reasons) or " ".join(errors[-2:])
    return (errors or lines or ["pip said nothing"])[-1]
