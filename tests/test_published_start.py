"""Few-shot learning from a published encoder: its params and images, what trains and adapts, P>M>F."""

import json
from functools import partial

import commands
import few_programs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import published_encoders as published
import pytest
import table_of_learners as learners

from experiments import cavia, maml, pmf, prototypical, relation, save_encoder
from experiments.families import data, encoder
from experiments.families.encoder import Start
from experiments.families.few_shot import choice as few_shot_choice
from experiments.families.few_shot import config as few_shot_config
from experiments.families.few_shot import finished
from metajax import Examples, gradient_steps, inference
from metajax.compose import linear, with_head
from metajax.data import from_arrays
from metajax.evaluate import mean_and_ci
from metajax.experiment import driver, exports, records, states_of
from metajax.experiment.types import Trained
from metajax.networks import conv4, load_encoder
from metajax.predictors import fine_tuned_prototypes
from metajax.train import TrainState
from metajax.types import Preprocessing

OWN = conv4(2)
GRAY = np.random.default_rng(0).random((3, 12, 12, 1), np.float32)
TINY = ["--preset", "cpu", "--ways", "3", "--shots", "1", "--queries", "2", "--test", "3w1s", "--test-queries", "2",
        "--test-tasks", "4", "--validation-tasks", "4", "--steps", "2", "--validate-every", "1", "--devices", "1",
        "--meta-batch-size", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
  return published.write(tmp_path_factory.mktemp("dino"), published.dinov2(), published.DINOV2)


def test_the_network_starts_from_the_published_features_and_sees_gray_as_color(dino):
  found, colors = load_encoder(dino), np.repeat(GRAY, 3, -1)
  wanted = jax.jit(lambda x: found.network.apply(found.params, found.state, x, train=False)[0])(colors)
  for trainable in ("all", "low_rank", "head"):
    network = encoder.encoder_for(Start(dino, trainable=trainable), OWN)
    variables = jax.jit(network.init)(jax.random.key(0), GRAY)
    features = jax.jit(lambda v, x, network=network: network.apply(*v, x, train=False)[0])
    for images in (GRAY, colors):
      np.testing.assert_allclose(features(variables, images), wanted, rtol=1e-5, atol=1e-5)
  assert encoder.encoder_for(Start(), OWN) is OWN
  network = encoder.encoder_for(Start(dino), OWN, pretrained=False)
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(jax.eval_shape(network.init, jax.random.key(0), GRAY)[0]) == shapes(found.params)
  token = jax.jit(lambda key: network.init(key, GRAY)[0]["class_token"])(jax.random.key(0))
  assert not np.allclose(token, found.params["class_token"])


def test_images_are_the_publishers(dino):
  processing = Preprocessing(12, "squash", None, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
  assert encoder.images_for(Start(dino), "photos", 28) == encoder.Images(12, 3, processing)
  assert encoder.images_for(Start(dino), "glyphs", 28) == encoder.Images(12, 1)
  assert encoder.images_for(Start(dino, image_size=24), "omniglot", 28) == encoder.Images(24, 1)
  assert encoder.images_for(Start(), "photos", 28) == encoder.Images(28, 1)


@pytest.mark.parametrize(("trainable", "trained"), [("all", ()), ("low_rank", ("low_rank",)), ("head", ())])
def test_only_what_is_trainable_trains_adapts_and_has_moments(dino, trainable, trained):
  """Frozen params stay to the bit under weight decay too; the head always moves."""
  start = Start(dino, trainable=trainable, rank=2)
  network = with_head(encoder.encoder_for(start, OWN), linear(2))
  params, state = jax.device_get(jax.jit(network.init)(jax.random.key(0), GRAY))
  # Adapters start at 0, where the gradient of one factor is 0.
  params = jax.tree.map(lambda x: x + np.float32(0.1), params) if trainable == "low_rank" else params
  loss = lambda params, images: (network.apply(params, state, images, train=True)[0] ** 2).sum()
  adapt = encoder.adapted_params(start, gradient_steps(optax.sgd(0.1), 1))
  optimizer = encoder.optimizer_for(start, optax.adamw(0.1, weight_decay=0.1))

  @jax.jit
  def both(params):
    updates, moments = optimizer.update(jax.grad(loss)(params, GRAY), optimizer.init(params), params)
    return adapt(loss, params, GRAY)[0], optax.apply_updates(params, updates), moments

  adapted, stepped, moments = both(params)
  for found in (adapted, stepped):
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), params, found)
    assert all(jax.tree.leaves(moved["head"]))
    if trainable == "all":
      assert any(jax.tree.leaves(moved["encoder"]))
    else:
      assert {name for name, part in moved["encoder"].items() if any(jax.tree.leaves(part))} == set(trained)
  trains = params if trainable == "all" else {"head": params["head"]} | {k: params["encoder"][k] for k in trained}
  size = sum(x.size for x in jax.tree.leaves(trains))
  assert sum(x.size for x in jax.tree.leaves(moments) if jnp.ndim(x)) == 2 * size
  given = []
  encoder.adapted_params(start, lambda loss, params, data: (given.append(params) or params, ()))(loss, params, GRAY)
  assert sum(x.size for x in jax.tree.leaves(given)) == size


