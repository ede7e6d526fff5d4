"""Few-shot episodes of variable ways and shots (Meta-Dataset, arXiv:1903.03096), padded to one shape.

A task of the classes `C`, with `|c|` images of class `c`:

- its source is drawn uniformly, the number of ways from `min_ways` to `max_ways` or the classes there are, and then
  that many classes;
- each class has `q = min(max_queries, min_c floor(|c| / 2))` query images;
- the support set has at most `s = min(max_support, sum_c ceil(beta min(max_support_per_class, |c| - q)))` images,
  with `beta ~ U(0, 1]`;
- of these `min(floor(r_c (s - |C|)) + 1, |c| - q)` are of class `c`, where `r_c` is proportional to
  `exp(alpha_c) |c|`, with `alpha_c ~ U[log 0.5, log 2)`.

Images are drawn uniformly without replacement.
"""

from collections.abc import Callable, Sequence

from metajax import checks
from metajax.data._tensorflow import tf
from metajax.data.files.lazy_images import joined
from metajax.data.pipeline import MOST, check_seed, plain, reader
from metajax.data.sharding import ENDLESS, rows_of_host
from metajax.data.source import ImageDataset
from metajax.data.variable_tasks import Limits, check_limits, draw_variable_task, most_rows
from metajax.types import Batches, Episode, Examples, Padded


def variable_episodes(
  source: ImageDataset | Sequence[ImageDataset],
  *,
  meta_batch_size: int,
  min_ways: int = 5,
  max_ways: int = 50,
  max_queries: int = 10,
  max_support: int = 500,
  max_support_per_class: int = 100,
  seed: int = 0,
) -> Batches:
  """Batches of few-shot tasks of variable ways and shots, imbalanced as the classes are (arXiv:1903.03096, 3.2).

  The module docstring describes the draws. Task `t` of batch `i` depends only on (seed, i * meta_batch_size + t), for
  any start and shard. All tasks are padded to one shape, so that one compiled program serves them.

  Args:
    source: an `ImageDataset`, or several with images of one shape; each task is of one.
    meta_batch_size: tasks per batch, over all hosts.
    min_ways, max_ways: the least and the most classes per task. Labels have `max_ways` columns.
    max_queries: the most query images per class.
    max_support: the most images of a support set, at least `max_ways`.
    max_support_per_class: the most images that a class adds to the size of the support set, above.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, an endless iterator from batch `start` on over the `Episode`s of host `shard[0]`
    of `shard[1]`. Inputs are `Padded`: values float32 `[meta_batch_size/hosts, n, height, width, channels]` in [0, 1],
    and a mask, bool `[meta_batch_size/hosts, n]`, for the most images `n` that a support, or query, set of the sources
    may have. Labels are one-hot float32 `[meta_batch_size/hosts, n, max_ways]`. Rows are sorted by way; padded rows,
    zeros in values and labels, come last. Ways that a task lacks have no rows.

  Raises:
    ValueError: if a source has fewer classes than `min_ways` or a class of one image, sources differ in their images'
      shape, or a number is out of range.

  Example:
    >>> import numpy as np
    >>> from metajax import data
    >>> source = data.from_arrays(np.zeros((60, 8, 8, 1), np.uint8), np.arange(60) % 6)
    >>> batch = next(data.variable_episodes(source, max_ways=8, meta_batch_size=4)())
    >>> batch.support.inputs.values.shape, batch.support.labels.shape
    ((4, 30, 8, 8, 1), (4, 30, 8))
  """
  several = isinstance(source, Sequence) and not isinstance(source, ImageDataset)
  sources: Sequence[ImageDataset] = tuple(source) if several else (source,)
  limits = Limits(min_ways, max_ways, max_queries, max_support, max_support_per_class)
  checks.count("meta_batch_size", meta_batch_size, most=MOST)
  check_seed(seed)
  check_limits(sources, limits)
  tasks, read = _tasks(sources, limits, seed), reader(joined([one.images for one in sources], blanks=1))

  def batches(start=0, shard=(0, 1)):
    offset, local = rows_of_host(start, shard, meta_batch_size, "meta_batch_size")
    drawn = tf.data.Dataset.range(start * local, ENDLESS).map(
      plain(lambda c: tasks(c // local * meta_batch_size + offset + c % local)), num_parallel_calls=tf.data.AUTOTUNE
    )
    return map(_with_masks, read(drawn.batch(local, drop_remainder=True)))

  return batches


def _tasks(sources: Sequence[ImageDataset], limits: Limits, seed: int) -> Callable:
  """`task -> Episode` of rows of the sources' images, filled up with rows of the blank one after them."""
  draw, sizes = draw_variable_task(sources, limits, seed), most_rows(sources, limits)
  blank = sum(len(one.labels) for one in sources)

  def padded(task):
    parts = zip(draw(task), sizes, strict=True)
    return Episode(*(_padded(rows, way, size, limits.max_ways, blank) for (rows, way), size in parts))

  return padded


def _padded(rows, way, size, ways, blank) -> Examples:
  """The rows, then blank ones without a label, `size` in all."""
  more = [[0, size - tf.shape(rows)[0]]]
  rows, way = (tf.pad(x, more, constant_values=fill) for x, fill in ((rows, blank), (way, -1)))
  return Examples(tf.ensure_shape(rows, [size]), tf.one_hot(tf.ensure_shape(way, [size]), ways))


def _with_masks(batch: Episode) -> Episode:
  return Episode(*(part._replace(inputs=Padded(part.inputs, part.labels.any(-1))) for part in batch))
