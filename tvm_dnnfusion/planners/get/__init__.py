"""GET: explanation-guided splitting of fusion groups inside a search over plans.

`space`, `partition` and `cuts` are the graph and what a plan may be; `oracle` asks the memory
model;
`split` is the paper's recursive splitting with its random baseline; `search` and `evolution` make
plans, `planner` runs them; `explainers` and `features` speak with the classifier in
`tvm_dnnfusion.gnn`; `synthetic`, `blocks`, `samples` and `learn` make what it is trained on and
train it. torch is loaded by `learn`, and by `explainers` when a learned one is asked for.
"""