def toned(name, split="train", *, size=28, preprocessing=None, **kept):
  """Ten classes of six images, gray or as published."""
  seed = ("train", "validation", "test").index(split)
  shape = (60, size, size, 1) if preprocessing is None else (60, preprocessing.pixels, preprocessing.pixels, 3)
  images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
  return from_arrays(images, np.repeat(np.arange(10), 6), classes=[f"{split} {k}" for k in range(10)])


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
  """Runs a command: (status, standard output, standard error, records)."""
  few_programs.use(monkeypatch)
  monkeypatch.setattr(records, "home", lambda command: tmp_path / "experiments")
  monkeypatch.setattr(data, "load", toned)
  monkeypatch.setattr(driver, "write_page", lambda run, *given: None)

  def run(module, *arguments):
    main = partial(commands.run_command, module)
    where = ["--output", str(tmp_path / "runs")]
    status, out, error = commands.run(monkeypatch, capsys, module.__name__, main, *TINY, *arguments, *where)
    found = list(tmp_path.rglob("records.json"))
    return status, out, error, json.loads(found[0].read_text()) if found else []

  return run


def test_the_rate_of_each_stage_is_the_best_one_on_validation_tasks(dino, monkeypatch, capsys):
  """The smallest of equal ones; the records name it."""
  experiment = pmf.build(pmf.Config(rate_tasks=7, setup=few_shot_config.Setup(start=Start(dino))))
  (tests,), means, asked = experiment.evaluate, iter([50.0, 60.0, 70.0, 70.0, 50.0, 50.0, 40.0, 30.0]), []

  def accuracy(learner, params, state, batches, tasks):
    asked.append((batches, tasks))
    return mean_and_ci(np.full(2, next(means)))

  monkeypatch.setattr(few_shot_choice, "few_shot_accuracy", accuracy)
  trained, validation = TrainState(*[None] * len(TrainState._fields)), lambda: None
  modes = tests.modes_for([trained], (5, 1), validation)
  assert asked == [(validation, 7)] * 8
  assert [mode.variant[0] for mode in modes] == ["P>M>F", "P>M", "P>F", "P"]
  written = tests.records((5, 1), {mode: [mean_and_ci(np.full(2, 50.0))] for mode in modes}, {}, 0)
  assert [one.about.get("fine_tuning_learning_rate") for one in written] == [1e-3, None, 0.0, None]
  scores = "7 validation tasks, learning rate 0: 50.0%, learning rate 0.0001: 60.0%"
  assert f"pmf, P>M>F, from {dino.name}: learning rate 0.001 ({scores}" in capsys.readouterr().out


@pytest.mark.slow
def test_pmf_tests_every_stage_at_the_rate_that_validation_tasks_choose(command, dino):
  rates = ["--fine-tuning-learning-rates", "0", "0.01", "--fine-tuning-steps", "2", "--rate-tasks", "2"]
  status, out, error, found = command(pmf, "--encoder", str(dino), *rates)
  assert status == 0, error
  tested = {one["learner"]: one for one in found if one["measure"] == "accuracy"}
  assert list(tested) == [f"pmf, {stage}, from {dino.name}" for stage in ("P>M>F", "P>M", "P>F", "P")] + ["pixels"]
  for stage in ("P>M>F", "P>F"):
    chosen = tested[f"pmf, {stage}, from {dino.name}"]["fine_tuning_learning_rate"]
    assert f"pmf, {stage}, from {dino.name}: learning rate {chosen:g} (2 validation tasks, learning rate 0: " in out
  assert "fine_tuning_learning_rate" not in tested[f"pmf, P>M, from {dino.name}"]


