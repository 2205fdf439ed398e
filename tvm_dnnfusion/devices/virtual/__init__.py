"""The virtual phone: an emulated ARM machine with a genuine TVM RPC server, without root.

Debian's user-mode QEMU runs an ARM Python, which runs TVM's ARM wheel. `install` downloads and
unpacks all of it into a folder of the user's cache, `process` starts and stops it, `emulator` knows
its commands, `device/` is what runs on it. The figures and the limits: docs/devices.md.
"""

from __future__ import annotations
