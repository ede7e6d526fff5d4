"""Pretrained image encoders to fine-tune: those of finished runs, or a published one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import experiments
from experiments.families.data import ImageData
from experiments.families.encoder import Start, encoder_for, images_for, read
from experiments.families.image_text.config import Clip
from experiments.families.image_text.evaluators import Transfer
from experiments.families.image_text.experiment import example_of
from experiments.families.representation.config import Probing
from experiments.families.representation.data import ProbeSplits, describe, load_parts
from experiments.families.representation.evaluators import FrozenFeatures
from metajax.data import load_tokenizer
from metajax.experiment import Experiment, FinishedRun, RunFlags, bounds, read_run, states_of
from metajax.experiment.finished_runs import set_precision_of
from metajax.experiment.groups import group_of, groups_of
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
    seed: First seed of the pretraining.
    flags: Flags of the pretraining, apart from its seeds.
  """

  name: str
  variant: tuple[str, ...]
  encoder: Network
  starts: list[tuple]
  parts: ProbeSplits
  data: ImageData
  seed: int = 0
  flags: Mapping[str, Any] = {}


def pretrained(
  folders: Sequence[Path], modules: Sequence[str], encoder: Path | None, image_size: int | None, data: str | None
) -> list[Pretrained]:
  """The pretrained networks of runs, or of a published encoder.

  Args:
    folders: Folders of runs that differ only in their seeds.
    modules: Names of further Python modules that the runs may belong to.
    encoder: Published weights, in place of runs.
    image_size: Side of the images of the encoder, by default the publisher's.
    data: Data set of labeled images for the encoder.

  Raises:
    ValueError, OSError: if there is neither, or both; as `read_run`, `load_encoder` and `load_parts`.
  """
  if encoder is not None:
    if folders or data is None:
      raise ValueError(f"expected --encoder with --data and without run folders, got {data} and {len(folders)} folders")
    return [_published(encoder, image_size, data)]
  if not folders or data is not None or image_size is not None:
    raise ValueError("expected run folders, or --encoder with --data and --image-size, got none or both")
  found = [_read(folder, modules) for folder in folders]
  first = found[0]
  if any((other.name, other.variant, other.flags) != (first.name, first.variant, first.flags) for other in found):
    raise ValueError("expected runs of one experiment that differ only in their seeds, got others")
  return found


def _published(encoder: Path, image_size: int | None, data: str) -> Pretrained:
  start = Start(encoder, image_size)
  images, found = ImageData(data, size=images_for(start, data, 0).size), read(start)
  assert found is not None
  parts = load_parts(images, "auto", images_for(start, data, 0).preprocessing)
  describe(images, parts)
  network = encoder_for(start, found.network, pretrained=False)
  return Pretrained(encoder.resolve().name, (), network, [(found.params, found.state)], parts, images)


def _of_run(run: FinishedRun) -> tuple[int, dict[str, Any]]:
  return run.training.seed, _but_for_seeds(run)


def _but_for_seeds(run: FinishedRun) -> dict[str, Any]:
  left = {"seed", "seeds", *RunFlags._fields}
  return {name: value for name, value in bounds.flat(run.config._asdict()) if name not in left}


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
  return Pretrained(kept.name, (), encoder, starts, kept.parts(), kept.setup.data, *_of_run(run))


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
  return Pretrained(kept.name, kept.variant, kept.encoder, starts, parts, data, *_of_run(run))
