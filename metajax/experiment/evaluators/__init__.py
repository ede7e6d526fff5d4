"""Evaluators: each measures a trained learner, prints a table, and returns records."""

from metajax.experiment.evaluators.few_shot import PIXELS, EvalMode, FewShot

__all__ = ["PIXELS", "EvalMode", "FewShot"]
