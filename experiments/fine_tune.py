"""Fine-tunes what pretraining or a CLIP learned of pictures with few labels, beside the same network from scratch.

python -m experiments.fine_tune runs/simclr-cifar10-* --labels 0.01 0.1 --steps 300     # 48.6 and 56.1, from scratch
# 40.5 and 44.0; 20 minutes on 1 CPU core
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from tyro.conf import Positional

from experiments import clip, command_line, few_shot, headlines, pretraining, probing, records, runs
from experiments.clip_data import load_data
from experiments.pretraining_data import Parts, describe
from metajax import fit, make_mesh
from metajax.compose import linear, started, with_head
from metajax.data import deal_pictures, examples, in_order
from metajax.evaluate import features, over_seeds, summarise
from metajax.learners import augmented, supervised
from metajax.mesh import devices_for
from metajax.train import adamw, warmup_cosine
from metajax.types import Network
from metajax.views.image import compose, flip, random_resized_crop


class Pretrained(NamedTuple):
  """Networks that are fine-tuned.

  Attributes:
    name: of the learner that they come from.
    encoder: the part that is kept.
    starts: its params and state, of each seed.
    parts: the labelled pictures.
    setting: that they were trained with.
  """

  name: str
  encoder: Network
  starts: list[tuple]
  parts: Parts
  setting: NamedTuple


class Recipe(NamedTuple):
  """How both are trained: AdamW, a rate that rises for a tenth of the steps and falls along a cosine.

  Attributes:
    rate: at its highest.
    decay: of weights.
    steps: of training.
    batch_size: pictures in a step, at most as many as there are.
    validations: how often the accuracy on validation pictures is looked at.
  """

  rate: float
  decay: float
  steps: int
  batch_size: int
  validations: int


def main(
  folders: Positional[tuple[Path, ...]],
  labels: tuple[float, ...] = (0.01, 0.1, 1.0),
  rates: tuple[float, ...] = (3e-4, 3e-3),
  decay: float = 0.01,
  steps: int = 500,
  batch_size: int = 128,
  validations: int = 5,
  devices: int | None = None,
  fsdp: bool = False,
  record: bool = False,
  modules: tuple[str, ...] = (),
):
  """Fine-tunes pretrained networks with a share of the labels, and trains the same network from scratch.

  Both are trained with the same recipe on the same pictures, at each of several rates; the rate and the step are those
  of the best accuracy on validation pictures. Runs that differ in their seed are told apart by an interval over seeds.

  Args:
    folders: the runs' folders, of one experiment.
    labels: shares of the labelled training pictures, the same of every class.
    rates: of AdamW, to choose from.
    decay: of weights.
    steps: of training.
    batch_size: pictures in a step.
    validations: how often the accuracy on validation pictures is looked at.
    devices: devices to share the pictures of a step; by default as many as divide them.
    fsdp: share the parameters and the optimizer's state between the devices too.
    record: write the records to experiments/results and rebuild experiments/README.md.
    modules: of experiments of one's own, which the runs may be of: they are imported.
  """
  if not folders:
    raise ValueError("expected the folder of a run, or of several, got none")
  if not labels or not rates:
    raise ValueError("expected --labels and --rates, got none")
  measured = []
  with jax.set_mesh(make_mesh(devices_for(batch_size, devices), fsdp=fsdp)):
    found = [_read(folder, modules) for folder in folders]
    name, s = found[0].name, found[0].setting
    if any(other.name != name or other.setting._replace(seed=s.seed, seeds=s.seeds) != s for other in found):
      raise ValueError("expected runs of one experiment that differ in their seeds alone, got others")
    encoder, parts = found[0].encoder, found[0].parts
    tuned = [started(encoder, *start) for run in found for start in run.starts]
    for share in labels:
      some = deal_pictures(parts.train, (share,), seed=0)[0] if share < 1 else parts.train
      recipes = [Recipe(rate, decay, steps, min(batch_size, len(some.labels)), validations) for rate in rates]
      print(f"\n{100 * share:g}% of the labels, {len(some.labels):,} pictures: accuracy on {len(parts.test.labels):,}")
      for what, encoders in ((f"{name}, fine-tuned", tuned), ("from scratch", [encoder] * len(tuned))):
        said = {"labels": share, "seed": s.seed} | _measured(what, encoders, some, parts, recipes)
        measured.append(records.record(learner=what, **probing.common(parts, s), **said))
  headlines.warn(None, measured)
  if record:
    records.publish(f"fine_tuned-{name.split(',')[0]}-{probing.slug(s)}", measured)


def _read(folder: Path, modules) -> Pretrained:
  module, flags = runs.flags_of(folder, modules)
  s = flags.get("setting")
  if not isinstance(s, pretraining.Setting | clip.Setting):
    raise ValueError(f"expected a run of pretraining or of CLIP, got one of {module.__name__} in {str(folder)!r}")
  jax.config.update("jax_default_matmul_precision", flags["run"].precision)
  return _pictures_of_clip(folder, flags) if isinstance(s, clip.Setting) else _pretrained(module, folder, flags)


def _pretrained(module, folder: Path, flags: dict) -> Pretrained:
  made, s, starts = module.method(**flags), flags["setting"], []
  parts = made.load(s)
  describe(s, parts)
  for seed in few_shot.seeds_of(s):
    pictures = made.batches(parts.unlabelled, s, seed)
    final = pretraining.last(made.learner, pretraining.optimizer(s), s, folder, pictures, seed)
    starts.append((final.params["encoder"], final.state["encoder"]))
  encoder = made.encoder
  if isinstance(encoder, dict):  # of pictures, beside others
    first = next(iter(encoder))
    encoder, starts = encoder[first], [(params[first], state[first]) for params, state in starts]
  return Pretrained(made.name, encoder, starts, parts, s)


def _pictures_of_clip(folder: Path, flags: dict) -> Pretrained:
  s, starts = flags["setting"], []
  parts = load_data(s).probes
  if parts is None:
    raise ValueError(
      f"expected a run on data with labels apart, such as glyphs, got one on {s.data} in {str(folder)!r}"
    )
  describe(s, parts)
  for seed in few_shot.seeds_of(s):
    _, params, state, _, _ = clip.trained(folder, flags, seed)
    starts.append((params["picture"]["encoder"], state["picture"]["encoder"]))
  return Pretrained(clip.name_of(flags), clip.encoder_of(flags), starts, parts, s)


def _measured(name: str, encoders, some, parts: Parts, recipes) -> dict:
  """What a record says of networks, one a seed, that were trained with the best of the recipes."""
  began, found = time.perf_counter(), []
  for seed, encoder in enumerate(encoders):
    found.append(max((_tuned(encoder, some, parts, recipe, seed) for recipe in recipes), key=lambda tuned: tuned[0]))
  score, chosen = over_seeds([score for _, score, _ in found]), [recipe.rate for _, _, recipe in found]
  print(f"  {name:<26} {score}%  (rate {', '.join(f'{rate:g}' for rate in chosen)})", flush=True)
  said = {"measure": "all_trained", "value": round(score.mean, 2), "interval": round(score.interval, 2)}
  said |= {"published": None, "chosen": chosen, "labelled": len(some.labels), "seeds": len(encoders)}
  return said | {"steps": recipes[0].steps, "train_seconds": round(time.perf_counter() - began)}


def _tuned(encoder, some, parts: Parts, recipe: Recipe, seed: int):
  """The best accuracy on validation pictures, the score on test pictures of those params, and the recipe."""
  learner = supervised(encoder)
  view = compose(random_resized_crop(area=(0.4, 1.0)), flip()) if some.images.shape[-1] == 3 else None
  trained = augmented(learner, view) if view else learner  # characters have no mirror
  accuracy = _accuracy(encoder, len(parts.test.classes))
  validate = lambda params, state: float(100 * accuracy(params, state, parts.validation).mean())
  optimizer = adamw(warmup_cosine(recipe.rate, recipe.steps + 1, recipe.steps // 10), decay=recipe.decay)
  every = max(1, recipe.steps // recipe.validations)
  batches = examples(some, batch_size=recipe.batch_size, seed=seed)
  best = fit(trained, optimizer, batches, recipe.steps, seed=seed, validate=validate, validate_every=every)
  reached = validate(best.params, best.state)
  return reached, summarise(100.0 * accuracy(best.params, best.state, parts.test)), recipe


def _accuracy(encoder, classes: int) -> Callable:
  """`(params, state, source) -> which of its pictures the network's own head has right`."""
  network = with_head(encoder, linear(classes))
  answer = lambda params, state, x: network.apply(params, state, x, train=False)[0]

  def right(params, state, source):
    logits, labels = features(answer, params, state, in_order(source, batch_size=probing.BATCH))
    return logits.argmax(-1) == labels

  return right


if __name__ == "__main__":
  command_line.run(main)
