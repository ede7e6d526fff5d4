"""Networks written in linen: the only importer of flax."""

from metajax.networks.audio import audio_conv
from metajax.networks.clip_towers import clip_towers
from metajax.networks.conv4 import conv4, conv_blocks
from metajax.networks.decoder import decoder
from metajax.networks.from_linen import from_linen
from metajax.networks.mlp import mlp
from metajax.networks.patch_decoder import patch_decoder
from metajax.networks.pretrained import load_clip, save_clip
from metajax.networks.pretrained_gpt2 import load_gpt2
from metajax.networks.projection_head import projection_head
from metajax.networks.relation_module import relation_module
from metajax.networks.resnet import resnet
from metajax.networks.resnet12 import resnet12
from metajax.networks.text_transformer import text_transformer
from metajax.networks.vision_transformer import vision_transformer

__all__ = [
  "audio_conv",
  "clip_towers",
  "conv4",
  "conv_blocks",
  "decoder",
  "from_linen",
  "load_clip",
  "load_gpt2",
  "mlp",
  "patch_decoder",
  "projection_head",
  "relation_module",
  "resnet",
  "resnet12",
  "save_clip",
  "text_transformer",
  "vision_transformer",
]
