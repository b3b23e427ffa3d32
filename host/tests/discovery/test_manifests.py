"""Manifests are found and checked without importing the plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs.errors import ManifestError
from weighbridge_hookspecs.markers import MANIFEST_GROUP
from weighbridge_hookspecs.records import Manifest

from weighbridge.discovery.entry_points import EntryPoint, scan
from weighbridge.discovery.manifests import parse_manifest, read_manifest
from weighbridge.units import MIB

GROUP = "manifest.test"
TOML = '[plugin]\nsummary = "A lamp"\n'
WHOLE = """
[plugin]
summary = "Lights up"
api = 2
requires = ["numa"]
provides = ["light"]
after = ["meter", "balloon"]
conflicts = ["dark"]
hooks = ["weighbridge_release_memory", "weighbridge_event"]
activation = "first-call"
unload = "restart"
[memory]
load = "6 MiB"
peak = 25165824
"""


def problems_of(text: str) -> tuple[str, ...]:
    """What is wrong with a manifest."""
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, plugin="lamp", distribution="lamp-shop")
    return caught.value.problems


def install(site: Path, value: str = "lamp:weighbridge.toml", *, record: str = "") -> Path:
    """Write a distribution's metadata with an entry point for its manifest."""
    info = site / "lamp_shop-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lamp-shop\nVersion: 1.0\n")
    (info / "RECORD").write_text(record)
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nlamp = lamp:make\n[{MANIFEST_GROUP}]\nlamp = {value}\n")
    return info


def write_package(folder: Path, name: str = "lamp", text: str | bytes | None = TOML) -> Path:
    """Write a package that cannot be imported, with a manifest; its parents are packages of the same kind."""
    for package in ["/".join(name.split(".")[: depth + 1]) for depth in range(name.count(".") + 1)]:
        (folder / package).mkdir(parents=True, exist_ok=True)
        (folder / package / "__init__.py").write_text("raise RuntimeError('the plugin was imported')\n")
    if text is not None:
        data = text.encode() if isinstance(text, str) else text
        folder.joinpath(*name.split("."), "weighbridge.toml").write_bytes(data)
    return folder


def read_from(*path: str | Path) -> Manifest:
    """Read the manifest that the one entry point on a path names."""
    texts = list(map(str, path))
    (point,) = scan((MANIFEST_GROUP,), texts)
    return read_manifest(point, texts)


