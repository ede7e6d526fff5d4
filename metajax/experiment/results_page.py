"""The results page: tables of all records in a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metajax.checks import counted
from metajax.experiment import published
from metajax.experiment.settings import VARIABLE, setting_name
from metajax.experiment.terminal import encodable
from metajax.report import ranking_figure, write_whole

HEADING = "# Results\n\nMade from the records"
INTRODUCTION = f"{HEADING} in `results/`.\n"
PRETEXTS = {
  "pretext": "pretext task",
  "pretext_others": "negatives of other clips",
  "pretext_moments": "negatives of other moments",
  "pretext_seen": "captions of seen words",
  "pretext_unseen": "captions with unseen words",
  "pretext_swapped": "swapped sounds",
}
REPRESENTATIONS = {"linear_probe": "linear probe", "knn": "nearest neighbors", "all_trained": "end-to-end training"}
TRANSFER = {
  "zero_shot": "zero-shot",
  "zero_shot_top_5": "zero-shot, top 5",
  "zero_shot_of_groups": "zero-shot, groups",
  "zero_shot_of_groups_top_5": "groups, top 5",
  **{f"text_to_image_at_{k}": f"text to image, R@{k}" for k in (1, 5, 10)},
  **{f"image_to_text_at_{k}": f"image to text, R@{k}" for k in (1, 5, 10)},
}
UNTRAINED = "random encoder"  # random initialization; its records name the training that it is compared with
BASELINES = (UNTRAINED, "pixels")
_OF_REPRESENTATIONS = """## Comparison of representations

![Linear probes of frozen features, one bar per learner](results/representations.png)

