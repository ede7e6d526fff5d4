"""What a host reads of a source: its share of every batch, and no image more."""

import itertools

import numpy as np
import pytest

from metajax.data import LazyImages, episodes, eval_batches, from_arrays, image_texts, train_batches, train_tokenizer


class Counted(LazyImages):
  """Images that count how often each is read."""

  def __init__(self, files, counts):
    super().__init__(lambda files: np.zeros((len(files), 2, 2, 3), np.uint8), (2, 2, 3), files)
    self.counts = counts

  def start(self, rows):
    np.add.at(self.counts, self._files[rows].ravel(), 1)
    return super().start(rows)

  def take(self, rows):
    return Counted(self._files[rows], self.counts)


BATCHES_OF = {
  "episodes": lambda source: episodes(source, ways=4, shots=1, queries=2, meta_batch_size=8),
  "examples": lambda source: train_batches(source, batch_size=24),
  "image_texts": lambda source: image_texts(
    source, train_tokenizer(["image 0123456789"], 258), batch_size=24, max_length=8
  ),
  "eval_batches": lambda source: eval_batches(source, batch_size=24),
}


@pytest.mark.parametrize("hosts", [2, 4])
@pytest.mark.parametrize("name", BATCHES_OF)
def test_each_host_reads_its_share_of_the_images_alone(name, hosts):
  """Of four batches; what is read ahead is as many batches on any number of hosts."""
  found = []
  for shard in [(0, 1), *((host, hosts) for host in range(hosts))]:
    counts, classes = np.zeros(96, int), np.arange(96) % 32
    texts = [(f"image {k}",) for k in range(32)]
    source = from_arrays(np.zeros((96, 2, 2, 3), np.uint8), classes, captions=texts)
    batches = BATCHES_OF[name](source._replace(images=Counted(np.arange(96), counts)))
    for _ in itertools.islice(batches(0, shard), 4):
      pass
    found.append(counts)
  whole, *shares = found
  assert whole.sum() >= 4 * 24 and {share.sum() for share in shares} == {whole.sum() // hosts}
  np.testing.assert_array_equal(sum(shares), whole)
