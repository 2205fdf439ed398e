"""A latency model of blocks: boosted trees on features, trained from the profile database.

`features` describes a block, `forest` predicts (numpy alone), `cost` answers planners, `train`
makes a model from measured rows (needs the extra `tune`). One model per family of devices; that of
x86 comes with the package. See docs/profile.md.
"""

from tvm_dnnfusion.cost.learned.cost import LearnedCost, learned_cost, with_threads
from tvm_dnnfusion.cost.learned.forest import Forest, ForestError

__all__ = ["Forest", "ForestError", "LearnedCost", "learned_cost", "with_threads"]
