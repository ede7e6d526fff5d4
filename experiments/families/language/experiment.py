"""The experiment of a GPT: training, likelihood of test texts, and samples."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.families.data import slug
from experiments.families.language.config import Setup, Text, check_batch_size, check_setup
from experiments.families.language.corpus import Corpus, counts, load_corpus
from experiments.families.language.evaluators import Likelihood, bits
from experiments.families.representation.config import learning_rate_of
from experiments.families.transformers import Sampling, Transformer
from metajax.data import token_batches
from metajax.evaluate import dataset_log_prob
from metajax.experiment import Experiment
from metajax.experiment.terminal import printable
from metajax.learners import gpt, log_prob, sample
from metajax.networks import decoder
from metajax.train import TrainState, adamw
from metajax.types import Network

CURVE_ROWS = 1000  # validation rows of the curve
WRITTEN, GIVEN = 12, 3  # samples on the page, and words per default prompt


def gpt_experiment(setup: Setup, transformer: Transformer, text: Text, sampling: Sampling) -> Experiment:
  """The experiment of a GPT on the texts of a setup.

  Raises:
    ValueError, OSError: as `metajax.data.load_texts`, and if the flags are inconsistent.
  """
  sampling.check()
  check_setup(setup, "gpt")
  network_of(transformer, text, text.vocab_size)  # raises for inconsistent sizes
  corpus = load_corpus(setup.data, text)
  size, rows = setup.outer.batch_size, corpus.rows
  check_batch_size(setup, len(rows["train"]), "rows")
  network = network_of(transformer, text, corpus.tokenizer.vocab_size)
  foretell, some = functools.partial(dataset_log_prob, log_prob(network)), rows["validation"][:CURVE_ROWS]
  return Experiment(
    f"gpt-{slug(setup.data)}",
    gpt(network),
    optimizer_of(setup),
    lambda seed: token_batches(rows["train"], batch_size=size, seed=seed),
    (Likelihood("gpt", foretell, lambda: corpus, setup.data),),
    lambda params, state: -bits(foretell(params, state, some)).sum() / counts(some).sum(),
    "best",
    notes=lambda trained, records: _samples(network, trained.states[0], corpus, text, sampling),
    artifacts={"tokenizer.json": corpus.tokenizer.save},
    title=f"gpt on {slug(setup.data)}",
  )


def network_of(transformer: Transformer, text: Text, vocab_size: int) -> Network:
  """The decoder for a vocabulary of `vocab_size` tokens."""
  return decoder(vocab_size, transformer.size, text.max_length, **transformer.how)


def optimizer_of(setup: Setup) -> optax.GradientTransformation:
  """AdamW as in GPT: gradients clipped to norm 1, and b2 = 0.95."""
  return optax.chain(
    optax.clip_by_global_norm(1.0),
    adamw(learning_rate_of(setup.outer, setup.training.steps), weight_decay=setup.outer.weight_decay, b2=0.95),
  )


def _samples(network: Network, trained: TrainState, corpus: Corpus, text: Text, sampling: Sampling) -> list:
  """Prints samples and completions of prompts, and returns them as notes for the page."""
  write = functools.partial(_written, network, trained, corpus.tokenizer, text.max_length, sampling)
  notes = [("Samples", [written for _, written in write([""] * WRITTEN)])]
  prompts = text.prompts or [" ".join(one.split()[:GIVEN]) for one in _spread(corpus.texts["test"])]
  notes += [("Completions", [f"{given} → {written}" for given, written in write(prompts)])]
  for heading, lines in notes:
    print(f"\n{heading.lower()}", *map(printable, lines), sep="\n  ")
  return notes


def _written(
  network: Network, trained: TrainState, tokenizer, max_length: int, sampling: Sampling, prompts: Sequence[str]
) -> list[tuple[str, str]]:
  """Each prompt, cut to its last `max_length // 2` tokens, with its sampled completion."""
  how = sampling._asdict() | {"end": tokenizer.end}
  begin = tokenizer.ids(["\n"])[0] if tokenizer.verbatim else [tokenizer.start]
  written = []
  for i, prompt in enumerate(tokenizer.ids(prompts)):
    given = [*begin, *prompt][-max(1, max_length // 2) :]
    steps, key = max_length - len(given), jax.random.key(i)
    drawn = sample(network, trained.params, trained.state, key, jnp.array([given]), steps, **how)[0].tolist()
    both = given, [token for token in drawn[len(given) :] if token >= 0]
    written.append(tuple(tokenizer.text(tokens).strip().replace("\n", " ⏎ ") for tokens in both))
  return written


def _spread(texts):
  """Evenly spaced lines of the texts."""
  lines = [line for text in texts for line in text.splitlines() if len(line.split()) > GIVEN] or list(texts)
  return [lines[i] for i in np.linspace(0, len(lines) - 1, min(WRITTEN, len(lines))).astype(int)]
