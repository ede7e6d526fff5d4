"""Names that records and runs of earlier versions hold, and the names of today."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
  "text_to_picture": "text_to_image",
  "picture_to_text": "image_to_text",
  "pictures apart": "held-out images",
  "pictures' captions": "images' captions",
  "bits_per_letter": "bits_per_character",
  "letters": "characters",
  "neighbour": "neighbor",
  "centred": "centered",
  "colours": "colors",
  "own/": "official/",
  "clean pictures": "clean images",
}
FIELDS = ("learner", "split", "measure", "of")


def current(record: dict) -> dict:
  """A record with today's names; its keys stay."""
  return record | {key: _current(record[key]) for key in FIELDS if isinstance(record.get(key), str)}


def _current(name: str) -> str:
  for former, now in RENAMED.items():
    name = name.replace(former, now)
  return name


TRAINING = {"validate_every": "eval_every", "curve_every": "eval_every", "seeds_at_once": "seeds_in_parallel"}
FLAGS = {
  "low_rate": "low_learning_rate",
  "high_rate": "high_learning_rate",
  "inner_rate": "inner_learning_rate",
  "tasks": "meta_batch_size",
  "rate": "learning_rate",
  "drawn": "pairs",
  "centre": "center",
  "outputs": "num_outputs",
  "layers": "num_layers",
  "heads": "num_heads",
  "recipe": "augmentation",
  "augment": "augmentation",
  "head_rate": "head_learning_rate",
  "tune_rate": "tune_learning_rate",
  "normalisation": "normalization",
  "normalise": "normalize",
  "rate_rule": "lr_scaling",
  "warmup": "warmup_steps",
  "skip_broken": "skip_unreadable",
  "vocabulary": "vocab_size",
  "length": "max_length",
  "within_groups": "within_superclass",
  "curve": "adaptation_curve",
  "policy": "query_norm",
  "colours": "palette_size",
  "masked": "mask_ratio",
}
SWITCHES = {"distort": ("augmentation", "affine"), "crops": ("augmentation", "crop")}  # and the value where set
STRENGTHS = {"experiments.imaml": "proximal_strength", "experiments.r2d2": "l2"}


def current_flags(experiment: str, values: Mapping[str, Any]) -> dict[str, Any]:
  """The flags of a run with today's names, without importing its command; those of other packages keep theirs.

  Args:
    experiment: Name of the command's module.
    values: `{name: value}`, from `run.json`.
  """
  found = {}
  for name, value in values.items():
    now, value = _current_flag(experiment, name, value)
    found |= {name: values[name]} if now in values else {now: value}
  return found


def _current_flag(experiment: str, name: str, value: Any) -> tuple[str, Any]:
  if name in TRAINING or not experiment.startswith("experiments."):
    return TRAINING.get(name, name), value
  if name in SWITCHES:
    now, on = SWITCHES[name]
    return now, on if value else "none"
  if name == "decay":  # a schedule in few-shot commands
    return "schedule" if isinstance(value, str) else "weight_decay", value
  if name == "strength":
    return STRENGTHS.get(experiment, name), value
  return FLAGS.get(name, name), value
