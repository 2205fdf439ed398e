"""Golden numbers: kept in golden.json, compared by name, written anew with `--update-golden`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("golden.json")


class Golden:
    """The file under one key of each model."""

    def __init__(self, update: bool):
        self.update = update

    def read(self) -> dict[str, Any]:
        """All that is kept, by model."""
        return json.loads(PATH.read_text()) if PATH.exists() else {}

    def check(self, model: str, found: dict[str, Any]) -> None:
        """Compare with what is kept, or keep it.

        Raises
        ------
        AssertionError naming each figure that changed, and how to accept the change.
        """
        kept = self.read()
        if self.update:
            kept[model] = found
            PATH.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
            return
        old, new = _flat(kept.get(model, {})), _flat(found)
        changed = [f"{key}: {old.get(key)} is now {new.get(key)}"
                   for key in sorted({*old, *new}) if old.get(key) != new.get(key)]  # fmt: skip
        assert not changed, (
            f"{model}: {'; '.join(changed)}. Where that is meant: pytest {PATH.parent} "
            "--update-golden, and read the difference before committing it"
        )


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    if not isinstance(data, dict):
        return {prefix: data}
    return {k: v for name, value in data.items()
            for k, v in _flat(value, f"{prefix}.{name}" if prefix else name).items()}  # fmt: skip
