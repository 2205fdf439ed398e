"""Graph rewriting by mathematical properties (DNNFusion, PLDI'21, section 4.2).

The third step of the pipeline, after the extended computational graph and before planning.
`rewrite(graph)` does it; `register_rule` adds a rule; `docs/rules.md` lists the built-in ones.
"""

from tvm_dnnfusion.rewrite.engine import rewrite
from tvm_dnnfusion.rewrite.report import RewriteOptions, RewriteReport, RewriteResult, Step
from tvm_dnnfusion.rewrite.rule import (
    Family,
    Guard,
    Miss,
    Rule,
    Spec,
    all_rules,
    register_rule,
    rule_named,
    unregister_rule,
)

__all__ = [
    "Family",
    "Guard",
    "Miss",
    "RewriteOptions",
    "RewriteReport",
    "RewriteResult",
    "Rule",
    "Spec",
    "Step",
    "all_rules",
    "register_rule",
    "rewrite",
    "rule_named",
    "unregister_rule",
]
