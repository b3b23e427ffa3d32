"""The pages keep to the code: snippets, signatures, records, states, errors, commands, settings, links.

A check takes a tree and yields complaints. Each runs on this repository, which must give none, and on a copy of it in
which one thing was broken, which must give one: a check that cannot fail is worth nothing.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import click
import pytest
import weighbridge_hookspecs
from weighbridge_hookspecs import BudgetView, Manifest, PluginContext, WeighbridgeError, errors, hooks

from weighbridge import Account, HostStatistics, MemorySettings, MemoryStatistics, Receipt, Statement, Survivor, Weight
from weighbridge.accounting.account import LoadWeighing
from weighbridge.cli import app
from weighbridge.cli.config import Config
from weighbridge.cli.ending import INTERRUPTED
from weighbridge.leases.buffer_ceiling import CeilingStatistics
from weighbridge.lifecycle.services import ServiceStatistics
from weighbridge.lifecycle.states import TRANSITIONS, State
from weighbridge.pressure.relief import Effort, Reaction
from weighbridge.reclaim.receipt import Step
from weighbridge.reclaim.ties.catalogue import TIES
from weighbridge.reclaim.ties.tie import Finding as TieFinding
from weighbridge.weighing.records import Check as PluginCheck
from weighbridge.weighing.records import Explanation, Finding, Weighing

pytestmark = pytest.mark.checkout

Check: TypeAlias = Callable[[Path], Iterator[str]]

ROOT: Final = Path(__file__).resolve().parents[1]
BEGIN: Final = re.compile(r"\s*# snippet: (?P<name>[\w-]+)")
END: Final = re.compile(r"\s*# end snippet")
REFERENCE: Final = re.compile(r"<!-- snippet: (?P<file>[^#\s]+)(?:#(?P<name>[\w-]+))? -->")
LINK: Final = re.compile(r"\]\((?P<target>[^)\s]+)\)")
CODE: Final = re.compile(r"`(?P<code>[^`\n]+)`")
ASSIGNMENT: Final = re.compile(r"[A-Z_]+=.*")
VARIABLE: Final = re.compile(r"\bWEIGHBRIDGE_[A-Z_]+\b")
LOCAL: Final = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users)/")

# Which page says what the fields of a record mean, each under a heading with the record's name.
RECORDS: Final[dict[str, tuple[type, ...]]] = {
    "docs/accounting.md": (
        LoadWeighing,
        Account,
        Statement,
        Receipt,
        Survivor,
        Step,
        Weighing,
        Weight,
        Reaction,
        Effort,
        HostStatistics,
        MemoryStatistics,
        ServiceStatistics,
        CeilingStatistics,
    ),
    "docs/operating.md": (Explanation, PluginCheck, Finding),
    "docs/pressure.md": (MemorySettings,),
    "docs/ties.md": (TieFinding,),
    "docs/services/budget.md": (BudgetView,),
}


# -- reading pages -----------------------------------------------------------------------------------------------------


@attrs.frozen
class Block:
    """A fenced block of a page, and the line before it."""

    page: str
    line: int
    language: str
    text: str
    before: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages(tree: Path) -> list[str]:
    """Every page that is written here: docs/ and those that lie with what they are about."""
    others = (
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "host/README.md",
        "examples/README.md",
        "examples/lantern/README.md",
    )
    found = sorted(path.relative_to(tree).as_posix() for path in (tree / "docs").rglob("*.md"))
    return [*found, *(name for name in others if (tree / name).is_file())]


def read(tree: Path, page: str) -> str:
    path = tree / page
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def blocks(tree: Path, page: str, *languages: str) -> list[Block]:
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    lines = read(tree, page).splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = (number, line[3:].strip())
            continue
        start, language = opened
        text = "\n".join(lines[start + 1 : number])
        found.append(Block(page, start + 1, language, text, lines[start - 1] if start else ""))
        opened = None
    return [block for block in found if not languages or block.language in languages]


def prose(tree: Path, page: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", read(tree, page), flags=re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) `?{re.escape(heading)}`?$(.*?)(?=^\1 |^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[2] if found else ""


def anchors(text: str) -> set[str]:
    """What a link may point to on a page: its headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def region(source: str, name: str | None) -> str | None:
    """The lines between the markers, or a class or function of that name; all lines without one. None if not there."""
    if name is None:
        return source.strip("\n")
    lines: list[str] = []
    inside = False
    for line in source.splitlines():
        begins, ends = BEGIN.fullmatch(line), END.fullmatch(line)
        if inside and ends:
            return textwrap.dedent("\n".join(lines)).strip("\n")
        if begins:
            inside = inside or begins["name"] == name
        elif inside:
            lines.append(line)
    return None if inside else definition(source, name)


