"""Where a device is, as text: what `--device` takes.

| text                       | device                                                         |
|----------------------------|----------------------------------------------------------------|
| local                      | this machine, in a process of its own                          |
| rpc://host:port            | a TVM RPC server; `rpc://host:port/key` where it has a key     |
| tracker://host:port/key    | any free device under that key of a TVM RPC tracker            |
| virtual                    | the emulated phone that `dnnfusion devices virtual up` started |
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_dnnfusion.devices.sessions.errors import AddressError

LOCAL, RPC, TRACKER, VIRTUAL = "local", "rpc", "tracker", "virtual"
FORMS = "local, rpc://host:port, tracker://host:port/key, virtual"


@dataclass(frozen=True, slots=True)
class Address:
    """One address; `host`, `port` and `key` are empty where the kind has none."""

    kind: str
    host: str = ""
    port: int = 0
    key: str = ""

    def __str__(self) -> str:
        if not self.host:
            return self.kind
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}" + (f"/{self.key}" if self.key else "")


def parse(text: str) -> Address:
    """Read an address. Raises AddressError, naming the part that is wrong."""
    plain = text.strip()
    if plain in (LOCAL, VIRTUAL):
        return Address(plain)
    kind, mark, rest = plain.partition("://")
    if not mark or kind not in (RPC, TRACKER):
        raise AddressError(f"{text!r} is no address of a device; the forms are: {FORMS}")
    place, _, key = rest.partition("/")
    host, port = host_port(place, text)
    if kind == TRACKER and not key:
        raise AddressError(f"{text!r} names no key: tracker://host:port/key")
    if any(c.isspace() for c in key):
        raise AddressError(f"{text!r}: a key holds no spaces")
    return Address(kind, host, port, key)


def host_port(place: str, whole: str = "") -> tuple[str, int]:
    """Split "host:port"; an IPv6 host stands in brackets. Raises AddressError."""
    host, colon, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host:
        raise AddressError(f"{whole or place!r} needs a host and a port: host:port")
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise AddressError(f"{whole or place!r}: {port!r} is no port (1 to 65535)")
    return host, int(port)
