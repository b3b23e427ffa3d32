"""What a metadata folder says, read with as little as a bare interpreter has loaded already; see ``entry_points``."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from weighbridge_hookspecs.errors import MetadataError

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_CHUNK_BYTES = 32 * 1024
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
SUFFIXES = (".dist-info", ".egg-info")


def normalize(name: str) -> str:
    """Normalize a distribution's name as PEP 503 does, with an underscore for the dash.

    >>> normalize("Zope.Interface--x")
    'zope_interface_x'
    """
    name = name.lower().replace("-", "_").replace(".", "_")
    while "__" in name:
        name = name.replace("__", "_")
    return name


def report(problems: "list[MetadataError]", distribution: str, what: str, advice: "str | None" = None) -> None:
    """Add an error about a distribution's metadata to `problems`."""
    from weighbridge_hookspecs.errors import MetadataError

    advice = advice or f"Install {distribution} again; if that does not help, its authors have to mend the file"
    message = printable(f"the metadata of {distribution} is broken: {what}")
    problems.append(MetadataError(message, step="discover", advice=printable(advice)))


def printable(text: str) -> str:
    """Escape what stands for undecodable bytes of a path: https://peps.python.org/pep-0383. A terminal refuses that."""
    return text.encode(errors="backslashreplace").decode()


class Folder:
    """The metadata folder of a distribution, or the single file that distutils wrote in its place.

    ``key`` is the normalized name, by which a distribution hides later ones; None where nothing tells it.
    """

    __slots__ = ("_data", "key", "location", "site")

    def __init__(self, site: str, child: str, key: "str | None") -> None:
        self.site = site
        self.location = os.path.join(site, child)
        self.key = key if key and _names_itself(child) else self._key_from_metadata()
        self._data: bytes | None = None

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return _from_folder(self.location)[0] or self.location

    def mentions(self, groups: "Iterable[bytes]", problems: "list[MetadataError]") -> bool:
        """Read the entry points; return whether there may be some of these groups (they are parsed later)."""
        try:
            data = read(os.path.join(self.location, "entry_points.txt"))
        except _ABSENT:
            return False
        except OSError as error:
            report(problems, self.label, f"entry_points.txt in {self.location} cannot be read ({error.strerror})")
            return False
        # UTF-16 would hide every name; an editor or a shell on Windows wrote it, and parsing will say so.
        if data.startswith(_UTF16_MARKS) or any(group in data for group in groups):
            self._data = data
            return True
        return False

    def is_valid(self) -> bool:
        """Return whether there is metadata beside the entry points; a folder without any is searched last."""
        join, location = os.path.join, self.location
        exists = os.path.exists
        return exists(join(location, "METADATA")) or exists(join(location, "PKG-INFO")) or os.path.isfile(location)

    def pairs(self, groups: "frozenset[str]", problems: "list[MetadataError]") -> "Iterator[tuple[str, str, str]]":
        """Yield group, name and value of each entry point of these groups."""
        if self._data is None:
            return iter(())
        file = os.path.join(self.location, "entry_points.txt")
        try:
            text = self._data.decode()
        except UnicodeDecodeError as error:
            report(problems, self.label, f"{file} is not UTF-8 (byte {error.start})")
            return iter(())
        return parse(text, groups, self.label, file, problems)

    def identity(self, problems: "list[MetadataError]") -> "tuple[str, str] | None":
        """Return name and version, as the metadata has them; a field that is not there is taken from the folder."""
        name, version = _from_folder(self.location)
        try:
            fields = _fields(self._metadata())
        except (OSError, UnicodeDecodeError) as error:
            report(problems, self.label, f"METADATA in {self.location} cannot be read ({error})")
            return (name, version) if name else None
        missing = " and no ".join(field for field in ("Name", "Version") if not fields.get(field))
        if missing:
            report(problems, self.label, f"METADATA in {self.location} is missing or has no {missing}")
        name = fields.get("Name") or name
        return (name, fields.get("Version") or version) if name else None

    def _metadata(self) -> bytes:
        for file in (os.path.join(self.location, "METADATA"), os.path.join(self.location, "PKG-INFO"), self.location):
            try:
                data = read(file)
            except _ABSENT:
                continue
            if data:
                return data
        return b""

    def _key_from_metadata(self) -> "str | None":
        try:
            name = _fields(self._metadata()).get("Name")
        except (OSError, UnicodeDecodeError):
            return None
        return normalize(name) if name else None


def read(file: str) -> bytes:
    """Read a whole file; the layers of `open` take longer than a metadata file."""
    descriptor = os.open(file, _FLAGS)
    try:
        data = b""
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            data += chunk
        return data
    finally:
        os.close(descriptor)


def parse(
    text: str, groups: "frozenset[str]", distribution: str, file: str, problems: "list[MetadataError]"
) -> "Iterator[tuple[str, str, str]]":
    """Yield group, name and value of each entry point of some groups; a line that is none is a problem, not the end."""
    if text.startswith("\ufeff"):
        report(problems, distribution, f"{file} starts with a byte order mark, so its first group is not read")
    group = None
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif group in groups and line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if equals:
                yield group, name.strip(), value.strip()
            else:
                report(problems, distribution, f"line {number} of {file} has no '=': {line!r}")


def _names_itself(child: str) -> bool:
    stem = child.rpartition(".")[0]
    return child.endswith(SUFFIXES) and bool(stem.strip(".")) and not stem.startswith("-")


def _from_folder(location: str) -> "tuple[str, str]":
    child = os.path.basename(location)
    if not _names_itself(child):
        return "", ""
    name, _, version = child.rpartition(".")[0].partition("-")
    return name, version.partition("-")[0]


def _fields(metadata: bytes) -> "dict[str, str]":
    fields: dict[str, str] = {}
    for line in metadata.replace(b"\r\n", b"\n").split(b"\n"):
        if not line:
            break
        key, colon, value = line.partition(b":")
        field = key.title()
        if colon and field in (b"Name", b"Version"):
            fields.setdefault(field.decode(), value.decode().strip())
    return fields
