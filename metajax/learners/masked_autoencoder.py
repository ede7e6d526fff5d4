"""Masked autoencoders (arXiv:2111.06377): an image from a quarter of its patches."""

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
  """Learns to reconstruct the patches of an image that are hidden from it:

      minimize  mean over hidden patches of |decoder(encoder(patches that are seen)) - patch|^2

  Of each image other patches are drawn, uniformly. The encoder never sees those that are hidden, nor a token in their
  place, so that it costs a quarter. `embed` is the mean over the encoder's outputs for all patches. A batch is images
  `[n, h, w, c]` in [0, 1], or `Examples` of them, whose labels are not looked at, but for an all-zero row, which is
  padding.

  Args:
    encoder: images, and integers `[n, kept]`, the patches that are seen, to features `[n, kept, d]`; without the
      second input, of all patches: `networks.vision_transformer(..., pool="none")`.
    decoder: these, and the order of all patches `[n, patches]`, first those that are seen, to `[n, patches, pixels]`:
      `networks.patch_decoder(patch * patch * channels)`.
    patch: side of a patch in pixels; it divides the image's.
    mask_ratio: the share of patches that are hidden, between 0 and 1; at least one is seen, and one hidden.
    normalize: patches to mean 0 and variance 1 before they are compared, as the paper's better ones.
    augmentation: `(key, image) -> image` of the same size, such as `augment.image.random_resized_crop()`, while
      training.
    predictor: of an embedding, for few-shot tasks.

  Raises:
    TypeError: if a network is no Network, or `augmentation` or `predictor` no function.
    ValueError: if `patch` or `mask_ratio` is out of range; at init, if the batch is not finite or not in [0, 1], images
      are not square or do not divide into several patches, or the decoder's outputs are not a patch's pixels.
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
  """`(params, state, key, images [n, h, w, c]) -> (patches [n, patches, pixels], hidden [n, patches])`.

  What a trained `masked_autoencoder` makes of images, in the units that it was trained in, of all patches, and which
  of them it did not see. To be shown, patches that were normalized get a mean and a contrast again, such as their own,
  and `augment.patches.unpatchify(patches, patch)` puts them together:

      mean, deviation = losses.patch_statistics(augment.patches.patchify(images, patch))
      shown = unpatchify(deviation * patches + mean, patch)

  Raises:
    ValueError: if `mask_ratio` is out of range; when applied, if the decoder's patches are not of this size.
  """
  _check_ratio(mask_ratio)

  def reconstructed(params: Params, state: State, key: Key, images: Inputs) -> tuple[Array, Array]:
    order, kept = hidden(key, images, patch, mask_ratio)
    found, _ = _through(encoder, decoder, params, state, images, order, kept, train=False, keys=(None, None))
    if found.shape[-1] != patch * patch * images.shape[-1]:
      raise ValueError(f"expected patches of {patch} pixels a side, got some of {found.shape[-1]} values")
    return found, jnp.argsort(order) >= kept

  return reconstructed


def hidden(key: Key, images: Array, patch: int, mask_ratio: float) -> tuple[Array, int]:
  """The order in which patches of each image come, `[n, patches]`, uniformly random, and how many are seen."""
  patches = images.shape[1] // patch * (images.shape[2] // patch)
  kept = min(max(1, round(patches * (1 - mask_ratio))), patches - 1)
  order = augment_batch(lambda key, _: jax.random.permutation(key, patches), key, images[:, :1, :1, 0])
  return order, kept


def _through(encoder, decoder, params, state, images, order, kept, *, train, keys):
  """The decoder's patches `[n, patches, pixels]` of what the encoder sees, and the new state."""
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
    raise ValueError("expected patches of several values, which can be normalized, got patches of 1")


def _check_encoder(encoder, params, state, images, targets):
  whole = jax.eval_shape(lambda: encoder.apply(params, state, images, train=False)[0]).shape
  if len(whole) != 3 or whole[1] != targets[1]:
    raise ValueError(f"expected an encoder of {targets[1]} patches, [n, patches, d], got {list(whole)}")


def _check_decoder(decoder, params, state, seen, order, targets):
  outputs = jax.eval_shape(lambda: decoder.apply(params, state, seen, order, train=False)[0]).shape
  if outputs != targets:
    raise ValueError(f"expected a decoder of {targets[-1]} outputs, a patch's pixels, got {list(outputs)}")


def _check_ratio(mask_ratio):
  checks.scalar("a share of hidden patches", mask_ratio)
  if not 0 < mask_ratio < 1:
    raise ValueError(f"expected a share of hidden patches between 0 and 1, got {mask_ratio}")
