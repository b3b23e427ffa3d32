"""A temporary environment, in which a wheel is installed beside what is installed here."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import attrs
from weighbridge_hookspecs import ConfigurationError


@attrs.frozen
class Environment:
    """A virtual environment in `folder`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Environment:
        """Make an environment that sees the packages of this one, too.

        ``--system-site-packages`` would show those of the base interpreter, not those of the environment we are in.
        """
        venv.EnvBuilder(with_pip=True).create(folder)
        environment = cls(folder)
        # after its own folder, so that what is installed in it comes first; addsitedir reads our .pth files as well
        ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in ours)
        (environment.site / "weighbridge-host.pth").write_text(lines, encoding="utf-8")
        return environment

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
        """Install a wheel and what it depends on.

        :raises ConfigurationError: with what pip said last.
        """
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--force-reinstall", "--no-deps", str(wheel)]
        # twice: --force-reinstall with dependencies would bring second copies of what is here already
        for step in (command, [*command[:6], str(wheel)]):
            done = subprocess.run(step, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr.strip() or done.stdout.strip()).splitlines()
                raise ConfigurationError(
                    f"{wheel.name} cannot be installed: {said[-1] if said else 'pip said nothing'}", step="check"
                )
