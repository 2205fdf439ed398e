"""A graph network that says whether a fusion group fits the buffer, and explainers of it.

The learned part of GET (arXiv 2501.00636): groups come in as arrays (`records`), `model` classifies
them, `train` fits it, `explain` and `walk` name the edges behind a verdict, `weights` keeps it all
in files. What a group is and how its nodes become features is the planner's business.

Needs the extra `gnn` (torch, torch-geometric), and says so by `require()`; this module and
`records` do without.
"""

from __future__ import annotations

import importlib


class MissingGNN(ImportError):
    """torch or torch-geometric is not installed."""

    exit_code = 3


def require() -> None:
    """Raise MissingGNN, with what to install, where torch or torch-geometric is missing."""
    for name in ("torch", "torch_geometric"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingGNN(
                f"the explainers gnne, pg and rg need {name}: pip install 'tvm-dnnfusion[gnn]'; the"
                " explainer informed does without"
            ) from error
