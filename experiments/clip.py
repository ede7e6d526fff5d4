"""CLIP (arXiv:2103.00020): pictures and their captions in one space, and zero-shot transfer to what was never seen.

python -m experiments.clip --budget cpu     # glyphs: unseen combinations 74.5 (chance 0.5), 12 minutes on 1 CPU core
python -m experiments.clip --data flickr8k --budget cpu_photos     # R@10 14.8 and 14.7 (chance 1), 48 minutes likewise
python -m experiments.clip --data emoji --budget cpu_emoji     # R@10 31.9 and 31.4 (chance 2.6), 18 minutes likewise
"""

from typing import Annotated, Literal, NamedTuple

from experiments.families import representation as rep
from experiments.families.image_text.experiment import Outer, TextTower, clip_experiment
from metajax.experiment.bounds import Count, Width
from metajax.learners.clip import Loss


class Config(NamedTuple):
  """CLIP on pictures with captions, and what it transfers to."""

  outputs: Width = 128
  """Values of an embedding."""
  loss: Loss = "info_nce"
  """info_nce, or siglip."""
  augment: Literal["auto", "none", "crop", "affine"] = "auto"
  """The pictures; by default distortions for glyphs, crops for the rest."""
  chunk: Annotated[int | None, *Count.__metadata__] = None
  """Rows that a tower without batch statistics computes at once; by default all."""
  permuted: bool = False
  """Give each class the captions of another: what is then learned does not transfer."""
  encoder: rep.EncoderFlags = rep.EncoderFlags("conv4")
  text: TextTower = TextTower()
  data: rep.ImageData = rep.ImageData()
  outer: Outer = Outer()
  training: rep.Training = rep.TRAINING
  probing: rep.Probing = rep.Probing()
  run: rep.RunFlags = rep.RUN


PRESETS = {
  "paper": Config(
    512,
    encoder=rep.EncoderFlags("vit_b", patch=32),
    text=TextTower(512, 12, 49408, 77),
    data=rep.ImageData(size=224),
    outer=Outer(32768, 5e-4, 0.2, 2000),
    training=rep.TRAINING._replace(steps=390000),
  ),
  "cpu": Config(
    data=rep.ImageData(size=32),
    outer=Outer(rate=2e-3, warmup=60),
    training=rep.TRAINING._replace(steps=600, validate_every=100),
  ),
  "cpu_photos": Config(
    encoder=rep.EncoderFlags("resnet10", 0.5, "imagenet"),
    text=TextTower(vocabulary=2048, length=32),
    data=rep.ImageData("flickr8k", size=64),
    outer=Outer(128, warmup=150),
    training=rep.TRAINING._replace(steps=1800, validate_every=300),
  ),
  "cpu_emoji": Config(
    text=TextTower(vocabulary=1024, length=16),
    data=rep.ImageData("emoji", size=32),
    outer=Outer(warmup=50),
    training=rep.TRAINING._replace(steps=800, validate_every=100),
  ),
}


def build(config: Config) -> rep.Experiment:
  """A CLIP of pictures and their captions."""
  return clip_experiment(config)


if __name__ == "__main__":
  rep.main(build, PRESETS)
