"""The page of a finished run: scores, figures, records and flags."""

from collections.abc import Sequence
from pathlib import Path

from metajax.experiment import headlines
from metajax.experiment.configuration import displayed_config
from metajax.experiment.parts import with_metrics
from metajax.experiment.run_folder import Run
from metajax.experiment.types import Experiment, Figure, Trained
from metajax.report import learning_curves_figure, page, read_metrics

CURVES = "Training loss and validation score."


def write_page(
  run: Run,
  experiments: Sequence[Experiment],
  trained: Sequence[Trained],
  records: Sequence[dict],
  warnings: Sequence[str],
) -> Path | None:
  """Draws the figures of a run into its folder, and writes its page, `index.html`.

  Args:
    run: Run.
    experiments: Experiments of the run.
    trained: Result of each training.
    records: Records as in JSON.
    warnings: Signs that a run has learned nothing.

  Returns:
    The figure to publish with the records: the first one of the experiments, or the learning curves.
  """
  folder, own, notes = run.folder / "figures", [], []
  for one, what in zip(experiments, trained, strict=True):
    own += one.figures(folder, what, list(records))
    notes += one.notes(what, list(records))
  first = experiments[0]
  chosen = int(trained[0].states[0].step) if first.keep == "best" and len(experiments) == 1 else None
  curves = learning_curves(run.folder, folder, chosen)
  page(
    run.folder / "index.html",
    title=first.title or first.name,
    summary=headlines.tiles(records),
    configuration=displayed_config(run.folder),
    records=records,
    figures=[*own, *curves],
    notes=notes,
    warnings=warnings,
  )
  return next((path for _, _, path in [*own, *curves]), None)


def learning_curves(run_folder: Path, folder: Path, chosen_step: int | None = None) -> list[Figure]:
  """Draws the learning curves of each part; the selected step is marked if the run has one part."""
  found = []
  for one in with_metrics(run_folder):
    part = one.name if one != run_folder else ""
    name = folder / f"learning_curves{f'-{part}' if part else ''}.png"
    learning_curves_figure(read_metrics(one), name, chosen_step=None if part else chosen_step)
    found.append((f"Learning curves{f', {part}' if part else ''}", CURVES, name))
  return found
