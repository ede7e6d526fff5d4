"""The output of a run: progress on the terminal, metrics on disk, figures and an HTML page.

matplotlib, scikit-learn, TensorBoard and wandb are imported lazily, by the functions that use them.
"""

from metajax.progress import progress
from metajax.report.comparison import comparison_figure
from metajax.report.confusion import confusion_figure, confusion_percentages
from metajax.report.csv_log import csv_log
from metajax.report.embedding_map import map_figure
from metajax.report.events import tensorboard_log
from metajax.report.figures import contact_sheet_figure, curves_figure, episode_figure
from metajax.report.files import write_whole
from metajax.report.learning_curves import learning_curves_figure
from metajax.report.metrics import Format, jsonl_log, metrics_log, read_metrics
from metajax.report.page import Swatch, page
from metajax.report.predictions import predictions_figure
from metajax.report.ranking import ranking_figure
from metajax.report.rows import log_to
from metajax.report.similarity import similarity_figure
from metajax.report.wandb_log import wandb_log

__all__ = [
  "Format",
  "Swatch",
  "comparison_figure",
  "confusion_figure",
  "confusion_percentages",
  "contact_sheet_figure",
  "csv_log",
  "curves_figure",
  "episode_figure",
  "jsonl_log",
  "learning_curves_figure",
  "log_to",
  "map_figure",
  "metrics_log",
  "page",
  "predictions_figure",
  "progress",
  "ranking_figure",
  "read_metrics",
  "similarity_figure",
  "tensorboard_log",
  "wandb_log",
  "write_whole",
]
