"""Records: what a run measured, as flat dictionaries, and the results page that is made from all of them.

python -m experiments.records     # rebuilds experiments/README.md from experiments/results/*.json
"""

import json
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax

from experiments.command_line import command
from experiments.terminal import encodable
from metajax.checks import counted
from metajax.mesh import first_host
from metajax.paths import alone, read_json
from metajax.report import ranking_figure, write_whole

HERE = Path(__file__).resolve().parent


def record(**measured) -> dict:
  """A flat record: what was measured, with the command, the machine and the versions that measured it.

  The interval of one score alone, which is infinite, is None: JSON has no number for it.
  """
  if "interval" in measured and not math.isfinite(measured["interval"]):
    measured["interval"] = None
  return {**measured, "command": command(), "machine": machine(), "versions": versions()}


def versions() -> dict[str, str]:
  """The versions that a figure may depend on."""
  return {name: version(name) for name in ("metajax", "jax", "flax", "optax", "numpy")}


def machine() -> str:
  """The accelerator's name and number, or how many CPU cores there are and of which architecture."""
  device = jax.devices()[0]
  if device.platform == "cpu":
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"
  return f"{jax.device_count()} x {device.device_kind}"


def write(path: Path, records: list[dict]):
  """Writes records as JSON, whole or not at all; a byte of a name that is no UTF-8 is read back as it was."""
  text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
  write_whole(path, text.encode(errors="backslashreplace"))  # what JSON escapes a lone surrogate by too


def check_writable(folder: Path):
  """Finds before a long run that its folder cannot be written, without writing anything.

  Raises:
    OSError: naming what stands in the way.
  """
  there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
  if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
    raise OSError(f"expected a folder that can be written for the output {str(folder)!r}, got {str(there)!r}")


def read(path: Path) -> list[dict]:
  """Records that were written; none where there is no file.

  Raises:
    OSError, ValueError: if it cannot be read, or holds something else.
  """
  found = read_json(path, list) if path.exists() else []
  if odd := [one for one in found if not isinstance(one, dict)]:
    raise ValueError(f"expected records in {str(path)!r}, got {str(odd[0])[:60]!r}")
  return found


def publish(name: str, records: list[dict], figure: Path | None = None):
  """Adds records to `experiments/results/NAME.json`, in place of those of the same settings, and rebuilds the page.

  The figure, if there is one, becomes `NAME.png` beside them. Of several hosts the first one does so.
  """
  if not first_host():
    return
  path = HERE / "results" / f"{name}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  with alone(path.parent):  # what another run adds meanwhile is not lost
    new = {_setting(r) for r in records}
    write(path, [r for r in read(path) if _setting(r) not in new] + records)
    if figure is not None:
      write_whole(path.with_suffix(".png"), figure.read_bytes())
    build_page()


def _setting(r: dict) -> tuple:
  keys = (
    "learner",
    "data",
    "split",
    "measure",
    "ways",
    "shots",
    "queries",
    "policy",
    "seed",
    "seeds",
    "adaptation_steps",
    "labels",
    "of",
  )
  return tuple(r.get(key) for key in keys)


def build_page():
  """Rebuilds `experiments/README.md` from every record in `experiments/results/`."""
  records = [r for path in sorted((HERE / "results").glob("*.json")) for r in read(path)]
  tables = sorted({_table(r) for r in records}, key=str)
  sections = [_section([r for r in records if _table(r) == table]) for table in tables]
  page = "\n".join([_INTRODUCTION, *_ranking(records), *sections])
  write_whole(HERE / "README.md", encodable(page).encode())


