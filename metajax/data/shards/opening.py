"""Opens shards of any kind by their pattern."""

from metajax.data.shards.patterns import expand, kind_of
from metajax.data.shards.record_samples import record_samples
from metajax.data.shards.samples import Samples
from metajax.data.shards.tar_samples import tar_samples


def open_samples(name: str, second: str) -> Samples:
  """The `Samples` that a pattern of shards names, each with an image and `second`, "caption" or "label".

  Raises:
    OSError: if a shard is missing or cannot be read.
    ValueError: if the pattern is malformed, or no sample has both.
  """
  files = expand(name)
  kind = kind_of(files)
  if kind == "parquet":
    from metajax.data.shards.parquet_samples import parquet_samples  # pyarrow takes a while to import

    return parquet_samples(repr(name), files, second)
  if kind == "tar":
    return tar_samples(repr(name), files, second)
  return record_samples(repr(name), files, kind)
