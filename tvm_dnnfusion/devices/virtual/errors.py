"""What can go wrong with the virtual phone: all of it lies with the machine or its network."""

from __future__ import annotations


class VirtualError(Exception):
    """The virtual phone cannot be had, started or stopped; the message says why and what to do."""

    exit_code = 3
