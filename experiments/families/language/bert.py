"""The experiment of BERT: training on pairs of segments, tests of the pretexts, probes of frozen features."""

from typing import Any

from experiments.families.data import slug
from experiments.families.language.config import Setup, check_batch_size, check_setup
from experiments.families.language.experiment import optimizer_of
from experiments.families.language.next_sentence import NextSentence, TextProbes, asked, bits_of
from experiments.families.language.segments import batches_of, load_segments
from experiments.families.transformers import Transformer
from metajax.experiment import Evaluator, Experiment
from metajax.learners import bert, next_sentence_logits
from metajax.networks import bert as transformer_of

EXTRA = 2  # tokens of the network beside those of the tokenizer: padding and the mask
AROUND = 3  # tokens around both segments


def bert_experiment(
  setup: Setup, transformer: Transformer, *, vocab_size: int, max_length: int, next_sentence: bool, mask_rate: float
) -> Experiment:
  """The experiment of BERT on the texts of a setup.

  Raises:
    ValueError, OSError: as `metajax.data.load_texts`, and if the flags are inconsistent.
  """
  check_setup(setup, "bert")
  if not next_sentence and not mask_rate:
    raise ValueError("expected --next-sentence or a --mask-rate above 0, got neither")
  size = transformer.size, 2 * max_length + AROUND
  transformer_of(vocab_size + EXTRA, *size, **transformer.how)  # raises for inconsistent sizes
  segments = load_segments(setup.data, vocab_size, max_length)
  check_batch_size(setup, len(segments.pairs["train"].first), "pairs")
  tokens = segments.tokenizer.vocab_size + EXTRA
  network = transformer_of(tokens, *size, **transformer.how)
  learner = bert(network, tokens, next_sentence=next_sentence, mask_rate=mask_rate)
  answer = next_sentence_logits(network, tokens) if next_sentence else None
  variant = ("next sentence alone",) * (not mask_rate) + ("masked tokens alone",) * (not next_sentence)
  about: dict[str, Any] = {"data": slug(setup.data), "split": "test"}
  evaluators: list[Evaluator] = [
    NextSentence("bert", variant, answer, learner.loss if mask_rate else None, segments, about)
  ]
  if segments.categories is not None:
    evaluators.append(TextProbes("bert", variant, learner, segments.categories, about))
  validation, bits = asked(segments, "validation"), bits_of(learner.loss)

  def validate(params, state):
    if answer is None:
      return -bits(params, state, segments.pairs["validation"])
    return validation.score(validation.right(validation.answers(answer, params, state))).mean

  return Experiment(
    f"bert-{slug(setup.data)}",
    learner,
    optimizer_of(setup),
    lambda seed: batches_of(segments.pairs["train"], setup.outer.batch_size, seed),
    tuple(evaluators),
    validate,
    "best",
    artifacts={"tokenizer.json": segments.tokenizer.save},
    title=f"bert on {slug(setup.data)}",
    accumulate="no",
  )
