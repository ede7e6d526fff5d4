"""The output of a run: progress on the terminal, metrics on disk, figures and an HTML page.

matplotlib, scikit-learn and TensorBoard are imported lazily, by the functions that use them.
"""

from metajax.report.comparison import comparison_figure
from metajax.report.confusion import confusion_figure, confusion_percentages
from metajax.report.embedding_map import map_figure
from metajax.report.figures import contact_sheet_figure, curves_figure, episode_figure
from metajax.report.files import write_whole
from metajax.report.learning_curves import learning_curves_figure
from metajax.report.metrics import metrics_log, read_metrics
from metajax.report.page import Swatch, page
from metajax.report.predictions import predictions_figure
from metajax.report.progress import progress
from metajax.report.ranking import ranking_figure
from metajax.report.similarity import similarity_figure

__all__ = [
  "Swatch",
  "comparison_figure",
  "confusion_figure",
  "confusion_percentages",
  "contact_sheet_figure",
  "curves_figure",
  "episode_figure",
  "learning_curves_figure",
  "map_figure",
  "metrics_log",
  "page",
  "predictions_figure",
  "progress",
  "ranking_figure",
  "read_metrics",
  "similarity_figure",
  "write_whole",
]
