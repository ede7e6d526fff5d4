"""What stands at the head of a run's page: its scores beside chance, and what says that nothing was learned."""

import sys
from collections.abc import Sequence
from pathlib import Path

from metajax.experiment import results_page
from metajax.mesh import is_primary_host
from metajax.report import read_metrics
from metajax.train import BesideChance, nothing_learned

NO_HEADLINES = ("accuracy_after_steps",)  # which a figure shows
MEAN_PATCH = "mean patch of each place"  # the guess at a hidden patch by whoever has not seen the image


def value_of(record: dict) -> str:
  """A record's value with its interval; of one score alone there is none."""
  return f"{record['value']:g}" if record["interval"] is None else f"{record['value']:g} ± {record['interval']:g}"


def chance_of(record: dict) -> float | None:
  """What is scored without having learned anything, rounded as the value is; None where nobody knows.

  Records have it, or the number of ways or of classes that it follows from.
  """
  measure = record["measure"]
  if "chance" in record:
    return record["chance"]
  among = (
    record["ways"] if measure == "accuracy" else record["classes"] if measure in results_page.REPRESENTATIONS else None
  )
  return None if among is None else round(100 / among, 2)


def beside(record: dict, *others: str) -> str:
  """Chance, and what else there is to compare a record's value with, on one line."""
  chance, published = chance_of(record), record.get("published")
  first = () if chance is None else (f"chance {chance:.4g}",)
  last = () if published is None else (f"published {published:g}",)
  return ", ".join((*first, *others, *last))


def tiles(measured: Sequence[dict]) -> list[tuple[str, str, str]]:
  """The scores of the first learner that was trained, one for each measure and test: a label, the value, what it is
  beside."""
  first = next((r["learner"] for r in measured if r.get("steps")), None)
  found = {}
  for r in measured:
    if r["learner"] == first and r["measure"] not in NO_HEADLINES:
      found.setdefault(_test(r), r)
  labels = [_label(r) for r in found.values()]
  return [
    _tile(r, [other for other in measured if _test(other) == test], of_several=labels.count(_label(r)) > 1)
    for test, r in found.items()
  ]


def _test(r: dict) -> tuple:
  return tuple(r.get(key) for key in ("measure", "split", "ways", "shots", "adaptation_steps", "of"))


def _label(r: dict) -> str:
  measure = r["measure"]
  if measure in results_page.NAMED:
    label = results_page.NAMED[measure]
    return label[:1].upper() + label[1:]
  return f"{r['ways']}-way {r['shots']}-shot" if r.get("ways") else measure.replace("_", " ")


def _tile(r: dict, same_test: Sequence[dict], of_several: bool) -> tuple[str, str, str]:
  """The tile of a record; of several tests with one label it says which."""
  percent = " %" * (r["measure"] in results_page.PERCENTAGES)
  untrained = [one for one in same_test if not one.get("steps") and one["learner"] != results_page.UNTRAINED]
  others = [f"{r['seeds']} seeds, interval over them"] if r.get("seeds", 1) > 1 else []
  others += [f"{one['learner']} {one['value']:g}" for one in untrained[:1]]
  if r["measure"] in results_page.GENERATIVE:
    others.append(f"of {r['of']}; the lower the better" if r.get("of") else "the lower the better")
  which = f"{r['split']}; " if of_several and r.get("split") else ""
  return _label(r), value_of(r) + percent, which + beside(r, *others)


def warn(folder: Path | None, measured: Sequence[dict]) -> list[str]:
  """Says on the terminal, and gives for the page, what shows that a run learned nothing; of most runs it is nothing.

  Args:
    folder: the run's, with the metrics of each part that trained, where they were kept.
    measured: the run's records.
  """
  said = []
  for path in sorted(folder.rglob("metrics.jsonl")) if folder else ():
    part = f"{path.parent.name}: " if path.parent != folder else ""
    said += [part + one for one in nothing_learned(read_metrics(path.parent))]
  said += nothing_learned([], _scores(measured))
  if is_primary_host():
    for one in said:
      print(f"warning: {one}", file=sys.stderr)
  return said


def _scores(measured) -> list[BesideChance]:
  """Those of what was trained that chance is known of."""
  found = []
  mean_patch = next((r["value"] for r in measured if r["learner"] == MEAN_PATCH), None)
  for r in measured:
    chance = mean_patch if r["measure"] == "reconstruction_error" else chance_of(r)
    if not r.get("steps") or r["learner"] in results_page.BASELINES or chance is None:
      continue
    what = results_page.NAMED.get(r["measure"]) or f"{r['ways']}-way {r['shots']}-shot {r['measure']}"
    of = f"{r['learner']} ({r['policy']})" if r.get("policy", "none") != "none" else r["learner"]
    better = "smaller" if r["measure"] in results_page.GENERATIVE else "larger"
    found.append(BesideChance(f"{what} of {of}", r["value"], r["interval"], chance, better))
  return found
