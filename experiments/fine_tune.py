"""Fine-tunes pretrained image encoders with few labels, and compares them with the same network from scratch.

python -m experiments.fine_tune runs/simclr-cifar10-* --labels 0.01 0.1 --steps 300     # 48.6 and 56.1, from scratch
# 40.5 and 44.0; 20 minutes on 1 CPU core
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from tyro.conf import Positional

import experiments
from experiments.families.data import ImageData, slug
from experiments.families.image_text.config import Clip
from experiments.families.image_text.evaluators import Transfer
from experiments.families.image_text.experiment import example_of
from experiments.families.representation.config import Probing
from experiments.families.representation.data import ProbeSplits, describe
from experiments.families.representation.evaluators import FrozenFeatures, about
from metajax.augment.image import compose, random_flip, random_resized_crop
from metajax.compose import linear, with_head, with_pretrained_params
from metajax.data import eval_batches, load_tokenizer, split_within_classes, train_batches
from metajax.evaluate import Score, embed_dataset, mean_and_ci, mean_over_seeds
from metajax.experiment import (
  Experiment,
  FinishedRun,
  Record,
  RunFlags,
  bounds,
  command,
  headlines,
  read_run,
  records,
  states_of,
)
from metajax.experiment.bounds import Count, Fraction, Positive, ZeroOrMore
from metajax.experiment.devices import on_devices
from metajax.experiment.evaluators.probes import BATCH
from metajax.experiment.finished_runs import set_precision_of
from metajax.experiment.former_flags import also
from metajax.experiment.groups import group_of, groups_of
from metajax.experiment.types import title_of
from metajax.learners import supervised, with_augmentation
from metajax.mesh import devices_for
from metajax.train import adamw, fit, warmup_cosine
from metajax.types import Network


class Pretrained(NamedTuple):
  """Pretrained networks to fine-tune.

  Attributes:
    name: Name of the learner that pretrained them.
    variant: Variant of the learner.
    encoder: Pretrained encoder.
    starts: Params and state of the encoder, per seed.
    parts: Labeled images.
    data: Flags that select the images.
    run: Pretraining run.
  """

  name: str
  variant: tuple[str, ...]
  encoder: Network
  starts: list[tuple]
  parts: ProbeSplits
  data: ImageData
  run: FinishedRun


class Recipe(NamedTuple):
  """Training recipe: AdamW with a warmup over a tenth of the steps and cosine decay.

  Attributes:
    learning_rate: Peak learning rate.
    weight_decay: Weight decay of AdamW.
    steps: Training steps.
    batch_size: Images per step, at most the number of training images.
    validations: Number of evaluations on validation images.
  """

  learning_rate: float
  weight_decay: float
  steps: int
  batch_size: int
  validations: int


def main(
  folders: Positional[tuple[Path, ...]],
  labels: Annotated[tuple[float, ...], *Fraction.__metadata__] = (0.01, 0.1, 1.0),
  learning_rates: Annotated[tuple[float, ...], *Positive.__metadata__, *also("--rates")] = (3e-4, 3e-3),
  weight_decay: Annotated[ZeroOrMore, *also("--decay")] = 0.01,
  steps: Count = 500,
  batch_size: Count = 128,
  validations: Count = 5,
  devices: Annotated[int | None, *Count.__metadata__] = None,
  fsdp: bool = False,
  record: bool = False,
  modules: tuple[str, ...] = (),
):
  """Fine-tunes pretrained networks with a fraction of the labels, and trains the same network from scratch.

  Both are trained with the same recipe on the same images, at each of several learning rates; accuracy on validation
  images selects the learning rate and the step. Results of runs that differ only in their seed are means with an
  interval over seeds.

  Args:
    folders: Folders of the runs, which differ only in their seeds.
    labels: Fractions of the labeled training images to use, equal in every class, above 0 and at most 1.
    learning_rates: Peak learning rates of AdamW to choose from by validation.
    weight_decay: Weight decay of AdamW.
    steps: Number of training steps.
    batch_size: Images per step.
    validations: Number of validations during training.
    devices: Number of devices that share each batch; by default the largest number that divides the batch size.
    fsdp: Shard the parameters and the optimizer state over the devices, instead of replicating them.
    record: Write the records to experiments/results and rebuild experiments/README.md.
    modules: Names of further Python modules to import, if the runs belong to custom experiments.
  """
  if not folders:
    raise ValueError("expected one or more run folders, got none")
  if not labels or not learning_rates:
    raise ValueError("expected --labels and --learning-rates, got none")
  with on_devices(devices_for(batch_size, devices), fsdp=fsdp):
    found = [_read(folder, modules) for folder in folders]
    first = found[0]
    if any(_but_for_seeds(other) != _but_for_seeds(first) for other in found):
      raise ValueError("expected runs of one experiment that differ only in their seeds, got others")
    tuned = [with_pretrained_params(first.encoder, *start) for run in found for start in run.starts]
    recipe = Recipe(learning_rates[0], weight_decay, steps, batch_size, validations)
    recipes, measured = [recipe._replace(learning_rate=rate) for rate in learning_rates], []
    for share in labels:
      measured += _with_labels(share, first, tuned, recipes)
  flat = [records.flat(one) for one in measured]
  headlines.warn(None, flat)
  if record:
    records.publish(records.home(main), f"fine_tuned-{first.name}-{slug(first.data)}", flat)


def _but_for_seeds(one: Pretrained) -> tuple:
  flags, left = bounds.flat(one.run.config._asdict()), {"seed", "seeds", *RunFlags._fields}
  return one.name, one.variant, {name: value for name, value in flags if name not in left}


def _with_labels(share: float, first: Pretrained, tuned: list[Network], recipes: list[Recipe]) -> list[Record]:
  """The records of fine-tuning and of training from scratch with a fraction of the labels."""
  parts, data, measured = first.parts, first.data, []
  some = split_within_classes(parts.train, (share,), seed=0)[0] if share < 1 else parts.train
  recipes = [recipe._replace(batch_size=min(recipe.batch_size, len(some.labels))) for recipe in recipes]
  print(
    f"\n{100 * share:g}% of the labels, {len(some.labels):,} images: accuracy on {len(parts.test.labels):,} test images"
  )
  own = first.name, (*first.variant, "fine-tuned")
  for (name, variant), encoders in ((own, tuned), (("from scratch", ()), [first.encoder] * len(tuned))):
    said = {**about(data, parts), "labels": share, "seed": first.run.training.seed}
    score, more = _measured(title_of(name, variant), encoders, some, parts, recipes)
    value, interval = round(score.mean, 2), round(score.ci95, 2)
    measured.append(Record(name, "all_trained", value, interval, variant, None, said | more))
  return measured


def _read(folder: Path, modules: Sequence[str]) -> Pretrained:
  run = read_run(folder, (*experiments.commands(), *modules))
  set_precision_of([run])
  experiment: Any = run.module.build(run.config) if groups_of(run.config, Probing) else None
  kept = [one for one in experiment.evaluate if isinstance(one, FrozenFeatures | Transfer)] if experiment else []
  if not kept:
    given = f"got one of {run.module.__name__} in {str(folder)!r}"
    raise ValueError(f"expected a pretraining run or a CLIP run, {given}")
  read = _images_of_clip if isinstance(kept[0], Transfer) else _pretrained
  return read(run, experiment, kept[0])


def _pretrained(run: FinishedRun, experiment: Experiment, kept: FrozenFeatures) -> Pretrained:
  states = states_of(run, experiment.learner, experiment.optimizer, experiment.train_batches, best=False)
  starts, encoder = [(one.params["encoder"], one.state["encoder"]) for one in states], kept.encoder
  if not isinstance(encoder, Network):  # several encoders, that of images first
    first = next(iter(encoder))
    encoder, starts = encoder[first], [(params[first], state[first]) for params, state in starts]
  return Pretrained(kept.name, (), encoder, starts, kept.parts(), kept.setup.data, run)


def _images_of_clip(run: FinishedRun, experiment: Experiment, kept: Transfer) -> Pretrained:
  parts, data = kept.data().probes, kept.setup.data
  if parts is None:
    given = f"got one on {data.data} in {str(run.folder)!r}"
    raise ValueError(f"expected a run on data with separate labeled images, such as glyphs, {given}")
  describe(data, parts)
  model, tokenizer = group_of(run.config, Clip), load_tokenizer(run.folder / "tokenizer.json")
  example = example_of(model, data, tokenizer, run.configuration["channels"])
  batches = lambda seed: lambda start=0, shard=(0, 1): iter([example])
  states = states_of(run, experiment.learner, experiment.optimizer, batches, best=False)
  starts = [(one.params["image"]["encoder"], one.state["image"]["encoder"]) for one in states]
  return Pretrained(kept.name, kept.variant, kept.encoder, starts, parts, data, run)


def _measured(name: str, encoders, some, parts: ProbeSplits, recipes) -> tuple[Score, dict]:
  """The score and the record entries of networks, one per seed, trained with the best of the recipes."""
  began, found = time.perf_counter(), []
  for seed, encoder in enumerate(encoders):
    found.append(max((_tuned(encoder, some, parts, recipe, seed) for recipe in recipes), key=lambda tuned: tuned[0]))
  score, chosen = mean_over_seeds([score for _, score, _ in found]), [recipe.learning_rate for _, _, recipe in found]
  print(f"  {name:<26} {score}%  (learning rate {', '.join(f'{rate:g}' for rate in chosen)})", flush=True)
  said = {"chosen": chosen, "labelled": len(some.labels), "seeds": len(encoders)}
  return score, said | {"steps": recipes[0].steps, "train_seconds": round(time.perf_counter() - began)}


def _tuned(encoder, some, parts: ProbeSplits, recipe: Recipe, seed: int):
  """The best validation accuracy, the test score of the same params, and the recipe."""
  learner = supervised(encoder)
  augmentation = compose(random_resized_crop(area=(0.4, 1.0)), random_flip()) if some.images.shape[-1] == 3 else None
  trained = with_augmentation(learner, augmentation) if augmentation else learner  # no flipped characters
  accuracy = _accuracy(encoder, len(parts.test.classes))
  validate = lambda params, state: float(100 * accuracy(params, state, parts.validation).mean())
  optimizer = adamw(
    warmup_cosine(recipe.learning_rate, recipe.steps + 1, recipe.steps // 10), weight_decay=recipe.weight_decay
  )
  every = max(1, recipe.steps // recipe.validations)
  batches = train_batches(some, batch_size=recipe.batch_size, seed=seed)
  best = fit(trained, optimizer, batches, recipe.steps, seed=seed, validate=validate, eval_every=every)
  reached = validate(best.params, best.state)
  return reached, mean_and_ci(100.0 * accuracy(best.params, best.state, parts.test)), recipe


def _accuracy(encoder, classes: int) -> Callable:
  """`(params, state, source) -> correct [n]`: the images that the network's linear head classifies correctly."""
  network = with_head(encoder, linear(classes))
  answer = lambda params, state, x: network.apply(params, state, x, train=False)[0]

  def right(params, state, source):
    logits, labels = embed_dataset(answer, params, state, eval_batches(source, batch_size=BATCH))
    return logits.argmax(-1) == labels

  return right


if __name__ == "__main__":
  command(main)
