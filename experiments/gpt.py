"""GPT (Radford et al. 2018) on texts: bits per token, a bigram baseline, and samples.

python -m experiments.gpt --preset cpu     # captions of flickr8k: 4.48 bits per token (bigram 5.06): 9 min on 1 core
python -m experiments.gpt --preset cpu --data glyphs --vocabulary 384 --length 48 --steps 600 --curve-every 50 \
  --dropout 0.3     # Unicode names of characters: 1.94 bits per token (bigram model 2.98): 9 min on 1 core
python -m experiments.gpt --preset cpu --data shakespeare.txt

The "paper" preset is the smallest GPT-2, trained like the smallest GPT-3.
"""

from typing import NamedTuple

from experiments.families import representation as rep
from experiments.families.language.config import Setup, Text
from experiments.families.language.experiment import gpt_experiment
from experiments.families.transformers import Sampling, Transformer


class Config(NamedTuple):
  """Trains and evaluates a GPT on texts: --data glyphs (Unicode names), a TFDS set with captions, or FILE.txt."""

  transformer: Transformer = Transformer()
  text: Text = Text()
  sampling: Sampling = Sampling()
  setup: Setup = Setup()


PRESETS = {
  "paper": Config(
    Transformer(768, 12, 12),
    Text(50257, 1024),
    setup=Setup(
      outer=rep.Outer(512, "adamw", 3e-4, weight_decay=0.1, warmup_steps=2000),
      training=rep.TRAINING._replace(steps=300000, eval_every=5000),
    ),
  ),
  "cpu": Config(
    Transformer(dropout=0.1),
    Text(2048, 32),
    setup=Setup(
      data=rep.ImageData("flickr8k"),
      outer=rep.Outer(64, "adamw", 8e-3, weight_decay=0.1, warmup_steps=100),
      training=rep.TRAINING._replace(steps=1500, eval_every=250),
    ),
  ),
}


def build(config: Config) -> rep.Experiment:
  """GPT, with the step selected by validation texts."""
  return gpt_experiment(config.setup, config.transformer, config.text, config.sampling)


if __name__ == "__main__":
  rep.main(build, PRESETS)
