"""Writes the encoder of a few-shot run that started from a published one, in the layout of transformers.

python -m experiments.save_encoder runs/prototypical-mine-20261130-101500 --to my_encoder     # seconds
metajax predict --encoder my_encoder --support my_classes --images new_photos
"""

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from experiments.families import encoder as published
from experiments.families.few_shot import finished
from metajax.compose import merge_low_rank
from metajax.experiment import command, states_of
from metajax.networks import save_encoder
from metajax.networks.checkpoints.resnet_table import ResNet
from metajax.networks.checkpoints.vit_names import VisionTransformer


def main(run: Positional[Path], to: Path, modules: tuple[str, ...] = ()):
  """Writes a trained encoder to a folder that `--encoder`, `networks.load_encoder` and transformers read.

  It is that of the first seed at the best validation; low-rank adapters are merged into the kernels.

  Args:
    run: Folder of a run with --encoder.
    to: Folder to write, created if missing.
    modules: Names of further Python modules to import, if the run belongs to a custom experiment.
  """
  one = finished.read(run, modules)
  start = one.setup.start
  found = published.read(start)
  if found is None:
    raise ValueError(f"expected a run with --encoder, got one without in {str(run)!r}")
  if not isinstance(found.architecture, VisionTransformer | ResNet):
    given = f"got {type(found.architecture).__name__} in {str(run)!r}"
    raise ValueError(f"expected a run of a vision transformer or a ResNet, {given}")
  if to.exists() and (not to.is_dir() or any(to.iterdir())):
    raise ValueError(f"expected --to to be an empty or a new folder, got {str(to)!r}")
  experiment = one.experiment
  first = states_of(one.run, experiment.learner, experiment.optimizer, experiment.train_batches)[0]
  params, state = _part(first.params), _part(first.state)
  params = merge_low_rank(params) if start.trainable == published.LOW_RANK else params.get(published.FROZEN, params)
  save_encoder(to, params, state, found.architecture, found.preprocessing)
  print(f"encoder: {to}")


def _part(tree: Any) -> Any:
  """The encoder's part of a learner's params or state."""
  tree = tree["network"] if "encoder" in tree.get("network", ()) else tree
  return tree.get("encoder", tree)


if __name__ == "__main__":
  command(main)
