"""Debian packages without apt or dpkg: the list of a release, and unpacking.

A package is an `ar` archive with a compressed tar in it. The list names each package's file and
SHA-256; it comes over HTTPS from the mirror, which is what is trusted. Cost: a second per list.
"""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from tvm_dnnfusion.devices.virtual.errors import VirtualError
from tvm_dnnfusion.devices.virtual.fetch import Wanted

_MAGIC = b"!<arch>\n"
_ENTRY = 60
"""Bytes of an `ar` archive's header for one file."""


def list_file(mirror: str, release: str, arch: str) -> Wanted:
    """The list of an architecture's packages ("arm64", "amd64")."""
    url = f"{mirror}/dists/{release}/main/binary-{arch}/Packages.xz"
    return Wanted(url, f"{release}-{arch}.xz")


def find(listing: Path, mirror: str, names: Iterable[str]) -> list[Wanted]:
    """The files of some packages. Raises VirtualError naming those that the list lacks."""
    wanted = dict.fromkeys(names)
    found: dict[str, Wanted] = {}
    for paragraph in lzma.decompress(listing.read_bytes()).decode().split("\n\n"):
        name = paragraph.partition("\n")[0].removeprefix("Package: ")
        if name in wanted:
            fields = dict(line.split(": ", 1) for line in paragraph.split("\n") if ": " in line)
            file = fields["Filename"]
            found[name] = Wanted(f"{mirror}/{file}", file.rpartition("/")[2], fields["SHA256"])
    missing = [name for name in wanted if name not in found]
    if missing:
        raise VirtualError(f"{listing.name} lists no package {', '.join(missing)}")
    return [found[name] for name in wanted]


def unpack(package: Path, folder: Path, keep: Callable[[PurePosixPath], bool]) -> None:
    """Unpack those files of a package that `keep` takes, with their links, below the folder."""
    with tarfile.open(fileobj=io.BytesIO(_data(package))) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if member.isdir() or path.is_absolute() or ".." in path.parts or not keep(path):
                continue
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if member.issym():
                target.symlink_to(_inside(member.linkname, path))
            elif source := archive.extractfile(member):
                with source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)
                target.chmod(member.mode | 0o600)


def _inside(link: str, path: PurePosixPath) -> str:
    """A link's target; an absolute one becomes relative, so that it stays in the folder."""
    if not link.startswith("/"):
        return link
    return "../" * (len(path.parts) - 1) + link.lstrip("/")


def _data(package: Path) -> bytes:
    """The decompressed tar with a package's files."""
    content = package.read_bytes()
    if content[: len(_MAGIC)] != _MAGIC:
        raise VirtualError(f"{package} is no Debian package")
    at = len(_MAGIC)
    while at + _ENTRY <= len(content):
        name = content[at : at + 16].decode().strip().rstrip("/")
        size = int(content[at + 48 : at + 58])
        at += _ENTRY
        if name == "data.tar.xz":
            return lzma.decompress(content[at : at + size])
        at += size + size % 2
    raise VirtualError(f"{package} has no data.tar.xz")