_INTRODUCTION = """# Results

Made from the records in `results/` by `python -m experiments.records`; only a run writes a record (`--record`).
A cell is ours with the half-width of its 95% interval over test tasks (over seeds where several were trained), and in
brackets the published figure, which rests on the paper's own split, network and budget.

What moves a figure, beside the method:

- **The split.** Lake's evaluation alphabets are whole alphabets that were never seen; the test characters of the
  papers' splits (Vinyals, Finn) are of alphabets that were. The name of a table has it.
- **The queries.** 15 a class here. With 1, as in some papers, a transductive figure is 1 to 2 points higher.
- **The policy.** *Transductive*: batch norm sees all the queries of a task, and with them what classes there are, which
  is worth some points. *Support*: it sees the support set, and a query depends on no other. *Running statistics*:
  averages of training. *Support, trained transductive*: one training, tested under the other policy.
- **The tasks.** 1,000 from one seed, the same for every learner, so differences between rows are surer than the
  intervals say: `python -m experiments.evaluate RUN RUN` gives the paired difference. Tables of 600 tasks, or the best
  of several runs, are higher by chance.
- **The budget.** These were trained for minutes on two CPU cores, as the last column says. What a step of each of
  MAML's successors takes, in units of MAML's, is on the [benchmarks' page](../benchmarks/README.md).

The order of methods on Omniglot differs from the papers' in four ways. ANIL, first-order MAML and Reptile, whose
papers train for 60,000 to 100,000 steps and find them level with MAML, are behind it after a tenth of that, where
learning by comparison leads. Triplet networks, which few papers show, are level with relation networks at its head. At
20 ways MAML falls behind, as it was trained at 5 ways here and at 20 in its paper. And supervised pre-training with a
nearest centroid, which few papers show either, is ahead of Reptile everywhere and of ANIL and first-order MAML at 5
shots, as arXiv:1904.04232 found; on the photos, with distortions, it is ahead of MAML, ANIL, prototypical and Siamese
networks, and behind triplet and matching networks. Siamese networks, who ask for the one most alike picture, gain least
from more shots there.
"""


PRETEXTS = {
  "pretext": "what was asked",
  "pretext_others": "others' sounds",
  "pretext_moments": "other moments' sounds",
  "pretext_seen": "captions of words heard",
  "pretext_unseen": "captions with new words",
  "pretext_swapped": "sounds swapped",
}
REPRESENTATIONS = {"linear_probe": "linear probe", "knn": "nearest neighbours", "all_trained": "all trained"}
TRANSFER = {
  "zero_shot": "zero-shot",
  "zero_shot_top_5": "zero-shot, top 5",
  "zero_shot_of_groups": "zero-shot, groups",
  "zero_shot_of_groups_top_5": "groups, top 5",
  **{f"text_to_picture_at_{k}": f"text to picture, R@{k}" for k in (1, 5, 10)},
  **{f"picture_to_text_at_{k}": f"picture to text, R@{k}" for k in (1, 5, 10)},
}
UNTRAINED = "random encoder"  # the network as it starts; its records name the training that it is beside
BASELINES = (UNTRAINED, "pixels")
_OF_REPRESENTATIONS = """## Representations beside each other

![Linear probes of frozen features, a bar for each way to train them](results/representations.png)

The best of each learner's runs, of the best of the random encoders that are beside them. Budgets and encoders differ:
the tables below name them.
"""
GENERATIVE = {
  "bits_per_token": "bits per token",
  "bits_per_letter": "bits per letter",
  "bits_per_pixel": "bits per pixel",
  "reconstruction_error": "squared error of hidden patches",
}
NAMED = PRETEXTS | REPRESENTATIONS | TRANSFER | GENERATIVE  # measures that have a column of their own


def _ranking(records: list[dict]) -> list[str]:
  """The figure that compares representations, and what is said of it, where there are some of several learners."""
  panels = {}
  for r in records:
    if r["measure"] == "linear_probe" and r.get("labels", 1.0) == 1.0:
      panel = panels.setdefault(f"{r['data']}, {r['split']}", {})
      panel[r["learner"]] = max(panel.get(r["learner"], (0, 0)), (r["value"], r["interval"] or 0.0))
  panels = {title: found for title, found in panels.items() if set(found) - set(BASELINES)}
  if not panels:
    return []
  path = HERE / "results" / "representations.png"
  ranking_figure(panels, path, baselines=BASELINES, x="linear probe, accuracy in percent")
  return [_OF_REPRESENTATIONS]


