"""A compiled model on disk: the library, and a record of what it is.

Two forms. A folder: `library.so`, `artefact.json` and further files (the plan, a report). Or a
single library "net.so" with its record "net.so.json" beside it. The record holds the library's
sha256, so a library and a record that do not belong together are refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from tvm_dnnfusion import __version__
from tvm_dnnfusion.devices import cpu, llvm
from tvm_dnnfusion.profile.database import utc_now
from tvm_dnnfusion.runtime.errors import ArtefactError, EnvironmentLackError
from tvm_dnnfusion.runtime.files import whole_folder, whole_names
from tvm_dnnfusion.runtime.link import Linker, find_linker
from tvm_dnnfusion.runtime.module import Module
from tvm_dnnfusion.runtime.processor import foreign, places_of, processor_of, starter, triple_of
from tvm_dnnfusion.runtime.signature import Signature

log = logging.getLogger(__name__)

FORMAT = 1
LIBRARY = "library.so"
RECORD = "artefact.json"


@dataclass(frozen=True, slots=True)
class Artefact:
    """The record of a saved model.

    `kernels` maps each kernel to the source layers in it, `plan` is the plan as JSON (None: not
    planned by this library), `threads` the count that it is meant to run with, `versions` those of
    this library and of TVM, `created` UTC in ISO 8601. The last two fields are filled by `save`.
    """

    model: str
    signature: Signature
    target: dict[str, Any]
    device: str = ""
    threads: int | None = None
    kernels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    plan: Any = None
    entry: str = "main"
    versions: dict[str, str] = field(default_factory=lambda: installed_versions())
    created: str = field(default_factory=utc_now)
    format: int = FORMAT
    library_sha256: str = ""


def installed_versions() -> dict[str, str]:
    """Versions of this library and of TVM; distributions that are absent are left out."""
    out = {"tvm-dnnfusion": __version__}
    for name in ("apache-tvm", "apache-tvm-ffi"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def save(
    code: Any,
    record: Artefact,
    path: Path | str,
    *,
    further: Mapping[str, bytes] | None = None,
    linker: Linker | None = None,
) -> Artefact:
    """Write a compiled model, whole or not at all, and return its completed record.

    Parameters
    ----------
    code : tvm.runtime.Executable
        What `tvm.compile` made.
    record : Artefact
        What it is.
    path : Path or str
        A name that ends in ".so" gives a library with a record beside it, any other a folder.
    further : mapping of file name to content, or None
        More files of the folder; not possible beside a single library.
    linker : callable or None
        As `export_library` takes it; None for `find_linker`.

    Raises
    ------
    ArtefactError
        Where the place cannot be written, or holds files that are not an artefact's.
    EnvironmentLackError
        Where there is no linker.
    """
    target = Path(path)
    link = linker or find_linker(triple_of(record.target))
    if target.suffix == ".so":
        if further:
            raise ArtefactError(f"{target}: further files need a folder, not a single library")
        return _save_library(code, record, target, link)
    with whole_folder(target, RECORD) as folder:
        code.export_library(str(folder / LIBRARY), fcompile=link)
        done = replace(record, library_sha256=_sha256(folder / LIBRARY))
        (folder / RECORD).write_bytes(_encode(done))
        for name, content in (further or {}).items():
            (folder / name).write_bytes(content)
    return done


def read_record(path: Path | str) -> Artefact:
    """The record of a saved model, without loading the library.

    `path` is the folder, the library or the record. Raises ArtefactError.
    """
    return _read(_places(path)[1])


def read_saved(path: Path | str) -> tuple[Artefact, Path]:
    """The record of a saved model and its library, which is as it was saved.

    Raises ArtefactError where it is absent, incomplete, changed, or of a later format.
    """
    library, place = _places(path)
    record = _read(place)
    if not library.is_file():
        raise ArtefactError(f"{library} is missing; {place} belongs to it")
    if _sha256(library) != record.library_sha256:
        raise ArtefactError(f"{library} is not the library that {place} describes; save it again")
    return record, library


def load(path: Path | str) -> Module:
    """Load a saved model for this machine.

    Raises
    ------
    ArtefactError
        Where it is absent, incomplete, changed, or of a later format.
    EnvironmentLackError
        Where it was compiled for a CPU that this machine is not.
    OpenCLError
        Where it was compiled for OpenCL, and there is no device for it.
    """
    record, library = read_saved(path)
    _check_machine(record, library)
    _check_versions(record, library)
    places_of(processor_of(record.target))  # without a runtime for its kernels it does not load
    import tvm

    code = tvm.runtime.load_module(str(library))
    return Module(code, record.signature, record.entry, record.kernels, record.threads)


def _save_library(code: Any, record: Artefact, target: Path, link: Linker) -> Artefact:
    if not target.parent.is_dir():
        raise ArtefactError(f"cannot write {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise ArtefactError(f"cannot write {target}: it is a folder")
    with whole_names(target, _beside(target)) as (library, beside):
        code.export_library(str(library), fcompile=link)
        done = replace(record, library_sha256=_sha256(library))
        beside.write_bytes(_encode(done))
    return done


def _beside(library: Path) -> Path:
    return library.with_name(library.name + ".json")


def _places(path: Path | str) -> tuple[Path, Path]:
    """(library, record) of a path that names either or their folder."""
    given = Path(path)
    if given.name == RECORD:
        given = given.parent
    if given.is_dir():
        return given / LIBRARY, given / RECORD
    if given.name == LIBRARY and (given.parent / RECORD).is_file():
        return given, given.parent / RECORD
    if given.name.endswith(".so.json"):
        given = given.with_name(given.name.removesuffix(".json"))
    return given, _beside(given)


def _read(place: Path) -> Artefact:
    try:
        text = place.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise ArtefactError(f"no saved model here: {place} cannot be read ({reason})") from error
    try:
        head = msgspec.json.decode(text, type=dict[str, Any])
        if head.get("format", 0) > FORMAT:
            raise ArtefactError(
                f"{place} has format {head['format']}; this version of the library reads {FORMAT}"
            )
        return msgspec.json.decode(text, type=Artefact)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise ArtefactError(f"{place} is not the record of a saved model: {error}") from error


def _check_machine(record: Artefact, library: Path) -> None:
    """Code for another CPU ends in an illegal instruction, so it is refused before it runs."""
    here = cpu.cpu_info()
    triple = triple_of(record.target) or llvm.default_triple()
    if foreign(record.target):
        what = cpu.arch_of(triple) if "android" not in triple else triple
        raise EnvironmentLackError(
            f"{library} was compiled for {what}; this machine is {here.arch}. Name the device that "
            "it is for with --device"
        )
    mcpu = str(starter(record.target).get("mcpu", ""))
    if here.arch != "x86_64" or not mcpu or not here.flags:
        return
    needs = llvm.cpu_features(mcpu, triple)
    lacks = [f for f in llvm.VECTOR_FEATURES if f in needs and f not in here.flags]
    if lacks:
        raise EnvironmentLackError(
            f"{library} was compiled for {mcpu}; this machine lacks {', '.join(lacks)}"
        )


def _check_versions(record: Artefact, library: Path) -> None:
    here = installed_versions().get("apache-tvm")
    there = record.versions.get("apache-tvm")
    if here != there:
        log.warning("%s was compiled by TVM %s and is run by TVM %s", library, there, here)


def _encode(record: Artefact) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
