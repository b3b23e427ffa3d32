"""Discovery gives candidates with their manifests, and a problem for each plugin that it leaves out."""

from __future__ import annotations

import gc
import pickle
import sys
from pathlib import Path

import pytest
from weighbridge_hookspecs.errors import DiscoveryError, DuplicateName, ManifestError, MetadataError
from weighbridge_hookspecs.records import Candidate, Manifest

from weighbridge.discovery.candidates import Discovery, discover
from weighbridge.discovery.nearest import did_you_mean, nearest

GROUP = "candidates.test"


def install(
    site: Path, distribution: str, entry_points: str, *, version: str = "1.0", manifest: str | None = None
) -> None:
    """Write a distribution whose package cannot be imported."""
    info = site / f"{distribution}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
    package = site / distribution
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the plugin was imported')\n")
    if manifest is not None:
        (package / "weighbridge.toml").write_text(manifest)


def offer(*lines: str, manifest: str | None = None) -> str:
    """Entry points of the group, and one for a manifest."""
    text = "\n".join([f"[{GROUP}]", *lines, ""])
    return text if manifest is None else f"{text}[weighbridge.manifest]\n{manifest}\n"


def found_on(*path: Path) -> Discovery:
    """Discover the group on a path."""
    return discover(GROUP, [str(entry) for entry in path])


def test_a_candidate_has_all_that_is_known_without_importing_it(tmp_path: Path) -> None:
    """Its manifest included, if it has one; sorted by name."""
    text = '[plugin]\nsummary = "A lamp"\n'
    install(
        tmp_path, "shop", offer("lamp = shop.lamp:make [led]", manifest="lamp = shop:weighbridge.toml"), manifest=text
    )
    install(tmp_path, "attic", offer("torch = attic"), version="2.1")
    assert found_on(tmp_path) == Discovery(
        candidates=(
            Candidate(
                name="lamp",
                group=GROUP,
                value="shop.lamp:make [led]",
                distribution="shop",
                version="1.0",
                manifest=Manifest(summary="A lamp"),
            ),
            Candidate(name="torch", group=GROUP, value="attic", distribution="attic", version="2.1"),
        )
    )


def test_no_package_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the plugin's nor a parent of the package that has the manifest."""
    install(tmp_path, "shop", offer("lamp = shop:make", manifest="lamp = shop:weighbridge.toml"), manifest="")
    (tmp_path / "far").mkdir()
    (tmp_path / "elsewhere").mkdir()
    install(
        tmp_path / "far", "split", offer("torch = split:make", manifest="torch = split:weighbridge.toml"), manifest=""
    )
    (tmp_path / "far/split").rename(tmp_path / "elsewhere/split")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "far"), str(tmp_path / "elsewhere"), *sys.path])
    discover("a.first.time")
    before = set(sys.modules)
    found = discover(GROUP)
    assert [candidate.name for candidate in found.candidates] == ["lamp", "torch"]
    assert all(candidate.manifest is not None for candidate in found.candidates)
    new = set(sys.modules) - before
    assert {name for name in new if name.partition(".")[0] not in sys.stdlib_module_names} == set()


def test_the_default_group_is_that_of_the_contract(tmp_path: Path) -> None:
    """The one that a stranger's wheel uses."""
    install(tmp_path, "shop", "[weighbridge]\nlamp = shop:make\n")
    assert [candidate.group for candidate in discover(path=[str(tmp_path)]).candidates] == ["weighbridge"]


def test_a_name_that_two_distributions_offer_is_nobodys(tmp_path: Path) -> None:
    """The error names both, and says what to do; their other plugins are candidates."""
    install(tmp_path / "one", "shop", offer("lamp = shop:make", "torch = shop:torch"))
    install(tmp_path / "two", "attic", offer("lamp = attic:make", "candle = attic:candle"), version="0.9")
    found = found_on(tmp_path / "one", tmp_path / "two")
    assert [candidate.name for candidate in found.candidates] == ["candle", "torch"]
    (problem,) = found.problems
    assert isinstance(problem, DuplicateName)
    assert str(problem) == (
        f"lamp: shop 1.0 and attic 0.9 offer it in the group '{GROUP}', as 'shop:make' and 'attic:make'; "
        "neither is taken. Uninstall shop or attic"
    )


def test_a_name_in_two_groups_is_no_duplicate(tmp_path: Path) -> None:
    """One distribution may serve several hosts, and one manifest serves them all."""
    entry_points = "[weighbridge]\nlamp = shop:other\n" + offer(
        "lamp = shop:make", manifest="lamp = shop:weighbridge.toml"
    )
    install(tmp_path, "shop", entry_points, manifest="plugin.api = 3\n")
    for group in (GROUP, "weighbridge"):
        (candidate,) = discover(group, [str(tmp_path)]).candidates
        assert (candidate.group, candidate.manifest) == (group, Manifest(api=3))


def test_the_same_line_twice_in_one_distribution_counts_once(tmp_path: Path) -> None:
    """Nothing is unclear about it."""
    install(tmp_path, "shop", offer("lamp = shop:make", "lamp = shop:make"))
    found = found_on(tmp_path)
    assert ([candidate.name for candidate in found.candidates], found.problems) == (["lamp"], ())


