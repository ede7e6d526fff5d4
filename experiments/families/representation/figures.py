"""Figures of a pretraining run: a grid of views, and a map of embeddings colored by class."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from experiments.families.representation.data import ProbeSplits, counted
from metajax.data import eval_batches, select_classes, select_rows
from metajax.evaluate import embed_dataset
from metajax.experiment.evaluators.probes import BATCH
from metajax.experiment.types import Figure, Trained
from metajax.report import contact_sheet_figure, map_figure
from metajax.types import Augmentation

IMAGES, VIEWS = 6, 7  # rows and columns of the grid
MAP_CLASSES, MAP_IMAGES = 15, 600
Draw = Callable[[Path, Trained, ProbeSplits], list[Figure]]


def views(augmentation: Augmentation) -> Draw:
  """Figures of a method that learns from views: a grid of images with augmented views."""

  def figures(folder, trained, parts):
    rows = np.linspace(0, len(parts.unlabeled.labels) - 1, IMAGES).astype(int)
    images = np.asarray(select_rows(parts.unlabeled, rows).images, np.float32) / 255
    keys = jax.random.split(jax.random.key(0), (IMAGES, VIEWS))
    found = jax.jit(jax.vmap(jax.vmap(augmentation, (0, None))))(keys, images)
    shown = np.concatenate([images[:, None], np.asarray(found)], 1).reshape(-1, *images.shape[1:])
    path = folder / "views.png"
    contact_sheet_figure(shown, ["image", *["view"] * VIEWS] * IMAGES, path)
    return [("Views", "Images and their augmented views, whose embeddings are trained to agree.", path)]

  return figures


def embedding_map(folder: Path, trained: Trained, parts: ProbeSplits) -> Figure:
  """Draws a map of the frozen embeddings of test images."""
  learner, state = trained.learner, trained.states[0]
  classes = np.linspace(0, len(parts.test.classes) - 1, min(MAP_CLASSES, len(parts.test.classes))).astype(int)
  chosen = select_classes(parts.test, classes)
  rows = np.linspace(0, len(chosen.labels) - 1, min(MAP_IMAGES, len(chosen.labels))).astype(int)
  chosen = select_rows(chosen, rows)
  embedded = embed_dataset(learner.embed, state.params, state.state, eval_batches(chosen, batch_size=BATCH))
  path = folder / "map.png"
  firsts = [np.flatnonzero(chosen.labels == k)[0] for k in range(len(chosen.classes))]
  map_figure(embedded.inputs, embedded.labels, chosen.classes, path, images=np.asarray(chosen.images)[firsts])
  seen = "test images from unseen classes" if parts.unseen else "test images"
  return "Map of embeddings", f"t-SNE of the frozen embeddings of {seen}; pretraining uses no labels.", path


def sizes(parts: ProbeSplits) -> list[str]:
  """Sizes of the parts, for the page."""
  named = {"unlabeled": parts.unlabeled, "train": parts.train, "validation": parts.validation, "test": parts.test}
  return [f"{name}: {counted(part)}" for name, part in named.items()]
