"""Keeping TVM's debugging chatter from the user's terminal.

TVM 0.27 prints a line "Scope Saving:" or "Scope Loaded:" per constant whenever a library is written
or read, with no switch to turn it off. They come from C++, so they are caught at the descriptor.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager

CHATTER = re.compile(rb"executable\.cc:\d+: Warning: Scope (Saving|Loaded):")
STDERR = 2


@contextmanager
def without_chatter() -> Generator[None]:
    """Hold stderr back for a moment, then let everything but the chatter through, in order."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, STDERR)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not CHATTER.search(line):
                    os.write(STDERR, line)