def test_one_name_for_two_things_in_one_distribution_is_refused(tmp_path: Path) -> None:
    """Either could be the wrong one."""
    install(tmp_path, "shop", offer("lamp = shop:make", "lamp = shop:other"))
    found = found_on(tmp_path)
    assert found.candidates == ()
    assert [str(problem) for problem in found.problems] == [
        f"lamp: shop 1.0 offers it more than once in the group '{GROUP}', as 'shop:make' and 'shop:other'; "
        "none is taken. Rename all but one of them in the entry points of shop"
    ]


@pytest.mark.parametrize(
    ("manifest", "reference", "expected"),
    [
        ("[memory]\nload = 'x'\n", "shop:weighbridge.toml", "memory.load: 'x' is not a size"),
        (None, "shop:weighbridge.toml", "there is no weighbridge.toml in shop"),
        ("", "shop", "does not name a file"),
    ],
    ids=["invalid", "missing", "no file named"],
)
def test_a_candidate_whose_manifest_cannot_be_used_is_left_out(
    manifest: str | None, reference: str, expected: str, tmp_path: Path
) -> None:
    """It said what it needs, and nobody understood it; the others are candidates."""
    install(
        tmp_path, "shop", offer("lamp = shop:make", "torch = shop:t", manifest=f"lamp = {reference}"), manifest=manifest
    )
    found = found_on(tmp_path)
    assert [candidate.name for candidate in found.candidates] == ["torch"]
    (problem,) = found.problems
    assert isinstance(problem, ManifestError)
    assert (problem.plugin, expected in str(problem)) == ("lamp", True)


def test_two_manifests_for_one_plugin_are_refused(tmp_path: Path) -> None:
    """As two plugins of one name are."""
    manifest = "lamp = shop:weighbridge.toml\nlamp = shop:other.toml"
    install(tmp_path, "shop", offer("lamp = shop:make", manifest=manifest), manifest="")
    found = found_on(tmp_path)
    assert found.candidates == ()
    assert "names more than one manifest for it: 'shop:weighbridge.toml' and 'shop:other.toml'" in str(
        found.problems[0]
    )


def test_a_manifest_of_another_distribution_does_not_count(tmp_path: Path) -> None:
    """A plugin speaks for itself only, and an entry point for a manifest alone is no plugin."""
    install(tmp_path, "shop", offer("lamp = shop:make"))
    install(tmp_path, "attic", "[weighbridge.manifest]\nlamp = attic:weighbridge.toml\n", manifest="plugin.api = 7\n")
    (candidate,) = found_on(tmp_path).candidates
    assert candidate.manifest is None


def test_broken_metadata_is_among_the_problems(tmp_path: Path) -> None:
    """In front of what is wrong with single plugins."""
    install(tmp_path, "shop", offer("no equals sign", "lamp = shop:make", manifest="lamp = nowhere"))
    found = found_on(tmp_path)
    assert [type(problem) for problem in found.problems] == [MetadataError, ManifestError]


@pytest.mark.parametrize("name", ["a b", "é", "x.y", "-", "a:b", "", "😀", "a[b]", "#"])
def test_a_name_may_be_anything_that_an_entry_point_may_be_called(name: str, tmp_path: Path) -> None:
    """Also one that begins a comment: it is simply not there then."""
    manifest = f"{name} = shop:weighbridge.toml"
    install(tmp_path, "shop", offer(f"{name} = shop:make", manifest=manifest), manifest="plugin.api = 2")
    found = [(candidate.name, candidate.manifest) for candidate in found_on(tmp_path).candidates]
    assert found == ([] if name == "#" else [(name, Manifest(api=2))])


def test_problems_can_be_pickled_and_keep_no_frame_alive(tmp_path: Path) -> None:
    """They are kept for as long as the host lives."""
    install(tmp_path, "shop", offer("lamp = shop:make", manifest="lamp = shop:weighbridge.toml"), manifest="[")
    install(tmp_path, "twice", offer("torch = a", "torch = b"))
    for problem in found_on(tmp_path).problems:
        assert isinstance(problem, DiscoveryError)
        assert str(pickle.loads(pickle.dumps(problem))) == str(problem)
        assert (problem.__traceback__, problem.__context__, problem.__cause__) == (None, None, None)


def test_discovery_leaves_no_cycles_to_collect(tmp_path: Path) -> None:
    """Nothing waits for the collector, not even after an error."""
    install(tmp_path, "shop", offer("lamp = shop:make", manifest="lamp = shop:weighbridge.toml"), manifest="[")
    found_on(tmp_path)
    gc.collect()
    gc.disable()
    try:
        found = found_on(tmp_path)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert len(found.problems) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("baloon", "balloon"),
        ("BALLOON", "balloon"),
        ("nuna", "NUMA"),
        ("my-plugin", "my_plugin"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(name: str, expected: str | None) -> None:
    """Capital letters do not count; a name that is like none is like none."""
    known = ["balloon", "NUMA", "my_plugin"]
    assert nearest(name, known) == expected
    assert did_you_mean(name, known) == (f"; did you mean {expected!r}?" if expected else "")
    assert nearest(name, []) is None
