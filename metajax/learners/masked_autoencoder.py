"""Masked autoencoders (arXiv:2111.06377): reconstruction of an image from a quarter of its patches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax import checks
from metajax.augment import augment_batch
from metajax.augment.patches import patchify
from metajax.compose.combinators import blank_features, check_networks
from metajax.learners._checks import check_augmentation, check_predictor, check_views, inputs_of
from metajax.losses import masked_reconstruction, normalized_patches
from metajax.predictors import nearest_centroid
from metajax.types import Array, Augmentation, Examples, Inputs, Key, Learner, Network, Params, Predictor, State

# (params, state, key, images) -> (patches [n, patches, pixels], hidden [n, patches])
Reconstruct = Callable[[Params, State, Key, Inputs], tuple[Array, Array]]


def masked_autoencoder(
  encoder: Network,
  decoder: Network,
  patch: int = 16,
  *,
  mask_ratio: float = 0.75,
  normalize: bool = True,
  augmentation: Augmentation | None = None,
  predictor: Predictor = nearest_centroid,
) -> Learner:
  """Masked autoencoder: learns to reconstruct hidden patches of an image from the visible ones (arXiv:2111.06377).

      minimize  mean over hidden patches of |decoder(encoder(visible patches)) - patch|^2

  Visible patches are drawn uniformly per image. The encoder sees no hidden patch and no mask token, so it costs a
  quarter. A batch is images `[n, h, w, c]` in [0, 1], or `Examples` of them, whose labels only mark padding (zeros).

  Args:
    encoder: Images and indices `[n, kept]` of the visible patches (all patches, if omitted) to features
      `[n, kept, d]`: `networks.vision_transformer(..., pool="none")`.
    decoder: These features and the order of all patches `[n, patches]`, visible ones first, to `[n, patches, pixels]`:
      `networks.patch_decoder(patch * patch * channels)`.
    patch: Side length of a patch in pixels, a divisor of the image's.
    mask_ratio: Fraction of hidden patches, between 0 and 1; at least one patch is visible and one hidden.
    normalize: Whether target patches are normalized to mean 0 and variance 1, which the paper found better.
    augmentation: Training augmentation `(key, image) -> image` of the same size, e.g. `random_resized_crop()`.
    predictor: Few-shot predictor on the embedding.

  Returns:
    A Learner whose `embed` is the mean `[n, d]` over the encoder's features of all patches.

  Raises:
    TypeError: If a network is not a Network, or `augmentation` or `predictor` not a function.
    ValueError: If `patch` or `mask_ratio` is out of range; at init, if the batch is not finite or not in [0, 1], images
      are not square or do not divide into several patches, or the decoder's outputs are not patches.
  """
  check_networks(encoder=encoder, decoder=decoder)
  check_predictor(predictor)
  check_augmentation("augmentation", augmentation)
  _check_ratio(mask_ratio)
  checks.count("patch", patch)

  def init(key, batch):
    return _init(encoder, decoder, patch, mask_ratio, normalize, key, inputs_of(batch))

  def loss(params, state, batch, key):
    view_key, mask_key, *keys = jax.random.split(key, 4)
    images = inputs_of(batch) if augmentation is None else augment_batch(augmentation, view_key, inputs_of(batch))
    order, kept = hidden(mask_key, images, patch, mask_ratio)
    found, state = _through(encoder, decoder, params, state, images, order, kept, train=True, keys=keys)
    targets = normalized_patches(patchify(images, patch)) if normalize else patchify(images, patch)
    unseen = jnp.argsort(order) >= kept
    if isinstance(batch, Examples):
      unseen &= batch.labels.any(-1, keepdims=True)
    return masked_reconstruction(found, targets, unseen.astype(found.dtype)), (state, {})

  def embed(params, state, inputs):
    return encoder.apply(params["encoder"], state["encoder"], inputs, train=False)[0].mean(1)

  return Learner(init, loss, embed, predictor(embed))


def reconstruct(encoder: Network, decoder: Network, patch: int = 16, *, mask_ratio: float = 0.75) -> Reconstruct:
  """Reconstructs images by a trained `masked_autoencoder`.

  Patches are in the units of training. To show normalized patches, restore a mean and a contrast, e.g. those of the
  original patches, and join them with `augment.patches.unpatchify(patches, patch)`:

      mean, deviation = losses.patch_statistics(augment.patches.patchify(images, patch))
      shown = unpatchify(deviation * patches + mean, patch)

  Returns:
    A function `(params, state, key, images [n, h, w, c]) -> (patches [n, patches, pixels], hidden [n, patches])`: all
    patches as reconstructed, and a mask of those that the encoder did not see.

  Raises:
    ValueError: If `mask_ratio` is out of range; when applied, if the decoder's patches have another size.
  """
  _check_ratio(mask_ratio)

  def reconstructed(params: Params, state: State, key: Key, images: Inputs) -> tuple[Array, Array]:
    order, kept = hidden(key, images, patch, mask_ratio)
    found, _ = _through(encoder, decoder, params, state, images, order, kept, train=False, keys=(None, None))
    if found.shape[-1] != patch * patch * images.shape[-1]:
      raise ValueError(f"expected patches of {patch} x {patch} pixels, got patches of {found.shape[-1]} values")
    return found, jnp.argsort(order) >= kept

  return reconstructed


def hidden(key: Key, images: Array, patch: int, mask_ratio: float) -> tuple[Array, int]:
  """A random order of the patches of each image, `[n, patches]`, uniform, and the number of its first, visible ones."""
  patches = images.shape[1] // patch * (images.shape[2] // patch)
  kept = min(max(1, round(patches * (1 - mask_ratio))), patches - 1)
  order = augment_batch(lambda key, _: jax.random.permutation(key, patches), key, images[:, :1, :1, 0])
  return order, kept


def _through(encoder, decoder, params, state, images, order, kept, *, train, keys):
  """The decoder's patches `[n, patches, pixels]` from the visible ones, and the new state."""
  shown = order[:, :kept]
  seen, encoder_state = encoder.apply(params["encoder"], state["encoder"], images, shown, train=train, key=keys[0])
  found, decoder_state = decoder.apply(params["decoder"], state["decoder"], seen, order, train=train, key=keys[1])
  return found, {"encoder": encoder_state, "decoder": decoder_state}


