"""The orders of epochs: by a table up to a million rows, by a cipher above; each resumes anywhere."""

import numpy as np
import pytest

from metajax.data import pipeline


def rows_of(number, batch_size, seed, start, batches):
  found = pipeline.in_epochs(number, batch_size, seed, start).as_numpy_iterator()
  return np.concatenate([next(found) for _ in range(batches)])


@pytest.fixture(params=["table", "cipher"])
def kind(request, monkeypatch):
  monkeypatch.setattr(pipeline, "LARGEST_TABLE", 2**20 if request.param == "table" else 0)
  return request.param


@pytest.mark.parametrize(("number", "batch_size"), [(1, 3), (2, 1), (3, 8), (100, 7), (1000, 250)])
def test_each_epoch_has_every_row_once_from_any_batch_on(kind, number, batch_size):
  batches = -(-3 * number // batch_size) + 2
  rows = rows_of(number, batch_size, 5, 0, batches)
  for epoch in range(3):
    assert sorted(rows[epoch * number : (epoch + 1) * number]) == list(range(number))
  for start in (1, batches - 2):
    np.testing.assert_array_equal(
      rows_of(number, batch_size, 5, start, 2), rows[start * batch_size :][: 2 * batch_size]
    )


def test_epochs_and_seeds_have_orders_of_their_own_without_a_trend(kind):
  """Ranks of neighbors in the order, of the same place in two epochs and under two seeds are uncorrelated."""
  number = 4000
  rows = rows_of(number, number, 5, 0, 2)
  first, second, other = rows[:number], rows[number:], rows_of(number, number, 6, 0, 1)
  pairs = [(np.arange(number), first), (first[1:], first[:-1]), (first, second), (first, other)]
  for x, y in pairs:
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / number**0.5
  counts = np.histogram2d(np.arange(number), first, bins=8)[0]
  assert ((counts - number / 64) ** 2 / (number / 64)).sum() < 120  # of 49 degrees of freedom


def test_a_cipher_orders_many_rows_at_once_from_any_epoch():
  number = 10**9
  rows = rows_of(number, 4096, 0, 3 * number // 4096, 2)
  assert len(set(rows.tolist())) == len(rows) and set(np.sign(rows)) <= {0, 1} and rows.max() < number
  assert abs(rows.mean() / number - 0.5) < 0.02