The best run of each learner, and the best random encoder. Budgets and encoders differ, as the tables below show.
"""
PUBLISHED = "published (gap)"
ENCODER = {"encoder": "encoder", "image_size": "image size", "features": "features", "params": "params"}
GENERATIVE = {
  "bits_per_token": "bits per token",
  "bits_per_character": "bits per character",
  "bits_per_pixel": "bits per pixel",
  "reconstruction_error": "squared error of masked patches",
}
PERCENTAGES = {"accuracy", *PRETEXTS, *REPRESENTATIONS, *TRANSFER}
NAMED = PRETEXTS | REPRESENTATIONS | TRANSFER | GENERATIVE  # measures with a separate column


def build_page(folder: Path, results: Mapping[str, Sequence[dict]]) -> Path:
  """Rebuilds `FOLDER/README.md` from the records in `FOLDER/results/`, after the text of `introduction.md` there.

  An existing README.md that is no results page stays: the page is then `FOLDER/results/README.md`.

  Published figures are those of `FOLDER/published.json`, so that one that is added there appears beside old records.

  Args:
    folder: Folder that holds `results`.
    results: `{name of a file: its records}`.

  Returns:
    The path of the page.
  """
  papers = published.read(folder)
  found = [r for some in results.values() for r in some]
  records = [r | {"published": r["published"] if (of := published.figure(papers, r)) is None else of} for r in found]
  tables = sorted({_table(r) for r in records}, key=str)
  sections = [_section([r for r in records if _table(r) == table]) for table in tables]
  words = folder / "results" / "introduction.md"
  introduction = words.read_text() if words.exists() else INTRODUCTION
  page, path = "\n".join([introduction, *_ranking(records, folder), *sections]), folder / "README.md"
  if path.exists() and not path.read_text(errors="replace").startswith(HEADING):
    path = folder / "results" / "README.md"
  write_whole(path, encodable(page).encode())
  return path


def _ranking(records: list[dict], folder: Path) -> list[str]:
  """Draws the comparison of representations, and returns its section; none without linear probes."""
  panels = {}
  for r in records:
    if r["measure"] == "linear_probe" and r.get("labels", 1.0) == 1.0:
      panel = panels.setdefault(f"{r['data']}, {r['split']}", {})
      panel[r["learner"]] = max(panel.get(r["learner"], (0, 0)), (r["value"], r["interval"] or 0.0))
  panels = {title: found for title, found in panels.items() if set(found) - set(BASELINES)}
  if not panels:
    return []
  path = folder / "results" / "representations.png"
  ranking_figure(panels, path, baselines=BASELINES, x="linear probe, accuracy in percent")
  return [_OF_REPRESENTATIONS]


def _table(r: dict) -> tuple:
  if r["measure"] in PRETEXTS | REPRESENTATIONS:
    return r["data"], r["split"], "representation", r["classes"], r["tested"]
  if r["measure"] in GENERATIVE:
    return r["data"], r["split"], "generative", r["of"], r["tested"]
  if r["measure"] in TRANSFER:
    return r["data"], r["split"], "transfer", r["classes"], r["tested"]
  return r.get("data", ""), r.get("split", ""), r["measure"], r.get("queries"), r.get("tasks")


def _section(records: list[dict]) -> str:
  """One table, with a row per learner and query norm and a column per setting, followed by the runs behind it."""
  data, split, measure, queries, tasks = _table(records[0])
  variable = any("ways_up_to" in r for r in records)
  if measure == "representation":
    title = f"accuracy on {tasks:,} images of {queries} classes"
  elif measure == "generative":
    title = f"{queries}; {tasks:,} texts or images, lower is better"
  elif measure == "transfer":
    title = f"{tasks:,} images of {queries:,} classes and their texts, in percent"
  else:
    title = measure.replace("_", " ") + (f", {drawn(tasks, queries, variable)}" if tasks and queries else "")
  lines = [f"## {', '.join(filter(None, (data, split))) or 'Other data'}: {title}", "", *_rows(records)]
  runs = {f"- `{r['command']}` (seed {r['seed']}, {_machine(r)}, jax {r['versions']['jax']})": 0 for r in records}
  return "\n".join([*lines, "", *runs, ""])


def _machine(r: dict) -> str:
  return r["machine"] + (f", {counted(r['devices'], 'device')}" if "devices" in r else "")


def _rows(records: list[dict]) -> list[str]:
  """The lines of a table."""
  settings = sorted({_column(r) for r in records})
  compared = {_column(r) for r in records if r["published"] is not None}
  encoders = ENCODER if any("encoder" in r for r in records) else {}
  names = [name for one in settings for name in (_heading(*one), *[PUBLISHED] * (one in compared))]
  names = ["learner", "query norm", *encoders.values(), *names, "trained"]
  rows, lines = {}, [_cells(*names), _cells(*["---"] * len(names))]
  for r in records:
    key = r["learner"], r.get("policy", ""), r.get("train_seconds", 0), r.get("steps", 0)
    rows.setdefault((*key, *map(r.get, encoders)), {})[_column(r)] = r
  beside = {}  # {training: the learner that its random encoder is compared with}
  for learner, _, seconds, steps, *_ in rows:
    if learner != UNTRAINED:
      beside.setdefault((seconds, steps), learner.split(", ")[0])
  for (learner, query_norm, seconds, steps, *encoder), found in rows.items():
    trained = f"{seconds / 60:.1f} min, {counted(steps, 'step')}" if steps and learner != UNTRAINED else "not trained"
    trained += f", {tasks} tasks" if (tasks := next(iter(found.values())).get("trained_on")) else ""
    if learner == UNTRAINED and (seconds, steps) in beside:
      trained += f", baseline of {beside[seconds, steps]}"
    figures = [cell for one in settings for cell in _figures(found.get(one), one in compared)]
    sizes = [f"{one:,}" if isinstance(one, int) else one or "" for one in encoder]
    lines.append(_cells(learner, query_norm, *sizes, *figures, trained))
  return lines


def _column(r: dict) -> tuple:
  """The column of a value; the tuples sort in the order of the columns."""
  if r["measure"] in NAMED:
    return "", list(NAMED).index(r["measure"]), r.get("labels", 1.0)
  return r.get("ways_up_to") or r.get("ways") or 0, r.get("shots", VARIABLE), r.get("adaptation_steps", -1)


def drawn(tasks: int, queries: int, most: bool = False) -> str:
  """Number of tasks and queries of a score, in words; `most` if some tasks have fewer queries."""
  return f"{counted(tasks, 'task')} with {'up to ' * most}{counted(queries, 'query', 'queries')} per class"


def _heading(ways: int | str, shots: int, steps: Any) -> str:
  if ways == "":
    name = list(NAMED.values())[shots]
    return f"{name}, {100 * steps:g}% of labels" if name == REPRESENTATIONS["all_trained"] or steps < 1 else name
  named = setting_name({"ways": ways, "shots": shots} if shots else {"ways_up_to": ways})
  setting = named or (f"{shots} shots" if shots else "value")
  return setting if steps < 0 else f"{setting}, {counted(steps, 'step')}" if steps else f"{setting}, no step"


def _figures(r: dict | None, compared: bool) -> tuple[str, ...]:
  """The cell of a record; in a column with published figures, that of its own and of the gap to it too."""
  if r is None:
    return ("",) * (1 + compared)
  chance = f", chance {r['chance']:.2g}" if "chance" in r and not setting_name(r) else ""
  interval = "" if r["interval"] is None else f" ± {r['interval']:.2g}"
  beside = "" if r["published"] is None else f"{r['published']:g} ({r['value'] - r['published']:+.1f})"
  return f"{r['value']:.4g}{interval}{chance}", *[beside] * compared


def _cells(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"
