"""BERT (arXiv:1810.04805) on texts: masked tokens and the next sentence, then probes of its frozen features.

python -m experiments.bert --preset cpu     # names and keywords of emoji
python -m experiments.bert --preset cpu --data flickr8k     # captions of one photo follow each other
python -m experiments.bert --preset cpu --mask-rate 0     # the next sentence alone
"""

from typing import Annotated, NamedTuple

from experiments.families import representation as rep
from experiments.families.language.bert import bert_experiment
from experiments.families.language.config import Setup
from experiments.families.transformers import Transformer
from metajax.experiment.bounds import Bounds


class Config(NamedTuple):
  """Pretrains BERT on texts of which several share a subject, or on a long text, and probes its features of texts."""

  next_sentence: bool = True
  """Predict whether one segment follows another."""
  mask_rate: Annotated[float, Bounds(0, 0.9)] = 0.15
  """Share of tokens to predict, of which most are masked; 0 for none."""
  vocab_size: Annotated[int, Bounds(258, 2**24)] = 4096
  """Vocabulary size of the byte-pair encoding, which is trained on the texts."""
  max_length: Annotated[int, Bounds(2, 2**16)] = 64
  """Length of each of the two segments, in tokens."""
  transformer: Transformer = Transformer()
  setup: Setup = Setup()


PRESETS = {
  # Appendix A.2 of the paper: 256 pairs of 512 tokens in all, a million steps; segments are of equal length here.
  "paper": Config(
    vocab_size=30000,
    max_length=254,
    transformer=Transformer(768, 12, 12, dropout=0.1),
    setup=Setup(
      outer=rep.Outer(256, "adamw", 1e-4, weight_decay=0.01, warmup_steps=10000),
      training=rep.TRAINING._replace(steps=1000000, eval_every=10000),
    ),
  ),
  "cpu": Config(
    vocab_size=2048,
    max_length=16,
    transformer=Transformer(dropout=0.1),
    setup=Setup(
      data=rep.ImageData("emoji"),
      outer=rep.Outer(128, "adamw", 2e-3, weight_decay=0.01, warmup_steps=100),
      training=rep.TRAINING._replace(steps=1500, eval_every=250),
    ),
  ),
}


def build(config: Config) -> rep.Experiment:
  """BERT, with the step selected by validation pairs."""
  return bert_experiment(
    config.setup,
    config.transformer,
    vocab_size=config.vocab_size,
    max_length=config.max_length,
    next_sentence=config.next_sentence,
    mask_rate=config.mask_rate,
  )


if __name__ == "__main__":
  rep.main(build, PRESETS)
