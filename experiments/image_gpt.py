"""Image GPT (Chen et al. 2020): next-pixel prediction, and probes of the features of its best layer.

python -m experiments.image_gpt --preset cpu
  # glyphs: 0.62 bits per pixel (independent pixels 1.32), probe 32.1, random encoder 6.7: 15 min on 1 core

The "paper" preset is iGPT-S, with a palette of 512 colors.
"""

from typing import NamedTuple

from experiments.families import representation as rep
from experiments.families.generative_images.config import Pixels
from experiments.families.generative_images.image_gpt import image_gpt_experiment
from experiments.families.transformers import Sampling, Transformer


class Config(NamedTuple):
  """Trains and evaluates an image GPT, and probes its frozen features."""

  transformer: Transformer = Transformer()
  pixels: Pixels = Pixels()
  sampling: Sampling = Sampling()
  setup: rep.Setup = rep.Setup(outer=rep.Outer(optimizer="adamw"))


PRESETS = {
  "paper": Config(
    Transformer(512, 24, 8),
    Pixels(512, 32),
    setup=rep.Setup(
      data=rep.ImageData(size=32),
      outer=rep.Outer(128, "adamw", 6e-3, weight_decay=0.0, warmup_steps=5000),
      training=rep.TRAINING._replace(steps=1000000, eval_every=20000),
    ),
  ),
  "cpu": Config(
    Transformer(64, 6, 2),
    Pixels(8),
    setup=rep.Setup(
      outer=rep.Outer(32, "adamw", 1.6e-2, weight_decay=0.01, warmup_steps=100),
      training=rep.TRAINING._replace(steps=900, eval_every=250),
    ),
  ),
}


def build(config: Config) -> rep.Experiment:
  """Image GPT, with the feature layer selected by validation images."""
  return image_gpt_experiment(config.setup, config.transformer, config.pixels, config.sampling)


if __name__ == "__main__":
  rep.main(build, PRESETS)
