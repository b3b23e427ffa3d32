"""The direct scan finds what importlib-metadata finds, in the same order, and survives what is broken."""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import importlib_metadata
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs.errors import MetadataError

import weighbridge
from weighbridge.discovery.entry_points import EntryPoint, scan
from weighbridge.discovery.metadata import normalize

GROUP = "parity.group"
LAMP = f"[{GROUP}]\nlamp = lamp:make\n"


def install(
    site: Path,
    folder: str,
    entry_points: str | bytes | None = LAMP,
    *,
    metadata: str | bytes | None = "",
    metadata_file: str = "METADATA",
) -> Path:
    """Write a metadata folder; empty metadata stands for the name and version of the folder."""
    info = site / folder
    info.mkdir(parents=True)
    name, _, version = folder.rpartition(".")[0].partition("-")
    if metadata == "":
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version or '0'}\n\nText.\n"
    for file, content in ((metadata_file, metadata), ("entry_points.txt", entry_points)):
        if content is not None:
            (info / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return info


ODD_SPELLINGS = f"""\
lamp = before.any:group
# comment
   [{GROUP}]\x20\x20

  a=b
\tc   =   d : e  [x, y]\x20\x20
 # no = o
#=
f = g = h
= empty.name
empty.value =
a b.c-d/é = i
[other]
no = no
[[{GROUP}]]
j = double.brackets
[{GROUP} ]
no = blank.in.group
[]{GROUP}[]
k = strange.brackets
[{GROUP}] # = comment
l = still.the.group.before
[n = o]
p = q
"""


def lines(*entries: str) -> str:
    """Entry points of the group."""
    return "\n".join([f"[{GROUP}]", *entries, ""])


def zip_up(folder: Path, archive: Path) -> None:
    """Make a zip file of a folder's content."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder).as_posix())


def on_path(entries: Iterable[Any]) -> mock._patch[list[str]]:
    """Put entries before the rest of ``sys.path``."""
    return mock.patch.object(sys, "path", [*map(str, entries), *sys.path])


def from_library(groups: Sequence[str] = (GROUP,)) -> list[tuple[str, str, str]]:
    """What importlib-metadata finds on ``sys.path``."""
    return [
        (point.name, point.group, point.value) for point in importlib_metadata.entry_points() if point.group in groups
    ]


def facts(points: Iterable[EntryPoint]) -> list[tuple[str, str, str]]:
    """Name, group and value of each."""
    return [(point.name, point.group, point.value) for point in points]


def one_folder(site: Path) -> list[Path]:
    for name in ("zeta", "alpha", "mid"):
        install(site, f"{name}-1.0.dist-info", lines(f"{name} = {name}:make", f"b-{name} = {name}.b"))
    return [site]


def same_distribution_on_two_entries(site: Path) -> list[Path]:
    install(site / "one", "Lamp_Shop-1.0.dist-info", lines("lamp = one"))
    install(site / "two", "lamp.shop-2.0.dist-info", lines("lamp = two", "more = two"))
    install(site / "two", "other-2.0.dist-info", lines("other = two"))
    return [site / "one", site / "two", site / "one"]


def several_versions_in_one_folder(site: Path) -> list[Path]:
    for version in ("1.0", "2.0", "1.5"):
        install(site, f"lamp-{version}.dist-info", lines(f"lamp = v{version}"))
    install(site, "other-1.0.dist-info", lines("other = o"))
    return [site]


def egg_info_folder_and_file(site: Path) -> list[Path]:
    install(site, "lamp.egg-info", lines("lamp = folder"), metadata_file="PKG-INFO")
    install(site, "old-1.0-py3.11.egg-info", lines("old = folder"), metadata_file="PKG-INFO")
    (site / "plain-1.0.egg-info").write_text("Name: plain\nVersion: 1.0\n")
    install(site / "later", "plain-2.0.dist-info", lines("hidden = by.the.file"))
    return [site, site / "later"]


def egg_folder(site: Path) -> list[Path]:
    egg = site / "lamp-1.0-py3.11.egg"
    metadata = "Name: Lamp\nVersion: 1.0\n"
    install(egg, "EGG-INFO", lines("lamp = egg"), metadata=metadata, metadata_file="PKG-INFO")
    install(site, "EGG-INFO", lines("not = an.egg"), metadata=metadata, metadata_file="PKG-INFO")
    install(site, "lamp-3.0.dist-info", lines("lamp = hidden"))
    other = site / "torch-1.0.egg"
    (install(other, "EGG-INFO", lines("torch = egg"), metadata="Name: Torch\n") / "PKG-INFO").write_text("Name: no\n")
    empty = install(
        site / "candle.EGG", "EGG-INFO", lines("candle = egg"), metadata="Name: c\n", metadata_file="PKG-INFO"
    )
    (empty / "METADATA").touch()
    return [egg, other, empty.parent, site]


def dist_info_without_metadata(site: Path) -> list[Path]:
    install(site, "lamp-1.0.dist-info", lines("lamp = left.over"), metadata=None)
    install(site, "ghost-1.0.dist-info", lines("ghost = g"), metadata=None)
    install(site, "zeta-1.0.dist-info", lines("zeta = z"))
    install(site / "later", "lamp-2.0.dist-info", lines("lamp = valid"))
    return [site, site / "later"]


def valid_metadata_without_entry_points_hides_a_later_one(site: Path) -> list[Path]:
    install(site, "lamp-1.0.dist-info", None)
    install(site / "later", "lamp-2.0.dist-info", lines("lamp = hidden"))
    return [site, site / "later"]


def odd_spellings(site: Path) -> list[Path]:
    install(site, "lamp-1.0.dist-info", ODD_SPELLINGS)
    lines_end_in = ("\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028")
    ends = "".join(f"line{number} = x{end}" for number, end in enumerate(lines_end_in))
    install(site, "zeta-1.0.dist-info", f"[{GROUP}]\n{ends}last = x")
    install(site, "mark-1.0.dist-info", "\ufeff" + lines("lost = because.of.the.mark") + f"[{GROUP}]\nkept = k\n")
    return [site]


def odd_folder_names(site: Path) -> list[Path]:
    install(site, "Lamp-1.0.DIST-INFO", lines("a = upper"), metadata="Name: upper\nVersion: 1\n")
    install(site, ".dist-info", lines("b = nameless"), metadata="Name: nameless\nVersion: 1\n")
    install(site, "-2.0.dist-info", lines("c = dash"), metadata="Name: dash\nVersion: 1\n")
    install(site, "..dist-info", lines("d = dots"), metadata="Name: dots\nVersion: 1\n")
    install(site, "x.y.dist-info", lines("e = dotted"))
    install(site, "X__Y-1.dist-info", lines("f = hides.or.hidden"))
    install(site / "later", "dots-1.0.dist-info", lines("g = hidden"))
    (site / "file.dist-info").write_text("")
    (site / "lamp-1.0.dist-info.bak").mkdir()
    return [site, site / "later"]


def entry_points_that_are_no_file(site: Path) -> list[Path]:
    (install(site, "lamp-1.0.dist-info", None) / "entry_points.txt").mkdir()
    install(site, "zeta-1.0.dist-info", lines("zeta = z"))
    return [site, site / "missing", site / "lamp-1.0.dist-info" / "METADATA"]


def zip_between_folders(site: Path) -> list[Path]:
    install(site / "one", "one-1.0.dist-info", lines("a = one"))
    install(site / "packed", "packed-1.0.dist-info", lines("b = packed"))
    install(site / "packed", "one-2.0.dist-info", lines("a = hidden"))
    install(site / "packed", "both-1.0.dist-info", lines("c = packed"))
    install(site / "two", "both-2.0.dist-info", lines("c = hidden"))
    install(site / "two", "two-1.0.dist-info", lines("d = two"))
    zip_up(site / "packed", site / "packed.zip")
    return [site / "one", site / "packed.zip", site / "two"]


def zipped_egg(site: Path) -> list[Path]:
    install(site / "packed", "EGG-INFO", lines("a = egg"), metadata="Name: lamp\n", metadata_file="PKG-INFO")
    zip_up(site / "packed", site / "lamp-1.0.egg")
    install(site, "lamp-2.0.dist-info", lines("a = hidden"))
    return [site / "lamp-1.0.egg", site]


TREES: tuple[Callable[[Path], list[Path]], ...] = (
    one_folder,
    same_distribution_on_two_entries,
    several_versions_in_one_folder,
    egg_info_folder_and_file,
    egg_folder,
    dist_info_without_metadata,
    valid_metadata_without_entry_points_hides_a_later_one,
    odd_spellings,
    odd_folder_names,
    entry_points_that_are_no_file,
    zip_between_folders,
    zipped_egg,
)


class TestParity:
    """The same list as the library's, in the same order."""

    @pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.__name__)
    def test_a_tree_gives_what_the_library_gives(self, tree: Callable[[Path], list[Path]], tmp_path: Path) -> None:
        """Name, group, value and order agree, and the tree offers something at all."""
        with on_path(tree(tmp_path)):
            found = scan((GROUP,))
            assert facts(found) == from_library()
        assert bool(found) is (tree is not valid_metadata_without_entry_points_hides_a_later_one)

    def test_the_installed_environment_gives_what_the_library_gives(self) -> None:
        """For all groups at once, with the names and versions of the distributions."""
        library = importlib_metadata.entry_points()
        found = scan(sorted(library.groups))
        assert facts(found) == [(point.name, point.group, point.value) for point in library]
        dists = [point.dist for point in library if point.dist is not None]
        assert [(point.distribution, point.version) for point in found] == [(dist.name, dist.version) for dist in dists]

    def test_a_relative_path_and_an_empty_one_mean_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As they do for the library and for imports."""
        install(tmp_path, "lamp-1.0.dist-info")
        install(tmp_path / "sub", "sub-1.0.dist-info", lines("sub = s"))
        monkeypatch.chdir(tmp_path)
        with on_path(["sub", "", "./sub/"]):
            assert facts(scan((GROUP,))) == from_library()
        assert [point.site for point in scan((GROUP,), ["", "sub"])] == ["", "sub"]

    def test_another_group_in_the_same_file_is_left_out(self, tmp_path: Path) -> None:
        """Several groups come in the order of the file."""
        install(tmp_path, "lamp-1.0.dist-info", "[b.b]\nx = 1\n[c]\nx = 2\n[a.a]\nx = 3\n[b.b]\ny = 4\n")
        with on_path([tmp_path]):
            assert facts(scan(("a.a", "b.b"))) == from_library(("a.a", "b.b"))

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_generated_trees_give_what_the_library_gives(self, data: st.DataObject) -> None:
        """Whatever lies on the path, as long as the library itself can read it."""
        with tempfile.TemporaryDirectory() as folder:
            entries = data.draw(st.lists(st.sampled_from(["one", "two", "three-1.egg"]), min_size=1, max_size=4))
            for entry in sorted(set(entries)):
                for child in data.draw(st.lists(FOLDERS, max_size=5, unique_by=str.lower)):
                    text, metadata = data.draw(ENTRY_POINTS), data.draw(METADATA)
                    install(Path(folder, entry), child, text, metadata=metadata, metadata_file=data.draw(FILES))
            with on_path(Path(folder, entry) for entry in entries):
                assert facts(scan((GROUP, "b"))) == from_library((GROUP, "b"))


FOLDERS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["lamp", "Lamp", "la_mp", "la.mp", "La--mp", "zeta", "a"]),
    st.sampled_from(["", "-1.0", "-2.0", "-1.0-py3.11"]),
    st.sampled_from([".dist-info", ".egg-info", ".DIST-INFO", ".dist-information"]),
) | st.just("EGG-INFO")
FILES = st.sampled_from(["METADATA", "PKG-INFO"])
# A name is always there: without one, the library stops at the first folder that does not name itself.
METADATA = st.sampled_from(
    ["Name: lamp\nVersion: 1\n", "Name: La.Mp\r\nVersion: 1\r\n", "name: zeta\nVersion: 2\n\n-\n"]
)
LINES = st.sampled_from(
    [
        f"[{GROUP}]",
        f" [[{GROUP}]] ",
        "[b]",
        "[]",
        "[c]",
        "# [b]",
        "",
        "a = b",
        " a=c:d [e] ",
        "= x",
        "x =",
        "#a = b",
        "[=]",
    ]
)
ENTRY_POINTS = st.none() | st.lists(LINES, max_size=8).map("\n".join)


class Stranger(importlib.metadata.Distribution):
    """A distribution that lies on no disk."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files_by_name = files

    def read_text(self, filename: str) -> str | None:
        return self.files_by_name.get(filename)

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


