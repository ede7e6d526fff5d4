"""Image GPT as a pretraining experiment: palette, likelihood, best layer and samples."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families.data import ImageData
from experiments.families.generative_images.config import Pixels, check_not_text
from experiments.families.generative_images.scores import BATCH, COUNTED, SHOWN, images_of_source, records_of
from experiments.families.representation.config import Setup
from experiments.families.representation.data import ProbeSplits
from experiments.families.representation.evaluators import (
  accuracy_of_neighbors,
  first,
  known_and_asked,
  of_curve,
)
from experiments.families.representation.experiment import check_images, parts_of, representation_experiment
from experiments.families.transformers import Sampling, Transformer
from metajax.augment.palette import from_palette, to_palette
from metajax.data import ImageDataset, eval_batches, fit_palette
from metajax.evaluate import embed_dataset, independent_pixels
from metajax.experiment import Experiment, Record, Trained
from metajax.experiment.types import Figure
from metajax.learners import image_gpt, pixel_log_prob, sample
from metajax.learners.gpt import mean_features
from metajax.learners.image_gpt import pixel_encoder, read_images
from metajax.mesh import broadcast_from_primary
from metajax.networks import decoder
from metajax.pixels import images_to_float
from metajax.report import contact_sheet_figure
from metajax.train import TrainState
from metajax.types import Learner, Network

NAME = "image gpt"


class PixelModel(NamedTuple):
  """A decoder over pixels, its palette `[colors, channels]`, the side of an image in pixels, and flags."""

  network: Network
  palette: np.ndarray
  pixels: int
  transformer: Transformer
  sampling: Sampling
  data: ImageData


def image_gpt_experiment(setup: Setup, transformer: Transformer, flags: Pixels, sampling: Sampling) -> Experiment:
  """The experiment of an image GPT. Images are loaded immediately, as the palette is learned from them."""
  sampling.check()
  check_not_text("image_gpt", setup.data)
  palette_size, pixels = flags
  of_two_colors = decoder(3, transformer.size, pixels**2, **transformer.how)
  check_images(image_gpt(of_two_colors, np.eye(2, 3), pixels).init, setup.data.size)
  parts = parts_of(setup)
  learned = lambda: fit_palette(parts().images, palette_size, size=pixels, seed=setup.training.seed).tolist()
  palette = np.array(broadcast_from_primary(learned), np.float32)
  network = decoder(len(palette) + 1, transformer.size, pixels**2, **transformer.how)
  model = PixelModel(network, palette, pixels, transformer, sampling, setup.data)
  return representation_experiment(
    setup,
    NAME,
    image_gpt(network, palette, pixels),
    pixel_encoder(network, palette, pixels),
    draw=functools.partial(_draw, model),
    parts=parts,
    scores=functools.partial(_likelihood, model, parts),
    choose=functools.partial(_best_layer, model),
    checked=True,
  )


def _best_layer(model: PixelModel, states: Sequence[TrainState], parts: ProbeSplits) -> Learner:
  """The learner with the features of the layer of best k-NN accuracy on validation images."""
  found = np.mean([_by_layers(model, state, parts) for state in states], 0)
  best = int(found.argmax())
  said = ", ".join(f"{layer}: {accuracy:.1f}" for layer, accuracy in enumerate(found))
  print(f"k-NN accuracy on validation images by layer: {said}")
  return image_gpt(model.network, model.palette, model.pixels, layer=best)


def _by_layers(model: PixelModel, state: TrainState, parts: ProbeSplits) -> list[float]:
  """The k-NN accuracy of the features of each layer, computed in one pass."""
  layers = model.transformer.num_layers + 1
  embed = functools.partial(_embed_layers, model)
  known, asked = known_and_asked(embed, state.params, state.state, of_curve(parts))
  of_layer = lambda x, layer: x._replace(inputs=np.split(x.inputs, layers, -1)[layer])
  return [accuracy_of_neighbors(*(of_layer(x, i) for x in (known, asked))) for i in range(layers)]


def _embed_layers(model: PixelModel, params, state, images):
  """The concatenated features of all layers."""
  tokens, decoded, _ = read_images(
    model.network, params["encoder"], state["encoder"], images, model.pixels, train=False
  )
  return jnp.concatenate([mean_features(layer, jnp.ones(tokens.shape)) for layer in decoded.layers], -1)


def _likelihood(model: PixelModel, parts: Callable[[], ProbeSplits], trained: Trained, /) -> list[Record]:
  """Records of the bits per pixel, with independent pixels as the baseline."""
  network, palette, pixels, *_, data = model
  of, test = pixel_log_prob(network, pixels), parts().test
  own = [_bits_of_pixels(of, state, test) for state in trained.states]
  few = first(parts().images, COUNTED)
  tokens = [_tokens(part, palette, pixels) for part in (few, parts().validation, test)]
  alone = -independent_pixels(*tokens, len(palette)).log_prob.mean(-1) / np.log(2)
  print(f"\nbits per pixel on test images, {pixels} x {pixels} pixels of {len(palette)} colors")
  rows, what = {NAME: own, "independent pixels": [alone]}, f"{pixels} x {pixels} pixels of {len(palette)} colors"
  chance = round(math.log2(len(palette)), 4)
  return records_of("bits_per_pixel", what, rows, parts(), data, trained, chance=chance)


def _bits_of_pixels(of: Callable, state: TrainState, test: ImageDataset) -> np.ndarray:
  """The mean bits per pixel of each test image."""
  found = embed_dataset(of, state.params, state.state, eval_batches(test, batch_size=BATCH)).inputs
  return -found.mean(-1) / np.log(2)


def _tokens(source: ImageDataset, palette, pixels: int) -> np.ndarray:
  found = jax.jit(lambda images: to_palette(images_to_float(images), palette, pixels))
  return np.concatenate([found(batch.inputs) for batch in eval_batches(source, batch_size=2048)()])


def _draw(model: PixelModel, folder: Path, trained: Trained, parts: ProbeSplits) -> list[Figure]:
  """Draws samples, and completions of the upper halves of test images."""
  network, palette, pixels, _, sampling, _ = model
  params, state = trained.states[0].params["encoder"], trained.states[0].state["encoder"]
  how: dict[str, Any] = sampling._asdict() | {"tokens": len(palette)}

  def go_on(key, prompt):
    return sample(network, params, state["network"], key, prompt, pixels**2 + 1 - prompt.shape[1], **how)

  start = jnp.full((4 * SHOWN, 1), len(palette), jnp.int32)
  drawn = from_palette(go_on(jax.random.key(0), start)[:, 1:], state["palette"])
  contact_sheet_figure(np.asarray(drawn), ["sample"] * len(drawn), folder / "samples.png")
  whole = to_palette(images_of_source(first(parts.test, SHOWN)), state["palette"], pixels)
  half = jnp.concatenate([start[:SHOWN], whole[:, : pixels**2 // 2]], 1)
  rows = [whole, _blank(whole, palette), *(go_on(jax.random.key(i), half)[:, 1:] for i in range(1, 4))]
  names = ["image", "upper half", *["completion"] * 3]
  shown = np.concatenate([np.asarray(from_palette(row, state["palette"])) for row in rows])
  contact_sheet_figure(shown, [name for name in names for _ in range(SHOWN)], folder / "halves.png")
  return [
    ("Samples", f"Images sampled pixel by pixel; {sampling.said}.", folder / "samples.png"),
    ("Image completions", "Test images in the colors of the palette, their upper halves, and three sampled completions "
     "of each.", folder / "halves.png"),
  ]  # fmt: skip


def _blank(tokens, palette):
  """Tokens with the lower half replaced by the middle color of the palette."""
  half = jnp.arange(tokens.shape[1]) >= tokens.shape[1] // 2
  return jnp.where(half, len(palette) // 2, tokens)