class TestSchema:
    """``parse_manifest``."""

    def test_every_key_reaches_the_record(self) -> None:
        """Sizes as bytes."""
        assert parse_manifest(WHOLE, plugin="lamp", distribution="lamp-shop") == Manifest(
            summary="Lights up",
            api=2,
            requires=("numa",),
            provides=("light",),
            after=("meter", "balloon"),
            conflicts=("dark",),
            hooks=("weighbridge_release_memory", "weighbridge_event"),
            activation="first-call",
            unload="restart",
            load_bytes=6 * MIB,
            peak_bytes=24 * MIB,
        )

    @pytest.mark.parametrize("text", ["", "[plugin]\n[memory]\n", "# nothing\n"])
    def test_an_empty_manifest_is_the_default_one(self, text: str) -> None:
        """Every key can be left out."""
        assert parse_manifest(text, plugin="lamp", distribution="lamp-shop") == Manifest()

    def test_all_problems_are_told_at_once(self) -> None:
        """Each by its key, in the order of the file."""
        text = """
        speed = 3
        [plugin]
        sumary = "x"
        api = 0
        requires = ["lamp", "dark"]
        conflicts = ["dark"]
        hooks = ["weighbridge_relase_memory", "weighbridge_event", "not a hook"]
        activation = "lazy"
        unload = 3
        peak = "1 MiB"
        [memory]
        load = "12 parsecs"
        [memroy]
        [surroundings]
        """
        sizes = "a whole number of bytes, or a number with B, KiB, MiB, GiB, kB, MB or GB, such as '64 MiB'"
        assert problems_of(text) == (
            "speed: no such table; there are plugin, memory",
            "plugin.sumary: no such key; did you mean 'summary'?",
            "plugin.api: must be 1 or more, is 0",
            "plugin.hooks: the contract has no hook 'weighbridge_relase_memory'; "
            "did you mean 'weighbridge_release_memory'?",
            "plugin.hooks: the contract has no hook 'not a hook'",
            "plugin.activation: must be 'eager' or 'first-call', is 'lazy'",
            "plugin.unload: must be 'clean' or 'restart' or 'never', is an integer",
            "plugin.peak: no such key here; it belongs in [memory]",
            f"memory.load: '12 parsecs' is not a size: give {sizes}",
            "memroy: no such table; did you mean 'memory'?",
            "surroundings: no such table; there are plugin, memory",
            "plugin.requires: 'lamp' is this plugin itself; take it out",
            "plugin.conflicts: 'dark' is also in plugin.requires; take it out of one",
        )

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("plugin = 3", "plugin: must be a table, is an integer; write [plugin]"),
            ("[[plugin]]", "plugin: must be a table, is an array; write [plugin]"),
            ('[plugin]\napi = "1"', "plugin.api: must be an integer, is a string"),
            ("[plugin]\napi = true", "plugin.api: must be an integer, is a boolean"),
            ("[plugin]\nsummary = 2024-01-01", "plugin.summary: must be a string, is a date or a time"),
            ("[plugin]\nsummary = 1.5", "plugin.summary: must be a string, is a float"),
            ('[plugin]\nafter = "numa"', "plugin.after: must be an array of strings, is a string"),
            ('[plugin]\nafter = ["numa", {}]', "plugin.after: item 2 must be a string, is a table"),
            ('[plugin]\nafter = ["lamp"]', "plugin.after: 'lamp' is this plugin itself; take it out"),
            ("[plugin]\nactivation = []", "plugin.activation: must be 'eager' or 'first-call', is an array"),
            ("memory.load = true", "memory.load: True is not a size: give a whole"),
            ("memory.load = -1", "memory.load: -1 is below 0"),
            ("memory.load = 1.5", "memory.load: 1.5 is not a size: give a whole"),
            ("memory = {load = 2048, peak = '1 KiB'}", "memory.peak: 1.0 KiB is below memory.load, 2.0 KiB; raise it"),
            (f"memory.peak = '{'9' * 5000}'", "memory.peak: Exceeds the limit"),
            ('load = "6 MiB"', "load: no such key here; it belongs in [memory]"),
        ],
    )
    def test_a_value_that_makes_no_sense_is_named(self, text: str, problem: str) -> None:
        """With what it has to be."""
        (found,) = problems_of(text)
        assert found.startswith(problem)

    @pytest.mark.parametrize("text", ["[plugin]\nsummary = x\n", "a = 1\na = 2\n", "\x00", f"api = {'[' * 9999}"])
    def test_what_is_no_toml_keeps_its_place(self, text: str) -> None:
        """Line and column, where the parser told them; it gives up on deep nesting without."""
        (problem,) = problems_of(text)
        assert problem.startswith("it is not TOML: ")
        assert "[[" in text or "(at line " in problem

    def test_the_message_names_plugin_and_distribution_and_says_what_to_do(self) -> None:
        """On one line for one problem, on a line each for more."""
        with pytest.raises(ManifestError) as one:
            parse_manifest("plugin.api = 0", plugin="lamp", distribution="lamp-shop")
        with pytest.raises(ManifestError) as two:
            parse_manifest("plugin.api = 0\nplugin.unload = 'x'", plugin="lamp", distribution="lamp-shop")
        advice = ". Correct this and install lamp-shop again"
        assert str(one.value) == (
            f"lamp: the manifest in lamp-shop is not valid: plugin.api: must be 1 or more, is 0{advice}"
        )
        assert str(two.value) == (
            "lamp: the manifest in lamp-shop has 2 problems:\n  - plugin.api: must be 1 or more, is 0\n"
            f"  - plugin.unload: must be 'clean' or 'restart' or 'never', is 'x'{advice}"
        )

    @given(text=st.text() | st.text(alphabet='[]="ab.\n{},1-'))
    def test_any_text_is_a_manifest_or_a_manifest_error(self, text: str) -> None:
        """Nothing else comes out, whatever goes in."""
        with suppress(ManifestError):
            assert isinstance(parse_manifest(text, plugin="lamp", distribution="lamp-shop"), Manifest)


