"""Few-shot episodes, and batches of examples, as pure functions of (seed, step)."""

import collections
import operator

import numpy as np
import tensorflow as tf

from metajax import checks
from metajax.data.images import plain
from metajax.data.pictures import Pictures
from metajax.data.sources import check_source
from metajax.types import Batches, Episode, Examples

ENDLESS = 2**63 - 1  # the last step that 64 bits can count
MOST = 2**31 - 1  # rows of a batch
AHEAD = 2  # batches of pictures out of files that are decoded while one is used


def episodes(source, *, ways, shots, queries, tasks, seed=0, within_groups=False) -> Batches:
  """Batches of few-shot tasks: `ways` classes drawn without replacement, of each `shots + queries` pictures likewise.

  All choices are uniform. Task `t` of batch `i` is drawn with the key (seed, i * tasks + t) alone, so it is the same
  from whatever step, and on however many hosts, the data are read.

  Args:
    source: a `Source`.
    ways: classes a task.
    shots, queries: pictures of each class in the support and in the query set; no picture is in both.
    tasks: tasks a batch, over all hosts.
    seed: any 64-bit integer.
    within_groups: the classes of a task are of one alphabet, that of a uniformly drawn class: harder tasks.

  Returns:
    `batches(start=0, shard=(0, 1))`, an endless iterator from batch `start` on of the `Episode`s of host `shard[0]` of
    `shard[1]`: support inputs float32 `[tasks/hosts, ways*shots, height, width, channels]` in [0, 1], support labels
    one-hot float32 `[tasks/hosts, ways*shots, ways]`, and likewise the query. Rows are in the order of the ways: first
    all of way 0. It raises ValueError for a negative start, a host that there is not, or tasks that the hosts do not
    divide.

  Raises:
    ValueError: the source (or a group, with `within_groups`) has too few classes or pictures, or a number is too small.
  """
  checks.count("tasks", tasks, most=MOST)
  rows, read = _draw(source, ways, shots, queries, seed, within_groups), _reader(source.images)

  def labelled(rows):
    each = rows.shape[-1]
    labels = tf.one_hot(tf.repeat(tf.range(ways), each), ways)
    return Examples(tf.reshape(rows, (-1, ways * each)), tf.tile(labels[None], (rows.shape[0], 1, 1)))

  def batches(start=0, shard=(0, 1)):
    offset, local = _share(start, shard, tasks, "tasks")
    # The tasks of this host, counted by c, are `local` in a row out of every `tasks`.
    drawn = tf.data.Dataset.range(start * local, ENDLESS).map(
      plain(lambda c: rows(c // local * tasks + offset + c % local)), num_parallel_calls=tf.data.AUTOTUNE
    )
    split = lambda rows: Episode(labelled(rows[..., :shots]), labelled(rows[..., shots:]))
    return read(drawn.batch(local, drop_remainder=True).map(plain(split)))

  return batches


def episode_rows(source, *, ways, shots, queries, seed=0, within_groups=False):
  """Which pictures of the source a task of `episodes` with the same arguments takes.

  Returns:
    `rows(task)`: int64 `[ways, shots + queries]`, the rows of the source that task `task`, counted from 0 over all
    batches and hosts, takes: row `w` those of way `w`, first the support's, then the query's. It raises ValueError for
    a negative task.

  Raises:
    ValueError: as `episodes`.
  """
  drawn = _draw(source, ways, shots, queries, seed, within_groups)
  draw = tf.function(drawn, input_signature=[tf.TensorSpec([], tf.int64)], autograph=False)

  def rows(task):
    checks.count("task", task, 0, ENDLESS)
    return draw(tf.constant(task, tf.int64)).numpy()

  return rows


def _draw(source, ways, shots, queries, seed, within_groups=False):
  """`task -> rows`: the pictures of a task, int64 `[ways, shots + queries]`."""
  check_source(source)
  check_seed(seed)
  checks.flag("within_groups", within_groups)
  counts = np.bincount(source.labels, minlength=len(source.classes))
  _check_task(source, counts, ways, shots, queries)
  most, classes = int(counts.max()), len(counts)
  group = _groups(source, ways) if within_groups else None
  # The pictures of class c are rows by_class[first[c]], ... of the images.
  by_class = tf.constant(np.argsort(source.labels, kind="stable"))
  first, count = tf.constant(np.cumsum(counts) - counts), tf.constant(counts)

  def rows(task):
    """The places of the greatest of independent random numbers are a uniform draw without replacement (`index_shuffle`
    is not uniform over so few)."""
    noise = _noise(classes + ways * most, seed, task)
    of_class = noise[:classes]
    if group is not None:
      of_class = tf.where(group == group[tf.argmax(of_class)], of_class, tf.int64.min)
    way = tf.math.top_k(of_class, ways).indices
    of_picture = tf.reshape(noise[classes:], (ways, most))
    exists = tf.range(most, dtype=tf.int64) < tf.gather(count, way)[:, None]
    picture = tf.math.top_k(tf.where(exists, of_picture, tf.int64.min), shots + queries).indices
    return tf.gather(by_class, tf.gather(first, way)[:, None] + tf.cast(picture, tf.int64))

  return rows


def examples(source, *, batch_size, seed=0) -> Batches:
  """Batches of `Examples`: all pictures of the source, epoch after epoch, each epoch in a uniformly random order.

  The order of epoch `e` depends on (seed, e) alone; a batch may span epochs, so that none is ever short.

  Args:
    source: a `Source`.
    batch_size: pictures a batch, over all hosts.
    seed: any 64-bit integer.

  Returns:
    `batches(start=0, shard=(0, 1))`, as for `episodes`: inputs float32 `[batch_size/hosts, height, width, channels]` in
    [0, 1], labels one-hot over all classes, float32 `[batch_size/hosts, classes]`.

  Raises:
    ValueError: `batch_size` is less than 1.
  """
  check_source(source)
  check_batches(batch_size, seed)
  read, labels, number = _reader(source.images), tf.constant(source.labels), len(source.labels)

  def batches(start=0, shard=(0, 1)):
    offset, local = _share(start, shard, batch_size, "batch_size")

    def take(rows):
      rows = rows[offset : offset + local]
      return Examples(rows, tf.one_hot(tf.gather(labels, rows), len(source.classes)))

    return read(_in_epochs(number, batch_size, seed, start).map(plain(take)))

  return batches


def _in_epochs(number, batch_size, seed, start):
  """A dataset of the `batch_size` numbers of each batch from `start` on: all of `number`, in a new order each epoch."""
  if number < 1:
    raise ValueError("expected something to make batches of, got nothing")
  epoch, skipped = divmod(start * batch_size, number)

  def order(e):
    shuffled = tf.argsort(_noise(number, seed, e))
    return shuffled[tf.where(e == epoch, tf.constant(skipped, tf.int64), 0) :]

  return tf.data.Dataset.range(epoch, ENDLESS).map(plain(order)).rebatch(batch_size, drop_remainder=True)


def _groups(source, ways):
  """The number of each class's group, of which none is smaller than a task."""
  names, numbers, sizes = np.unique(source.groups, return_inverse=True, return_counts=True)
  if sizes.min() < ways:
    given = f"{sizes.min()} of {str(names[np.argmin(sizes)])!r}"
    raise ValueError(f"expected at least {ways} classes in every group, with within_groups, got {given}")
  return tf.constant(numbers)


def _noise(number, seed, index):
  """`number` independent 64-bit integers, a function of two 64-bit integers."""
  key = tf.stack([tf.constant(seed, tf.int64), index])
  return tf.random.stateless_uniform([number], key, minval=None, maxval=None, dtype=tf.int64, alg="philox")


def _reader(images):
  """A function from a dataset of `Examples`, `Episode`s or other trees of rows of `images` to an iterator of them with
  pictures."""
  if isinstance(images, Pictures):
    return lambda batches: _decoded(images, batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator())
  images = tf.constant(images)
  gather = lambda rows: tf.cast(tf.gather(images, rows), tf.float32) / 255
  shown = plain(lambda batch: _map_inputs(gather, batch))

  def read(batches):
    whole = batches.map(shown, num_parallel_calls=tf.data.AUTOTUNE)
    return whole.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

  return read


def _decoded(images, batches):
  """Outside of TensorFlow, which would bury the message of a picture that cannot be read."""
  waiting = collections.deque()
  for batch in batches:
    waiting.append(_map_inputs(images.start, batch))
    if len(waiting) > AHEAD:
      yield _map_inputs(lambda wait: np.float32(wait()) / np.float32(255), waiting.popleft())


def _map_inputs(function, batch):
  if isinstance(batch, Episode):
    return Episode(*(_map_inputs(function, examples) for examples in batch))
  if isinstance(batch, Examples):
    return Examples(tf.nest.map_structure(function, batch.inputs), batch.labels)
  return tf.nest.map_structure(function, batch)


def _share(start, shard, rows, name):
  """The first of a host's rows of a global batch, and how many they are."""
  host, hosts = check_place(start, shard)
  checks.count("start", start, 0, ENDLESS // rows)  # later ones have no number
  if rows % hosts:
    raise ValueError(f"expected {name} that {hosts} hosts divide, got {rows}")
  return host * (rows // hosts), rows // hosts


def check_place(start, shard):
  """The host and the number of hosts, where a step and they can be.

  Raises:
    ValueError: quoting what cannot be.
  """
  checks.count("start", start, 0, ENDLESS)
  try:
    host, hosts = map(operator.index, shard)
  except (TypeError, ValueError):
    raise ValueError(f"expected a shard (host, hosts) of two whole numbers, got {shard!r}") from None
  if not 0 <= host < hosts:
    raise ValueError(f"expected a shard (host, hosts) with 0 <= host < hosts, got {shard}")
  return host, hosts


def check_seed(seed):
  """Refuses what is no 64-bit integer.

  Raises:
    ValueError: quoting it.
  """
  checks.count("seed", seed, -(2**63), 2**63 - 1)


def check_batches(batch_size, seed):
  """Refuses what no batches can have.

  Raises:
    ValueError: quoting it.
  """
  checks.count("batch_size", batch_size, most=MOST)
  check_seed(seed)


def _check_task(source, counts, ways, shots, queries):
  if source.images.dtype != np.uint8:
    raise ValueError(f"expected a source of uint8 pictures, 0 to 255, got {source.images.dtype}")
  for name, value, least in (("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1)):
    checks.count(name, value, least)
  if ways > len(counts):
    raise ValueError(f"expected from 2 ways to the {len(counts)} classes of the source, got {ways}")
  if shots + queries > counts.min():
    smallest = source.classes[int(np.argmin(counts))]
    raise ValueError(
      f"expected shots + queries of at most {counts.min()}, the pictures of the smallest class, {smallest!r}; got "
      f"{shots} + {queries} = {shots + queries}"
    )
