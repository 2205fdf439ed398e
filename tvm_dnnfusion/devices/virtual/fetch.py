"""Downloads that go on where they stopped, and files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tvm_dnnfusion.devices.virtual.errors import VirtualError

TRIES = 3
TIMEOUT_S = 30.0
"""Longest silence of a server."""
PARALLEL = 6
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to download: where from, its name here, and its SHA-256 ("" where nobody says)."""

    url: str
    name: str
    sha256: str = ""


def fetch_all(files: Iterable[Wanted], folder: Path) -> None:
    """Have all the files in the folder, several at a time; raises VirtualError for the first."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        for done in [pool.submit(fetch, file, folder) for file in files]:
            done.result()


def fetch(file: Wanted, folder: Path) -> Path:
    """The file, whole and with its checksum; one that is there already is only checked.

    What an earlier try left of it is continued. Raises VirtualError after `TRIES`.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and file.sha256 in ("", _sha256(target)):
        return target
    for attempt in range(TRIES):
        try:
            _continue(file.url, part)
            if file.sha256 not in ("", _sha256(part)):
                part.unlink()
                raise VirtualError(f"{file.url}: what came has another checksum than announced")
            os.replace(part, target)
            return target
        except (OSError, HTTPException, VirtualError) as error:
            if attempt + 1 == TRIES:
                raise _failed(file.url, error) from error
            time.sleep(attempt + 1)
    raise AssertionError("not reached")


def _continue(url: str, part: Path) -> None:
    """Fetch what is missing of a file into `part`."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        reply: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is whole already, or longer than the file is by now
            raise
        return
    with reply, part.open("ab" if have and reply.status == 206 else "wb") as out:
        while chunk := reply.read(CHUNK):
            out.write(chunk)
        if reply.length:
            raise OSError(f"the connection ended {reply.length} bytes early")


def _failed(url: str, error: Exception) -> VirtualError:
    return VirtualError(
        f"downloading {url} failed {TRIES} times: {error}. What is here is kept: the same command "
        "goes on from there. Another Debian mirror: DNNFUSION_MIRROR=URL"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
