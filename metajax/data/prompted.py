"""Few-shot episodes whose support pairs images with the prompts of their classes."""

import numpy as np

from metajax import checks
from metajax.data.episodes import episode_rows, episodes
from metajax.data.sharding import rows_of_host
from metajax.data.source import ImageDataset, check_source
from metajax.types import Batches, Pair


def prompted_episodes(
  source: ImageDataset,
  tokens: np.ndarray,
  *,
  ways: int,
  shots: int,
  queries: int,
  meta_batch_size: int,
  seed: int = 0,
) -> Batches:
  """The tasks of `episodes`, for predictors on image-text models: the support also holds the prompts of its classes.

  Args:
    source: an `ImageDataset`.
    tokens: prompts of each class, integers `[classes, length]`, or several a class, `[classes, prompts, length]`.
    ways, shots, queries, meta_batch_size, seed: as for `episodes`.

  Returns:
    `batches(start=0, shard=(0, 1))` as of `episodes`, with support inputs `Pair(images, tokens)`, where row `i` of the
    tokens are the prompts of the class of image `i`: `[meta_batch_size/hosts, ways*shots, (prompts,) length]`.

  Raises:
    ValueError: as for `episodes`, or if tokens are not integers with a row for each class.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((12, 8, 8, 1), np.uint8), np.arange(12) % 3)
    >>> tokens = np.zeros((3, 5), np.int32)
    >>> batch = next(data.prompted_episodes(source, tokens, ways=2, shots=1, queries=3, meta_batch_size=4)())
    >>> batch.support.inputs.first.shape, batch.support.inputs.second.shape
    ((4, 2, 8, 8, 1), (4, 2, 5))
  """
  check_source(source)
  tokens = np.asarray(tokens)
  shape = (len(source.classes), "prompts", "length")[:: 2 if tokens.ndim == 2 else 1]
  checks.integers("tokens", tokens, *shape, low=0)
  images = episodes(source, ways=ways, shots=shots, queries=queries, meta_batch_size=meta_batch_size, seed=seed)
  rows = episode_rows(source, ways=ways, shots=shots, queries=queries, seed=seed)

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, meta_batch_size, "meta_batch_size")
    for i, batch in enumerate(images(start, shard), start):
      first = i * meta_batch_size + offset
      of_way = np.stack([source.labels[rows(first + task)[:, 0]] for task in range(local)])
      prompts = np.repeat(tokens[of_way], shots, axis=1)
      yield batch._replace(support=batch.support._replace(inputs=Pair(batch.support.inputs, prompts)))

  return batches
