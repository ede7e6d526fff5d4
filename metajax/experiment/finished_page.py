"""The page of a run that has ended: its scores, figures, records and flags."""

from collections.abc import Sequence
from pathlib import Path

from metajax.experiment import headlines
from metajax.experiment.configuration import displayed_config
from metajax.experiment.run_folder import Run
from metajax.experiment.types import Experiment, Figure, Trained
from metajax.report import learning_curves_figure, page, read_metrics

CURVES = "The loss in training, and the validation."


def write_page(
  run: Run,
  experiments: Sequence[Experiment],
  trained: Sequence[Trained],
  records: Sequence[dict],
  warnings: Sequence[str],
) -> Path | None:
  """Draws a run's figures into its folder, and makes its page, `index.html`.

  Args:
    run: the run.
    experiments: that it was of.
    trained: what each of them ended with.
    records: what was measured, as JSON has it.
    warnings: what shows that nothing was learned.

  Returns:
    The figure that is published with the records: the first of the experiments' own, or the learning curves.
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
  """A figure for each part that trained; the chosen step is marked where there is one part."""
  found = []
  for path in sorted(run_folder.rglob("metrics.jsonl")):
    part = path.parent.name if path.parent != run_folder else ""
    name = folder / f"learning_curves{f'-{part}' if part else ''}.png"
    learning_curves_figure(read_metrics(path.parent), name, chosen_step=None if part else chosen_step)
    found.append((f"Learning curves{f', {part}' if part else ''}", CURVES, name))
  return found