def _table(r: dict) -> tuple:
  if r["measure"] in PRETEXTS | REPRESENTATIONS:
    return r["data"], r["split"], "representation", r["classes"], r["tested"]
  if r["measure"] in GENERATIVE:
    return r["data"], r["split"], "generative", r["of"], r["tested"]
  if r["measure"] in TRANSFER:
    return r["data"], r["split"], "transfer", r["classes"], r["tested"]
  return r["data"], r["split"], r["measure"], r["queries"], r["tasks"]


def _section(records: list[dict]) -> str:
  """One table: a row a learner and policy, a column a setting; then the runs that it rests on."""
  data, split, measure, queries, tasks = _table(records[0])
  if measure == "representation":
    title = f"accuracy on {tasks:,} pictures of {queries} classes"
  elif measure == "generative":
    title = f"{queries}; {tasks:,} texts or pictures, the lower the better"
  elif measure == "transfer":
    title = f"{tasks:,} pictures of {queries:,} classes and their texts, in percent"
  else:
    title = f"{measure.replace('_', ' ')}, {drawn(tasks, queries)}"
  settings = sorted({_column(r) for r in records})
  names = [_heading(*setting) for setting in settings]
  lines = [f"## {data}, {split}: {title}", ""]
  lines += [_cells("learner", "policy", *names, "trained"), _cells(*["---"] * (len(names) + 3))]
  rows = {}
  for r in records:
    key = r["learner"], r.get("policy", ""), r["train_seconds"], r["steps"]
    rows.setdefault(key, {})[_column(r)] = r
  beside = {}  # what a random encoder is compared with
  for learner, _, *training in rows:
    if learner != UNTRAINED:
      beside.setdefault(tuple(training), learner.split(",")[0])
  for (learner, policy, seconds, steps), found in rows.items():
    trained = f"{seconds / 60:.1f} min, {counted(steps, 'step')}" if steps and learner != UNTRAINED else "not trained"
    if learner == UNTRAINED and (seconds, steps) in beside:
      trained += f", beside {beside[seconds, steps]}"
    lines.append(_cells(learner, policy, *(_figure(found.get(setting)) for setting in settings), trained))
  runs = {f"- `{r['command']}` (seed {r['seed']}, {r['machine']}, jax {r['versions']['jax']})": 0 for r in records}
  return "\n".join([*lines, "", *runs, ""])


def _column(r: dict) -> tuple:
  """What a figure stands under, in the order of the columns."""
  if r["measure"] in NAMED:
    return "", list(NAMED).index(r["measure"]), r.get("labels", 1.0)
  return r["ways"] or 0, r["shots"], r.get("adaptation_steps", -1)


def drawn(tasks: int, queries: int) -> str:
  """What a score is the mean over, in words."""
  return f"{counted(tasks, 'task')} of {counted(queries, 'query', 'queries')} a class"


def _heading(ways: int | str, shots: int, steps: float) -> str:
  if ways == "":
    name = list(NAMED.values())[shots]
    return f"{name}, {100 * steps:g}% of labels" if name == "all trained" or steps < 1 else name
  setting = f"{ways}-way {shots}-shot" if ways else f"{shots} shots"
  return setting if steps < 0 else f"{setting}, {counted(steps, 'step')}" if steps else f"{setting}, no step"


def _figure(r: dict | None) -> str:
  if r is None:
    return ""
  published = "" if r["published"] is None else f" ({r['published']:g})"
  chance = f", chance {r['chance']:.2g}" if "chance" in r else ""
  interval = "" if r["interval"] is None else f" ± {r['interval']:.2g}"
  return f"{r['value']:.4g}{interval}{published}{chance}"


def _cells(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
  build_page()