def definition(source: str, name: str) -> str | None:
    """A class or function at the top of a module, with its decorators."""
    if not re.search(rf"^(?:class|def) {name}\b", source, re.MULTILINE):
        return None
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    return None


# -- checks ------------------------------------------------------------------------------------------------------------


def check_snippets(tree: Path) -> Iterator[str]:
    for page in pages(tree):
        for block in blocks(tree, page, "python", "toml"):
            reference = REFERENCE.fullmatch(block.before)
            if reference is None:
                yield f"{block.place}: a {block.language} block without a snippet comment before it"
                continue
            text = region(read(tree, reference["file"]), reference["name"])
            if not text:
                yield f"{block.place}: there is no snippet {reference['name']} in {reference['file']}"
            elif text != block.text:
                yield f"{block.place}: differs from {reference['name'] or 'all'} of {reference['file']}"


def check_regions(tree: Path) -> Iterator[str]:
    shown = {
        (reference["file"], reference["name"])
        for page in pages(tree)
        for reference in REFERENCE.finditer(read(tree, page))
    }
    for path in [*sorted((tree / "host/tests/docs").glob("*.py")), tree / "tests/test_authoring_snippets.py"]:
        file = path.relative_to(tree).as_posix()
        for name in re.findall(rf"^{BEGIN.pattern}$", read(tree, file), re.MULTILINE):
            if (file, name) not in shown:
                yield f"{file}: no page shows the snippet {name}"


def check_hook_pages(tree: Path) -> Iterator[str]:
    for name, hook in contract().items():
        text = read(tree, f"docs/hooks/{name}.md")
        if f"{name}{inspect.signature(hook)}" not in text:
            yield f"docs/hooks/{name}.md: does not have the signature {name}{inspect.signature(hook)}"
        for word in ("When it runs", "None", "Raising"):
            if word not in text:
                yield f"docs/hooks/{name}.md: does not say: {word}"
    for path in sorted((tree / "docs/hooks").glob("*.md")):
        if path.stem not in contract():
            yield f"docs/hooks/{path.name}: there is no such hook"


def contract() -> dict[str, Callable[..., Any]]:
    return {name: hook for name, hook in vars(hooks).items() if name.startswith("weighbridge_")}


def check_hook_tests(tree: Path) -> Iterator[str]:
    sources = "\n".join(
        path.read_text(encoding="utf-8") for folder in ("host/tests", "tests") for path in (tree / folder).rglob("*.py")
    )
    for name in contract():
        if f"def {name}(" not in sources:
            yield f"{name}: no test implements it"


def check_services(tree: Path) -> Iterator[str]:
    offered = {name for name in vars(PluginContext) if not name.startswith("_")} - {"name"}
    documented = {path.stem for path in (tree / "docs/services").glob("*.md")}
    yield from (f"docs/services/{name}.md is missing" for name in sorted(offered - documented))
    yield from (f"docs/services/{name}.md: there is no such service" for name in sorted(documented - offered))


def check_records(tree: Path) -> Iterator[str]:
    for page, records in RECORDS.items():
        for record in records:
            text = section(read(tree, page), record.__name__)
            if not text:
                yield f"{page}: there is no heading {record.__name__}"
            named = set(CODE.findall(text))
            figures = [field.name for field in attrs.fields(record)]
            figures += [name for name, value in vars(record).items() if isinstance(value, property)]
            yield from (f"{page}: {record.__name__}.{name} is not explained" for name in figures if name not in named)


def check_states(tree: Path) -> Iterator[str]:
    page = "docs/states.md"
    if [block.text for block in blocks(tree, page, "mermaid")] != [diagram()]:
        yield f"{page}: the diagram has to be\n{diagram()}"
    for state in State:
        if f"\n| `{state}` | " not in read(tree, page):
            yield f"{page}: the state {state} has no row"


