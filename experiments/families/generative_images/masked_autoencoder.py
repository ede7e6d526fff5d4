"""Masked autoencoders as a pretraining experiment: error of masked patches, and reconstructions."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.data import ImageData
from experiments.families.generative_images.config import Masking, check_not_text
from experiments.families.generative_images.scores import BATCH, COUNTED, SHOWN, images_of_source, records_of
from experiments.families.representation.config import Setup
from experiments.families.representation.data import ProbeSplits
from experiments.families.representation.evaluators import first
from experiments.families.representation.experiment import check_images, parts_of, representation_experiment
from experiments.families.transformers import Transformer
from metajax.augment.image import random_resized_crop
from metajax.augment.patches import patchify, unpatchify
from metajax.data import eval_batches
from metajax.experiment import Experiment, Record, Trained
from metajax.experiment.headlines import MEAN_PATCH
from metajax.experiment.types import Figure
from metajax.learners import masked_autoencoder, reconstruct
from metajax.losses import normalized_patches, patch_statistics
from metajax.mesh import to_host
from metajax.networks import patch_decoder, vision_transformer
from metajax.networks.linen.transformer import Size
from metajax.pixels import images_to_float
from metajax.report import contact_sheet_figure
from metajax.types import Learner, Network

TEST_SEED = 7  # of the masks
NAME = "masked autoencoder"
MEAN_SEEN = "mean of the patches that are seen"


class Towers(NamedTuple):
  """The encoder, the patch decoder, and the learner of both."""

  encoder: Network
  light: Network
  learner: Learner


def masked_experiment(setup: Setup, transformer: Transformer, flags: Masking) -> Experiment:
  """The experiment of a masked autoencoder, with a decoder for the channels of the setup's images."""
  check_not_text("mae", setup.data)
  check_images(towers_of(transformer, flags, 3).learner.init, setup.data.size)
  parts = parts_of(setup)
  towers = towers_of(transformer, flags, parts().unlabeled.images.shape[-1])
  run = jax.jit(reconstruct(towers.encoder, towers.light, flags.patch, mask_ratio=flags.mask_ratio))
  whole = vision_transformer(transformer.size, flags.patch, pool="mean", positions="sine_cosine", **transformer.how)
  return representation_experiment(
    setup,
    NAME,
    towers.learner,
    whole,
    draw=functools.partial(_draw, run, flags),
    parts=parts,
    scores=functools.partial(_scores, run, flags, setup.data, parts),
    checked=True,
  )


def towers_of(transformer: Transformer, flags: Masking, channels: int) -> Towers:
  """The networks for images with `channels` channels, and their learner."""
  how: dict[str, Any] = {"positions": "sine_cosine", **transformer.how}
  encoder = vision_transformer(transformer.size, flags.patch, pool="none", **how)
  heads = math.gcd(flags.decoder_width, max(1, flags.decoder_width // 32))
  size = Size(flags.decoder_width, flags.decoder_layers, heads)
  light = patch_decoder(flags.patch * flags.patch * channels, size, **how)
  augmentation = random_resized_crop(area=(0.2, 1.0)) if flags.augmentation == "crop" else None
  seen: dict[str, Any] = {"mask_ratio": flags.mask_ratio, "normalize": flags.normalize, "augmentation": augmentation}
  return Towers(encoder, light, masked_autoencoder(encoder, light, flags.patch, **seen))


def _scores(
  run: Callable, flags: Masking, data: ImageData, parts: Callable[[], ProbeSplits], trained: Trained, /
) -> list[Record]:
  """Records of the squared error of masked patches, with two mean predictions as baselines."""
  found, hidden = _errors(run, trained, parts(), flags), f"{100 * flags.mask_ratio:g}%"
  print(f"\nsquared error of masked patches on test images, {hidden} of the patches masked")
  of = f"hidden patches of {flags.patch} pixels, {hidden}{', each of mean 0 and variance 1' * flags.normalize}"
  return records_of("reconstruction_error", of, found, parts(), data, trained)


def _errors(run: Callable, trained: Trained, parts: ProbeSplits, flags: Masking) -> dict[str, list[np.ndarray]]:
  """Returns `{name: the mean squared error of each test image, per seed}` over the masked patches."""
  units = normalized_patches if flags.normalize else lambda patches: patches
  typical = np.mean(units(patchify(images_of_source(first(parts.images, COUNTED)), flags.patch)), 0)
  found = {NAME: [], MEAN_PATCH: [], MEAN_SEEN: []}
  keys = jax.random.split(jax.random.key(TEST_SEED), -(-len(parts.test.labels) // BATCH))
  for state in trained.states:
    each = {name: [] for name in found}
    for key, batch in zip(keys, eval_batches(parts.test, batch_size=BATCH)(), strict=True):
      count, images = len(batch.labels), images_to_float(batch.inputs)
      blank = np.zeros((BATCH - count, *images.shape[1:]), np.float32)
      made, unseen = (to_host(x)[:count] for x in run(state.params, state.state, key, np.concatenate([images, blank])))
      given = np.asarray(units(patchify(images, flags.patch)))
      seen = (given * ~unseen[..., None]).sum(1, keepdims=True) / (~unseen).sum(1)[:, None, None]
      for name, guess in zip(found, (made, typical, seen), strict=True):
        error = np.square(guess - given).mean(-1)
        each[name].append((error * unseen).sum(-1) / unseen.sum(-1))
    for name, values in each.items():
      found[name].append(np.concatenate(values))
  return {name: values if name == NAME else values[:1] for name, values in found.items()}


def _draw(run: Callable, flags: Masking, folder: Path, trained: Trained, parts: ProbeSplits) -> list[Figure]:
  """Draws test images, their visible patches, and the reconstructions."""
  patch, images, state = flags.patch, images_of_source(first(parts.test, SHOWN)), trained.states[0]
  made, unseen = map(to_host, run(state.params, state.state, jax.random.key(TEST_SEED), images))
  given = patchify(images, patch)
  if flags.normalize:
    mean, deviation = patch_statistics(given)
    made = made * deviation + mean
  seen = jnp.where(unseen[..., None], 0.5, given)
  rows = [images, unpatchify(seen, patch), unpatchify(jnp.where(unseen[..., None], made, given), patch)]
  names, path = ["image", "visible patches", "reconstruction"], folder / "reconstructions.png"
  shown = np.clip(np.concatenate([np.asarray(row) for row in rows]), 0, 1)
  contact_sheet_figure(shown, [name for name in names for _ in range(SHOWN)], path)
  own = " Each masked patch is shown with its true mean and contrast, which the network does not predict."
  said = f"Test images, their visible patches, and the reconstructions.{own * flags.normalize}"
  return [("Reconstructions", said, path)]