class TestFinding:
    """``read_manifest``."""

    @pytest.mark.parametrize("package", ["lamp", "shop.lamp", "shop.bulbs.lamp"])
    def test_a_wheel_has_it_beside_its_metadata(self, package: str, tmp_path: Path) -> None:
        """Also in a sub-package."""
        install(tmp_path, f"{package}:weighbridge.toml")
        write_package(tmp_path, package)
        assert read_from(tmp_path).summary == "A lamp"

    def test_namespace_packages_and_folders_in_a_package_are_walked(self, tmp_path: Path) -> None:
        """Neither needs an ``__init__.py``; spaces and extras around the reference do not count."""
        install(tmp_path, " space.shop : data/lamp.toml [extra]")
        (tmp_path / "space/shop/data").mkdir(parents=True)
        (tmp_path / "space/shop/data/lamp.toml").write_text(TOML)
        assert read_from(tmp_path).summary == "A lamp"

    def test_its_own_distribution_comes_before_a_package_of_the_same_name(self, tmp_path: Path) -> None:
        """One that stands earlier on the path, say."""
        write_package(tmp_path / "first", text='plugin.summary = "Another lamp"')
        install(tmp_path / "second")
        write_package(tmp_path / "second")
        assert read_from(tmp_path / "first", tmp_path / "second").summary == "A lamp"

    @pytest.mark.parametrize("package", ["lamp", "shop.lamp"])
    def test_a_zip_file_has_it_inside(self, package: str, tmp_path: Path) -> None:
        """The archive is not unpacked."""
        install(tmp_path / "packed", f"{package}:weighbridge.toml")
        write_package(tmp_path / "packed", package)
        with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
            for file in (tmp_path / "packed").rglob("*"):
                archive.write(file, file.relative_to(tmp_path / "packed"))
        assert read_from(tmp_path / "packed.zip").summary == "A lamp"

    def test_a_package_elsewhere_on_the_path_is_found(self, tmp_path: Path) -> None:
        """As for old editable installs, whose metadata lies in another place than their packages."""
        install(tmp_path / "metadata")
        write_package(tmp_path / "source")
        assert read_from(tmp_path / "metadata", tmp_path / "source").summary == "A lamp"

    def test_a_byte_order_mark_is_no_part_of_the_manifest(self, tmp_path: Path) -> None:
        """Some editors write one."""
        install(tmp_path)
        write_package(tmp_path, text="\ufeff" + TOML)
        assert read_from(tmp_path).summary == "A lamp"

    def test_a_finder_that_raises_does_not_hide_the_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The finders after it are asked; if none knows the package, the error tells of it."""

        class Broken:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> None:
                if name == "lamp":
                    raise LookupError("no idea")

        install(tmp_path / "metadata")
        write_package(tmp_path / "source")
        monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
        assert read_from(tmp_path / "metadata", tmp_path / "source").summary == "A lamp"
        with pytest.raises(ManifestError, match=r"Broken.*which raised LookupError: no idea"):
            read_from(tmp_path / "metadata")

    def test_a_loader_of_its_own_kind_is_asked_for_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A package may lie in no folder at all."""
        from importlib.machinery import ModuleSpec

        class Loader:
            @staticmethod
            def get_data(file: str) -> bytes:
                if file != os.path.join("box", "bulbs", "weighbridge.toml"):
                    raise OSError(0, "", file)
                return TOML.encode()

        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
                if name != "boxed":
                    return None
                spec = ModuleSpec(name, Loader(), is_package=True)  # type: ignore[arg-type]
                spec.submodule_search_locations = ["nothing", "box"]
                return spec

        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
        point = EntryPoint(
            "lamp", MANIFEST_GROUP, "boxed.bulbs:weighbridge.toml", distribution="lamp-shop", version="1.0"
        )
        assert read_manifest(point).summary == "A lamp"


