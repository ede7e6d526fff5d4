"""One-shot classification within an alphabet: Lake's folder is read as it says, and the like is drawn from any."""

import jax
import numpy as np
import pytest
from PIL import Image

from metajax import Learner
from metajax.data import from_arrays, one_shot_runs, one_shot_tasks
from metajax.evaluate import one_shot_error as error_of
from metajax.predictors import nearest_centroid

WAYS = 4


def write_run(folder, number, ways=WAYS, unreadable=""):
  """A run in Lake's layout: the ink of training image k and of its test image is column k."""
  run = folder / f"run{number:02d}"
  for part in ("training", "test"):
    (run / part).mkdir(parents=True)
  order, lines = np.random.default_rng(number).permutation(ways), []
  for k in range(ways):
    image = np.full((40, 40), 255, np.uint8)
    image[:, 10 * k : 10 * k + 10] = 0
    names = f"run{number:02d}/test/item{order[k] + 1:02d}.png", f"run{number:02d}/training/class{k + 1:02d}.png"
    for name in names:
      Image.fromarray(image).convert("1").save(folder / name)
    lines.append(" ".join(names))
  (run / "class_labels.txt").write_text("\n".join(lines) + "\n" + unreadable)
  return run


pixels = lambda params, state, inputs: inputs.reshape(len(inputs), -1)
by_pixels = Learner(None, None, pixels, nearest_centroid(pixels))


def test_the_folder_of_fixed_runs_is_read_with_ink_at_255_and_each_test_image_with_its_training_image(tmp_path):
  for number in (1, 2, 10):
    write_run(tmp_path, number)
  (whole,) = one_shot_runs(tmp_path, size=20)()
  assert whole.support.inputs.shape == whole.query.inputs.shape == (3, WAYS, 20, 20, 1)
  for run in range(3):
    support, query = jax.tree.map(lambda x, run=run: x[run], whole)
    np.testing.assert_array_equal(support.labels, np.eye(WAYS))
    truth = query.labels.argmax(-1)
    np.testing.assert_array_equal(query.inputs, support.inputs[truth])
    for k, image in enumerate(support.inputs[..., 0]):
      np.testing.assert_array_equal(image.max(0), 255 * (np.arange(20) // 5 == k))
  assert not np.array_equal(whole.query.labels[0], whole.query.labels[1])
  score = error_of(by_pixels, (), (), one_shot_runs(tmp_path, size=20))
  assert score.mean == 0 and len(score.tasks) == 3


def test_the_error_is_the_share_of_wrong_answers_in_percent(tmp_path):
  for number in (1, 2):
    write_run(tmp_path, number)
  blind = by_pixels._replace(predict=lambda params, state, support, inputs: np.eye(WAYS)[[0] * WAYS])
  assert error_of(blind, (), (), one_shot_runs(tmp_path)).mean == 75


def break_line(folder):
  write_run(folder, 1, unreadable="run01/test/item01.png\n")


def break_pairing(folder):
  write_run(folder, 1, unreadable="run01/test/item09.png run01/training/class01.png\n")


def break_image(folder):
  (write_run(folder, 1) / "training" / "class02.png").write_bytes(b"no image")


def lose_image(folder):
  (write_run(folder, 1) / "test" / "item02.png").unlink()


def lose_labels(folder):
  (write_run(folder, 1) / "class_labels.txt").unlink()


def two_sizes(folder):
  write_run(folder, 1)
  write_run(folder, 2, ways=3)


@pytest.mark.parametrize(
  ("make", "error", "message"),
  [
    (lambda folder: None, FileNotFoundError, r"run01, run02, ... in '.*', got \[\]"),
    (break_line, ValueError, "a test and a training image in '.*class_labels.txt', got 'run01/test/item01.png'"),
    (break_pairing, ValueError, "got 5 test and 4 training images in 5 lines"),
    (break_image, ValueError, "an image in '.*class02.png', got"),
    (lose_image, FileNotFoundError, "an image '.*item02.png'"),
    (lose_labels, FileNotFoundError, "a file '.*class_labels.txt'"),
    (two_sizes, ValueError, r"one number of ways in '.*', got \[3, 4\]"),
  ],
)
def test_a_folder_that_is_not_as_expected_is_refused(tmp_path, make, error, message):
  make(tmp_path)
  with pytest.raises(error, match=message):
    one_shot_runs(tmp_path)


def test_no_folder_and_parts_of_a_batch_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"a folder of one-shot runs, got '.*nowhere'"):
    one_shot_runs(tmp_path / "nowhere")
  write_run(tmp_path, 1)
  with pytest.raises(ValueError, match="a start of 0, of one batch of 1 runs, got 1"):
    next(one_shot_runs(tmp_path)(1))


def test_hosts_share_the_runs_in_order(tmp_path):
  for number in (1, 2, 3):
    write_run(tmp_path, number)
  whole = next(one_shot_runs(tmp_path)())
  shares = [next(one_shot_runs(tmp_path)(0, (host, 2))) for host in range(2)]
  together = jax.tree.map(lambda *parts: np.concatenate(parts), *shares)
  jax.tree.map(np.testing.assert_array_equal, together, whole)


def characters(styles, alphabets=("a",) * 6 + ("b",) * 3):
  """Images whose one pixel is the row; of each character one in each style."""
  classes, each = len(alphabets), len(styles)
  images = np.arange(classes * each, dtype=np.uint8).reshape(-1, 1, 1, 1)
  return from_arrays(images, np.repeat(np.arange(classes), each), superclasses=alphabets, styles=styles * classes)


def rows_of(examples):
  return examples.inputs[..., 0, 0, 0].astype(int)


@pytest.mark.parametrize("styles", [("x", "y", "z"), ("", "", "")])
def test_runs_are_drawn_within_an_alphabet_of_two_drawers_and_never_the_same_image(styles):
  (whole,) = one_shot_tasks(characters(styles), ways=5, runs=20, seed=3)()
  support, query = rows_of(whole.support), rows_of(whole.query)
  assert support.shape == query.shape == (20, 5)
  np.testing.assert_array_equal(support // 3, query // 3)  # the same characters, in the same order
  assert (support != query).all() and (support // 3 < 6).all()  # of the one alphabet that is large enough
  assert len({tuple(sorted(run)) for run in support // 3}) > 1
  if styles[0]:
    for run in (support, query):
      assert all(len(set(row % 3)) == 1 for row in run)
    assert len(set(map(tuple, np.stack([support[:, 0] % 3, query[:, 0] % 3], -1)))) > 3
  else:
    assert any(len(set(row % 3)) > 1 for row in support)
  (again,) = one_shot_tasks(characters(styles), ways=5, runs=20, seed=3)()
  np.testing.assert_array_equal(rows_of(again.support), support)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: one_shot_tasks(characters(("x", "y")), ways=7), "an alphabet of at least 7 characters, got 6 at most"),
    (lambda: one_shot_tasks(characters(("x",)), ways=5), "two styles with 5 characters of 'a', got 1"),
    (lambda: one_shot_tasks(characters(("",)), ways=5), "two images of each character, got one of"),
    (lambda: one_shot_tasks(characters(("x", "y")), ways=1), "ways to be a whole number of at least 2, got 1"),
  ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()
