"""The rows of the accelerator benchmark: each a name, and a function of seconds that measures it."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.contrastive_loss import SCALE, TEMPERATURE, of_ours, towers
from benchmarks.step import calls_per_second, compile_program, training_step
from metajax import Episode, Examples, Pair, gradient_steps
from metajax.augment.image import simclr as simclr_view
from metajax.compose import linear, with_head
from metajax.learners import clip, maml, simclr
from metajax.networks import clip_towers, conv4, projection_head, resnet, text_transformer, vision_transformer
from metajax.networks.linen.clip_towers import PUBLISHED
from metajax.networks.linen.transformer import Size
from metajax.train import adamw, lars
from metajax.types import Learner

PRECISIONS = ("default", "highest")
PEERS = ("torch.func vmapped", "torch.func looped", "TorchOpt")
RATE = 0.1  # of the inner loop


class Sizes(NamedTuple):
  """Sizes of all rows."""

  tasks: int
  chunk_sizes: tuple[int, ...]
  filters: int
  queries: int
  inner_steps: tuple[int, ...]
  rows: tuple[int, ...]
  batch: int
  pixels: int
  depth: int


FULL = Sizes(32, (16, 64, 4, 1), 64, 15, (1, 5), (1024, 4096, 16384, 65536), 256, 224, 50)
TINY = Sizes(2, (2, 1), 8, 1, (1,), (64,), 4, 32, 18)


def tasks(count: int, queries: int) -> Episode:
  """Random 5-way 1-shot tasks of gray images, which need no data."""
  random = np.random.default_rng(0)

  def examples(each):
    labels = np.tile(np.repeat(np.eye(5, dtype=np.float32), each, 0), (count, 1, 1))
    return Examples(random.random((count, 5 * each, 28, 28, 1), np.float32), labels)

  return Episode(examples(1), examples(queries))


def maml_jobs(sizes: Sizes, with_peers: bool) -> Iterator[tuple[str, Callable]]:
  """Meta-gradients by convolution, tasks at once and precision, beside PyTorch."""
  for steps, precision in itertools.product(sizes.inner_steps, PRECISIONS):
    for chunk, convolution in itertools.product(sizes.chunk_sizes, ("native", "slices")):
      count = max(sizes.tasks, chunk)
      name = f"K = {steps}, {convolution}, {chunk} of {count} tasks at once, {precision}"
      yield name, _maml(sizes, convolution, steps, chunk, count, precision)
    if with_peers:
      for peer in PEERS:
        yield f"K = {steps}, {peer}, {sizes.tasks} tasks, {precision}", _torch_maml(sizes, peer, steps, precision)


def _learner(sizes, convolution, steps, chunk) -> Learner:
  network = with_head(conv4(sizes.filters, downsample="stride", pool="mean", convolution=convolution), linear(5))
  return maml(network, gradient_steps(optax.sgd(RATE), steps), chunk_size=chunk)


def _maml(sizes, convolution, steps, chunk, count, precision) -> Callable:
  def job(seconds):
    learner, batch = _learner(sizes, convolution, steps, chunk), tasks(count, sizes.queries)
    params, state = learner.init(jax.random.key(0), batch)
    gradient = jax.value_and_grad(learner.loss, has_aux=True)
    with jax.default_matmul_precision(precision):
      program = compile_program(gradient, params, state, batch, jax.random.key(1))
    (loss, _), _ = program()
    return _row(program, count, "tasks/s", seconds) | {"loss": float(loss)}

  return job


def _torch_maml(sizes, peer, steps, precision) -> Callable:
  def job(seconds):
    import torch

    from benchmarks import peers

    _set_torch(torch, precision)
    batch = tasks(sizes.tasks, sizes.queries)
    params, _ = _learner(sizes, "native", steps, 1).init(jax.random.key(0), batch)
    made = peers.peers("conv4", params, batch, peers.Inner("sgd", RATE, steps), torch.get_num_threads())
    if peer not in made:
      raise RuntimeError("not installed")
    rate = calls_per_second(made[peer], seconds)
    return {"value": round(sizes.tasks * rate, 1), "unit": "tasks/s", "loss": made[peer]()[0]}

  return job


def contrastive_jobs(sizes: Sizes, with_peers: bool) -> Iterator[tuple[str, Callable]]:
  """Value and gradient of contrastive losses by rows, of width 512, beside open_clip and lightly."""
  for loss, rows in itertools.product(("info_nce", "nt_xent"), sizes.rows):
    for how in ("tiled", "dense"):
      yield f"{loss}, {rows} rows, {how}", _contrastive(loss, rows, how)
    if with_peers:
      peer = {"info_nce": "open_clip", "nt_xent": "lightly"}[loss]
      yield f"{loss}, {rows} rows, {peer}", _torch_contrastive(loss, rows, peer)


def _contrastive(loss, rows, how) -> Callable:
  def job(seconds):
    program = compile_program(of_ours(loss, how), *towers(loss, rows, 512))
    return _milliseconds(program, seconds) | {"loss": float(program()[0])}

  return job


def _torch_contrastive(loss, rows, peer) -> Callable:
  def job(seconds):
    import torch

    from benchmarks import contrastive_peers

    _set_torch(torch, "highest")
    made = contrastive_peers.peers(loss, towers(loss, rows, 512), SCALE, TEMPERATURE, torch.get_num_threads())
    if peer not in made:
      raise RuntimeError("not installed")
    memory = round(contrastive_peers.peak_mebibytes(made[peer]), 1)
    took = 1e3 / calls_per_second(made[peer], seconds)
    return {"value": round(took, 2), "unit": "ms", "temporary_mebibytes": memory, "loss": made[peer]()[0]}

  return job


def step_jobs(sizes: Sizes) -> Iterator[tuple[str, Callable]]:
  """A training step of SimCLR and of CLIP, in float32, with fast products, and in bfloat16."""
  for name, (precision, dtype) in itertools.product(
    ("simclr", "clip"), (("default", jnp.bfloat16), ("default", jnp.float32), ("highest", jnp.float32))
  ):
    kind = "bfloat16" if dtype == jnp.bfloat16 else f"float32, {precision}"
    yield f"{name}, {sizes.batch} of {sizes.pixels} pixels, {kind}", _step(sizes, name, precision, dtype)


def _step(sizes, name, precision, dtype) -> Callable:
  def job(seconds):
    random, tiny = np.random.default_rng(0), sizes.pixels < 224
    images = random.random((sizes.batch, sizes.pixels, sizes.pixels, 3), np.float32)
    with jax.default_matmul_precision(precision):
      if name == "simclr":
        encoder = resnet(sizes.depth, width=0.25 if tiny else 1.0, dtype=dtype)
        learner = simclr(encoder, projection_head(64 if tiny else 2048, 32 if tiny else 128), simclr_view())
        program = training_step(learner, lars(0.3), images)
      else:
        length, vocab_size = (8, 64) if tiny else (PUBLISHED["ViT-B/32"].max_length, PUBLISHED["ViT-B/32"].vocab_size)
        text = random.integers(1, vocab_size - 1, (sizes.batch, length)).astype(np.int32)
        text[:, -1] = vocab_size - 1  # the end of text
        pair = _small_towers(length) if tiny else clip_towers("ViT-B/32", dtype=dtype)
        program = training_step(clip(*pair), adamw(5e-4), Pair(images, text))
    return _row(program, sizes.batch, "images/s", seconds)

  return job


def _small_towers(length):
  size = Size(width=16, num_layers=1, num_heads=1)
  image = with_head(vision_transformer(size, 16), linear(8))
  return image, text_transformer(64, size, length, num_outputs=8)


def transfer_jobs(sizes: Sizes) -> Iterator[tuple[str, Callable]]:
  """Images from host to device, ready to compute with in float32 in [0, 1]."""
  shape = (sizes.batch, sizes.pixels, sizes.pixels, 3)
  for dtype in (np.uint8, np.float32):
    yield f"{sizes.batch} of {sizes.pixels} pixels as {np.dtype(dtype)}", _transfer(shape, dtype)


def _transfer(shape, dtype) -> Callable:
  def job(seconds):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    ready = jax.jit(lambda x: x.astype(jnp.float32) / 255)
    rate = calls_per_second(lambda: jax.block_until_ready(ready(jax.device_put(images))), seconds)
    about = {"value": round(shape[0] * rate, 1), "unit": "images/s"}
    return about | {"gigabytes_per_second": round(images.nbytes * rate / 1e9, 3)}

  return job


def _row(program, count: int, unit: str, seconds: float) -> dict[str, Any]:
  rate = calls_per_second(program, seconds)
  return {"value": round(count * rate, 1), "unit": unit, **_compiled(program)}


def _milliseconds(program, seconds: float) -> dict[str, Any]:
  return {"value": round(1e3 / calls_per_second(program, seconds), 2), "unit": "ms", **_compiled(program)}


def _compiled(program) -> dict[str, Any]:
  memory = round(program.temporary_mebibytes, 1)
  return {"temporary_mebibytes": memory, "compile_seconds": round(program.compile_seconds, 1)}


def _set_torch(torch, precision: str):
  """TF32 in PyTorch's products and convolutions, as `precision` is in JAX."""
  torch.set_float32_matmul_precision("highest" if precision == "highest" else "high")
  torch.backends.cudnn.allow_tf32 = precision != "highest"
