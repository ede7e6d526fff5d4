"""A SigLIP by the names of transformers, with its configuration."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp

from metajax.networks.checkpoints import siglip_names, vit_names
from metajax.networks.checkpoints.hugging_face import ACTIVATIONS
from metajax.networks.checkpoints.siglip_names import MODEL, SCALARS, TEXT, SiglipText
from metajax.networks.checkpoints.table import tensors_of
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.linen.transformer import Details, Size

QUERY = "pool.query"


def tensors_of_pair(params: Mapping, image: VisionTransformer, text: SiglipText) -> dict[str, Any]:
  """Returns every array of a SigLIP, by transformers' names.

  Raises:
    ValueError: if the params do not match the architectures, or the image tower is not a SigLIP's.
  """
  _check(image)
  of_image = [
    entry._replace(shape=(1, 1, *entry.shape), kind="row") if entry.theirs == QUERY else entry
    for entry in vit_names.table(image)
  ]
  own = {tower: {"params": params.get(tower, {})} for tower in ("image", "text")}
  scalars = {name: x for name, x in params.items() if name not in own}
  found = {name: x.reshape(1) for name, x in tensors_of(scalars, SCALARS, MODEL).items()}
  first = _joined(tensors_of(own["image"], of_image, f"{MODEL}'s image tower"))
  second = tensors_of(own["text"], siglip_names.text_table(text), f"{MODEL}'s text tower")
  towers = (("vision_model", vit_names.LAYOUTS["SigLIP"], first), ("text_model", TEXT["transformers"], second))
  for prefix, layout, tensors in towers:
    found |= {f"{prefix}.{_theirs(name, layout)}": x for name, x in tensors.items()}
  return found


def configuration(image: VisionTransformer, text: SiglipText) -> dict:
  """Returns transformers' `SiglipConfig`."""
  of_image = {"model_type": "siglip_vision_model", "image_size": image.pixels, "patch_size": image.patch}
  of_text = {"model_type": "siglip_text_model", "vocab_size": text.vocab_size}
  of_text |= {"max_position_embeddings": text.max_length, "projection_size": text.num_outputs}
  return {
    "architectures": ["SiglipModel"],
    "model_type": "siglip",
    "vision_config": of_image | _transformer(image.size, image.details),
    "text_config": of_text | _transformer(text.size, text.details),
  }


def _transformer(size: Size, details: Details) -> dict:
  return {
    "hidden_size": size.width,
    "intermediate_size": size.mlp_width,
    "num_hidden_layers": size.num_layers,
    "num_attention_heads": size.num_heads,
    "hidden_act": next(theirs for theirs, ours in ACTIVATIONS.items() if ours == details.activation),
    "layer_norm_eps": details.epsilon,
  }


def _check(image: VisionTransformer):
  details = image.details
  plain = details.patch_bias and not details.first_norm and not details.gated and not details.registers
  if image.pool != "attention" or not plain or details.layer_scale is not None:
    raise ValueError(f"expected a SigLIP's image tower, a vision transformer with attention pooling, got {image}")


def _joined(tensors: dict[str, Any]) -> dict[str, Any]:
  """Joins the queries, keys and values of the attention pooling, as transformers has them."""
  for kind in ("weight", "bias"):
    parts = [tensors.pop(f"pool.attention.{part}.{kind}") for part in ("query", "key", "value")]
    tensors[f"pool.attention.query+key+value.{kind}"] = jnp.concatenate(parts)
  return tensors


def _theirs(name: str, layout: Iterable[tuple[str, str]]) -> str:
  """Turns the patterns of a layout around."""
  for theirs, ours in layout:
    pattern = re.escape(ours).replace(r"\\1", r"(\d+)")
    if match := re.match(pattern, name):
      return match.expand(theirs.replace(r"\.", ".").replace(r"(\d+)", r"\1")) + name[match.end() :]
  raise ValueError(f"expected an array of {MODEL}, got {name!r}")