def _init(encoder, decoder, patch, mask_ratio, normalize, key, images):
  check_views(images, least=1)
  targets = jax.eval_shape(lambda: patchify(images, patch)).shape
  _check_images(images, targets, patch, normalize)
  keys = jax.random.split(key)
  order, kept = hidden(key, images, patch, mask_ratio)
  params, state = encoder.init(keys[0], images, order[:, :kept])
  _check_encoder(encoder, params, state, images, targets)
  seen = blank_features(encoder, params, state, images, order[:, :kept])
  of_decoder, decoder_state = decoder.init(keys[1], seen, order)
  _check_decoder(decoder, of_decoder, decoder_state, seen, order, targets)
  return {"encoder": params, "decoder": of_decoder}, {"encoder": state, "decoder": decoder_state}


def _check_images(images, targets, patch, normalize):
  if images.shape[1] != images.shape[2] or targets[1] < 2:
    raise ValueError(f"expected square images of several patches of {patch} pixels, got {list(images.shape[1:3])}")
  if normalize and targets[2] < 2:
    raise ValueError("expected patches of several values, to normalize them, got patches of 1")


def _check_encoder(encoder, params, state, images, targets):
  whole = jax.eval_shape(lambda: encoder.apply(params, state, images, train=False)[0]).shape
  if len(whole) != 3 or whole[1] != targets[1]:
    raise ValueError(f"expected an encoder of {targets[1]} patches, [n, patches, d], got {list(whole)}")


def _check_decoder(decoder, params, state, seen, order, targets):
  outputs = jax.eval_shape(lambda: decoder.apply(params, state, seen, order, train=False)[0]).shape
  if outputs != targets:
    raise ValueError(f"expected a decoder of {targets[-1]} outputs, a patch's pixels, got {list(outputs)}")


def _check_ratio(mask_ratio):
  checks.scalar("mask_ratio", mask_ratio)
  if not 0 < mask_ratio < 1:
    raise ValueError(f"expected mask_ratio between 0 and 1, got {mask_ratio}")
