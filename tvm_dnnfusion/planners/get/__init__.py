"""GET: explanation-guided splitting of fusion groups inside a search over plans.

`space`, `partition` and `cuts` are the graph and what a plan may be; `oracle` asks the memory model;
`split` is the paper's recursive splitting with its random baseline; `search` and `evolution` propose
plans; `explainers` and `features` speak with the classifier in `tvm_dnnfusion.gnn`; `synthetic`,
`blocks` and `samples` make what that is trained on. Only `explainers` needs torch, when a learned
one is asked for.
"""
