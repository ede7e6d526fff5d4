"""A published encoder as a model of images: features, and classifiers from a few labels, without any training."""

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.export import ImageFormat, Model
from metajax.export.model import in_batches, rows_of
from metajax.inference.load import ImageModel
from metajax.predictors import nearest_centroid, normalized
from metajax.types import Examples

KEPT = 10_000  # images whose features are kept, e.g. while support images are left out in turn


def load_encoder(path: str | os.PathLike, *, image_size: int | None = None) -> ImageModel:
  """Loads a published encoder as a model of images.

  Its classifier compares features of norm 1 with the mean of each class:

      logit_c = -|f / |f| - mean_{s in c} f_s / |f_s||^2

  Args:
    path: A `.safetensors` file, or a folder with one and its configuration, as for `networks.load_encoder`.
    image_size: Side of the input images in pixels, by default that of the publisher's preprocessing.

  Returns:
    An `ImageModel` with `embed(images)` and `fit(support)`.

  Raises:
    FileNotFoundError, ValueError: As `networks.load_encoder`.

  Example:
    `classifier = inference.load_encoder("dinov2-small").fit("my_images"); probabilities = classifier(["new/1.jpg"])`
  """
  from metajax.networks import load_encoder as load

  encoder = load(path, image_size=image_size)
  form = ImageFormat(encoder.preprocessing.pixels, 3, "any", encoder.preprocessing)
  network, params, state = encoder.network, encoder.params, encoder.state

  @jax.jit
  def apply(params, state, images):
    return network.apply(params, state, images, train=False)[0]

  shape = (form.size, form.size, 3)
  config: dict[str, Any] = {
    "name": Path(path).name,
    "images": form._asdict(),
    "inputs": [{"dtype": "float32", "shape": list(shape)}],
    "features": jax.eval_shape(apply, params, state, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1],
    "about": {},
    "sha256": {"encoder": _digest(params, state)},
  }
  embed = _kept(lambda images: apply(params, state, images), config)

  classify = jax.jit(nearest_centroid(normalized(lambda params, state, features: features)))

  def logits(support, labels, inputs):
    return np.asarray(classify({}, {}, Examples(embed(support), labels), embed(inputs)))

  return ImageModel(Model(config, embed, logits), form)


def _kept(apply, config):
  """The features of images, which are kept for the images that were seen last."""
  kept: dict[bytes, np.ndarray] = {}

  def embed(inputs):
    (rows,) = rows_of(config, inputs)
    names = [hashlib.sha256(row.tobytes()).digest() for row in rows]
    new = {name: i for i, name in enumerate(names) if name not in kept}
    if new:
      found = in_batches(apply, [rows[list(new.values())]], joint=False)
      if not np.isfinite(found).all():
        raise ValueError("expected finite features, got NaN or infinity: the encoder's weights do not fit the images")
      kept.update(zip(new, found, strict=True))
    result = np.stack([kept[name] for name in names])
    for name in list(kept)[: len(kept) - KEPT]:
      del kept[name]
    return result

  return embed


def _digest(*trees: Any) -> str:
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(trees):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()