def diagram() -> str:
    """The table of states, as mermaid draws it."""
    arrows = [f"    {before} --> {after}" for before in State for after in State if after in TRANSITIONS[before]]
    return "\n".join(["stateDiagram-v2", "    [*] --> discovered", *arrows])


def check_errors(tree: Path) -> Iterator[str]:
    page = "docs/errors.md"
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, WeighbridgeError) and error is not WeighbridgeError:
            if f"\n| `{name}` | `{error.__base__.__name__ if error.__base__ else ''}` | " not in read(tree, page):
                yield f"{page}: {name} has no row, or not the right base"
            if not hasattr(weighbridge_hookspecs, name):
                yield f"{name} cannot be imported from weighbridge_hookspecs"


def check_index(tree: Path) -> Iterator[str]:
    index = LINK.findall(prose(tree, "docs/README.md"))
    for page in pages(tree):
        if page.startswith("docs/") and page != "docs/README.md" and page.removeprefix("docs/") not in index:
            yield f"docs/README.md: no link to {page.removeprefix('docs/')}"


def check_links(tree: Path) -> Iterator[str]:
    for page in pages(tree):
        for target in LINK.findall(prose(tree, page)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            path = (tree / page).parent / file if file else tree / page
            if not path.exists():
                yield f"{page}: the link {target} leads nowhere"
            elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
                yield f"{page}: {target} has no heading of that name"


def check_commands(tree: Path) -> Iterator[str]:
    options = {name for command in app.weighbridge.commands.values() for name in names_of_options(command)}
    for page in pages(tree):
        if not page.startswith("docs/"):
            continue
        for block in blocks(tree, page, "console"):
            for line in block.text.splitlines():
                if line.startswith("$ ") and (problem := misuse(line.removeprefix("$ "))):
                    yield f"{block.place}: {line}: {problem}"
        for code in CODE.findall(prose(tree, page)):
            if re.fullmatch(r"--[a-z-]+", code) and code not in options:
                yield f"{page}: no command has the option {code}"
            if code.startswith("weighbridge ") and (problem := misuse(code, mentioned=True)):
                yield f"{page}: {code}: {problem}"


def names_of_options(command: click.Command) -> list[str]:
    names = [name for option in command.params for name in (*option.opts, *option.secondary_opts)]
    return [*names, "--help", "-h", "--version"]


def misuse(command: str, *, mentioned: bool = False) -> str:
    """What the command line would say to this; nothing if it is fine or is another program.

    :param mentioned: what is missing in it does not matter, for nobody is to type it as it stands.
    """
    words = shlex.split(re.split(r"[|;>&]", command)[0])
    while words and ASSIGNMENT.fullmatch(words[0]):
        del words[0]
    if not words or words[0] != "weighbridge":
        return ""
    name, arguments = words[1], words[2:]
    if name.startswith("-"):
        return "" if name in names_of_options(app.weighbridge) else f"no option {name}"
    if name.isupper():  # stands for any
        return ""
    known = app.weighbridge.get_command(click.Context(app.weighbridge), name)
    if known is None:
        return f"no command {name}"
    try:
        known.make_context(name, [word for word in arguments if word not in ("-h", "--help")])
    except click.ClickException as error:
        incomplete = isinstance(error, click.MissingParameter) or "requires an argument" in error.format_message()
        return "" if mentioned and incomplete else error.format_message()
    return ""


def check_settings(tree: Path) -> Iterator[str]:
    page = "docs/operating.md"
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (tree / "host/src").rglob("*.py"))
    known = set(VARIABLE.findall(sources))
    text = read(tree, page)
    yield from (f"{page}: the variable {name} is missing" for name in sorted(known - set(VARIABLE.findall(text))))
    for other in pages(tree):
        strange = set(VARIABLE.findall(read(tree, other))) - known
        yield from (f"{other}: the variable {name} is read by nobody" for name in sorted(strange))
    named = set(CODE.findall(text))
    for field in attrs.fields(Config):
        if field.name not in named:
            yield f"{page}: the key {field.name} of the configuration file is missing"
    for code in (app.FINE, app.REFUSED_OR_STRANDED, app.USAGE, app.FAILED, INTERRUPTED):
        if f"\n| {code} | " not in text:
            yield f"{page}: the exit code {code} is missing"


