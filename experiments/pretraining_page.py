"""The page of a pretraining run: a grid of views, the curves, a map of embeddings coloured by class."""

import jax
import numpy as np

from experiments import headlines, runs
from experiments.few_shot_data import slug
from experiments.few_shot_page import curves
from experiments.pretraining_data import counted
from experiments.probing import BATCH
from experiments.records import GENERATIVE, NAMED
from metajax.data import in_order, select_classes, select_rows
from metajax.evaluate import features
from metajax.report import contact_sheet_figure, map_figure, page

PICTURES, VIEWS = 6, 7  # rows and columns of the grid
MAP_CLASSES, MAP_PICTURES = 15, 600
CURVES = "While pretraining; the validation is the accuracy of nearest neighbours, which nothing is chosen by."


def write(run, made, trained, parts, setting, records, warnings=()):
  """Draws the run's figures into its folder, and makes its page, `index.html`.

  Args:
    run: the run.
    made: the Method.
    trained: the first seed's params and state.
    parts: the data.
    setting: the flags.
    records: what was measured.
    warnings: what shows that nothing was learned.
  """
  folder = run.folder / "figures"
  tiles = [_tile(r) for r in records if r["learner"] == made.name]
  page(
    run.folder / "index.html",
    title=f"{made.name} on {slug(setting)}",
    summary=tiles,
    configuration=runs.shown(run.folder),
    records=records,
    figures=[
      *made.figures(folder, trained, parts),
      *curves(run.folder, folder, CURVES),
      _map(folder, made, trained, parts),
    ],
    notes=[("Data", _sizes(parts))],
    warnings=warnings,
  )


def _tile(record) -> tuple[str, str, str]:
  name = NAMED.get(record["measure"], "").capitalize() or f"{record['ways']}-way {record['shots']}-shot"
  if record["measure"] in GENERATIVE:
    return name, headlines.value_of(record), headlines.beside(record, f"of {record['of']}; the lower the better")
  return name, f"{headlines.value_of(record)} %", headlines.beside(record)


def views(view):
  """A Method's figures: pictures, and beside each some of its views."""

  def figures(folder, trained, parts):
    rows = np.linspace(0, len(parts.unlabelled.labels) - 1, PICTURES).astype(int)
    pictures = np.asarray(select_rows(parts.unlabelled, rows).images, np.float32) / 255
    keys = jax.random.split(jax.random.key(0), (PICTURES, VIEWS))
    found = jax.jit(jax.vmap(jax.vmap(view, (0, None))))(keys, pictures)
    shown = np.concatenate([pictures[:, None], np.asarray(found)], 1).reshape(-1, *pictures.shape[1:])
    path = folder / "views.png"
    contact_sheet_figure(shown, ["picture", *["view"] * VIEWS] * PICTURES, path)
    return [("Views", "What is learned to be alike: pictures, and views of them.", path)]

  return figures


def _map(folder, made, trained, parts):
  classes = np.linspace(0, len(parts.test.classes) - 1, min(MAP_CLASSES, len(parts.test.classes))).astype(int)
  chosen = select_classes(parts.test, classes)
  rows = np.linspace(0, len(chosen.labels) - 1, min(MAP_PICTURES, len(chosen.labels))).astype(int)
  chosen = select_rows(chosen, rows)
  embedded = features(made.learner.embed, *trained, in_order(chosen, batch_size=BATCH))
  path = folder / "map.png"
  firsts = [np.flatnonzero(chosen.labels == k)[0] for k in range(len(chosen.classes))]
  map_figure(embedded.inputs, embedded.labels, chosen.classes, path, pictures=np.asarray(chosen.images)[firsts])
  seen = "of classes that were not pretrained on" if parts.unseen else "of test pictures"
  return "Map", f"Frozen embeddings {seen}, by t-SNE; no label was seen in pretraining.", path


def _sizes(parts) -> list[str]:
  named = ("unlabelled", "train", "validation", "test")
  return [f"{name}: {counted(part)}" for name, part in zip(named, parts, strict=False)]
