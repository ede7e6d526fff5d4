"""Records and printed tables of per-image scores and their baselines."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.families.data import ImageData
from experiments.families.representation.data import ProbeSplits
from experiments.families.representation.evaluators import about
from metajax.data import ImageDataset
from metajax.evaluate import mean_and_ci, mean_over_seeds
from metajax.experiment import Record, Trained

BATCH = 128  # images scored together
COUNTED = 20000  # images that baselines are fitted to
SHOWN = 8  # images per figure


def records_of(
  measure: str,
  of: str,
  rows: Mapping[str, Sequence[np.ndarray]],
  parts: ProbeSplits,
  data: ImageData,
  trained: Trained,
  **chance: float,
) -> list[Record]:
  """Prints the scores of a learner and its baselines, and returns the records.

  Args:
    measure: Name of the measure.
    of: Scored items, in the title of the results table.
    rows: `{name: the score of each image, for each seed}`: the learner first, then baselines.
    parts: Parts of the data.
    data: Flags that select the data.
    trained: Result of the training.
    chance: Score at chance level.
  """
  measured, width, first = [], max(map(len, rows)), next(iter(rows))
  for name, values in rows.items():
    score = mean_over_seeds([mean_and_ci(one) for one in values])
    print(f"  {name:<{width}}  {score:.3f}")
    training = trained.said if name == first else trained.said_untrained
    said = {**about(data, parts), "of": of, **chance, **training}
    said["seeds"] = len(trained.states)
    measured.append(Record(name, measure, round(score.mean, 4), round(score.ci95, 4), about=said))
  own, *others = rows.values()
  for name, values in zip(list(rows)[1:], others, strict=True):
    gain = mean_and_ci(np.mean([values[0] - one for one in own], 0))
    print(f"  lower than {name} by {gain:.3f} (paired by image)")
  return measured


def images_of_source(source: ImageDataset) -> np.ndarray:
  """All images of a source, in [0, 1]: `[n, h, w, c]`."""
  return np.asarray(source.images[:], np.float32) / 255