def check_manifest(tree: Path) -> Iterator[str]:
    page = "docs/authoring.md"
    rows = set(re.findall(r"^\| `([\w.]+)` \| ", section(read(tree, page), "The manifest, key by key"), re.MULTILINE))
    memory = {"load_bytes": "memory.load", "peak_bytes": "memory.peak"}
    keys = {memory.get(field.name, f"plugin.{field.name}") for field in attrs.fields(Manifest)}
    yield from (f"{page}: the key {key} has no row" for key in sorted(keys - rows))
    yield from (f"{page}: there is no key {key}" for key in sorted(rows - keys))


def check_ties(tree: Path) -> Iterator[str]:
    page = "docs/ties.md"
    table = [line for line in section(read(tree, page), "The catalogue").splitlines() if line.startswith("| `")]
    wanted = catalogue()
    yield from (f"{page}: the catalogue has to have the row\n{row}" for row in wanted if row not in table)
    yield from (f"{page}: the code has no tie like this: {row}" for row in table if row not in wanted)
    if sorted(table) == sorted(wanted) and table != wanted:
        yield f"{page}: the ties are not in the order in which they are cut"


def catalogue() -> list[str]:
    """The rows of the table of ties, as the classes have it."""
    return [f"| `{tie.name}` | {tie.sentence} | {'yes' if tie.safe else 'no'} |" for tie in TIES]


def check_what_cannot_be_cut(tree: Path) -> Iterator[str]:
    page = "docs/ties.md"
    rows = re.findall(r"^\| `([^`]+)` \| ", section(read(tree, page), "What cannot be cut"), re.MULTILINE)
    for path in sorted((tree / "tests/plugins").glob("*.py")):
        for name in names_of_lasting_ties(path.read_text(encoding="utf-8")):
            if name not in rows:
                yield f"{page}: {name} strands a plugin whatever is cut, as {path.name} shows; the page does not say so"
    known = {tie.name for tie in TIES}
    yield from (f"{page}: there is no tie {name}" for name in rows if name not in known)


