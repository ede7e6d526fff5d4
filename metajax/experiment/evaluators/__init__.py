"""Evaluators: each measures something of what was trained, prints a table of it, and gives records."""

from metajax.experiment.evaluators.few_shot import PIXELS, EvalMode, FewShot

__all__ = ["PIXELS", "EvalMode", "FewShot"]
