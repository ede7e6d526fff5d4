"""Networks, bridges from other network libraries, and published weights: the only package that imports flax."""

from metajax.networks.checkpoints.clip import load_clip, save_clip
from metajax.networks.checkpoints.encoders import Encoder, load_encoder, save_encoder
from metajax.networks.checkpoints.gpt2 import load_gpt2
from metajax.networks.checkpoints.resnet_table import ResNet
from metajax.networks.checkpoints.siglip import load_siglip, save_siglip
from metajax.networks.checkpoints.siglip_names import SiglipText
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.from_equinox import from_equinox
from metajax.networks.from_haiku import from_haiku
from metajax.networks.from_nnx import from_nnx
from metajax.networks.linen.audio_conv import audio_conv
from metajax.networks.linen.bert import bert
from metajax.networks.linen.clip_resnet import ClipResNet, clip_resnet
from metajax.networks.linen.clip_towers import Towers, clip_towers
from metajax.networks.linen.conv4 import conv4, conv_blocks
from metajax.networks.linen.decoder import decoder
from metajax.networks.linen.from_linen import from_linen
from metajax.networks.linen.mlp import mlp
from metajax.networks.linen.patch_decoder import patch_decoder
from metajax.networks.linen.projection_head import projection_head
from metajax.networks.linen.relation_module import relation_module
from metajax.networks.linen.resnet import resnet
from metajax.networks.linen.resnet12 import resnet12
from metajax.networks.linen.siglip_text import siglip_text
from metajax.networks.linen.text_transformer import text_transformer
from metajax.networks.linen.transformer import Size
from metajax.networks.linen.vision_transformer import vision_transformer
from metajax.networks.matmul import matmul

__all__ = [
  "ClipResNet",
  "Encoder",
  "ResNet",
  "SiglipText",
  "Size",
  "Towers",
  "VisionTransformer",
  "audio_conv",
  "bert",
  "clip_resnet",
  "clip_towers",
  "conv4",
  "conv_blocks",
  "decoder",
  "from_equinox",
  "from_haiku",
  "from_linen",
  "from_nnx",
  "load_clip",
  "load_encoder",
  "load_gpt2",
  "load_siglip",
  "matmul",
  "mlp",
  "patch_decoder",
  "projection_head",
  "relation_module",
  "resnet",
  "resnet12",
  "save_clip",
  "save_encoder",
  "save_siglip",
  "siglip_text",
  "text_transformer",
  "vision_transformer",
]
