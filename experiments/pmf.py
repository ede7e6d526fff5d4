"""P>M>F (arXiv:2204.07305): a published encoder, prototypical meta-training, fine-tuning on each task's support set.

python -m experiments.pmf --encoder dinov2-small --data my_photos     # the paper's rates and steps
python -m experiments.pmf --encoder dinov2-small --no-pretrained     # the same network without P

The tests hold every stage: P>M>F and P>F with fine-tuning, P>M and P without. The rate of fine-tuning is chosen for
each data set on validation tasks; `experiments.evaluate` chooses it anew on other data.
"""

from typing import Annotated, NamedTuple

import jax
import optax

from experiments.families import few_shot as fs
from metajax import gradient_steps
from metajax.augment.image import affine, color_jitter, compose, random_apply
from metajax.data.load import BUILT_IN
from metajax.experiment.bounds import Steps, TwoOrMore, ZeroOrMore
from metajax.learners import prototypical
from metajax.predictors import fine_tuned_prototypes
from metajax.types import Augmentation, Learner, Network, PredictFn

SCALE = 10.0  # of cosines, as in the paper


class Config(NamedTuple):
  """Meta-trains a published encoder as a prototypical network, and fine-tunes it on the support set of each task."""

  pretrained: bool = True
  """Start from the published weights; --no-pretrained starts their network from random params."""
  fine_tuning_learning_rates: Annotated[tuple[float, ...], *ZeroOrMore.__metadata__] = (0.0, 1e-4, 1e-3, 1e-2)
  """Learning rates of Adam in fine-tuning to choose from on validation tasks; 0 is no fine-tuning."""
  fine_tuning_steps: Steps = 50
  """Steps of fine-tuning."""
  rate_tasks: TwoOrMore = 20
  """Validation tasks that choose the learning rate of fine-tuning."""
  network: fs.Embedding = fs.Embedding()
  setup: fs.Setup = fs.Setup()


_PAPER = fs.Setup(
  task=fs.Task(ways=5, shots=5, queries=15, meta_batch_size=1),
  outer=fs.Outer(5e-5, "cosine"),
  training=fs.Training(200000, 10000),
  tests=fs.Tests(("5w1s", "5w5s")),
)
PRESETS = {
  "paper": Config(setup=_PAPER),
  "cpu": Config(
    setup=_PAPER._replace(
      task=fs.Task(ways=10, shots=1, queries=5, meta_batch_size=1),
      outer=fs.Outer(3e-4, "cosine"),
      training=fs.Training(1500, 250),
      tests=fs.Tests(("5w1s",)),
    )
  ),
}


def build(config: Config) -> fs.Experiment:
  """P>M>F: every stage beside the ones before it."""
  rates, start = config.fine_tuning_learning_rates, config.setup.start
  if not rates:
    raise ValueError("expected --fine-tuning-learning-rates, got none")
  if start.encoder is None and not config.pretrained:
    raise ValueError("expected --no-pretrained with --encoder, got it without")
  if start.trainable == "head":
    raise ValueError("expected --trainable all or low_rank, as prototypical networks have no head, got head")
  own = fs.embedding_network(config.network, config.setup._replace(start=fs.Start()), 1)
  encoder = fs.encoder_for(start, own, pretrained=config.pretrained)
  learner = prototypical(encoder, distance="cosine", scale=SCALE)
  is_published = start.encoder is not None and config.pretrained
  kinds = ("meta-trained", "published") if is_published else ("meta-trained",)

  def mode(kind, rate):
    letters = [*["P"] * is_published, *["M"] * (kind == "meta-trained"), *["F"] * (rate is not None)]
    predict = _fine_tuned(learner, config, rate) if rate else learner.predict
    predict = predict if kind == "meta-trained" else _of_initial_params(encoder, predict)
    said = () if rate is None else (("fine_tuning_learning_rate", rate),)
    variant = (">".join(letters),)
    return fs.EvalMode("pmf", learner._replace(predict=predict), "running statistics", variant=variant, said=said)

  def candidate(kind, rate):
    return fs.Candidate(f"learning rate {rate:g}", (mode(kind, rate), mode(kind, None)))

  choice = fs.Choice(tuple(tuple(candidate(kind, rate) for rate in sorted(rates)) for kind in kinds), config.rate_tasks)
  return fs.few_shot_experiment(
    config.setup,
    "pmf",
    learner,
    [mode(kind, None) for kind in kinds],
    choice=choice,
    encoder=fs.name_of(*config.network),
  )


def _fine_tuned(learner: Learner, config: Config, rate: float) -> PredictFn:
  """Fine-tunes the encoder on a task's support set, then classifies by prototypes."""
  steps = gradient_steps(optax.adam(rate), config.fine_tuning_steps, gradient="first_order")
  adapt = fs.adapted_params(config.setup.start, steps, head=None)
  return fine_tuned_prototypes(learner.embed, adapt, _augmentation(config), scale=SCALE)


def _of_initial_params(encoder: Network, predict: PredictFn) -> PredictFn:
  """Predicts with the encoder's initial params, whichever it is given: the published ones."""

  def of_initial(params, state, support, inputs):
    first, of_first = encoder.init(jax.random.key(0), support.inputs)
    return predict(params | {"encoder": first}, state | {"encoder": of_first}, support, inputs)

  return of_initial


def _augmentation(config: Config) -> Augmentation:
  """Color and translation, as in the paper; characters are translated only."""
  moved = affine(0.0, 0.0, (1.0, 1.0), 0.125, probability=0.9)
  if config.setup.data.data in BUILT_IN:
    return moved
  return compose(random_apply(color_jitter(0.5, 0.5, 1.0, 0.0), 0.9), moved)


if __name__ == "__main__":
  fs.main(build, PRESETS)