class TestNotFound:
    """What is told when there is no manifest to be read."""

    def test_a_missing_file_is_told_with_the_places(self, tmp_path: Path) -> None:
        """And with what its authors probably forgot."""
        install(tmp_path)
        write_package(tmp_path, text=None)
        with pytest.raises(ManifestError) as caught:
            read_from(tmp_path)
        text = str(caught.value)
        assert text.startswith(
            "lamp: the manifest in lamp-shop 1.0 cannot be used: there is no weighbridge.toml in lamp "
        )
        assert f"(looked in {tmp_path / 'lamp'}" in text
        assert text.endswith("Add weighbridge.toml to what lamp-shop packs, or correct its entry point")
        assert caught.value.problems

    def test_a_missing_package_is_told_in_the_same_way(self, tmp_path: Path) -> None:
        """A top-level module of the last part's name is not mistaken for it."""
        install(tmp_path, "shop.lamp:weighbridge.toml")
        write_package(tmp_path / "other", "lamp")
        with pytest.raises(ManifestError, match=r"there is no weighbridge.toml in shop\.lamp"):
            read_from(tmp_path, tmp_path / "other")

    @pytest.mark.parametrize(
        "value",
        ["lamp", "lamp:", ":weighbridge.toml", "a b:weighbridge.toml", "lamp:../weighbridge.toml", "lamp:/etc/passwd",
         "lamp:a//b", "..:x", "lamp:./x", "lamp:C\\x", "lamp:[extra]", "lamp:a\x00b", "", "lamp:..\\x"],
    )  # fmt: skip
    def test_an_entry_point_that_names_no_file_in_a_package_is_refused(self, value: str) -> None:
        """A path that leads out of the package included."""
        point = EntryPoint("lamp", MANIFEST_GROUP, value, distribution="lamp-shop", version="1.0", site="/")
        with pytest.raises(ManifestError, match=r'does not name a file.*Write lamp = "package:weighbridge.toml"'):
            read_manifest(point)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"summary = '\xff'", r"is not UTF-8 \(byte 11\). Save it as UTF-8"),
            (TOML.encode("utf-16"), r"is not UTF-8 \(byte 0\)"),
            (b"[plugin", r"it is not TOML: .*\(at (line 1, column 8|end of document)\)"),
        ],
    )
    def test_what_cannot_be_decoded_or_parsed_is_told(self, content: bytes, expected: str, tmp_path: Path) -> None:
        """With the place."""
        install(tmp_path)
        write_package(tmp_path, text=content)
        with pytest.raises(ManifestError, match=expected):
            read_from(tmp_path)

    def test_a_site_that_is_no_zip_file_any_more_is_told(self, tmp_path: Path) -> None:
        """It was replaced after the scan; the path is searched all the same."""
        (tmp_path / "packed.zip").write_text("no zip file")
        point = EntryPoint(
            "lamp",
            MANIFEST_GROUP,
            "lamp:weighbridge.toml",
            distribution="lamp-shop",
            version="1.0",
            site=str(tmp_path / "packed.zip"),
        )
        with pytest.raises(ManifestError, match=r"there is no weighbridge.toml in lamp \(looked in"):
            read_manifest(point, [str(tmp_path / "packed.zip")])

    def test_a_file_that_cannot_be_read_is_not_called_missing(self, tmp_path: Path) -> None:
        """A folder in its place, or a link that leads to itself."""
        install(tmp_path)
        write_package(tmp_path, text=None)
        (tmp_path / "lamp/weighbridge.toml").mkdir()
        with pytest.raises(ManifestError, match="cannot be read: IsADirectoryError"):
            read_from(tmp_path)
        (tmp_path / "lamp/weighbridge.toml").rmdir()
        (tmp_path / "lamp/weighbridge.toml").symlink_to("weighbridge.toml")
        with pytest.raises(ManifestError, match="cannot be read: OSError"):
            read_from(tmp_path)


# What setuptools 80 writes, without what only an import needs:
# https://github.com/pypa/setuptools/blob/v80.9.0/setuptools/command/editable_wheel.py
SETUPTOOLS_FINDER = """\
from __future__ import annotations
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

MAPPING: dict[str, str] = {mapping!r}
NAMESPACES: dict[str, list[str]] = {namespaces!r}
PATH_PLACEHOLDER = '__editable__.lamp_shop-1.0.finder' + ".__path_hook__"


class _EditableFinder:  # MetaPathFinder
    @classmethod
    def find_spec(cls, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname in MAPPING:
            return spec_from_file_location(fullname, Path(MAPPING[fullname]) / "__init__.py")
        parent, _, child = fullname.rpartition(".")
        if parent and parent in MAPPING:
            return PathFinder.find_spec(fullname, path=[MAPPING[parent]])
        return None


class _EditableNamespaceFinder:  # PathEntryFinder
    @classmethod
    def _path_hook(cls, path) -> type[_EditableNamespaceFinder]:
        if path == PATH_PLACEHOLDER:
            return cls
        raise ImportError

    @classmethod
    def _paths(cls, fullname: str) -> list[str]:
        paths = NAMESPACES[fullname]
        if not paths and fullname in MAPPING:
            paths = [MAPPING[fullname]]
        return [*paths, PATH_PLACEHOLDER]

    @classmethod
    def find_spec(cls, fullname: str, target=None) -> ModuleSpec | None:
        if fullname in NAMESPACES:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = cls._paths(fullname)
            return spec
        return None


def install():
    if not any(finder == _EditableFinder for finder in sys.meta_path):
        sys.meta_path.append(_EditableFinder)
    if not NAMESPACES:
        return
    if not any(hook == _EditableNamespaceFinder._path_hook for hook in sys.path_hooks):
        sys.path_hooks.append(_EditableNamespaceFinder._path_hook)
    if PATH_PLACEHOLDER not in sys.path:
        sys.path.append(PATH_PLACEHOLDER)
"""

