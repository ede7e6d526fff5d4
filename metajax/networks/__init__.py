"""Networks written in linen: the only importer of flax."""

from metajax.networks.conv4 import conv4
from metajax.networks.from_linen import from_linen
from metajax.networks.mlp import mlp
from metajax.networks.projection_head import projection_head
from metajax.networks.relation_module import relation_module
from metajax.networks.resnet import resnet
from metajax.networks.resnet12 import resnet12
from metajax.networks.vision_transformer import vision_transformer

__all__ = [
  "conv4",
  "from_linen",
  "mlp",
  "projection_head",
  "relation_module",
  "resnet",
  "resnet12",
  "vision_transformer",
]