class Locked(Stranger):
    """A distribution that tells its name once, and nothing after that."""

    def read_text(self, filename: str) -> str | None:
        if not self.files_by_name:
            raise RuntimeError("locked")
        return self.files_by_name.pop(filename)


class StrangersFinder:
    """A finder with distributions of its own."""

    def __init__(self, *dists: Stranger) -> None:
        self.dists = dists

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        return None

    def find_distributions(self, context: object = None) -> Iterator[Stranger]:
        yield from self.dists


class TestForeignFinders:
    """A stranger on ``sys.meta_path``."""

    def test_its_distributions_come_where_the_library_puts_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before the path, if the finder stands first."""
        install(tmp_path, "lamp-1.0.dist-info", lines("lamp = hidden"))
        install(tmp_path, "zeta-1.0.dist-info", lines("zeta = z"))
        metadata = "Name: Lamp\nVersion: 7\n"
        stranger = Stranger({"METADATA": metadata, "entry_points.txt": lines("lamp = stranger", "b = c")})
        monkeypatch.setattr(sys, "meta_path", [StrangersFinder(stranger), *sys.meta_path])
        with on_path([tmp_path]):
            found = scan((GROUP,))
            assert facts(found) == from_library()
        assert [(point.distribution, point.version, point.location, point.site) for point in found] == [
            ("Lamp", "7", None, None),
            ("Lamp", "7", None, None),
            ("zeta", "1.0", None, str(tmp_path)),
        ]

    def test_one_broken_distribution_of_a_stranger_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those beside it are still found."""
        broken = Stranger({"METADATA": "Name: broken\nVersion: 1\n", "entry_points.txt": lines("no equals sign")})
        nameless = Stranger({"METADATA": "Version: 1\n", "entry_points.txt": LAMP})
        good = Stranger({"METADATA": "Name: good\nVersion: 1\n", "entry_points.txt": LAMP})
        locked = Locked({"METADATA": "Name: locked\nVersion: 1\n"})
        monkeypatch.setattr(sys, "meta_path", [StrangersFinder(broken, nameless, locked, good), *sys.meta_path])
        problems: list[MetadataError] = []
        assert [point.distribution for point in scan((GROUP,), problems=problems)] == ["good"]
        assert ["Name" in str(problems[0]), "of broken is" in str(problems[1])] == [True, True]
        assert ["of locked is" in str(problems[2]), len(problems)] == [True, 3]

    def test_a_finder_that_raises_is_left_out_and_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The path is then read without the library."""

        class Broken(StrangersFinder):
            def find_distributions(self, context: object = None) -> Iterator[Stranger]:
                raise RuntimeError("the database is locked")

        install(tmp_path, "lamp-1.0.dist-info")
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        problems: list[MetadataError] = []
        assert [point.name for point in scan((GROUP,), [str(tmp_path)], problems=problems)] == ["lamp"]
        assert "RuntimeError: the database is locked" in str(problems[0])

    def test_a_finder_that_finds_no_distributions_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An editable install's finder, say: the location shows that the folder was read directly."""

        class Editable:
            @classmethod
            def find_spec(cls, name: str, path: object = None, target: object = None) -> None:
                return None

        info = install(tmp_path, "lamp-1.0.dist-info")
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable])
        assert [point.location for point in scan((GROUP,), [str(tmp_path)])] == [str(info)]


