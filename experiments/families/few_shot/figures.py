"""Figures of a few-shot run: test episodes, confusion matrix, map of unseen classes, training data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from experiments.families.data import left_out, slug
from experiments.families.few_shot.config import Setup, most_ways
from experiments.families.few_shot.sizes import TaskSize
from experiments.families.image_flags import seen
from metajax.checks import counted
from metajax.data import ImageDataset, episode_rows, select_classes
from metajax.experiment.settings import is_variable
from metajax.experiment.types import Figure, Trained
from metajax.report import (
  Swatch,
  comparison_figure,
  confusion_figure,
  contact_sheet_figure,
  episode_figure,
  map_figure,
)
from metajax.types import Episode, Examples, Learner

SHOWN = TaskSize(5, 1, 5)  # of the tasks shown of variable ones
FAMILY = 12  # classes of the confusion matrix
FAMILY_TASKS = 200
MAP = (15, 20)  # classes, and images of each, on the map


class PairScore(NamedTuple):
  """Score of a query against one support image, for learners that compare images.

  Attributes:
    measure: Name of the score.
    of_logits: `logits [n, support] -> scores`, from a task in which each support image is a separate class.
    best: "largest" or "smallest".
  """

  measure: str
  of_logits: Callable
  best: Literal["largest", "smallest"] = "largest"


def draw(
  folder: Path,
  learner: Learner,
  trained: Trained,
  parts: Mapping[str, ImageDataset],
  setup: Setup,
  compares: PairScore | None,
  size: TaskSize,
) -> list[Figure]:
  """Draws the figures of a run into a folder.

  Args:
    folder: Folder of the figures.
    learner: Learner whose `predict` is shown.
    trained: Result of the training, of which the first seed is shown.
    parts: Parts of the data.
    setup: Shared flags.
    compares: Score of each query and support image to show, if any.
    size: Size of the test tasks; of variable ones small tasks are shown.

  Returns:
    The figures as `(heading, caption, path)`.
  """
  source, state = parts["test"], trained.states[0]
  columns, size = (most_ways(setup), _shown(size, source)) if is_variable(size[:2]) else (size.ways, size)
  test = size[:2]
  classes = "classes seen in training" if seen(setup.data) else "unseen classes"
  predict = jax.jit(learner.predict)

  def answer(episode):
    support = episode.support._replace(labels=np.pad(episode.support.labels, ((0, 0), (0, columns - size.ways))))
    return predict(state.params, state.state, support, episode.query.inputs)[:, : size.ways]

  figures = []
  for task, (rows, episode) in enumerate(_episodes(source, test, size.queries, seed=2, tasks=2)):
    path = folder / ("episode.png" if task == 0 else f"episode-{task}.png")
    logits = answer(episode)
    names = [source.classes[label] for label in source.labels[rows[:, 0]]]
    right = 100 * np.mean(np.argmax(logits, -1) == np.argmax(episode.query.labels, -1))
    title = f"{slug(setup.data)}, {classes}, one test episode ({right:.0f}% correct)"
    episode_figure(episode, logits, path, title=title, names=names)
    said = f"{right:.0f}% of all queries are correct (green); an orange one is headed by its predicted class."
    figures.append((f"Test episode {task + 1}", said, path))
    if compares and task == 0:
      figures.append(_comparison(folder, compares, state, predict, episode, names))
  return [
    *figures,
    _confusion(folder, source, answer, test, classes),
    _map(folder, source, trained.learner, state, classes),
    _sheet(folder, parts["train"]),
  ]


def _shown(size: TaskSize, source: ImageDataset) -> TaskSize:
  """The size of the tasks that are shown of variable ones."""
  images = int(np.bincount(source.labels).min())
  return TaskSize(min(SHOWN.ways, size.ways, len(source.classes)), SHOWN.shots, min(SHOWN.queries, images - 1))


def _episodes(source: ImageDataset, test, queries, *, seed, tasks):
  """Yields tasks as drawn by `episodes`, each with its rows `[ways, shots + queries]` of the source."""
  ways, shots = test
  rows_of = episode_rows(source, ways=ways, shots=shots, queries=queries, seed=seed)

  def examples(rows):
    labels = np.repeat(np.eye(ways, dtype=np.float32), rows.shape[1], axis=0)
    return Examples(np.asarray(source.images[rows.reshape(-1)], np.float32) / 255, labels)

  for task in range(tasks):
    rows = np.asarray(rows_of(task))
    yield rows, Episode(examples(rows[:, :shots]), examples(rows[:, shots:]))


def _comparison(folder, compares, state, predict, episode: Episode, names):
  """Draws the scores of queries against each support image, which serves as a separate class."""
  alone = episode.support._replace(labels=np.eye(len(episode.support.labels), dtype=np.float32))
  values = compares.of_logits(predict(state.params, state.state, alone, episode.query.inputs))
  path = folder / "comparison.png"
  comparison_figure(episode, values, path, measure=compares.measure, best=compares.best, names=names)
  said = f"{compares.measure.capitalize()} of queries and support images of the first test episode."
  return compares.measure.capitalize(), said, path


def _confusion(folder, source: ImageDataset, answer, test, kind):
  """Draws the confusion matrix over many tasks of a few classes, from one alphabet if the data have alphabets."""
  ways, shots = test
  groups, sizes = np.unique(np.asarray(source.superclasses), return_counts=True)
  fitting = [group for group, size in zip(groups, sizes, strict=True) if size >= ways]
  group = fitting[0] if fitting else None
  of_group = [k for k, g in enumerate(source.superclasses) if group is None or g == group]
  family = select_classes(source, of_group[: max(FAMILY, ways)])
  classes, each = len(family.classes), np.bincount(family.labels).min()
  counts, asked = np.zeros((classes, classes), int), np.zeros((classes, classes), int)
  for rows, episode in _episodes(family, test, min(5, each - shots), seed=3, tasks=FAMILY_TASKS):
    ids = family.labels[rows[:, 0]]
    truth = ids[np.argmax(episode.query.labels, -1)]
    np.add.at(counts, (truth, ids[np.argmax(answer(episode), -1)]), 1)
    np.add.at(asked, (np.repeat(truth, ways), np.tile(ids, len(truth))), 1)
  path = folder / "confusion.png"
  firsts = family.images[_firsts(family)]
  confusion_figure(counts, asked, family.classes, path, images=firsts)
  named = f"from {group}" if group else "from the test part"
  said = f"{classes} {kind} {named}, over {FAMILY_TASKS} {ways}-way {shots}-shot tasks."
  return "Confusion", said, path


def _map(folder, source: ImageDataset, learner: Learner, state, kind):
  classes, each = min(MAP[0], len(source.classes)), MAP[1]
  # Fixed classes, evenly spread over the part: adjacent classes are often from one alphabet.
  chosen = select_classes(source, np.linspace(0, len(source.classes) - 1, classes).astype(int))
  rows = np.concatenate([np.flatnonzero(chosen.labels == k)[:each] for k in range(classes)])
  images = np.asarray(chosen.images[rows], np.float32) / 255
  embeddings = jax.jit(learner.embed)(state.params, state.state, images)
  path = folder / "map.png"
  firsts = chosen.images[_firsts(chosen)]
  map_figure(np.asarray(embeddings), chosen.labels[rows], chosen.classes, path, images=firsts)
  return f"Map of {kind}", f"t-SNE of the embeddings of {len(rows)} images from {classes} {kind}.", path


def _sheet(folder, source: ImageDataset):
  classes = np.linspace(0, len(source.classes) - 1, min(48, len(source.classes))).astype(int)
  rows = _firsts(source)[classes]
  path = folder / "contact_sheet.png"
  contact_sheet_figure(source.images[rows], [source.classes[k] for k in classes], path)
  return "Training data", f"First image of {len(classes)} of the {len(source.classes)} training classes.", path


def _firsts(source: ImageDataset) -> np.ndarray:
  """The row of the first image of each class."""
  return np.unique(source.labels, return_index=True)[1]


def notes(parts: Mapping[str, ImageDataset], same: bool = False) -> list:
  """Notes for the page: mean color and size of the data, and the images and classes left out.

  Args:
    parts: Parts of the data.
    same: True if the classes of all parts are the same.
  """
  train = parts["train"]
  some = np.linspace(0, len(train.labels) - 1, min(2000, len(train.labels))).astype(int)
  mean = np.asarray(train.images[some], np.float32).mean((0, 1, 2)) / 255
  found = [Swatch(f"mean color of {len(some):,} training images", [float(x) for x in mean])]
  sizes = [f"{part}: {len(s.classes):,} classes, {len(s.labels):,} images" for part, s in parts.items()]
  found.append(("Data", [*sizes, "classes seen in training: all parts have the same classes"] if same else sizes))
  unreadable, small = left_out(parts.values())
  for what, names in (
    (f"Left out as unreadable: {counted(len(unreadable), 'image')}", unreadable),
    (f"Left out with too few images: {counted(len(small), 'class', 'classes')}", small),
  ):
    if names:
      found.append((what, names))
  return found
