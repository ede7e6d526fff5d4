"""The export of a run: its trained learner, in a form that needs neither the experiment nor this library."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from metajax.experiment.configuration import configuration
from metajax.experiment.types import Experiment, Trained
from metajax.export import EXPORT, ImageFormat, example_of, image_format, inputs_of, write_export
from metajax.mesh import is_primary_host, to_host
from metajax.tree import is_key
from metajax.types import Batch

ABOUT = ("data", "split", "policy", "measure", "learner", "ways", "shots", "ways_up_to")
ABOUT += ("queries", "tasks", "value", "interval")


def gather(trained: Trained) -> Trained:
  """Copies the parameters and the state of the first seed from all devices to each host; keys stay keys."""
  first = trained.states[0]
  given = (first.params, first.state)

  def as_before(x, array):
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(x)) if is_key(x) else array

  params, state = jax.tree.map(as_before, given, to_host(given))
  return trained._replace(states=[first._replace(params=params, state=state), *trained.states[1:]])


def export_run(
  folder: Path,
  experiment: Experiment,
  trained: Trained,
  batch: Batch,
  records: Sequence[Mapping[str, Any]],
  to: Path | None = None,
) -> Path | None:
  """Exports the first seed of a trained experiment.

  Args:
    folder: Folder of the run, or of a part of it.
    experiment: The experiment.
    trained: Its result, of which `gather` was called where it is sharded.
    batch: A training batch, whose shapes and types become those of the model.
    records: Records of the run, as in JSON.
    to: Folder of the export; by default `export` in the run's folder.

  Returns:
    The folder, or None on a host that does not write.

  Raises:
    ValueError: If the learner cannot be exported.
    OSError: If the folder cannot be written.
  """
  learner, first = experiment.deployed or trained.learner, trained.states[0]
  if not is_primary_host():
    return None
  return write_export(
    to or folder / EXPORT,
    learner,
    first.params,
    first.state,
    example_of(batch),
    name=experiment.name,
    about=_about(folder, records, trained),
    images=_images(batch, experiment),
  )


def _images(batch: Batch, experiment: Experiment) -> ImageFormat | None:
  found = image_format(inputs_of(batch))
  return found if found is None else found._replace(preprocessing=experiment.preprocessing)


def _about(folder: Path, records: Sequence[Mapping[str, Any]], trained: Trained) -> dict[str, Any]:
  """Facts of the model card, from the run's configuration and records."""
  run = next((one for one in (folder, folder.parent) if (one / "run.json").is_file()), None)
  said = configuration(run) if run else {}
  flags, session = said.get("flags", {}), (said.get("sessions") or [{}])[-1]
  kept = [{name: record[name] for name in ABOUT if record.get(name) is not None} for record in records]
  seed = f"{trained.seed}" + (f", the first of {len(trained.states)}" if len(trained.states) > 1 else "")
  return {
    "data": flags.get("data"),
    "split": flags.get("split") or None,
    "command": said.get("command"),
    "seed": seed,
    "step": int(trained.states[0].step),
    "machine": session.get("machine"),
    "precision": session.get("precision"),
    "records": kept,
    "flags": flags,
  }
