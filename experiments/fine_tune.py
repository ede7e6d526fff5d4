"""Fine-tunes pretrained image encoders with few labels, and compares them with the same network from scratch.

python -m experiments.fine_tune runs/simclr-cifar10-* --labels 0.01 0.1 --steps 300     # 48.6 and 56.1, from scratch
# 40.5 and 44.0; 20 minutes on 1 CPU core
python -m experiments.fine_tune --encoder dinov2-small --data my_photos --learning-rates 1e-5 1e-4
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

from experiments.families.data import slug
from experiments.families.representation.data import ProbeSplits
from experiments.families.representation.evaluators import about
from experiments.families.representation.pretrained import Pretrained, pretrained
from metajax.augment.image import compose, random_flip, random_resized_crop
from metajax.compose import linear, with_head, with_pretrained_params
from metajax.data import eval_batches, split_within_classes, train_batches
from metajax.evaluate import Score, embed_dataset, mean_and_ci, mean_over_seeds
from metajax.experiment import (
  Record,
  command,
  headlines,
  records,
)
from metajax.experiment.bounds import Bounds, Count, DataName, Fraction, Positive, RunPaths, ZeroOrMore
from metajax.experiment.devices import on_devices
from metajax.experiment.evaluators.probes import BATCH
from metajax.experiment.former_flags import also
from metajax.experiment.types import title_of
from metajax.learners import supervised, with_augmentation
from metajax.mesh import devices_for
from metajax.train import adamw, fit, warmup_cosine
from metajax.types import Network


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
  folders: RunPaths = (),
  encoder: Path | None = None,
  image_size: Annotated[int | None, Bounds(8, 4096)] = None,
  data: Annotated[str | None, DataName()] = None,
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
    encoder: Published weights in place of runs, as for experiments.probe.
    image_size: Side of the images for --encoder in pixels; by default the publisher's.
    data: Data set of labeled images for --encoder.
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
  if not labels or not learning_rates:
    raise ValueError("expected --labels and --learning-rates, got none")
  with on_devices(devices_for(batch_size, devices), fsdp=fsdp):
    found = pretrained(folders, modules, encoder, image_size, data)
    first = found[0]
    tuned = [with_pretrained_params(first.encoder, *start) for one in found for start in one.starts]
    recipe = Recipe(learning_rates[0], weight_decay, steps, batch_size, validations)
    recipes, measured = [recipe._replace(learning_rate=rate) for rate in learning_rates], []
    for share in labels:
      measured += _with_labels(share, first, tuned, recipes)
  flat = [records.flat(one) for one in measured]
  headlines.warn(None, flat)
  if record:
    records.publish(records.home(main), f"fine_tuned-{first.name}-{slug(first.data)}", flat)


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
    said = {**about(data, parts), "labels": share, "seed": first.seed}
    score, more = _measured(title_of(name, variant), encoders, some, parts, recipes)
    value, interval = round(score.mean, 2), round(score.ci95, 2)
    measured.append(Record(name, "all_trained", value, interval, variant, None, said | more))
  return measured


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
