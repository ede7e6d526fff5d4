"""SimCLR (arXiv:2002.05709): pretraining on views of unlabelled pictures, then a linear probe, neighbours, few shots.

python -m experiments.simclr --budget cpu --seeds 3     # glyphs: probe 48.8, neighbours 34.7, 7 min on 1 core
python -m experiments.simclr --data cifar10 --budget cpu_photos     # probe 55.7, neighbours 53.8: 46 min on 1 core
python -m experiments.simclr --data cifar10 --budget cifar     # for an accelerator
"""

from typing import Literal

from experiments import command_line
from experiments.encoders import Encoder, encoder
from experiments.pretraining import Method, Setting, experiment
from experiments.pretraining_page import views
from experiments.runs import RUN, RunFlags
from metajax.learners import simclr
from metajax.networks import projection_head
from metajax.networks.linen.resnet import Stem
from metajax.views import image

Recipe = Literal["auto", "simclr", "simclr_cifar", "handwriting"]

_PHOTOS = Setting(data="cifar10", size=32, batch_size=512, steps=19500, rate=0.5, warmup=975)
BUDGETS = {
  "paper": {
    "setting": Setting(size=224, batch_size=4096, steps=312800, warmup=3128, curve_every=10000),
    "encoder_name": "resnet50",
    "stem": "imagenet",
    "temperature": 0.1,
  },
  "cifar": {"setting": _PHOTOS, "encoder_name": "resnet18"},
  "cpu": {
    "setting": Setting(batch_size=128, steps=260, optimizer="adamw", rate=3e-3, decay=1e-4, warmup=40, curve_every=65),
    "encoder_name": "conv4",
    "hidden": 256,
  },
  "cpu_photos": {
    "setting": _PHOTOS._replace(
      batch_size=128, steps=3500, optimizer="adamw", rate=4e-3, decay=1e-4, warmup=200, curve_every=500
    ),
    "encoder_name": "resnet10",
    "width": 0.25,
    "hidden": 256,
  },
}


def method(
  encoder_name: Encoder = "resnet50",
  width: float = 1.0,
  stem: Stem = "cifar",
  patch: int = 4,
  bfloat16: bool | None = None,
  hidden: int = 2048,
  outputs: int = 128,
  layers: int = 2,
  temperature: float = 0.5,
  learned_temperature: bool = False,
  recipe: Recipe = "auto",
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
) -> Method:
  """SimCLR on unlabelled pictures, and what its frozen features are worth.

  Args:
    encoder_name: conv4, conv4_strided, resnet10 to resnet101, vit_ti to vit_l.
    width: a multiple of the filters.
    stem: of a residual network: imagenet, or cifar for small pictures.
    patch: of a vision transformer.
    bfloat16: compute in bfloat16; by default where there is an accelerator.
    hidden: units of the projection head.
    outputs: of the projection head.
    layers: of the projection head.
    temperature: of the loss.
    learned_temperature: learn it, from 0.07.
    recipe: of the views; by default handwriting for characters, simclr from 64 pixels, simclr_cifar below.
    setting: flags that every pretraining experiment has.
    run: flags that every experiment has.
  """
  network = encoder(encoder_name, width, stem, patch, bfloat16)
  view = recipe_for(recipe, setting)
  head = projection_head(hidden, outputs, layers)
  how = {"temperature": "learned" if learned_temperature else temperature}
  learner = simclr(network, head, view, **how)
  after = simclr(network, head, view, embedding="head", **how)
  return Method("simclr", learner, {"": learner.embed, ", after the head": after.embed}, network, views(view))


def recipe_for(recipe: Recipe, setting: Setting):
  """The view of a recipe's name."""
  if recipe == "auto":
    small = "simclr_cifar" if setting.size < 64 else "simclr"
    recipe = "handwriting" if setting.data in ("glyphs", "omniglot") else small
  return getattr(image, recipe)()


main = experiment(method)

if __name__ == "__main__":
  command_line.run(main, BUDGETS)