def test_the_stages_without_meta_training_ignore_what_was_trained(dino, monkeypatch):
  """P>M of the published params is P; after training they differ, and P stays."""
  setup = few_shot_config.Setup(start=Start(dino), task=few_shot_config.Task(3, 1, 2, 2))
  experiment = pmf.build(pmf.Config(setup=setup))
  meta, untrained = experiment.evaluate[0].modes
  batch = learners.image_episodes(0)
  colored = jax.tree.map(lambda x: jnp.resize(x, (*x.shape[:2], 12, 12, 1)) if x.ndim == 5 else x, batch)
  params, state = jax.jit(experiment.learner.init)(jax.random.key(0), colored)
  support, query = jax.tree.map(lambda x: x[0], colored)
  other = jax.tree.map(lambda x: x + 0.1, params)

  @jax.jit
  def logits(params):
    return [mode.learner.predict(params, state, support, query.inputs) for mode in (meta, untrained)]

  (first, published_first), (changed, published_changed) = logits(params), logits(other)
  np.testing.assert_allclose(first, published_first, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(published_first, published_changed)
  assert not np.allclose(first, changed, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["all", "low_rank"])
def test_a_trained_encoder_is_saved_loaded_back_and_labels_images(
  command, dino, tmp_path, monkeypatch, capsys, trainable
):
  status, _, error, _ = command(prototypical, "--encoder", str(dino), "--trainable", trainable)
  assert status == 0, error
  (run,) = (tmp_path / "runs").iterdir()
  arguments = [str(run), "--to", str(tmp_path / "mine")]
  status, out, error = commands.run(
    monkeypatch, capsys, "save_encoder", partial(commands.run_command, save_encoder), *arguments
  )
  assert status == 0 and out.endswith(f"\nencoder: {tmp_path / 'mine'}\n"), error
  one = finished.read(run)
  trained = states_of(one.run, one.experiment.learner, one.experiment.optimizer, one.experiment.train_batches)[0]
  model, image = inference.load_encoder(tmp_path / "mine"), np.uint8(255 * np.repeat(GRAY, 3, -1))
  wanted = one.experiment.learner.embed(trained.params, trained.state, image / np.float32(255))
  np.testing.assert_allclose(model.model.embed(image), wanted, rtol=1e-4, atol=1e-4)
  status, _, error = commands.run(
    monkeypatch, capsys, "save_encoder", partial(commands.run_command, save_encoder), *arguments
  )
  assert status == 2 and "expected --to to be an empty or a new folder" in error


@pytest.mark.parametrize(
  ("module", "flags", "said"),
  [
    (cavia, ["--encoder", "{dino}"], "expected no --encoder, as a context of CAVIA"),
    (relation, ["--encoder", "{dino}"], "expected no --encoder, as relation networks compare feature maps"),
    (prototypical, ["--rank", "8"], "expected --rank with --encoder, got 8 without it"),
    (maml, ["--trainable", "low_rank"], "expected --trainable with --encoder, got low_rank without it"),
    (prototypical, ["--encoder", "/nowhere"], "/nowhere"),
    (prototypical, ["--encoder", "{dino}", "--image-size", "13"], "13"),
    (pmf, ["--encoder", "{dino}", "--trainable", "head"], "expected --trainable all or low_rank"),
    (pmf, ["--no-pretrained"], "expected --no-pretrained with --encoder"),
  ],
)
def test_flags_that_do_not_fit_an_encoder_are_refused(command, dino, module, flags, said):
  status, _, error, found = command(module, *(flag.format(dino=dino) for flag in flags))
  assert status == 2 and said in error and error.count("\n") == 1 and not found, error


def test_an_export_resizes_as_the_publisher(tmp_path, monkeypatch, dino):
  seen = []
  monkeypatch.setattr(exports, "write_export", lambda *given, **how: seen.append(how["images"]))
  setup = few_shot_config.Setup(start=Start(dino), data=data.ImageData(data="photos"))
  experiment = prototypical.build(prototypical.Config(setup=setup))
  batch = Examples(np.ones((2, 12, 12, 3), "f"), np.eye(2))
  state = TrainState(*[None] * len(TrainState._fields))
  trained = Trained([state], experiment.learner, 0, 1, 1, 0, 0, [])
  monkeypatch.setattr(exports, "_about", lambda *given: {})
  exports.export_run(tmp_path, experiment, trained, batch, [])
  assert seen[0].preprocessing == load_encoder(dino).preprocessing


def tuned_in_numpy(weight, support, labels, queries, rate, steps, draw):
  """P>M>F's fine-tuning by gradient descent, with a gradient by differences in 64 bits."""

  def logits(weight, inputs):
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    prototypes = (labels.T @ (support @ weight)) / labels.sum(0)[:, None]
    return 10 * unit(inputs @ weight) @ unit(prototypes).T

  def loss(weight, step):
    found = logits(weight, draw(step))
    return np.mean(np.log(np.exp(found).sum(1)) - (found * labels).sum(1))

  for step in range(steps):
    gradient = np.zeros_like(weight)
    for place in np.ndindex(weight.shape):
      nudge = np.zeros_like(weight)
      nudge[place] = 1e-6
      gradient[place] = (loss(weight + nudge, step) - loss(weight - nudge, step)) / 2e-6
    weight = weight - rate * gradient
  return logits(weight, queries)


def test_fine_tuned_prototypes_are_the_papers():
  random, labels = np.random.default_rng(0), np.eye(3)[[0, 1, 2, 2]]
  weight, support, queries = random.normal(size=(5, 4)), random.normal(size=(4, 5)), random.normal(size=(6, 5))
  noise = lambda key, x: x + jax.random.normal(key, x.shape)

  def draw(step):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), step), 4)
    return np.float64(jax.vmap(noise)(keys, jnp.float32(support)))

  adapt = gradient_steps(optax.sgd(0.1), 3, gradient="first_order")
  predict = jax.jit(fine_tuned_prototypes(lambda params, state, x: x @ params, adapt, noise))
  found = predict(jnp.float32(weight), {}, Examples(jnp.float32(support), jnp.float32(labels)), jnp.float32(queries))
  np.testing.assert_allclose(found, tuned_in_numpy(weight, support, labels, queries, 0.1, 3, draw), atol=1e-3)
