"""Training steps of papers compiled for TPU slices without TPUs: memory, operations, traffic, an estimated time.

    pip install libtpu     # the release that `pip install jax[tpu]` selects
    python -m benchmarks.pods --record     # writes benchmarks/results/pods.json

It is what `--compile-for` says of a command, for learners at the size of their papers: MAML on conv4-64 (5-way 1-shot,
5 steps), SimCLR on ResNet-50, CLIP ViT-B/32 and ViT-L/14, and GPT-2 small; all but MAML in bfloat16. No step is run.
About an hour on 2 CPU cores.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from benchmarks.page import write
from metajax import Episode, Examples, Pair, gradient_steps
from metajax.augment.image import simclr as simclr_view
from metajax.compiled import Slices, project, slices_of
from metajax.compose import linear, with_head
from metajax.experiment.compile_for import entries, show
from metajax.experiment.records import stamped as measured
from metajax.learners import clip, gpt, maml, simclr
from metajax.mesh import mesh_over
from metajax.networks import clip_towers, conv4, decoder, projection_head, resnet
from metajax.networks.linen.layers import Remat
from metajax.train import adamw, lars
from metajax.types import Batch, Learner

Name = Literal["maml", "simclr", "clip", "clip_l14", "gpt"]


class Training(NamedTuple):
  """A learner at the size of its paper, its optimizer, and one device's share of a batch."""

  learner: Learner
  optimizer: optax.GradientTransformation
  share: Batch


def _maml(remat: Remat) -> Training:
  def some(n):
    return Examples(np.zeros((4, n, 28, 28, 1), np.uint8), np.zeros((4, n, 5), np.float32))

  network = with_head(conv4(64, downsample="stride", pool="mean"), linear(5))
  return Training(maml(network, gradient_steps(optax.sgd(0.4), 5)), optax.adam(1e-3), Episode(some(5), some(75)))


def _simclr(remat: Remat) -> Training:
  learner = simclr(resnet(50, dtype=jnp.bfloat16), projection_head(2048, 128), simclr_view())
  return Training(learner, lars(0.3), np.zeros((64, 224, 224, 3), np.uint8))


def _clip(name: str, rows: int) -> Callable[[Remat], Training]:
  def training(remat):
    learner = clip(*clip_towers(name, dtype=jnp.bfloat16, remat=remat, scan=True))
    pairs = Pair(np.zeros((rows, 224, 224, 3), np.uint8), np.full((rows, 77), 49407, np.int32))
    return Training(learner, adamw(5e-4), pairs)

  return training


def _gpt(remat: Remat) -> Training:
  network = decoder(50257, "gpt2", 1024, dtype=jnp.bfloat16, remat=remat, scan=True)
  return Training(gpt(network), adamw(6e-4), np.zeros((4, 1025), np.int32))


TRAININGS: dict[Name, Callable[[Remat], Training]] = {
  "maml": _maml,
  "simclr": _simclr,
  "clip": _clip("ViT-B/32", 128),
  "clip_l14": _clip("ViT-L/14", 64),
  "gpt": _gpt,
}


def projected(name: Name, slices: Slices, fsdp: bool, remat: Remat) -> dict:
  """Record entries of a step on slices."""
  mesh = mesh_over(slices.devices, fsdp=fsdp)
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    made = TRAININGS[name](remat)
  batch = jax.tree.map(lambda x: np.broadcast_to(x[:1], (len(x) * mesh.size, *x.shape[1:])), made.share)
  found = project(made.learner, made.optimizer, batch, slices, mesh)
  show(f"{name}{', fsdp' * fsdp}{f', remat {remat}' * (remat != 'none')}", found)
  return {"fsdp": fsdp, "remat": remat, **entries(found)}


def main(
  learners: tuple[Name, ...] = ("maml", "simclr", "clip", "clip_l14", "gpt"),
  topology: str = "v5e:2x4",
  slices: int = 1,
  fsdp: bool = False,
  remat: Remat = "none",
  record: bool = False,
):
  """Compiles training steps for TPU slices, and says what they take.

  Args:
    learners: Learners to train.
    topology: Shape of a slice, such as v5e:2x4.
    slices: Number of slices.
    fsdp: Shard the parameters over the devices of a slice.
    remat: What of a transformer layer the gradient computes again.
    record: Add the records to benchmarks/results.
  """
  where = slices_of((topology, *[f"slices={slices}"] * (slices > 1)))
  for name in learners:
    one = measured(benchmark="pods", measure=name, unit="ms, estimated", **projected(name, where, fsdp, remat))
    if record:
      write("pods", [one | {"value": one["step_ms"]}], of=("measure", "topology", "fsdp", "remat"))


if __name__ == "__main__":
  tyro.cli(main)
