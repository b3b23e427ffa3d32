"""What firmware says: texts of DMI, the alias that udev makes of them, and the tables as bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.hypervisor import Evidence, Weight, windows
from weighbridge_balloon.hypervisor.dmi import FIELDS, judge, parse_alias, read_fields
from weighbridge_balloon.hypervisor.smbios import fields, is_virtual, structures

texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30).map(str.strip).filter(bool)


def table(vendor: str, product: str, *, bits: int = 0, bios: str = "BIOS") -> bytes:
    """Firmware tables with a BIOS, a system and an end."""
    first = bytes([0, 0x18, 0, 0, 1]) + bytes(14) + bytes([bits]) + bytes(4) + bios.encode() + b"\0\0"
    system = bytes([1, 0x1B, 1, 0, 1, 2, 0]) + bytes(20) + vendor.encode() + b"\0" + product.encode() + b"\0\0"
    return first + system + bytes([127, 4, 2, 0, 0, 0])


@given(texts, texts)
def test_texts_of_a_table_are_those_that_were_put_there(vendor: str, product: str) -> None:
    """By the names of the kernel's files; a text that the table leaves out is not there."""
    assert fields(table(vendor, product)) == {"bios_vendor": "BIOS", "sys_vendor": vendor, "product_name": product}


@pytest.mark.parametrize(("bits", "answer"), [(0x10, True), (0x00, False), (0xEF, False), (0xFF, True)])
def test_one_bit_says_that_it_is_virtual(bits: int, answer: bool) -> None:
    """Bit 4 of the second extension byte, and no other."""
    assert is_virtual(table("a", "b", bits=bits)) is answer


def test_table_without_that_byte_says_nothing() -> None:
    """A BIOS of before SMBIOS 2.4: unknown, and not no."""
    assert is_virtual(bytes([0, 0x12, 0, 0, 1]) + bytes(13) + b"BIOS\0\0") is None
    assert is_virtual(b"") is None


@given(st.binary(max_size=300))
def test_any_bytes_make_a_table(raw: bytes) -> None:
    """Reading ends, and never takes more than there is."""
    assert sum(len(one.body) for one in structures(raw)) <= len(raw)
    fields(raw)
    is_virtual(raw)
    windows.table_of(raw)


@given(st.integers(0, 60))
def test_table_that_is_cut_off_gives_what_came_before(end: int) -> None:
    """Its whole structures, and none that nobody wrote."""
    whole = table("Dell Inc.", "PowerEdge R740", bits=0x10)
    assert fields(whole[:end]).items() <= fields(whole).items()


def test_header_of_windows_is_taken_off() -> None:
    """Eight bytes, the last four of which say how long the table is; what follows that is not the table's."""
    content = table("VMware, Inc.", "VMware7,1")
    raw = bytes([0, 2, 4, 0]) + len(content).to_bytes(4, "little") + content
    assert windows.table_of(raw + b"rubbish") == content


def test_alias_stands_in_for_files_that_are_missing(tmp_path: Path) -> None:
    """A container may be shown nothing else; spaces are left out in it."""
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "modalias").write_text("dmi:bvnHyper-VUEFI:svnMicrosoftCorporation:pnVirtualMachine:pvrHyper-V:\n")
    found = read_fields(tmp_path)
    assert found["sys_vendor"] == "MicrosoftCorporation"
    (evidence,) = judge(found, where="alias")
    assert evidence.kind == "hyperv"


@given(st.text(max_size=200))
def test_any_text_makes_an_alias(alias: str) -> None:
    """Fields by the names of the files, none of them empty."""
    found = parse_alias(alias)
    assert set(found) <= set(FIELDS)
    assert all(found.values())


@given(st.dictionaries(st.sampled_from(FIELDS), texts, min_size=1), st.sampled_from([None, True, False]))
def test_any_texts_make_one_judgement(found: dict[str, str], vm_bit: bool | None) -> None:
    """One for the texts, and one for the bit if it is known; what nobody knows is at most a hint of bare metal."""
    judged = [*judge(found, where="here", vm_bit=vm_bit)]
    assert len(judged) == 1 + (vm_bit is not None)
    if judged[0].kind == "none" and judged[0].product is None:
        assert judged[0].weight is Weight.HINT


@pytest.mark.parametrize(
    ("vendor", "product", "kind"),
    [
        ("Microsoft Corporation", "Surface Pro 9", "none"),
        ("Microsoft Corporation", "Virtual Machine", "hyperv"),
        ("Somebody", "Virtual Machine", "none"),
        ("Oracle Corporation", "SUN FIRE X4170 M3", "none"),
        ("innotek GmbH", "VirtualBox", "other"),
        ("Oracle Corporation", "VirtualBox", "other"),
        ("Red Hat", "KVM", "kvm"),
        ("oVirt", "oVirt Node", "kvm"),
        ("Nutanix", "AHV", "kvm"),
        ("Nutanix", "NX-1065-G5", "none"),
        ("Amazon EC2", "u-6tb1.metal", "none"),
        ("Amazon EC2", "metal.large", "kvm"),
        ("Apple Inc.", "MacBookPro18,3", "none"),
        ("Apple Inc.", "VirtualMac2,1", "other"),
    ],
)
def test_names_of_makers_alone_say_nothing(vendor: str, product: str, kind: str) -> None:
    """Who makes hypervisors makes computers as well."""
    (evidence,) = judge({"sys_vendor": vendor, "product_name": product}, where="here")
    assert isinstance(evidence, Evidence)
    assert evidence.kind == kind
