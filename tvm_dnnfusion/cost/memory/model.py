"""Memory models by name: is a group valid for a buffer, and what does it cost?

`memory_model("brr", network, setting).evaluate(group)` gives a `GroupCost`; answers are kept by
group. "brr" is Optimus' model (GET calls it so), "lbdf" keeps all weights and lines of the maps,
"tiles" is Cocco's consumption-centric form of it. Own models register in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from tvm_dnnfusion.cost.memory.network import Network
from tvm_dnnfusion.cost.memory.setting import GroupCost, Held, Setting
from tvm_dnnfusion.named import known_as


@runtime_checkable
class MemoryModel(Protocol):
    """What a memory planner asks."""

    name: str
    network: Network
    setting: Setting

    @property
    def evaluations(self) -> int:
        """Distinct groups evaluated so far."""
        ...

    def evaluate(self, group: int) -> GroupCost:
        """Validity and cost of a group of layers."""
        ...

    def unfusable(self) -> int:
        """Layers that no group of several may hold."""
        ...

    def held(self, group: int) -> tuple[Held, ...]:
        """The buffers of a valid group's maps; none where the model does not say."""
        ...


class CachedModel:
    """A model whose answers are kept: subclasses give `_evaluate`."""

    name = ""

    def __init__(self, network: Network, setting: Setting) -> None:
        self.network = network
        self.setting = setting
        self._known: dict[int, GroupCost] = {}
        self._unfusable: int | None = None

    @property
    def evaluations(self) -> int:
        """Distinct groups evaluated so far."""
        return len(self._known)

    def evaluate(self, group: int) -> GroupCost:
        """Validity and cost of a group of layers, computed once."""
        found = self._known.get(group)
        if found is None:
            found = self._known[group] = self._evaluate(group)
        return found

    def unfusable(self) -> int:
        """Layers that no group of several may hold."""
        if self._unfusable is None:
            self._unfusable = self._find_unfusable()
        return self._unfusable

    def held(self, group: int) -> tuple[Held, ...]:
        """The buffers of a valid group's maps; none where the model does not say."""
        return ()

    def _evaluate(self, group: int) -> GroupCost:
        raise NotImplementedError

    def _find_unfusable(self) -> int:
        raise NotImplementedError

    @property
    def batch(self) -> int:
        """Images of one run: the setting's, times those of the graph itself."""
        return self.setting.batch * self.network.images


ModelFactory = Callable[[Network, Setting], MemoryModel]
_MODELS: dict[str, ModelFactory] = {}


class MemoryModelError(KeyError):
    """No memory model of that name; the message lists those that exist."""

    exit_code = 2

    def __str__(self) -> str:
        return str(self.args[0])


def register_memory_model(name: str) -> Callable[[ModelFactory], ModelFactory]:
    """Decorator: make a model known under a name. Raises ValueError when the name is taken."""
    return known_as(_MODELS, "memory model", name)


def memory_model(name: str, network: Network, setting: Setting) -> MemoryModel:
    """The model of that name. Raises MemoryModelError with the names that exist."""
    if name not in _MODELS:
        known = ", ".join(memory_model_names())
        raise MemoryModelError(f"no memory model named {name!r}; known: {known}")
    return _MODELS[name](network, setting)


def memory_model_names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(_MODELS))
