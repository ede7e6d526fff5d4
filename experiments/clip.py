"""CLIP (arXiv:2103.00020): a joint embedding of images and captions, and zero-shot transfer to unseen classes.

python -m experiments.clip --preset cpu     # glyphs: unseen combinations 74.5 (chance 0.5), 12 minutes on 1 CPU core
python -m experiments.clip --data flickr8k --preset cpu_photos     # R@10 14.8 and 14.7 (chance 1), 48 minutes likewise
python -m experiments.clip --data emoji --preset cpu_emoji     # R@10 31.9 and 31.4 (chance 2.6), 18 minutes likewise
"""

from typing import NamedTuple

from experiments.families import representation as rep
from experiments.families.image_text.config import Clip, Outer, Setup, TextTower
from experiments.families.image_text.experiment import clip_experiment


class Config(NamedTuple):
  """Trains CLIP on images with captions, and evaluates its zero-shot transfer."""

  model: Clip = Clip()
  setup: Setup = Setup()


PRESETS = {
  "paper": Config(
    Clip(512, encoder=rep.EncoderFlags("vit_b", patch=32), text=TextTower(512, 12, 49408, 77)),
    Setup(rep.ImageData(size=224), Outer(32768, 5e-4, 0.2, 2000), rep.TRAINING._replace(steps=390000)),
  ),
  "cpu": Config(
    setup=Setup(
      rep.ImageData(size=32),
      Outer(learning_rate=2e-3, warmup_steps=60),
      rep.TRAINING._replace(steps=600, eval_every=100),
    ),
  ),
  "cpu_photos": Config(
    Clip(encoder=rep.EncoderFlags("resnet10", 0.5, "imagenet"), text=TextTower(vocab_size=2048, max_length=32)),
    Setup(
      rep.ImageData("flickr8k", size=64),
      Outer(128, warmup_steps=150),
      rep.TRAINING._replace(steps=1800, eval_every=300),
    ),
  ),
  "cpu_emoji": Config(
    Clip(text=TextTower(vocab_size=1024, max_length=16)),
    Setup(
      rep.ImageData("emoji", size=32),
      Outer(warmup_steps=50),
      rep.TRAINING._replace(steps=800, eval_every=100),
    ),
  ),
}


def build(config: Config) -> rep.Experiment:
  """CLIP on images and their captions."""
  return clip_experiment(config.setup, config.model)


if __name__ == "__main__":
  rep.main(build, PRESETS)
