"""Figures of a CLIP run: images with their nearest captions, and the similarity matrix."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from metajax.data import ImageDataset, eval_batches, select_rows
from metajax.evaluate import embed_dataset, zero_shot_classifier
from metajax.experiment import Trained
from metajax.experiment.types import Figure
from metajax.report import contact_sheet_figure, similarity_figure

SHOWN, OF_MATRIX = 24, 16  # images


def draw(folder: Path, trained: Trained, source: ImageDataset, tokenize: Callable) -> list[Figure]:
  """Draws held-out images with the predictions of the first seed.

  Args:
    folder: Folder of the figures.
    trained: Result of the training, of which the first seed is shown.
    source: Held-out images, with captions.
    tokenize: `texts -> tokens`.

  Returns:
    The figures as `(heading, caption, path)`.
  """
  learner, (params, state, *_) = trained.learner, trained.states[0]
  firsts = np.unique(source.labels, return_index=True)[1]
  texts = [source.captions[label][0] for label in source.labels[firsts]]
  names = zero_shot_classifier(learner.embed, params, state, tokenize(texts), np.arange(len(texts)))
  spread = np.linspace(0, len(firsts) - 1, min(SHOWN, len(firsts))).astype(int)
  some = select_rows(source, np.sort(firsts[spread]))
  own = np.searchsorted(source.labels[firsts], some.labels)
  found = embed_dataset(learner.embed, params, state, eval_batches(some, batch_size=SHOWN))
  cosines = found.inputs @ names.T
  nearest = cosines.argmax(-1)
  said = [f"{'' if k == i else '✗ '}{texts[k]}" for k, i in zip(nearest, own, strict=True)]
  images = np.asarray(some.images[:])
  contact_sheet_figure(images, said, folder / "nearest.png")
  part = slice(0, min(OF_MATRIX, len(own)))
  similarity_figure(images[part], [texts[i] for i in own[part]], cosines[part][:, own[part]], folder / "similarity.png")
  among = f"among {len(texts):,} held-out captions"
  return [
    (
      "Nearest captions",
      f"Held-out images, each with its nearest caption {among}; ✗ marks a wrong one.",
      folder / "nearest.png",
    ),
    (
      "Similarity",
      "Cosine similarity of held-out images and captions; the nearest caption is framed.",
      folder / "similarity.png",
    ),
  ]