def names_of_lasting_ties(source: str) -> list[str]:
    """What a planted plugin claims to be held by although everything is cut."""
    constants = {
        node.targets[0].id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    if "STRANDED" not in constants or not ast.literal_eval(constants["STRANDED"]):
        return []
    tie = ast.literal_eval(constants["TIE"])
    return [tie] if isinstance(tie, str) else list(tie)


def check_local_paths(tree: Path) -> Iterator[str]:
    for page in pages(tree):
        for number, line in enumerate(read(tree, page).splitlines(), 1):
            if LOCAL.search(line):
                yield f"{page}:{number}: a path of somebody's machine"


CHECKS: Final[list[Check]] = [
    check_snippets,
    check_regions,
    check_hook_pages,
    check_hook_tests,
    check_services,
    check_records,
    check_states,
    check_errors,
    check_index,
    check_links,
    check_commands,
    check_settings,
    check_manifest,
    check_ties,
    check_what_cannot_be_cut,
    check_local_paths,
]


# -- a copy of the pages, and ways to break it -------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of everything that the checks look at."""
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("docs", "host", "hookspecs", "examples", "tests", "changelog.d", "benchmarks", "plugins", ".ci"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def swap(name: str, old: str, new: str) -> Callable[[Path], None]:
    def swapped(tree: Path) -> None:
        text = read(tree, name)
        assert old in text
        (tree / name).write_text(text.replace(old, new), encoding="utf-8")

    return swapped


def put(name: str, text: str) -> Callable[[Path], None]:
    def written(tree: Path) -> None:
        (tree / name).write_text(text, encoding="utf-8")

    return written


def drop(name: str) -> Callable[[Path], None]:
    return lambda tree: (tree / name).unlink()


def add(name: str, text: str) -> Callable[[Path], None]:
    return lambda tree: put(name, read(tree, name) + text)(tree)


def forget_a_hook(tree: Path) -> None:
    for folder in ("host/tests", "tests"):
        for path in (tree / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("def weighbridge_scalable(", "def scalable("), encoding="utf-8")


def move_the_first_tie_down(tree: Path) -> None:
    first, second = catalogue()[:2]
    swap("docs/ties.md", f"{first}\n{second}\n", f"{second}\n{first}\n")(tree)


PUMP: Final = "host/tests/docs/sample_pump.py"
ADMIT: Final = "docs/hooks/weighbridge_admit.md"
RUN: Final = "\n```console\n$ {}\n```\n"

BROKEN: Final[list[tuple[Check, Callable[[Path], None], str]]] = [
    (check_snippets, add("docs/embedding.md", "\n```python\npass\n```\n"), "a python block without a snippet comment"),
    (check_snippets, add("docs/authoring.md", "\n```toml\na = 1\n```\n"), "a toml block without a snippet comment"),
    (check_snippets, add("host/README.md", "\n```python\npass\n```\n"), "host/README.md"),
    (check_snippets, swap(PUMP, "snippet: activate", "snippet: started"), "there is no snippet activate in"),
    (check_snippets, swap(PUMP, "3600.0", "60.0"), "weighbridge_activate.md:"),
    (check_snippets, drop(PUMP), "there is no snippet deactivate in"),
    (check_snippets, swap("examples/lantern/pyproject.toml", "flit_core", "flit"), "docs/authoring.md:"),
    (check_regions, add(PUMP, "\n# snippet: idle\npass\n# end snippet\n"), f"{PUMP}: no page shows the snippet idle"),
    (check_hook_pages, drop(ADMIT), "weighbridge_admit.md: does not have the signature"),
    (check_hook_pages, swap(ADMIT, "'Verdict | None'", "'Verdict'"), "weighbridge_admit.md: does not have the sign"),
    (check_hook_pages, swap(ADMIT, "Raising", "Failing"), "weighbridge_admit.md: does not say: Raising"),
    (check_hook_pages, put("docs/hooks/weighbridge_nap.md", "# Nap\n"), "weighbridge_nap.md: there is no such hook"),
    (check_hook_tests, forget_a_hook, "weighbridge_scalable: no test implements it"),
    (check_services, drop("docs/services/track.md"), "docs/services/track.md is missing"),
    (check_services, drop("docs/services/buffers.md"), "docs/services/buffers.md is missing"),
    (check_services, put("docs/services/soup.md", "# Soup\n"), "soup.md: there is no such service"),
    (check_records, swap("docs/accounting.md", "`peak_bytes`", "peak"), "Account.peak_bytes is not explained"),
    (check_records, swap("docs/accounting.md", "## Receipt", "## Bill"), "there is no heading Receipt"),
    (check_records, swap("docs/accounting.md", "`reclaimed_resident_bytes`", ""), "Receipt.reclaimed_resident_bytes"),
    (check_records, swap("docs/accounting.md", "`outside_limit_source`", ""), "MemoryStatistics.outside_limit_source"),
    (check_records, swap("docs/pressure.md", "`follow_limits`", ""), "MemorySettings.follow_limits is not explained"),
    (check_records, swap("docs/services/budget.md", "`held_bytes`", ""), "BudgetView.held_bytes is not explained"),
    (check_states, swap("docs/states.md", "    loaded --> active\n", ""), "the diagram has to be"),
    (check_states, swap("docs/states.md", "| `stranded` |", "| `lost` |"), "the state stranded has no row"),
    (check_errors, swap("docs/errors.md", "| `NestedLoad` |", "| `Nested` |"), "NestedLoad has no row"),
    (check_errors, swap("docs/errors.md", "| `LeaseError` | `Weigh", "| `LeaseError` | `Saw"), "LeaseError has no row"),
    (check_index, put("docs/hidden.md", "# Hidden\n"), "no link to hidden.md"),
    (check_links, add("docs/states.md", "[gone](gone.md)\n"), "the link gone.md leads nowhere"),
    (check_links, add("ARCHITECTURE.md", "[gone](docs/gone.md)\n"), "ARCHITECTURE.md: the link docs/gone.md leads"),
    (check_links, add("docs/states.md", "[gone](accounting.md#gone)\n"), "accounting.md#gone has no heading"),
    (check_commands, add("docs/operating.md", RUN.format("weighbridge fly")), "no command fly"),
    (check_commands, add("docs/operating.md", RUN.format("A=1 weighbridge run --fly")), "No such option"),
    (check_commands, add("docs/operating.md", RUN.format("weighbridge check")), "Missing argument"),
    (check_commands, add("docs/operating.md", RUN.format("weighbridge --fly")), "no option --fly"),
    (check_commands, add("docs/operating.md", "`weighbridge list --fly`"), "No such option"),
    (check_commands, add("docs/operating.md", "Give `--fly`."), "no command has the option --fly"),
    (check_settings, swap("docs/operating.md", "WEIGHBRIDGE_CACHE", "CACHE"), "WEIGHBRIDGE_CACHE is missing"),
    (check_settings, add("docs/embedding.md", "WEIGHBRIDGE_FLY\n"), "WEIGHBRIDGE_FLY is read by nobody"),
    (check_settings, swap("docs/operating.md", "`disabled`", "disabled"), "the key disabled of the configuration"),
    (check_settings, swap("docs/operating.md", "| 130 |", "| 131 |"), "the exit code 130 is missing"),
    (check_manifest, swap("docs/authoring.md", "| `plugin.after` |", "| `plugin.before` |"), "plugin.after has no row"),
    (check_manifest, swap("docs/authoring.md", "| `plugin.after` |", "| `plugin.before` |"), "no key plugin.before"),
    (check_records, swap("docs/operating.md", "| `undrawn` |", "| |"), "Explanation.undrawn is not explained"),
    (check_records, swap("docs/ties.md", "| `outcome` |", "| |"), "Finding.outcome is not explained"),
    (
        check_ties,
        swap("docs/ties.md", "| `audit hook` | sys", "| `audit` | sys"),
        "has to have the row\n| `audit hook` |",
    ),
    (check_ties, swap("docs/ties.md", "| `audit hook` | sys", "| `audit` | sys"), "no tie like this: | `audit` |"),
    (check_ties, swap("docs/ties.md", "never forgets it | yes |", "never forgets it | no |"), "| `typing overload` |"),
    (check_ties, move_the_first_tie_down, "not in the order in which they are cut"),
    (check_what_cannot_be_cut, swap("docs/ties.md", "| `audit hook` | Python", "| | Python"), "audit_hook.py shows"),
    (
        check_what_cannot_be_cut,
        swap("docs/ties.md", "| `audit hook` | Python", "| `ear` | Python"),
        "there is no tie ear",
    ),
    (check_local_paths, add("docs/operating.md", "See /" + "home/me/notes."), "a path of somebody's machine"),
]


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS)
def test_pages_keep_to_the_code(check: Check) -> None:
    """No check has anything to say about the pages of this repository."""
    complaints = list(check(ROOT))
    assert not complaints, "\n".join(complaints)


def test_pages_and_blocks_are_found() -> None:
    """The checks look at pages, and at blocks of each language, so they do not pass by looking at nothing."""
    found = {block.language for page in pages(ROOT) for block in blocks(ROOT, page)}
    assert {"python", "toml", "console", "mermaid"} <= found
    assert len(pages(ROOT)) > 25


@pytest.mark.parametrize(("check", "broken", "complaint"), BROKEN)
def test_broken_page_is_found_out(check: Check, broken: Callable[[Path], None], complaint: str, tree: Path) -> None:
    """A copy with one thing broken gets the complaint that names it, which it did not get before."""
    assert not [found for found in check(tree) if complaint in found]
    broken(tree)
    assert [found for found in check(tree) if complaint in found]


def test_every_check_can_fail() -> None:
    """For every check there is a copy that it complains about."""
    assert {check for check, _, _ in BROKEN} == set(CHECKS)


def test_region_is_dedented_and_without_markers() -> None:
    """A snippet is what stands between its markers, as if it began at the margin."""
    source = (
        "def f():\n    # snippet: one\n    a = 1\n    # snippet: two\n    if a:\n        b = 2\n    # end snippet\n"
    )
    assert region(source, "one") == "a = 1\nif a:\n    b = 2"
    assert region(source, "two") == "if a:\n    b = 2"
    assert region(source, "three") is None


def test_region_may_be_a_definition() -> None:
    """A plugin's source needs no markers: a class or function is named as it is."""
    source = "import a\n\n\n@a\nclass B:\n    c = 1\n\n\ndef d() -> None: ...\n"
    assert region(source, "B") == "@a\nclass B:\n    c = 1"
    assert region(source, "d") == "def d() -> None: ..."
    assert region(source, "c") is None


def test_region_without_an_end_is_none() -> None:
    """A marker that is never closed does not swallow the rest of the file."""
    assert region("# snippet: one\na = 1\n", "one") is None
