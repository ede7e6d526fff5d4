"""The claim: memory of a language model's output layer and cross-entropy does not grow with the vocabulary.

    python -m benchmarks.vocabulary --record     # writes benchmarks/results/vocabulary.json

Two minutes on 2 CPU cores.
"""

import statistics
from typing import get_args

import jax

from benchmarks.command import Timing, run_main
from benchmarks.page import write
from benchmarks.step import alternate, compile_program
from metajax.experiment.records import stamped as measured
from metajax.losses import linear_cross_entropy
from metajax.losses.language_model import Implementation


def main(
  tokens: int = 2048,
  width: int = 256,
  vocabularies: tuple[int, ...] = (4096, 16384, 50257),
  timing: Timing = Timing(),
):
  """Measures time and temporary memory of the loss and its gradient, with dense and with tiled logits.

  Args:
    tokens: Number of predicted tokens.
    width: Features per token.
    vocabularies: Vocabulary sizes to measure.
    timing: Timing rounds.
  """
  keys, found = jax.random.split(jax.random.key(0), 3), []
  features = jax.random.normal(keys[0], (tokens, width))
  for vocab_size in vocabularies:
    embedding = 0.1 * jax.random.normal(keys[1], (vocab_size, width))
    labels = jax.random.randint(keys[2], (tokens,), 0, vocab_size)
    programs = {how: compile_program(_gradient(how), (features, embedding), labels) for how in get_args(Implementation)}
    rates = alternate(programs, timing.rounds, timing.seconds)
    faster = statistics.median(tiled / dense for tiled, dense in zip(rates["tiled"], rates["dense"], strict=True))
    for how, program in programs.items():
      rate, memory = statistics.median(rates[how]), program.temporary_mebibytes
      print(f"{vocab_size:>7,} {how:<6} {rate:7.2f} gradients/s  {memory:8.1f} MiB")
      said = {"measure": f"{how}, {tokens:,} tokens of {width}, vocabulary of {vocab_size:,}", "value": round(rate, 2)}
      said |= {"unit": "gradients/s", "temporary_mebibytes": round(memory, 1)}
      said |= {"compile_seconds": round(program.compile_seconds, 1)}
      found.append(measured(benchmark="vocabulary", tokens=tokens, width=width, vocabulary=vocab_size, **said))
    print(f"        tiled at {faster:.2f} x the rate of dense")
  if timing.record:
    write("vocabulary", found)


def _gradient(how: Implementation):
  """Returns `((features, embedding), labels) -> (loss, gradient)`."""
  return jax.value_and_grad(lambda both, labels: linear_cross_entropy(*both, labels, implementation=how))


if __name__ == "__main__":
  run_main(main)