READ_EDITABLE = f"""
import json, site, sys
site.addsitedir(sys.argv[1])
from weighbridge.discovery.candidates import discover
found = discover({GROUP!r})
imported = [name for name in sys.modules if name.partition(".")[0] in ("lamp", "shop")]
print(json.dumps([[one.manifest and one.manifest.summary for one in found.candidates],
                  [str(problem) for problem in found.problems], imported]))
"""


def in_fresh_process(site: Path) -> list[list[str]]:
    """Summaries, problems and imported modules, where the .pth files of a folder are in force."""
    command = [sys.executable, "-c", READ_EDITABLE, str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found


class TestEditableInstalls:
    """The metadata is installed, the package is where it is developed."""

    def test_flits_is_found(self, tmp_path: Path) -> None:
        """Its .pth file has the folder of the source; ``path=`` alone suffices, as RECORD tells whose file it is."""
        write_package(tmp_path / "src")
        install(tmp_path / "site", record="lamp_shop.pth,sha256=x,19\nlamp_shop-1.0.dist-info/RECORD,,\n")
        (tmp_path / "site/lamp_shop.pth").write_text(f"# comment\n\n{tmp_path / 'src'}")
        (tmp_path / "site/other.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
        write_package(tmp_path / "elsewhere", text="plugin.summary = 'not mine'")
        assert in_fresh_process(tmp_path / "site") == [["A lamp"], [], []]
        assert read_from(tmp_path / "site").summary == "A lamp"

    def test_a_pth_file_that_leads_nowhere_does_not_end_the_search(self, tmp_path: Path) -> None:
        """The source was moved, and somebody put its new place on the path."""
        write_package(tmp_path / "new")
        install(tmp_path / "site", record="lamp_shop.pth,sha256=x,19\n")
        (tmp_path / "site/lamp_shop.pth").write_text(f"import nothing\n{tmp_path / 'old'}\n")
        assert read_from(tmp_path / "site", tmp_path / "new").summary == "A lamp"

    def test_setuptools_finder_is_asked(self, tmp_path: Path) -> None:
        """Whatever its .pth file imports is left to ``site``."""
        write_package(tmp_path / "src", "lamp")
        self.install_finder(tmp_path / "site", mapping={"lamp": str(tmp_path / "src/lamp")}, namespaces={})
        assert in_fresh_process(tmp_path / "site") == [["A lamp"], [], []]

    @pytest.mark.parametrize("value", ["shop.lamp:weighbridge.toml", "shop.lamp.bulbs:weighbridge.toml"])
    def test_setuptools_finder_knows_packages_in_a_namespace(self, value: str, tmp_path: Path) -> None:
        """The namespace has no folder of its own, and the finder goes by the name."""
        package = value.partition(":")[0]
        write_package(tmp_path / "src", package)
        mapping = {"shop.lamp": str(tmp_path / "src/shop/lamp")}
        self.install_finder(tmp_path / "site", value, mapping=mapping, namespaces={"shop": []})
        assert in_fresh_process(tmp_path / "site") == [["A lamp"], [], []]

    def test_develop_with_an_egg_link_is_found(self, tmp_path: Path) -> None:
        """The metadata lies in the source, which ``easy-install.pth`` puts on the path."""
        write_package(tmp_path / "src")
        info = install(tmp_path / "src")
        info = info.rename(info.with_name("lamp_shop.egg-info"))
        (info / "METADATA").rename(info / "PKG-INFO")
        (tmp_path / "site").mkdir()
        (tmp_path / "site/lamp-shop.egg-link").write_text(f"{tmp_path / 'src'}\n.")
        (tmp_path / "site/easy-install.pth").write_text(f"{tmp_path / 'src'}\n")
        assert in_fresh_process(tmp_path / "site") == [["A lamp"], [], []]

    def install_finder(
        self, site: Path, value: str = "lamp:weighbridge.toml", *, mapping: object, namespaces: object
    ) -> None:
        """Write what setuptools installs beside the metadata."""
        finder = "__editable___lamp_shop_1_0_finder"
        install(site, value, record=f"__editable__.lamp_shop-1.0.pth,sha256=x,81\n{finder}.py,sha256=x,1\n")
        (site / f"{finder}.py").write_text(SETUPTOOLS_FINDER.format(mapping=mapping, namespaces=namespaces))
        (site / "__editable__.lamp_shop-1.0.pth").write_text(f"import {finder}; {finder}.install()")
