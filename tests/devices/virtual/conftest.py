"""The library of this machine that sessions are tested with."""

from tests.devices.sessions.conftest import net

__all__ = ["net"]