def broken_and_whole(tmp_path: Path, problems: list[MetadataError]) -> list[str]:
    """Scan a folder that also has a distribution in good order."""
    install(tmp_path, "whole-1.0.dist-info", lines("whole = w"))
    return [point.name for point in scan((GROUP,), [str(tmp_path)], problems=problems)]


class TestBrokenMetadata:
    """One broken distribution never hides another."""

    @pytest.mark.parametrize(
        ("entry_points", "expected"),
        [
            (LAMP.encode() + b"# caf\xe9\n", "not UTF-8 (byte"),
            (LAMP.encode("utf-16"), "not UTF-8 (byte 0)"),
            (lines("lamp"), "line 2"),
            ("\ufeff" + LAMP, "byte order mark"),
        ],
        ids=["latin-1", "utf-16", "no equals sign", "byte order mark"],
    )
    def test_a_file_that_cannot_be_parsed_is_reported(
        self, entry_points: str | bytes, expected: str, tmp_path: Path
    ) -> None:
        """The error names the distribution and the file, and says what to do."""
        problems: list[MetadataError] = []
        info = install(tmp_path, "broken-1.0.dist-info", entry_points)
        assert broken_and_whole(tmp_path, problems) == ["whole"]
        (problem,) = map(str, problems)
        assert problem.startswith("the metadata of broken is broken: ")
        assert str(info / "entry_points.txt") in problem
        assert expected in problem
        assert problem.endswith("Install broken again; if that does not help, its authors have to mend the file")

    def test_the_other_lines_of_a_file_with_a_bad_line_are_kept(self, tmp_path: Path) -> None:
        """And a bad line in a group that nobody asked for is nobody's problem."""
        problems: list[MetadataError] = []
        install(tmp_path, "broken-1.0.dist-info", lines("a = b", "oops", "c = d") + "[other]\nbad\n")
        assert sorted(broken_and_whole(tmp_path, problems)) == ["a", "c", "whole"]
        assert ["line 3" in str(problem) and "'oops'" in str(problem) for problem in problems] == [True]

    def test_a_file_that_cannot_be_read_is_reported(self, tmp_path: Path) -> None:
        """A link that leads to itself, which not even an administrator can open."""
        problems: list[MetadataError] = []
        info = install(tmp_path, "broken-1.0.dist-info", None)
        (info / "entry_points.txt").symlink_to("entry_points.txt")
        assert broken_and_whole(tmp_path, problems) == ["whole"]
        assert [(str(info) in str(problem), "cannot be read" in str(problem)) for problem in problems] == [(True, True)]

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            (None, "is missing or has no Name and no Version"),
            ("Metadata-Version: 2.1\n\nName: in the text\n", "has no Name and no Version"),
            ("Version: 1.0\n", "has no Name"),
            ("Name: broken\n", "has no Version"),
            (b"Name: caf\xe9\nVersion: 1.0\n", "cannot be read"),
        ],
        ids=["no file", "only in the text", "no name", "no version", "latin-1"],
    )
    def test_metadata_without_a_name_is_reported_and_the_folder_gives_it(
        self, metadata: str | bytes | None, expected: str, tmp_path: Path
    ) -> None:
        """The library lists such entry points, so they are kept."""
        problems: list[MetadataError] = []
        install(tmp_path, "broken-1.0.dist-info", metadata=metadata)
        assert sorted(broken_and_whole(tmp_path, problems)) == ["lamp", "whole"]
        point = next(point for point in scan((GROUP,), [str(tmp_path)]) if point.name == "lamp")
        assert (point.distribution, point.version) == ("broken", "1.0")
        assert [expected in str(problem) for problem in problems] == [True]

    def test_a_distribution_that_nothing_names_is_left_out_and_reported(self, tmp_path: Path) -> None:
        """Neither its folder nor its metadata has a name, and the library would stop there."""
        for folder in (".dist-info", "..dist-info"):
            install(tmp_path, folder, metadata="Version: 1.0\n")
        problems: list[MetadataError] = []
        assert broken_and_whole(tmp_path, problems) == ["whole"]
        assert [".dist-info" in str(problem) for problem in problems] == [True, True]

    def test_an_egg_whose_metadata_cannot_be_decoded_is_left_out_and_reported(self, tmp_path: Path) -> None:
        """Its folder has no name of its own."""
        problems: list[MetadataError] = []
        install(tmp_path / "a.egg", "EGG-INFO", metadata=b"Name: \xe9\n", metadata_file="PKG-INFO")
        assert scan((GROUP,), [str(tmp_path / "a.egg")], problems=problems) == []
        assert ["cannot be read ('utf-8' codec" in str(problem) for problem in problems] == [True]

    def test_a_description_in_another_encoding_does_no_harm(self, tmp_path: Path) -> None:
        """Only the fields that are needed are decoded."""
        problems: list[MetadataError] = []
        install(tmp_path, "lamp-1.0.dist-info", metadata=b"Name: Lamp\r\nVersion: 1.0\r\nAuthor: \xe9\r\n\r\n\xe9\r\n")
        assert sorted(broken_and_whole(tmp_path, problems)) == ["lamp", "whole"]
        assert problems == []

    def test_a_broken_distribution_in_a_zip_file_is_reported(self, tmp_path: Path) -> None:
        """The rest of the zip file is still found."""
        packed = tmp_path / "packed"
        install(packed, "a-1.0.dist-info", lines("a = b", "oops"))
        install(packed, "b-1.0.dist-info", b"\xff")
        install(packed, "c-1.0.dist-info", metadata="Version: 1.0\n")
        install(packed, "d-1.0.dist-info", lines("d = d"))
        zip_up(packed, tmp_path / "packed.zip")
        problems: list[MetadataError] = []
        found = scan((GROUP,), [str(tmp_path / "packed.zip")], problems=problems)
        assert [(point.name, point.location, point.site) for point in found] == [
            ("a", None, str(tmp_path / "packed.zip")),
            ("d", None, str(tmp_path / "packed.zip")),
        ]
        assert len(problems) == 3

    def test_an_error_about_a_path_that_is_no_text_can_be_printed(self, tmp_path: Path) -> None:
        """Python stands lone surrogates for such bytes, and no stream takes those."""
        problems: list[MetadataError] = []
        try:
            install(tmp_path, "caf\udce9-1.0.dist-info", b"\xff" + LAMP.encode(), metadata=None)
        except OSError:  # A file system whose names are text has no such paths.
            return
        assert broken_and_whole(tmp_path, problems) == ["whole"]
        assert ["caf\\udce9" in str(problem).encode().decode() for problem in problems] == [True]

    def test_a_damaged_zip_file_is_passed_over(self, tmp_path: Path) -> None:
        """As the library and the import system do, whether its directory or a file in it is damaged."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("lamp-1.0.dist-info/METADATA", "Name: lamp\nVersion: 1\n" * 50)
            file.writestr("lamp-1.0.dist-info/entry_points.txt", LAMP * 50)
        content = bytearray(archive.getvalue())
        (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
        content[60:90] = bytes(30)
        (tmp_path / "damaged.zip").write_bytes(content)
        problems: list[MetadataError] = []
        paths = [str(tmp_path / name) for name in ("cut.zip", "damaged.zip")]
        assert scan((GROUP,), [*paths, str(tmp_path)], problems=problems) == []
        assert len(problems) == 1


class TestScan:
    """What the scan promises besides."""

    def test_name_version_location_and_site_are_told(self, tmp_path: Path) -> None:
        """Name and version as the metadata spells them, the places as they are on the path."""
        metadata = "Metadata-Version: 2.1\nNAME:  Lamp.Shop \nVersion: 1.0.post1\n"
        info = install(tmp_path, "lamp_shop-1.0.dist-info", metadata=metadata)
        (point,) = scan((GROUP,), [str(tmp_path)])
        expected = EntryPoint("lamp", GROUP, "lamp:make", distribution="Lamp.Shop", version="1.0.post1",
                              location=str(info), site=str(tmp_path))  # fmt: skip
        assert point == expected
        assert repr(point) == f"<EntryPoint lamp = 'lamp:make' [{GROUP}] of Lamp.Shop 1.0.post1>"
        assert {point, expected} == {point}
        assert point != "lamp"

    def test_values_with_extras_are_kept_as_they_are(self, tmp_path: Path) -> None:
        """What they mean is for whoever loads them."""
        install(tmp_path, "lamp-1.0.dist-info", lines("lamp = lamp:make [extra, other]"))
        assert [point.value for point in scan((GROUP,), [str(tmp_path)])] == ["lamp:make [extra, other]"]

    def test_a_path_is_searched_instead_of_sys_path(self, tmp_path: Path) -> None:
        """An empty one is empty."""
        install(tmp_path / "other", "lamp-1.0.dist-info")
        install(tmp_path / "ours", "zeta-1.0.dist-info", lines("zeta = z"))
        with on_path([tmp_path / "ours"]):
            assert [point.name for point in scan((GROUP,), [str(tmp_path / "other")])] == ["lamp"]
            assert scan((GROUP,), []) == []

    def test_entries_that_lead_nowhere_are_passed_over(self, tmp_path: Path) -> None:
        """Nothing that may stand on ``sys.path`` stops the scan; a path object is taken as the library takes it."""
        install(tmp_path, "lamp-1.0.dist-info")
        (tmp_path / "file.txt").write_text("no zip file")
        nowhere: list[Any] = [None, 7, b"bytes", "nul\0byte", str(tmp_path / "missing"), str(tmp_path / "file.txt"),
                              str(tmp_path / "file.txt" / "below"), tmp_path]  # fmt: skip
        problems: list[MetadataError] = []
        assert [point.name for point in scan((GROUP,), nowhere, problems=problems)] == ["lamp"]
        assert problems == []

    def test_a_text_instead_of_groups_is_refused(self) -> None:
        """Its letters would be taken for groups, and nothing would be found."""
        with pytest.raises(TypeError, match=r"give a sequence of names, such as \('weighbridge',\)"):
            scan("weighbridge")

    def test_metadata_longer_than_one_read_is_read_to_its_end(self, tmp_path: Path) -> None:
        """The group may come after any number of others."""
        scripts = "[console_scripts]\n" + "".join(f"command-{number} = lamp:main\n" for number in range(5000))
        install(tmp_path, "lamp-1.0.dist-info", scripts + LAMP)
        assert [point.name for point in scan((GROUP,), [str(tmp_path)])] == ["lamp"]

    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        """Also where a file turns out to be a folder."""
        (install(tmp_path, "lamp-1.0.dist-info", None) / "entry_points.txt").mkdir()
        install(tmp_path, "zeta-1.0.dist-info")
        scan((GROUP,), [str(tmp_path)])
        before = os.open(tmp_path, os.O_RDONLY)
        os.close(before)
        for _ in range(50):
            scan((GROUP,), [str(tmp_path)])
        after = os.open(tmp_path, os.O_RDONLY)
        os.close(after)
        assert after == before

    def test_scanning_imports_nothing_but_itself(self, tmp_path: Path) -> None:
        """In a fresh process, the package around it aside; what is imported takes longer than what is scanned."""
        install(tmp_path, "lamp-1.0.dist-info")
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "sys.modules['weighbridge'] = package = type(sys)('weighbridge'); package.__path__ = [sys.argv[2]]\n"
            "before = set(sys.modules)\n"
            "from weighbridge.discovery.entry_points import scan\n"
            f"found = scan(({GROUP!r},))\n"
            "print(len(found), *sorted(set(sys.modules) - before))"
        )
        package = Path(weighbridge.__file__).parent
        command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path), str(package)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        prefix = "weighbridge.discovery"
        assert done.stdout.split() == ["1", prefix, f"{prefix}.entry_points", f"{prefix}.metadata"]

    @pytest.mark.parametrize("name", ["Lamp", "a-b_c.d", "A--b__c..d", "-._", "", "ÄÖ-ü"])
    def test_names_are_normalized_as_the_library_does_it(self, name: str) -> None:
        """PEP 503, with an underscore for the dash."""
        assert normalize(name) == importlib_metadata.Prepared.normalize(name)  # type: ignore[no-untyped-call]
