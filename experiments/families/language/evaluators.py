"""Likelihood of test texts under a language model, with a bigram baseline."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.families.data import ImageData, slug
from experiments.families.language.corpus import PARTS, Corpus, counts
from metajax.data.text.corpus import is_text_file
from metajax.data.text.tokenizer import clean
from metajax.evaluate import bigram, mean_over_seeds, ratio_with_interval
from metajax.experiment import Record, Trained
from metajax.experiment.results_page import NAMED
from metajax.types import AnyArray

BIGRAM = ("bigram", "smoothed")


class Likelihood(NamedTuple):
  """Bits per token and per character of the test texts. An `Evaluator`.

  Attributes:
    name: Name of the learner in the records.
    foretell: `(params, state, rows) -> log-probabilities [n, length - 1]`.
    corpus: `() -> Corpus`.
    data: Flags that select the texts.
  """

  name: str
  foretell: Callable
  corpus: Callable[[], Corpus]
  data: ImageData

  def __call__(self, trained: Trained, /) -> list[Record]:
    """Prints the bits of both models, and returns the records."""
    corpus = self.corpus()
    rows, tokenizer = corpus.rows["test"], corpus.tokenizer
    together = lambda values: np.bincount(corpus.about, values)[np.unique(corpus.about)]
    found = [together(bits(self.foretell(state.params, state.state, rows))) for state in trained.states]
    counted = together(bits(bigram(*(corpus.rows[part] for part in PARTS), tokenizer.vocab_size).log_prob))
    tokens = together(counts(rows))
    # The end of a text counts as a character.
    count = sum(len(text if tokenizer.verbatim else clean(text)) + 1 for text in corpus.texts["test"])
    characters = tokens * count / tokens.sum()
    nothing = np.log2(tokenizer.vocab_size) * tokens.sum()  # bits under a uniform distribution
    about, measured = {"data": slug(self.data), "split": "test", "of": self._of(tokenizer), "tested": len(tokens)}, []
    for name, variant, all_bits in ((self.name, (), found), (BIGRAM[0], BIGRAM[1:], [counted])):
      said = trained.said if name == self.name else trained.said_untrained
      for measure, number in (("bits_per_token", tokens), ("bits_per_character", characters)):
        score = mean_over_seeds([ratio_with_interval(some, number) for some in all_bits])
        chance = round(float(nothing / number.sum()), 4)
        more = {**about, "chance": chance, **said, "seeds": len(found)}
        measured.append(Record(name, measure, round(score.mean, 4), round(score.ci95, 4), variant, None, more))
        print(f"  {', '.join((name, *variant)):<16}  {score:.3f} {NAMED[measure]}")
    gain = ratio_with_interval(counted - np.mean(found, 0), tokens)
    where = "ahead of" if gain.mean >= 0 else "behind"
    print(f"{self.name} is {where} the bigram model by {abs(gain.mean):.3f} ± {gain.ci95:.3f} bits per token "
          "(paired by text)")  # fmt: skip
    return measured

  def _of(self, tokenizer) -> str:
    """Description of the texts, in the title of the results table."""
    in_parts = is_text_file(self.data.data)
    things = "rows of a text, several together" if in_parts else "images' captions or names"
    return f"{things}, in tokens of a vocabulary of {tokenizer.vocab_size:,}"


def bits(log_prob: AnyArray) -> np.ndarray:
  """The bits of each row, `[n]`, from log-probabilities `[n, tokens]`."""
  return -np.asarray(log_prob, np.float64).sum(-1) / np.log(2)
