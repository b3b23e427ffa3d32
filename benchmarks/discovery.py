"""How long finding plugins takes, against the usual ways to do it.

    python benchmarks/discovery.py [--distributions 200] [--rounds 15] [--json]

Distributions are written into a temporary folder, as wheels leave them behind: 45 in 100 have entry points, and 20 of
those offer a plugin with a manifest. Each figure comes from a fresh process with warm file caches. The rounds are
interleaved: each runs every row once, so that a busy moment of the machine hits all rows alike.

"inside" is the time from before the first import to after the result, read with ``time.perf_counter`` in the process
itself; the start of the interpreter is not in it, and nothing is subtracted. The ratios are ratios of its medians, all
of one run. "process" is the time for the whole process, seen from outside. The row without an import shows how much of
that is the bare interpreter.

stevedore is measured with its cache file there. It switches the cache off for an interpreter under /tmp, going by
``sys.executable``, so its process is told another name before the clock starts. The file is looked for after the
warm-up, and again after the last round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

# Not the group of real plugins: whatever is installed beside the benchmark must not be counted.
GROUP: Final = "measured.plugins"
PLUGINS: Final = 20
SCAN: Final = "weighbridge: scan"
BARE: Final = "bare interpreter"
STEVEDORE: Final = "stevedore, cache file there"

ROWS: Final[Mapping[str, str]] = {
    BARE: "found = ()",
    SCAN: f"from weighbridge.discovery.entry_points import scan; found = scan(({GROUP!r},))",
    "weighbridge: discover, with manifests": (
        f"from weighbridge.discovery.candidates import discover; found = discover({GROUP!r}).candidates"
    ),
    "importlib.metadata": f"import importlib.metadata as m; found = m.entry_points(group={GROUP!r})",
    "importlib_metadata": f"import importlib_metadata as m; found = m.entry_points(group={GROUP!r})",
    # `names=[]` loads nothing, so that only the listing is measured.
    STEVEDORE: (
        "from stevedore.named import NamedExtensionManager; "
        f"found = NamedExtensionManager({GROUP!r}, names=[]).list_entry_points()"
    ),
}

CHILD: Final = """\
import os, sys, time
sys.executable = os.path.basename(sys.executable)
start = time.perf_counter()
{body}
sys.stdout.write(f"{{time.perf_counter() - start}} {{len(found)}}")
"""


class Sample(NamedTuple):
    """One process: seconds inside it, seconds for all of it, and how many entry points it found."""

    inside: float
    process: float
    found: int


def main() -> None:
    """Write the distributions, run the rounds, print the table."""
    options = parse_arguments()
    rows = dict(ROWS)
    if find_spec("stevedore") is None:
        del rows[STEVEDORE]
        print("stevedore is left out, since it is not installed: python -m pip install stevedore", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="discovery-") as folder:
        site, cache = Path(folder, "site"), Path(folder, "cache")
        write_distributions(site, options.distributions)
        samples = run(rows, environment(site, cache), options.rounds)
        note = cache_note(cache) if STEVEDORE in rows else None
    show_json(samples, options, note) if options.json else show_table(samples, options, note)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--distributions", type=int, default=200, help="how many to write (at least 50)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    if options.distributions < 50 or options.rounds < 1:
        parser.error("give at least 50 distributions, so that 20 plugins are less than half of them, and 1 round")
    return options


def write_distributions(site: Path, count: int) -> None:
    """Write metadata folders such as wheels leave behind, and the manifests of the plugins."""
    chance = random.Random(0)
    for number in range(count):
        name = f"{chance.choice(('py', 'data', 'web', 'async', 'open'))}_thing_{number:04}"
        info = site / f"{name}-{chance.randint(0, 30)}.{chance.randint(0, 9)}.dist-info"
        info.mkdir(parents=True)
        for file, content in metadata(name, chance).items():
            (info / file).write_text(content, encoding="utf-8")
        # Of each 20 in a row 9 have entry points; the first ones of all are the plugins.
        if number % 20 < 9:
            ordinal = number // 20 * 9 + number % 20
            (info / "entry_points.txt").write_text(entry_points(site, name, ordinal < PLUGINS), encoding="utf-8")


def metadata(name: str, chance: random.Random) -> dict[str, str]:
    """Write the files that every wheel has, each about as long as usual."""
    head = f"Metadata-Version: 2.4\nName: {name.replace('_', '-')}\nVersion: 1.0\nSummary: A thing\n"
    head += "".join(f"Classifier: Programming Language :: Python :: 3.{minor}\n" for minor in range(8, 15))
    head += "".join(f"Requires-Dist: other-{number}>=1\n" for number in range(chance.randint(0, 12)))
    body = "Long text that describes the thing.\n" * chance.randint(20, 300)
    record = "".join(f"{name}/module_{number}.py,sha256={'0' * 43},1234\n" for number in range(chance.randint(5, 120)))
    wheel = "Wheel-Version: 1.0\nGenerator: bdist_wheel\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return {"METADATA": f"{head}\n{body}", "RECORD": record, "WHEEL": wheel, "INSTALLER": "pip\n"}


def entry_points(site: Path, name: str, is_plugin: bool) -> str:
    """Write entry points; for a plugin also its package with the manifest."""
    scripts = f"[console_scripts]\n{name} = {name}.cli:main\n"
    if not is_plugin:
        return scripts
    package = site / name
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('a plugin was imported')\n", encoding="utf-8")
    (package / "weighbridge.toml").write_text(
        '[plugin]\nsummary = "A thing"\napi = 1\n[memory]\nload = "6 MiB"\npeak = "24 MiB"\n', encoding="utf-8"
    )
    manifest = f"[weighbridge.manifest]\n{name} = {name}:weighbridge.toml\n"
    return f"{scripts}\n[{GROUP}]\n{name} = {name}.plugin:Plugin\n\n{manifest}"


def environment(site: Path, cache: Path) -> dict[str, str]:
    """Put the distributions on the path, and every cache into the temporary folder: stevedore's, and the bytecode.

    Bytecode that is not written is compiled anew in each process, which would be the most of what is measured.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    folders = dict.fromkeys(("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"), str(cache))
    folders |= {"PYTHONPATH": str(site), "PYTHONPYCACHEPREFIX": str(cache / "bytecode")}
    return {**inherited, **folders, "PYTHONNOUSERSITE": "1"}


