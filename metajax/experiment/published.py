"""Figures from papers, in `published.json` beside `results/`, to compare records with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metajax.paths import exists, read_json

NAME = "published.json"
ENTRIES = ("learner", "measure", "data", "policy", "ways", "shots")
OF_VARIANTS = ("accuracy", "one_shot_error")  # measures in which a variant is compared with the learner's figure


def read(folder: Path) -> list[dict]:
  """The figures in `FOLDER/published.json`: a list of objects with the entries of a record, its value and its source.

  Raises:
    ValueError: if the file holds something else, quoting it.
  """
  path = folder / NAME
  found = read_json(path, list) if exists(path) else []
  for one in found:
    if not isinstance(one, dict) or not isinstance(one.get("value"), int | float) or "learner" not in one:
      raise ValueError(f"expected figures with a learner and a value in {str(path)!r}, got {str(one)[:80]!r}")
  return found


def figure(figures: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> float | None:
  """The published value of a record, or None.

  An entry that a figure lacks fits any record. A variant, such as "maml, centered", has the figure of its learner.

  Args:
    figures: Figures, as `read`.
    record: A record with `learner`, `measure`, `data` and others.
  """
  names = {record["learner"]}
  if record["measure"] in OF_VARIANTS:
    names.add(record["learner"].split(", ")[0])
  for one in figures:
    if one["learner"] in names and all(one[key] == record.get(key) for key in ENTRIES[1:] if key in one):
      return one["value"]
  return None
