"""Exports of learners: the same predictions for any number of rows, read by jax and numpy alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import params_by_numpy
import pytest
from scipy.optimize import minimize_scalar
from table_of_learners import LEARNERS, episodes, image_episodes

from metajax import Episode, Examples, Network, Pair, export, gradient_steps, learners, load_exported, networks, paths
from metajax.compose import linear, with_head
from metajax.export import model, programs

FAST = ("prototypical", "maml, batch norm of the support")


def task_of(row, seed=1):
  if row.any_ways:
    tasks = episodes(seed, ways=4, shots=2, queries=2, tasks=2)
  elif row.episodic:
    tasks = row.batch(seed)
  else:
    tasks = (row.tasks or (image_episodes if row.batch_norm else episodes))(seed)
  return jax.tree.map(lambda x: x[0], tasks)


@pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in LEARNERS]
)
def test_an_exported_learner_predicts_as_before_for_any_number_of_rows(name, tmp_path):
  row = LEARNERS[name]
  params, state = jax.device_put(params_by_numpy.start(row.learner.init, row.batch(0)))
  support, query = task_of(row)
  export.write_export(tmp_path / "it", row.learner, params, state, Episode(support, query), platforms=["cpu"])
  loaded = load_exported(tmp_path / "it")
  more = Examples(*jax.tree.map(lambda x: np.concatenate([x, x[:1]]), (support.inputs, support.labels)))
  inputs = jax.tree.map(lambda x: x[:-1], query.inputs)
  wanted = row.learner.predict(params, state, more, inputs)
  np.testing.assert_allclose(loaded.logits(more.inputs, more.labels, inputs), wanted, rtol=1e-4, atol=1e-4)
  features = loaded.embed(inputs)
  np.testing.assert_allclose(features, row.learner.embed(params, state, inputs), rtol=1e-4, atol=1e-4)
  if name == "maml, regression":  # which has no classes
    return
  ways = support.labels.shape[1]
  assert loaded.config["ways"] in (None, ways)
  classifier = loaded.fit(more.inputs, [f"class {way}" for way in more.labels.argmax(1)])
  predicted = classifier.predict(inputs)
  assert predicted.probabilities.shape == (len(features), ways)
  np.testing.assert_allclose(predicted.probabilities.sum(1), 1, rtol=1e-5)
  assert set(predicted.labels) <= set(classifier.classes)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  """The export of a prototypical network on 8 x 8 images, its learner, params and a task."""
  row = LEARNERS["prototypical"]
  tasks = episodes(0, (8, 8, 1), ways=3, shots=3, queries=3, tasks=2)
  tasks = jax.tree.map(lambda x: np.float32(1 / (1 + np.exp(-x))) if x.ndim > 3 else x, tasks)
  params, state = params_by_numpy.start(row.learner.init, tasks)
  task = jax.tree.map(lambda x: x[0], tasks)
  folder = tmp_path_factory.mktemp("tiny") / "export"
  export.write_export(folder, row.learner, params, state, task, name="tiny", about={"data": "noise | `more`"})
  return folder, row.learner, (params, state), task


def test_support_rows_are_left_out_one_by_one(tiny):
  folder, learner, trained, (support, _) = tiny
  fitted = load_exported(folder).fit(support.inputs, support.labels.argmax(1))
  predict = jax.jit(learner.predict)
  for row in range(len(support.labels)):
    others = np.delete(np.arange(len(support.labels)), row)
    kept = Examples(support.inputs[others], support.labels[others])
    wanted = predict(*trained, kept, support.inputs[row : row + 1])[0]
    np.testing.assert_allclose(fitted.left_out_logits[row], wanted, rtol=1e-4, atol=1e-4)


def test_many_support_rows_are_left_out_in_ten_folds_each_once(tiny):
  labels = np.eye(3, dtype=np.float32)[np.arange(120) % 3]
  seen = []

  def logits(rows, labels, inputs):
    seen.append((rows[0][:, 0], inputs[0][:, 0]))
    return np.zeros((len(inputs[0]), 3), np.float32)

  there, found = model.leave_out(model.Model({}, None, logits), [np.arange(120)[:, None]], labels)
  assert len(seen) == 10 and len(there) == len(found) == 120
  assert sorted(np.concatenate([held for _, held in seen]).tolist()) == list(range(120))
  assert all(not set(kept.tolist()) & set(held.tolist()) for kept, held in seen)


def test_the_temperature_minimizes_the_smoothed_cross_entropy():
  random = np.random.default_rng(0)
  logits, target = random.normal(size=(40, 5)) * 7, random.integers(0, 5, 40)
  logits[np.arange(40), target] += 9
  smooth = np.full((40, 5), (0.25 / 40.25) / 4)
  smooth[np.arange(40), target] = 40 / 40.25

  def loss(log_temperature):
    scaled = logits / np.exp(log_temperature)
    return -(smooth * (scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))).sum(1).mean()

  wanted = np.exp(minimize_scalar(loss, bounds=(-3, 6), method="bounded", options={"xatol": 1e-9}).x)
  assert model.calibrated(np.float32(logits), target) == pytest.approx(wanted, rel=1e-4)


def test_logits_of_an_unknown_scale_are_calibrated():
  random = np.random.default_rng(1)
  true = random.normal(size=(4000, 4)) * 2
  target = np.array([random.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in true])
  assert model.calibrated(np.float32(true * 30), target) == pytest.approx(30, rel=0.1)


def test_a_twentieth_of_new_rows_of_a_class_is_beyond_the_threshold():
  random, beyond = np.random.default_rng(2), []
  labels = np.eye(4, dtype=np.float32)[np.arange(200) % 4]
  for _ in range(20):
    centers = random.normal(size=(4, 6)) * 20
    features = centers[np.arange(200) % 4] + random.normal(size=(200, 6))
    threshold = model._threshold(features, labels, np.arange(200))
    new = centers[np.arange(400) % 4] + random.normal(size=(400, 6))
    means = (labels.T @ features) / 50
    beyond.append((np.linalg.norm(new - means[np.arange(400) % 4], axis=1) > threshold).mean())
  assert 0.03 < np.mean(beyond) < 0.06


def test_the_threshold_is_of_the_distances_to_the_mean_of_the_others_in_a_class():
  features, classes = np.random.default_rng(3).normal(size=(20, 4)) + 5, np.arange(20) % 4
  distances = [
    np.linalg.norm(features[row] - features[(classes == classes[row]) & (np.arange(20) != row)].mean(0))
    for row in range(20)
  ]
  found = model._threshold(features, np.eye(4)[classes], np.arange(20))
  assert found == pytest.approx(sorted(distances)[19])  # the 20th of 20, as 0.95 * 21 is 19.95


def test_keys_of_a_state_are_written_as_integers_and_come_back_as_keys():
  tree = {"key": jax.random.key(3), "weight": np.arange(3.0)}
  names, arrays, restore = programs.flat_arrays(tree)
  assert names == ["key", "weight"] and all(isinstance(array, np.ndarray) for array in arrays)
  assert jax.random.bits(restore(arrays)["key"]) == jax.random.bits(tree["key"])


def test_one_row_a_class_is_not_calibrated(tiny):
  _, _, _, (support, query) = tiny
  fitted = load_exported(tiny[0]).fit(support.inputs[:3], ["a", "b", "c"])
  assert fitted.temperature == 1 and fitted.threshold is None and fitted.predict(query.inputs).unlike is None


def test_rows_are_classified_alike_alone_and_together(tiny):
  folder, _, _, (support, query) = tiny
  fitted = load_exported(folder).fit(support.inputs, support.labels.argmax(1))
  many = np.tile(query.inputs, (40, 1, 1, 1))[:300]  # more than a batch
  together = fitted(many)
  np.testing.assert_allclose(together[:9], fitted(query.inputs), atol=1e-6)
  np.testing.assert_allclose(together[4], fitted(many[4:5])[0], atol=1e-6)


def test_predictions_that_depend_on_the_other_rows_are_marked_and_not_padded(tmp_path):
  task = jax.tree.map(lambda x: x[0], episodes(0))
  identity = Network(lambda key, x: ({}, {}), lambda params, state, x, *, train, key=None: (x, state))
  plain = learners.prototypical(identity)
  params, state = plain.init(jax.random.key(0), episodes(0))
  joint = plain._replace(predict=lambda p, s, support, x: plain.predict(p, s, support, x - x.mean(0)))
  folder = export.write_export(tmp_path / "it", joint, params, state, task, platforms=["cpu"])
  loaded = load_exported(folder)
  assert loaded.config["joint"]
  wanted = joint.predict(params, state, task.support, task.query.inputs[:4])
  np.testing.assert_allclose(
    loaded.logits(task.support.inputs, task.support.labels, task.query.inputs[:4]), wanted, rtol=1e-5
  )


def test_a_first_layer_wider_than_its_patches_is_exported(tmp_path):
  """Its batch statistics are computed from the inputs, of a number of rows that is not known."""
  narrow = networks.conv4(10, num_downsamples=1, downsample="stride", pool="mean")  # 9 pixels of one channel
  inner = gradient_steps(optax.sgd(0.1), 1)
  learner = learners.maml(with_head(narrow, linear(3)), inner, encoder=narrow, query_norm="support")
  tasks = episodes(0, (8, 8, 1), ways=3, shots=1, queries=2, tasks=1)
  params, state = params_by_numpy.start(learner.init, tasks)
  task = jax.tree.map(lambda x: x[0], tasks)
  loaded = load_exported(export.write_export(tmp_path / "it", learner, params, state, task, platforms=["cpu"]))
  inputs = task.query.inputs[:4]
  wanted = learner.predict(params, state, task.support, inputs)
  np.testing.assert_allclose(loaded.logits(*task.support, inputs), wanted, rtol=1e-4, atol=1e-4)


def test_a_head_of_fixed_width_classifies_as_many_classes_or_fewer(tmp_path):
  row = LEARNERS["first-order maml"]
  params, state = params_by_numpy.start(row.learner.init, row.batch(0))
  task = task_of(row)
  loaded = load_exported(export.write_export(tmp_path / "it", row.learner, params, state, task, platforms=["cpu"]))
  assert loaded.config["ways"] == 3
  assert loaded.fit(task.support.inputs[:4], ["a", "a", "b", "b"])(task.query.inputs).shape == (6, 2)
  with pytest.raises(ValueError, match="expected at most 3 classes, the width of the head of model, got 4"):
    loaded.fit(task.support.inputs[:4], ["a", "b", "c", "d"])(task.query.inputs)


def test_the_reader_of_an_export_needs_only_jax_and_numpy(tiny):
  folder, _, _, (support, query) = tiny
  program = """