def run(rows: Mapping[str, str], env: Mapping[str, str], rounds: int) -> dict[str, list[Sample]]:
    """Run every row once to warm up, then once in each round."""
    samples: dict[str, list[Sample]] = {row: [] for row in rows}
    for number in progress(rounds + 1):
        for row, body in rows.items():
            sample = measure(body, env)
            if number:
                samples[row].append(sample)
            elif sample.found != (0 if row == BARE else PLUGINS):
                sys.exit(f"{row}: found {sample.found} entry points instead of {PLUGINS}")
        if not number and STEVEDORE in rows and not cache_files(Path(env["XDG_CACHE_HOME"])):
            sys.exit("stevedore wrote no cache file: its figure would be the one without a cache")
    return samples


def progress(count: int) -> Iterator[int]:
    """Count rounds, on standard error if somebody looks at it; round 0 is the warm-up."""
    for number in range(count):
        if sys.stderr.isatty():
            print(f"\rround {number} of {count - 1} ", end="", file=sys.stderr, flush=True)
        yield number
    if sys.stderr.isatty():
        print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)


def measure(body: str, env: Mapping[str, str]) -> Sample:
    """Run one row in a fresh process."""
    start = time.perf_counter()
    command = [sys.executable, "-c", CHILD.format(body=body)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    process = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"this failed:\n{body}\n{done.stderr}")
    inside, found = done.stdout.split()
    return Sample(float(inside), process, int(found))


def cache_files(cache: Path) -> list[Path]:
    """Find stevedore's cache files; the folder has another name on each system."""
    folders = [folder for folder in cache.rglob("*") if folder.name.lower().replace(" ", "-") == "python-entrypoints"]
    return [file for folder in folders for file in folder.iterdir()]


def cache_note(cache: Path) -> str:
    """Say whether the cache was on, and whether one file served all rounds."""
    files = cache_files(cache)
    note = f"stevedore's cache was on, and its file of {sum(file.stat().st_size for file in files)} bytes was there"
    if len(files) == 1:
        return f"{note} in every round"
    return f"{note}, but was written {len(files)} times: a folder on the path changed, so do not trust its figure"


def show_table(samples: Mapping[str, list[Sample]], options: argparse.Namespace, note: str | None) -> None:
    """Print medians, and how they compare with the scan's."""
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, {options.distributions} distributions, {PLUGINS} plugins, {options.rounds} rounds")
    print(f"{'':40}{'inside':>12}{'to scan':>10}{'scan is':>10}{'process':>12}")
    for row, figures in summary(samples).items():
        ratio, share = (f"{figures['ratio']:.2f}", f"1/{figures['ratio']:.1f}") if row != BARE else ("", "")
        print(f"{row:40}{figures['inside_ms']:9.2f} ms{ratio:>10}{share:>10}{figures['process_ms']:9.1f} ms")
    if note:
        print(note)


def show_json(samples: Mapping[str, list[Sample]], options: argparse.Namespace, note: str | None) -> None:
    """Print the same for a program."""
    facts = {"python": sys.version.split()[0], "distributions": options.distributions, "rounds": options.rounds}
    print(json.dumps({**facts, "plugins": PLUGINS, "note": note, "rows": summary(samples)}, indent=2))


def summary(samples: Mapping[str, list[Sample]]) -> dict[str, dict[str, float]]:
    """Return the medians in milliseconds, and the ratio of each "inside" to the scan's."""
    inside = {row: median(sample.inside for sample in taken) for row, taken in samples.items()}
    return {
        row: {
            "inside_ms": inside[row] * 1000,
            "ratio": inside[row] / inside[SCAN],
            "process_ms": median(sample.process for sample in taken) * 1000,
        }
        for row, taken in samples.items()
    }


if __name__ == "__main__":
    main()
