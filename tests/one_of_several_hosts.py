"""What each of several hosts runs in tests: the same trainings of four learners, on its share of every batch.

python tests/one_of_several_hosts.py PORT HOSTS HOST FILE maml clip+fsdp     # host 0 writes the params of each to FILE
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import Episode, Examples, Pair, few_shot_mse, fit, gradient_steps, make_mesh
from metajax.augment.image import compose, random_flip, random_resized_crop
from metajax.compose import with_preprocessing
from metajax.evaluate import embed_dataset
from metajax.learners import clip, maml, prototypical, simclr
from metajax.losses import squared_error
from metajax.mesh import initialize_distributed, is_primary_host, process_shard, to_host
from metajax.networks import conv4, mlp, projection_head, text_transformer
from metajax.networks.linen.transformer import Size
from metajax.train import start

ROWS, STEPS = 8, 20
RATES = {"maml": 0.03, "prototypical": 0.03, "simclr": 1e-3, "clip": 3e-3}  # contrast of noise is chaotic above


def sharing(draw):
  """`batches(start, shard)` of what `draw(random)` gives of a step, `[ROWS, ...]`."""

  def batches(start=0, shard=(0, 1)):
    host, hosts = shard
    own = slice(host * ROWS // hosts, (host + 1) * ROWS // hosts)
    for step in range(start, 10**6):
      yield jax.tree.map(lambda x: x[own], draw(np.random.default_rng(step)))

  return batches


def waves(random):
  points = lambda: random.uniform(-2, 2, (ROWS, 5, 1)).astype(np.float32)
  shift, x, y = random.uniform(0, 3, (ROWS, 1, 1)).astype(np.float32), points(), points()
  return Episode(Examples(x, np.sin(x + shift)), Examples(y, np.sin(y + shift)))


def random_images(random, *shape):
  return random.random((*shape, 8, 8, 3), np.float32)


def episodes(random):
  labels = np.broadcast_to(np.eye(3, dtype=np.float32), (ROWS, 3, 3))
  return Episode(*(Examples(random_images(random, ROWS, 3), labels) for _ in range(2)))


def pairs(random):
  tokens = random.integers(1, 15, (ROWS, 6)).astype(np.int32)
  tokens[:, -1] = 15  # the end of the text
  return Pair(random_images(random, ROWS), tokens)


def trainings():
  """`{name: (learner, batches)}`."""
  encoder, flat = conv4(8, num_downsamples=2), with_preprocessing(mlp([16], 8), jnp.ravel)
  text = text_transformer(16, Size(16, 1, 1), 6, num_outputs=8)
  view = compose(random_resized_crop(), random_flip())
  return {
    "maml": (maml(mlp([16, 16], 1), gradient_steps(optax.sgd(0.05), 2), loss=squared_error), sharing(waves)),
    "prototypical": (prototypical(flat), sharing(episodes)),
    "simclr": (simclr(encoder, projection_head(16, 8), view), sharing(lambda random: random_images(random, ROWS))),
    "clip": (clip(flat, text), sharing(pairs)),
  }


MESHES = {"": {}, "fsdp": {"fsdp": True}, "axes": {"fsdp": 2, "model": 2}}


def params_after(name: str, mesh: str, devices: int | None = None) -> dict[str, np.ndarray]:
  """Every parameter that a training ends with, by its path."""
  learner, batches = trainings()[name]
  with jax.set_mesh(make_mesh(devices, **MESHES[mesh])):
    optimizer = optax.sgd(RATES[name], momentum=0.9)
    trained = fit(learner, optimizer, batches, STEPS)
    before = to_host(start(learner, optimizer, next(batches(0, process_shard()))).params)
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), before, to_host(trained.params))
    assert max(jax.tree.leaves(moved)) > 1e-3, "what does not learn agrees with anything"
    return {name + jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(to_host(trained.params))}


def examples_in_order(start=0, shard=(0, 1)):
  """Thirteen examples in batches of five, three of which the hosts share unevenly."""
  host, hosts = shard
  for first in range(0, 13, 5):
    rows = np.arange(first, min(first + 5, 13))
    own = rows[host * len(rows) // hosts : (host + 1) * len(rows) // hosts]
    images = np.stack([random_images(np.random.default_rng(row)) for row in rows])[own - first]
    yield Examples(images, own)


def evaluation(name: str, devices: int | None = None) -> dict[str, np.ndarray]:
  """Frozen features of a learner, each once and in order, and the error on each of some tasks."""
  learner, batches = trainings()[name]
  regression, tasks = trainings()["maml"]
  with jax.set_mesh(make_mesh(devices)):
    begun = start(learner, optax.sgd(0.1), next(batches(0, process_shard())))
    found = embed_dataset(learner.embed, begun.params, begun.state, examples_in_order)
    whole = embed_dataset(learner.embed, begun.params, begun.state, list(examples_in_order()))
    begun = start(regression, optax.sgd(0.1), next(tasks(0, process_shard())))
    score = few_shot_mse(regression, begun.params, begun.state, tasks, 20)
  return {"features": found.inputs, "labels": found.labels, "of whole batches": whole.inputs, "errors": score.tasks}


def of_all(names, devices: int | None = None) -> dict[str, np.ndarray]:
  """What trainings, by the learner's name, and evaluations, by "evaluation of" it, give on all devices or on some."""
  found = {}
  for name in names:
    evaluated = name.removeprefix("evaluation of ")
    if evaluated != name:
      found |= {f"{name}: {what}": x for what, x in evaluation(evaluated, devices).items()}
      continue
    learner, _, mesh = name.partition("+")
    found |= {f"{name}: {path}": x for path, x in params_after(learner, mesh, devices).items()}
  return found


if __name__ == "__main__":
  port, hosts, host, file, *names = sys.argv[1:]
  initialize_distributed(f"127.0.0.1:{port}", int(hosts), int(host))
  found = of_all(names)
  if is_primary_host():
    np.savez(file, **found)