import sys, importlib.abc
class Only(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in ("metajax", "flax", "optax", "tensorflow", "PIL", "safetensors", "flatbuffers"):
      raise ImportError(name)
sys.meta_path.insert(0, Only())
import numpy as np, model
example = np.load("example.npz")
fitted = model.load(".").fit(example["support_0"], example["support_labels"].argmax(1).tolist())
sys.stdout.buffer.write(fitted(example["inputs_0"]).tobytes())
assert not any(name.startswith("metajax") for name in sys.modules)
"""
  environment = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
  done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, check=False)
  assert done.returncode == 0, done.stderr.decode()[-800:]
  numbers = np.frombuffer(done.stdout[-4 * 27 :], np.float32).reshape(9, 3)
  wanted = load_exported(folder).fit(support.inputs, support.labels.argmax(1))(query.inputs)
  np.testing.assert_allclose(numbers, wanted, atol=1e-5)


def broken(folder, tmp_path, name, content):
  import shutil

  other = tmp_path / "broken"
  shutil.copytree(folder, other)
  (other / name).write_bytes(content) if content is not None else (other / name).unlink()
  return other


@pytest.mark.parametrize(
  ("name", "change", "message"),
  [
    ("model.safetensors", lambda x: x[:-1] + b"\1", "model.safetensors' is damaged: export the run again"),
    ("predict.stablehlo", lambda x: None, "predict.stablehlo' is missing: export the run again"),
    ("config.json", lambda x: x.replace(b'"format": 2', b'"format": 3'), "expected an export of format 2 .*, got 3"),
    (
      "config.json",
      lambda x: x.replace(b'"calling_convention_version": ', b'"calling_convention_version": 9'),
      r"expected a program of calling convention \d+ to \d+, .*, got 9\d+ in ",
    ),
    ("config.json", lambda x: b"[", "config.json' is damaged: it is not JSON"),
    (
      "config.json",
      lambda x: x.replace(b'"cpu"', b'"gpux"'),
      "expected an export for cpu, got one for gpux, cuda, tpu",
    ),
  ],
)
def test_an_export_that_is_damaged_or_of_another_version_is_refused(tiny, tmp_path, name, change, message):
  other = broken(tiny[0], tmp_path, name, change((tiny[0] / name).read_bytes()))
  with pytest.raises(ValueError, match=message):
    load_exported(other)


def test_an_export_appears_whole_or_not_at_all(tiny, tmp_path, monkeypatch):
  folder, learner, trained, task = tiny
  before, writes = sorted(path.name for path in folder.iterdir()), []

  def fails(path, content):
    writes.append(path)
    if len(writes) == 3:
      raise OSError(28, "No space left on device", str(path))
    path.write_bytes(content)

  monkeypatch.setattr(paths, "write_whole", fails)
  for place in (tmp_path / "new", folder):
    writes.clear()
    with pytest.raises(OSError, match="No space left"):
      export.write_export(place, learner, *trained, task, platforms=["cpu"])
  assert list(tmp_path.iterdir()) == [] and sorted(path.name for path in folder.iterdir()) == before
  assert [path.name for path in folder.parent.iterdir()] == ["export"]


def test_a_folder_with_other_files_is_not_replaced(tiny, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  with pytest.raises(ValueError, match="expected a new folder or an export to replace"):
    export.write_export(tmp_path, tiny[1], *tiny[2], tiny[3])


@pytest.mark.parametrize(
  ("inputs", "message"),
  [
    (np.zeros((2, 9, 9, 1), np.uint8), r"expected inputs float32 \[n, 8, 8, 1\], or uint8, got uint8 \[2, 9, 9, 1\]"),
    (np.zeros((0, 8, 8, 1), np.uint8), r"got uint8 \[0, 8, 8, 1\]"),
    (np.full((1, 8, 8, 1), np.nan, np.float32), "expected finite inputs"),
    (np.zeros((1, 8, 8, 1), np.int32), r"got int32 \[1, 8, 8, 1\]"),
  ],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_is_compiled(tiny, inputs, message):
  with pytest.raises(ValueError, match=message):
    load_exported(tiny[0]).embed(inputs)


def test_the_card_and_the_configuration_say_what_the_model_is(tiny):
  config, card = json.loads((tiny[0] / "config.json").read_text()), (tiny[0] / "README.md").read_text()
  assert config["images"] == {"size": 8, "channels": 1, "background": "any"} and config["ways"] is None
  assert "- data: `noise | 'more'`" in card and "any number of classes" in card and "cpu, cuda, tpu" in card
  assert Path(model.__file__).read_bytes() == (tiny[0] / "model.py").read_bytes()


@pytest.mark.parametrize(
  ("batch", "wanted"),
  [
    (Pair(np.zeros((4, 2)), np.ones((4, 3))), (4, 2)),
    (Examples(Pair(np.zeros((4, 2)), np.ones((4, 2))), np.eye(4)), (4, 2)),
    ({"anchor": np.zeros((4, 5)), "positive": np.ones((4, 5))}, (4, 5)),
    (Examples(np.zeros((4, 6)), np.eye(4)), (4, 6)),
    (np.zeros((4, 7)), (4, 7)),
  ],
)
def test_the_inputs_of_a_batch_are_those_that_are_embedded(batch, wanted):
  assert export.inputs_of(batch).shape == wanted
  example = export.example_of(batch)
  assert example.support.inputs.shape[1:] == wanted[1:] and example.support.labels.shape == (9, 3)
