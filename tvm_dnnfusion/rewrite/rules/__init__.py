"""The built-in rules, as tables; importing this registers them.

The order of the tables is the order of registration, which breaks ties between equal gains.
"""

from tvm_dnnfusion.rewrite.rule import register_rule
from tvm_dnnfusion.rewrite.rules import affine, cleanup, exporter, fold

TABLES = (fold.RULES, cleanup.RULES, exporter.RULES, affine.RULES)

for _table in TABLES:
    for _rule in _table:
        register_rule(_rule)
