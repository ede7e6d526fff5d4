"""The experiment of BERT: training on pairs of segments, tests of the pretexts, probes of frozen features."""

from typing import Any

from experiments.families.data import slug
from experiments.families.language.config import Setup
from experiments.families.language.experiment import optimizer_of
from experiments.families.language.next_sentence import NextSentence, TextProbes, answers_of, asked, bits_of
from experiments.families.language.segments import batches_of, load_categories, load_segments
from experiments.families.representation.config import check
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
  check_flags(setup, next_sentence, mask_rate)
  size = transformer.size, 2 * max_length + AROUND
  transformer_of(vocab_size + EXTRA, *size, **transformer.how)  # raises for inconsistent sizes
  segments = load_segments(setup.data, vocab_size, max_length)
  if setup.outer.batch_size > len(segments.pairs["train"].first):
    given = f"{len(segments.pairs['train'].first)} pairs, got {setup.outer.batch_size}"
    raise ValueError(f"expected a --batch-size of at most all {given}")
  tokens = segments.tokenizer.vocab_size + EXTRA
  network = transformer_of(tokens, *size, **transformer.how)
  learner = bert(network, tokens, next_sentence=next_sentence, mask_rate=mask_rate)
  answer = next_sentence_logits(network, tokens) if next_sentence else None
  variant = ("next sentence alone",) * (not mask_rate) + ("masked tokens alone",) * (not next_sentence)
  about: dict[str, Any] = {"data": slug(setup.data), "split": "test"}
  evaluators: list[Evaluator] = [
    NextSentence("bert", variant, answer, learner.loss if mask_rate else None, segments, about)
  ]
  if (parts := load_categories(setup.data, segments.tokenizer, max_length)) is not None:
    evaluators.append(TextProbes("bert", variant, learner, parts, about))
  validation, bits = asked(segments, "validation"), bits_of(learner.loss)
  answers = None if answer is None else answers_of(answer)

  def validate(params, state):
    if answers is None:
      return -bits(params, state, segments.pairs["validation"])
    return validation.score(validation.right(answers(params, state, validation.pairs))).mean

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


def check_flags(setup: Setup, next_sentence: bool, mask_rate: float):
  """Refuses inconsistent flags before texts are read.

  Raises:
    ValueError: naming the flag.
  """
  check(setup.training, setup.outer.batch_size, setup.outer.warmup_steps, ())
  if setup.outer.optimizer != "adamw":
    raise ValueError(f"expected --optimizer adamw for bert, got {setup.outer.optimizer!r}")
  if not next_sentence and not mask_rate:
    raise ValueError("expected --next-sentence or a --mask-rate above 0, got neither")
