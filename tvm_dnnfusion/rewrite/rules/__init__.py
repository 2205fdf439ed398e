"""The built-in rules, as tables; importing this registers them.

The order of the tables is the order of registration, which breaks ties between equal gains.
"""

from tvm_dnnfusion.rewrite.rule import register_rule
from tvm_dnnfusion.rewrite.rules import (
    affine,
    associative,
    attention,
    cleanup,
    commutative,
    commutative_reduce,
    distributive,
    exporter,
    fold,
    siblings,
)

TABLES = (
    fold.RULES,
    cleanup.RULES,
    exporter.RULES,
    attention.RULES,
    affine.RULES,
    associative.RULES,
    distributive.RULES,
    commutative.RULES,
    commutative_reduce.RULES,
    siblings.RULES,
)

for _table in TABLES:
    for _rule in _table:
        register_rule(_rule)
