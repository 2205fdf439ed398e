"""Downloads and packages of the virtual phone, from a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import lzma
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvm_dnnfusion.devices.virtual import debian, emulator, fetch, install, wheels
from tvm_dnnfusion.devices.virtual.errors import VirtualError
from tvm_dnnfusion.devices.virtual.fetch import Wanted
from tvm_dnnfusion.devices.virtual.recipe import Recipe

CONTENT = bytes(range(256)) * 1000


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT under every path but /gone; breaks off once after `cut` bytes."""

    cut = 0
    ranges: tuple[str, ...] = ()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.ranges += (asked,)
        if self.path == "/gone":
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        cut, self.server.cut = self.server.cut, 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : cut or None])

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch.time, "sleep", lambda s: None)
    with Server(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def wanted(server: Server, path: str = "/file", sha256: str | None = None) -> Wanted:
    good = hashlib.sha256(CONTENT).hexdigest()
    return Wanted(f"http://127.0.0.1:{server.server_port}{path}", "file", sha256 or good)


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut = 1000
    assert fetch.fetch(wanted(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ("", "bytes=1000-")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    fetch.fetch_all([wanted(server)], tmp_path)
    assert server.ranges == ()
    (tmp_path / "file").write_bytes(b"damaged")
    assert fetch.fetch(wanted(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VirtualError, match="another checksum"):
        fetch.fetch(wanted(server, sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_gone_is_named_with_the_way_out(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VirtualError, match=r"/gone failed 3 times: .*404.*DNNFUSION_MIRROR"):
        fetch.fetch(wanted(server, "/gone"), tmp_path)


def package(path: Path, **files: str) -> Path:
    """A Debian package with these files; a content that begins with "->" is a link."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            if text.startswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, text[2:]
                archive.addfile(member)
                continue
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    parts = ((b"debian-binary", b"2.0\n"), (b"data.tar.xz", lzma.compress(tar.getvalue())))
    content = b"!<arch>\n"
    for name, data in parts:
        head = name.ljust(16) + b"0".ljust(12) + b"0".ljust(12) + b"100644".ljust(8)
        content += head[:48] + str(len(data)).encode().ljust(10) + b"`\n" + data
        content += b"\n" * (len(data) % 2)
    path.write_bytes(content)
    return path


def test_a_package_stays_in_its_folder(tmp_path: Path) -> None:
    made = package(tmp_path / "p.deb", **{
        "./usr/lib/a.so.1": "code", "./usr/lib/a.so": "->a.so.1", "./lib": "->/usr/lib",
        "./usr/share/doc": "text", "../escape": "no", "/absolute": "no",
    })  # fmt: skip
    debian.unpack(made, tmp_path / "root", lambda path: "share" not in path.parts)
    found = {str(p.relative_to(tmp_path / "root")) for p in (tmp_path / "root").rglob("*")}
    assert found == {"usr", "usr/lib", "usr/lib/a.so.1", "usr/lib/a.so", "lib"}
    assert (tmp_path / "root/lib/a.so").read_text() == "code"
    with pytest.raises(VirtualError, match="no Debian package"):
        debian.unpack(Path(__file__), tmp_path, lambda path: True)


def test_packages_are_found_in_the_list(tmp_path: Path) -> None:
    text = "".join(
        f"Package: {name}\nFilename: pool/{name}_1.deb\nSHA256: {name}00\n\n" for name in "abc"
    )
    listing = tmp_path / "list.xz"
    listing.write_bytes(lzma.compress(text.encode()))
    (found,) = debian.find(listing, "https://m", ["b"])
    assert found == Wanted("https://m/pool/b_1.deb", "b_1.deb", "b00")
    with pytest.raises(VirtualError, match="no package x, y"):
        debian.find(listing, "https://m", ["a", "x", "y"])


def test_pips_reason_is_passed_on(tmp_path: Path) -> None:
    recipe = Recipe(("no-such-package-of-anybody==99; python_version<'3'x",))
    with pytest.raises(VirtualError, match="pip could not download"):
        wheels.download(recipe, tmp_path)
    assert not (tmp_path / f"wheels-{recipe.key}").exists()


def test_an_interrupted_installation_leaves_no_phone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNNFUSION_VIRTUAL", str(tmp_path))
    monkeypatch.setattr(install, "_check_machine", lambda: None)
    monkeypatch.setattr(install, "_packages", lambda *_: [])

    def interrupted(*_: object) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(wheels, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install.install()
    assert install.installed() is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["downloads", "lock"]


@pytest.mark.parametrize(("machine", "words"), [("aarch64", "'local'"), ("ppc64", "x86-64")])
def test_other_machines_are_told(machine: str, words: str, monkeypatch: pytest.MonkeyPatch,
                                 tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setenv("DNNFUSION_VIRTUAL", str(tmp_path))
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    with pytest.raises(VirtualError, match=words):
        install.install()


def test_counting_without_a_compiler_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator.shutil, "which", lambda name: None)
    monkeypatch.setattr(emulator.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VirtualError, match="needs a C compiler"):
        emulator.build_counter(tmp_path / "counter.so")


def test_pips_compiler_builds_the_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.setattr(emulator.shutil, "which", lambda name: None)
    made = emulator.build_counter(tmp_path / "counter.so").read_bytes()
    assert made[:4] == b"\x7fELF" and b"qemu_plugin_install" in made


def test_the_emulated_cpu_of_a_target() -> None:
    assert emulator.cpu_model("cortex-a53") == "cortex-a53"
    assert emulator.cpu_model("cortex-x1") == "max"
