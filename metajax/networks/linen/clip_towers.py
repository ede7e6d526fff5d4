"""The two towers of CLIP in their published sizes (arXiv:2103.00020)."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from metajax.networks.linen.clip_resnet import STRIDE, ClipResNet, clip_resnet
from metajax.networks.linen.layers import Remat
from metajax.networks.linen.text_transformer import text_transformer
from metajax.networks.linen.transformer import CLIP, Details, Size
from metajax.networks.linen.vision_transformer import vision_transformer
from metajax.types import Pair


class Towers(NamedTuple):
  """The sizes of a CLIP.

  Attributes:
    image: Size of the image tower: `Size`, a vision transformer, or `ClipResNet`, a modified residual network.
    patch: Side of a patch, in pixels; for a residual network 32, the pixels between its positions.
    pixels: Side of an image, in pixels.
    text: Size of the text tower.
    num_outputs: Width of an embedding.
    vocab_size: Number of tokens.
    max_length: Maximum number of tokens per text.
  """

  image: Size | ClipResNet
  patch: int
  pixels: int
  text: Size
  num_outputs: int
  vocab_size: int = 49408
  max_length: int = 77


BASE, LARGE, TEXT, LARGE_TEXT = Size(768, 12, 12), Size(1024, 24, 16), Size(512, 12, 8), Size(768, 12, 12)
PUBLISHED = {
  "ViT-B/32": Towers(BASE, 32, 224, TEXT, 512),
  "ViT-B/16": Towers(BASE, 16, 224, TEXT, 512),
  "ViT-L/14": Towers(LARGE, 14, 224, LARGE_TEXT, 768),
  "ViT-L/14@336px": Towers(LARGE, 14, 336, LARGE_TEXT, 768),
  "ViT-H/14": Towers(Size(1280, 32, 16), 14, 224, Size(1024, 24, 16), 1024),  # LAION's from here on, with GELU
  "ViT-g/14": Towers(Size(1408, 40, 16, 6144), 14, 224, Size(1024, 24, 16), 1024),
  "ViT-bigG/14": Towers(Size(1664, 48, 16, 8192), 14, 224, Size(1280, 32, 20), 1280),
  "RN50": Towers(ClipResNet((3, 4, 6, 3), 64, 32), STRIDE, 224, TEXT, 1024),  # OpenAI's from here on
  "RN101": Towers(ClipResNet((3, 4, 23, 3), 64, 32), STRIDE, 224, TEXT, 512),
  "RN50x4": Towers(ClipResNet((4, 6, 10, 6), 80, 40), STRIDE, 288, Size(640, 12, 10), 640),
  "RN50x16": Towers(ClipResNet((6, 8, 18, 8), 96, 48), STRIDE, 384, LARGE_TEXT, 768),
  "RN50x64": Towers(ClipResNet((3, 15, 36, 10), 128, 64), STRIDE, 448, Size(1024, 12, 16), 1024),
}


def attention_width(tower: Size | ClipResNet) -> int:
  """The width of a tower's attention, which its heads divide."""
  return tower.width if isinstance(tower, Size) else tower.num_features


def clip_towers(
  towers: str | Towers,
  *,
  dropout: float = 0.0,
  dtype: DTypeLike = jnp.float32,
  details: Details = CLIP,
  remat: Remat = "none",
  scan: bool = False,
) -> Pair:
  """The image and text networks of a published CLIP, each with its projection.

  Together with the learned temperature they have 151,277,313 (ViT-B/32), 149,620,737 (ViT-B/16), 427,616,513 (ViT-L/14)
  and 427,944,193 (ViT-L/14@336px) parameters, LAION's 986,109,441 (ViT-H/14), 1,366,678,273 (ViT-g/14) and
  2,539,567,105 (ViT-bigG/14), as published; with a residual network, whose state is the statistics of batch norm,
  102,007,137 (RN50), 119,688,033 (RN101), 178,300,601 (RN50x4), 290,979,217 (RN50x16) and 623,258,305 (RN50x64).

  Args:
    towers: Published name, or `Towers`.
    dropout: Dropout rate of transformers, active in training with a key.
    dtype: Type of products and activations; params are float32.
    details: Activation and norms of transformers; by default those of the published models.
    remat, scan: As for `vision_transformer`; a residual network has neither.

  Returns:
    `Pair(image network, text network)`.

  Raises:
    ValueError: if the name is unknown, or a size is out of range.
  """
  if isinstance(towers, str) and towers not in PUBLISHED:
    raise ValueError(f"expected one of {', '.join(map(repr, PUBLISHED))}, or Towers, got {towers!r}")
  t = PUBLISHED[towers] if isinstance(towers, str) else towers
  shared: dict[str, Any] = {"num_outputs": t.num_outputs, "dropout": dropout, "dtype": dtype, "details": details}
  shared |= {"remat": remat, "scan": scan}
  text = text_transformer(t.vocab_size, t.text, t.max_length, **shared)
  if isinstance(t.image, Size):
    return Pair(vision_transformer(t.image, t.patch, **shared), text)
  if t.patch != STRIDE:
    raise ValueError(f"expected a patch of {STRIDE}, the pixels between a residual network's positions, got {t.patch}")
  blocks, width, num_heads = t.image
  return Pair(clip_resnet(blocks, width, t.num_outputs, num_heads, pixels=t.pixels, dtype=dtype), text)
