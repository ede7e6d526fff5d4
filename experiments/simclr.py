"""SimCLR (arXiv:2002.05709): pretraining on views of unlabeled images, then a linear probe, k-NN and few-shot tests.

python -m experiments.simclr --preset cpu --seeds 3     # glyphs: probe 48.8, k-NN 34.7, 7 min on 1 core
python -m experiments.simclr --data cifar10 --preset cpu_photos     # probe 55.7, k-NN 53.8: 46 min on 1 core
python -m experiments.simclr --data cifar10 --preset cifar     # for an accelerator
"""

from typing import Annotated, Any, Literal, NamedTuple

from experiments.families import representation as rep
from experiments.families.image_flags import CropFrom, crops_originals
from metajax.augment import image
from metajax.compose import chunked
from metajax.data import RandomCrop
from metajax.experiment.bounds import Depth, Positive, Width
from metajax.experiment.former_flags import also
from metajax.learners import simclr
from metajax.networks import projection_head
from metajax.types import Augmentation, Network

Recipe = Literal["auto", "simclr", "simclr_cifar", "handwriting"]


class Config(NamedTuple):
  """Pretrains SimCLR on unlabeled images, and evaluates its frozen features."""

  hidden: Width = 2048
  """Hidden units of the projection head."""
  num_outputs: Annotated[Width, *also("--outputs")] = 128
  """Output units of the projection head."""
  num_layers: Annotated[Depth, *also("--layers")] = 2
  """Layers of the projection head."""
  temperature: Positive = 0.5
  """Temperature of the NT-Xent loss."""
  learned_temperature: bool = False
  """Learn the temperature, starting at 0.07."""
  decoupled: bool = False
  """Leave the positive pair out of the sum over negatives (DCL, arXiv:2110.06848)."""
  augmentation: Annotated[Recipe, *also("--recipe")] = "auto"
  """Augmentation of the views; auto is handwriting for characters, simclr from 64 pixels and simclr_cifar below."""
  crop_from: CropFrom = "auto"
  """Images that are cropped: original files, tested on their centers, or resized ones; auto: files from 128 pixels."""
  encoder: rep.EncoderFlags = rep.EncoderFlags()
  setup: rep.Setup = rep.Setup()


VIEWS = RandomCrop(views=2)
_CIFAR = rep.ImageData(data="cifar10", size=32)
_ADAMW = rep.Outer(128, "adamw", 3e-3, weight_decay=1e-4, warmup_steps=40)
PRESETS = {
  "paper": Config(
    temperature=0.1,
    encoder=rep.EncoderFlags("resnet50", stem="imagenet"),
    setup=rep.Setup(
      data=rep.ImageData(size=224),
      outer=rep.Outer(4096, warmup_steps=3128),
      training=rep.TRAINING._replace(steps=312800, eval_every=10000),
    ),
  ),
  "cifar": Config(
    encoder=rep.EncoderFlags("resnet18"),
    setup=rep.Setup(
      data=_CIFAR,
      outer=rep.Outer(512, learning_rate=0.5, warmup_steps=975),
      training=rep.TRAINING._replace(steps=19500),
    ),
  ),
  "cpu": Config(
    hidden=256,
    encoder=rep.EncoderFlags("conv4"),
    setup=rep.Setup(outer=_ADAMW, training=rep.TRAINING._replace(steps=260, eval_every=65)),
  ),
  "cpu_photos": Config(
    hidden=256,
    encoder=rep.EncoderFlags("resnet10", 0.25),
    setup=rep.Setup(
      data=_CIFAR,
      outer=_ADAMW._replace(learning_rate=4e-3, warmup_steps=200),
      training=rep.TRAINING._replace(steps=3500, eval_every=500),
    ),
  ),
}


def build(config: Config) -> rep.Experiment:
  """SimCLR, with the features before its projection head."""
  originals = crops_originals(config.setup.data, config.crop_from)
  network, augmentation = rep.encoder_of(config.encoder), view_of(config, crop=not originals)
  head = projection_head(config.hidden, config.num_outputs, config.num_layers)
  temperature = "learned" if config.learned_temperature else config.temperature
  how: dict[str, Any] = {"temperature": temperature, "decoupled": config.decoupled}
  learner = simclr(network, head, augmentation, **how)
  if config.setup.training.accumulate > 1:
    learner = learner._replace(loss=simclr(_in_parts(network, config), head, augmentation, **how).loss)
  others = {"after the head": simclr(network, head, augmentation, embedding="head", **how).embed}
  drawn: dict[str, Any] = rep.from_originals(config.setup, VIEWS) if originals else {}
  found = rep.representation_experiment(
    config.setup,
    "simclr",
    learner,
    network,
    draw=rep.views(view_of(config)),
    others=others,
    variant=_variant(config),
    **drawn,
  )
  return found._replace(accumulate="itself")


def _variant(config: Config) -> tuple[str, ...]:
  """What the records say beside the name."""
  is_lars = config.setup.outer.optimizer == "lars"
  return ("decoupled",) * config.decoupled + ("learned temperature",) * config.learned_temperature + ("LARS",) * is_lars


def _in_parts(network: Network, config: Config) -> Network:
  """The encoder, which computes a batch in parts: exact, as every row meets all others (arXiv:2101.06983)."""
  rows, parts = config.setup.outer.batch_size, config.setup.training.accumulate
  if rows % parts:
    raise ValueError(f"expected --accumulate that divides the --batch-size of {rows}, got {parts}")
  if config.encoder.encoder_name[:3] != "vit":
    given = f"{parts} and --encoder-name {config.encoder.encoder_name}"
    raise ValueError(f"expected --accumulate 1 with an encoder that normalizes over a batch, got {given}")
  return chunked(network, 2 * rows // parts)  # of both views


def view_of(config: Config, crop: bool = True) -> Augmentation:
  """The augmentation of a config's views, without its crop if the batches hold crops.

  Raises:
    ValueError: if the batches hold crops, and the augmentation is of characters.
  """
  recipe = config.augmentation
  if recipe == "auto":
    small = "simclr_cifar" if config.setup.data.size < 64 else "simclr"
    recipe = "handwriting" if config.setup.data.data in ("glyphs", "omniglot") else small
  if recipe == "handwriting" and not crop:
    raise ValueError("expected --augmentation simclr or simclr_cifar with --crop-from original, got handwriting")
  return getattr(image, recipe)() if crop else getattr(image, recipe)(crop=False)


if __name__ == "__main__":
  rep.main(build, PRESETS)
