"""Every test, in one pytest for each folder of tests, as many side by side as there are processors.

    python tests/by_folder.py [--jobs N] [--only PATH]... [--without PATH]... [PYTEST OPTION]...

Collecting garbage and unloading take as long as the process is big, and a pytest that has collected thousands of tests
is: folder by folder the suite takes half of the time, even one after the other. What a folder prints comes when it has
ended, so that nothing is mixed up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
NO_TESTS: Final = 5
"""https://docs.pytest.org/en/stable/reference/exit-codes.html"""


def main() -> int:
    """Run all; 1 if a folder failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many folders at a time")
    parser.add_argument("--only", action="append", default=[], help="a folder or a file; by default every one")
    parser.add_argument("--without", action="append", default=[], help="a folder or a file that is left out")
    options, others = parser.parse_known_args()
    parts = folders(ROOT, [ROOT / one for one in options.only], [ROOT / one for one in options.without])
    failed = []
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(run, files, others): part for part, files in parts.items()}
        try:
            for done in as_completed(running):
                code, output = done.result()
                print(f"== {running[done]}\n{output}", flush=True)
                if code not in (0, NO_TESTS):
                    failed.append(running[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    print(f"{len(parts) - len(failed)} of {len(parts)} folders passed" + "".join(f"\nfailed: {one}" for one in failed))
    return 1 if failed else 0


def folders(root: Path, only: Collection[Path] = (), without: Collection[Path] = ()) -> dict[str, list[Path]]:
    """The files with tests in ``testpaths``, by their folder, the biggest first."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    tops = [top for pattern in settings["tool"]["pytest"]["ini_options"]["testpaths"] for top in root.glob(pattern)]
    found: dict[Path, list[Path]] = {}
    for file in sorted({file for top in tops for file in top.rglob("test_*.py")}):
        is_wanted = not only or any(file.is_relative_to(one) for one in only)
        if is_wanted and not any(file.is_relative_to(one) for one in without):
            found.setdefault(file.parent, []).append(file)
    biggest_first = sorted(found, key=lambda folder: -sum(file.stat().st_size for file in found[folder]))
    return {str(folder.relative_to(root)): found[folder] for folder in biggest_first}


def run(files: list[Path], options: list[str]) -> tuple[int, str]:
    """The exit code of pytest, and what it printed."""
    command = [sys.executable, "-P", "-m", "pytest", *options, *map(str, files)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, f"{done.stdout}(in all {time.monotonic() - began:.0f} s)\n"


if __name__ == "__main__":
    sys.exit(main())
