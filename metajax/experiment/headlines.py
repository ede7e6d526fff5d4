"""The headlines of a run's page: scores compared with chance, and warnings of runs that have learned nothing."""

import sys
from collections.abc import Sequence
from pathlib import Path

from metajax.experiment import results_page
from metajax.experiment.parts import with_metrics
from metajax.experiment.settings import setting_name
from metajax.mesh import is_primary_host
from metajax.report import read_metrics
from metajax.train import BesideChance, nothing_learned

NO_HEADLINES = ("accuracy_after_steps",)  # shown in a figure
MEAN_PATCH = "mean patch of each place"  # the prediction of a masked patch without the image


def value_of(record: dict) -> str:
  """A record's value, with its interval if it has one."""
  return f"{record['value']:g}" if record["interval"] is None else f"{record['value']:g} ± {record['interval']:g}"


def is_percentage(record: dict) -> bool:
  """Whether a record's value is in percent."""
  return record["measure"] in results_page.PERCENTAGES


def chance_of(record: dict) -> float | None:
  """The score at chance level, rounded as the value, or None if unknown.

  It is an entry of the record, or follows from the number of ways or classes.
  """
  measure = record["measure"]
  if "chance" in record:
    return record["chance"]
  among = (
    record.get("ways")
    if measure == "accuracy"
    else record["classes"]
    if measure in results_page.REPRESENTATIONS
    else None
  )
  return None if among is None else round(100 / among, 2)


def beside(record: dict, *others: str) -> str:
  """Chance level, other values and the published value to compare a record with, on one line."""
  chance, published = chance_of(record), record.get("published")
  first = () if chance is None else (f"chance {chance:.4g}",)
  last = () if published is None else (f"published {published:g}",)
  return ", ".join((*first, *others, *last))


def tiles(measured: Sequence[dict]) -> list[tuple[str, str, str]]:
  """The scores of the first trained learner, one per measure and test: label, value and comparison."""
  return [
    _tile(label, which, r, [other for other in measured if _test(other) == _test(r)])
    for label, which, r in headlines(measured)
  ]


def headlines(measured: Sequence[dict]) -> list[tuple[str, str, dict]]:
  """The records of the first trained learner, one per measure and test.

  Returns:
    For each its label, the name of the test if several have that label, else "", and the record.
  """
  first = next((r["learner"] for r in measured if r.get("steps")), None)
  found = {}
  for r in measured:
    if r["learner"] == first and r["measure"] not in NO_HEADLINES:
      found.setdefault(_test(r), r)
  labels = [_label(r) for r in found.values()]
  return [(_label(r), (labels.count(_label(r)) > 1 and r.get("split")) or "", r) for r in found.values()]


def _test(r: dict) -> tuple:
  return tuple(r.get(key) for key in ("measure", "split", "ways", "shots", "ways_up_to", "adaptation_steps", "of"))


def _label(r: dict) -> str:
  measure = r["measure"]
  if measure in results_page.NAMED:
    label = results_page.NAMED[measure]
    return label[:1].upper() + label[1:]
  named = setting_name(r)
  return named[:1].upper() + named[1:] if named else measure.replace("_", " ")


def _tile(label: str, which: str, r: dict, same_test: Sequence[dict]) -> tuple[str, str, str]:
  """The tile of a record, with the name of the test if there is one."""
  percent = " %" * is_percentage(r)
  untrained = [one for one in same_test if not one.get("steps") and one["learner"] != results_page.UNTRAINED]
  others = [f"interval over {r['seeds']} seeds"] if r.get("seeds", 1) > 1 else []
  others += [f"{one['learner']} {one['value']:g}" for one in untrained[:1]]
  if r["measure"] in results_page.GENERATIVE:
    others.append(f"{r['of']}; lower is better" if r.get("of") else "lower is better")
  return label, value_of(r) + percent, (f"{which}; " if which else "") + beside(r, *others)


def warn(folder: Path | None, measured: Sequence[dict]) -> list[str]:
  """Prints and returns warnings, for the page, if a run has learned nothing or its test classes were seen in training.

  Args:
    folder: Folder of the run, with the metrics of each part, or None.
    measured: Records of the run.
  """
  said = []
  for one in with_metrics(folder) if folder else ():
    part = f"{one.name}: " if one != folder else ""
    said += [part + line for line in nothing_learned(read_metrics(one))]
  said += nothing_learned([], _scores(measured))
  if any(r.get("unseen") is False for r in measured):
    said.append("classes seen in training: the scores are of held-out images, not of unseen classes")
  if is_primary_host():
    for one in said:
      print(f"warning: {one}", file=sys.stderr)
  return said


def _scores(measured) -> list[BesideChance]:
  """The scores of trained learners whose chance level is known."""
  found = []
  mean_patch = next((r["value"] for r in measured if r["learner"] == MEAN_PATCH), None)
  for r in measured:
    chance = mean_patch if r["measure"] == "reconstruction_error" else chance_of(r)
    if not r.get("steps") or r["learner"] in results_page.BASELINES or chance is None:
      continue
    what = results_page.NAMED.get(r["measure"]) or f"{setting_name(r)} {r['measure']}"
    of = f"{r['learner']} ({r['policy']})" if r.get("policy", "none") != "none" else r["learner"]
    better = "smaller" if r["measure"] in results_page.GENERATIVE else "larger"
    found.append(BesideChance(f"{what} of {of}", r["value"], r["interval"], chance, better))
  return found
