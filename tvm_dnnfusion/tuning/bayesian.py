"""Bayesian search by tree-structured Parzen estimators, from Optuna (the extra `tune`).

Optuna models the density of each parameter among good and bad points and asks for what is likelier
good; the first point is the template's own choice. Costs are given as logarithms, so that a kernel
that is ten times slower does not flatten the differences that matter.
"""

from __future__ import annotations

import math
from typing import Any

from tvm_dnnfusion.tuning.space import Genes, Space

STARTUP = 8
"""Points before the model is asked."""


class MissingExtra(RuntimeError):
    """A library that the chosen search needs is not installed."""

    exit_code = 3


class Bayesian:
    """The search over a space. Raises MissingExtra without Optuna."""

    name = "bayesian"

    def __init__(self, space: Space, seed: int = 0) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingExtra(
                "the Bayesian search needs Optuna: pip install 'tvm-dnnfusion[tune]', or take "
                "--search genetic"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self.space = space
        sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        self._study = optuna.create_study(sampler=sampler)
        self._axes: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(range(n))
            for name, n in zip(space.values, space.sizes)
        }
        self._open: dict[Genes, Any] = {}
        self._study.enqueue_trial(dict(zip(space.values, space.origin)))

    def ask(self) -> Genes:
        """The next point that the model asks for."""
        trial = self._study.ask(self._axes)
        genes = tuple(int(trial.params[name]) for name in self.space.values)
        if genes in self._open:  # asked again before it was told: the second is forgotten
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._open[genes] = trial
        return genes

    def tell(self, genes: Genes, cost: float | None) -> None:
        """The result of a point, asked for or known from records."""
        failed = self._optuna.trial.TrialState.FAIL
        trial = self._open.pop(genes, None)
        value = math.log(max(cost, 1e-9)) if cost is not None else None
        if trial is not None:
            self._study.tell(trial, value, state=failed if value is None else None)
        elif value is not None:
            params = dict(zip(self.space.values, genes))
            made = self._optuna.trial.create_trial(
                params=params, distributions=self._axes, value=value
            )
            self._study.add_trial(made)
