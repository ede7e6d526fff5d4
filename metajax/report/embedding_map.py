"""A two-dimensional map of embeddings, which shows whether held-out classes are separated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.report.drawing import COLORS, FAINT, as_shown, check_names, drawing, shorten, thumbnail
from metajax.types import AnyArray

_MARKERS = "os^DvPX"


def map_figure(
  embeddings: AnyArray,
  labels: AnyArray,
  names: Sequence[str],
  path: Path,
  images: AnyArray | None = None,
  title: str = "",
):
  """Draws embeddings as points in a plane, with a color and marker per class, and labels each class at its median.

  The plane is that of `map_of`; the same embeddings give the same map.

  Args:
    embeddings: finite embeddings `[n, d]`.
    labels: indices into `names`, integers `[n]`.
    names: names of the classes; long ones are shortened in the middle.
    path: PNG file; missing folders are created.
    images: one image of each class, drawn at its median in place of its name: `[classes, h, w, c]`, uint8 or floats in
      [0, 1]. With at most 12 classes, their names then appear in a legend.
    title: title of the map.

  Raises:
    ValueError: if embeddings are not finite, or the labels, names or images do not fit.
  """
  places, labels = map_of(embeddings), np.asarray(labels)
  if labels.shape != places.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"expected {len(places)} integer labels, got {labels.dtype} {list(labels.shape)}")
  if not len(labels) or labels.min() < 0 or labels.max() >= len(names):
    raise ValueError(f"expected labels of 0 to {len(names) - 1}, indices of names, got {np.unique(labels).tolist()}")
  names = [shorten(name, 26) for name in check_names(names, len(names))]
  shown = None if images is None else as_shown(images)
  if shown is not None and len(shown) != len(names):
    raise ValueError(f"expected an image for each of {len(names)} classes, got {len(shown)}")
  present = np.unique(labels)
  with drawing(path, 9, 6.8) as figure:
    axes = figure.subplots()
    _scatter(axes, places, labels, names)
    how = "t-SNE" if _curved(embeddings) else "principal components"
    said = f"{how} of {len(places):,} embeddings of {len(present)} classes"
    said += ": neighbors are similar, large distances mean little" if how == "t-SNE" else ""
    axes.set_xlabel(said, fontsize=8, labelpad=6)
    if shown is not None and len(present) <= 12:
      axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handletextpad=0.2)
    axes.set_title(title, loc="left")
    figure.draw_without_rendering()  # fixes the layout, so that the marks can be placed in points
    figure.set_layout_engine("none")
    medians = np.stack([np.median(places[labels == k], 0) for k in present])
    _mark(figure, axes, medians, [names[k] for k in present], present, shown)


def map_of(embeddings: AnyArray) -> np.ndarray:
  """Projects embeddings `[n, d]` to a plane, `[n, 2]`.

  The projection is scikit-learn's t-SNE (perplexity min(30, (n - 1) / 3), PCA initialization, fixed seed), or the
  first two principal components if n < 10 or d <= 2.

  Raises:
    ValueError: if embeddings are not `[n, d]` or not finite.
  """
  points = np.asarray(embeddings, np.float64)
  if points.ndim != 2 or not points.size:
    raise ValueError(f"expected embeddings [n, d], got shape {list(points.shape)}")
  if bad := int(np.sum(~np.isfinite(points).all(1))):
    raise ValueError(f"expected finite embeddings, got {bad} of {len(points)} that are not")
  points = points - points.mean(0)
  points = points / (np.abs(points).max() or 1)  # makes the map independent of the scale, which float32 would not be
  if not _curved(points):
    return _principal_components(points)
  from sklearn.manifold import TSNE
  from threadpoolctl import threadpool_limits

  perplexity = min(30, (len(points) - 1) / 3)
  with threadpool_limits(1):  # the order of sums over several threads would change the map
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points).astype(np.float64)


def _curved(embeddings: AnyArray) -> bool:
  """Whether t-SNE applies: enough points, dimensions and distinct values."""
  points = np.asarray(embeddings)
  return len(points) >= 10 and points.shape[1] > 2 and len(np.unique(points, axis=0)) > 3


def _principal_components(points: np.ndarray) -> np.ndarray:
  left, sizes, right = np.linalg.svd(points, full_matrices=False)
  left, sizes, right = left[:, :2], sizes[:2], right[:2]
  sign = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])  # fixes the arbitrary sign of components
  places = left * sizes * np.where(sign == 0, 1, sign)
  return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def _look(k: int) -> tuple[str, str]:
  return COLORS[k % len(COLORS)], _MARKERS[k // len(COLORS) % len(_MARKERS)]


def _scatter(axes, places, labels, names):
  size = 26 if len(places) < 600 else 12
  for k in np.unique(labels):
    color, marker = _look(k)
    settings = {"color": color, "marker": marker, "alpha": 0.75, "edgecolor": "white", "linewidth": 0.4}
    axes.scatter(*places[labels == k].T, s=size, label=names[k], **settings)
  axes.set(xticks=[], yticks=[])
  axes.grid(False)
  axes.margins(0.06)
  for spine in axes.spines.values():
    spine.set(visible=True, color=FAINT)


def _mark(figure, axes, medians, names, present, shown):
  """Draws the image or name of each class near its median, moved apart where they would overlap."""
  to_points = 72 / figure.dpi
  box = axes.get_window_extent()
  corner = np.array([[box.x0, box.y0], [box.x1, box.y1]]) * to_points
  image = 24 if len(present) <= 25 else 18
  sizes = [(image + 6, image + 6) if shown is not None else (4.6 * len(name) + 8, 15) for name in names]
  wanted = axes.transData.transform(medians) * to_points
  places = axes.transData.inverted().transform(spread(wanted, np.array(sizes), corner) / to_points)
  for median, place, name, k in zip(medians, places, names, present, strict=True):
    color, _ = _look(k)
    axes.plot(*np.stack([median, place]).T, color=color, linewidth=0.9, alpha=0.8, zorder=3)
    if shown is not None:
      thumbnail(axes, shown[k], tuple(place), image, color, zorder=4)
    else:
      box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": color, "alpha": 0.9, "linewidth": 0.8}
      axes.text(*place, name, ha="center", va="center", fontsize=7, bbox=box, zorder=5)


def spread(places: np.ndarray, sizes: np.ndarray, corner: np.ndarray, rounds: int = 300) -> np.ndarray:
  """Moves boxes of centers `[k, 2]` and sizes `[k, 2]` apart, within `corner` `[2, 2]`, until they do not overlap."""
  places, reach = np.array(places, float), 1.02 * (sizes[:, None] + sizes) / 2
  order = np.sign(np.arange(len(places))[:, None] - np.arange(len(places)))  # direction if two centers coincide
  for _ in range(rounds):
    gap = places[:, None] - places
    overlap = reach - np.abs(gap)
    meet = np.all(overlap > 1e-6, -1) & (order != 0)
    if not meet.any():
      break
    along = np.eye(2)[(overlap / reach).argmin(-1)]  # the axis with the smaller relative overlap
    direction = np.where(gap == 0, order[..., None], np.sign(gap))
    places += 0.5 * np.sum(meet[..., None] * along * direction * overlap, 1)
    places = np.clip(places, corner[0] + sizes / 2, corner[1] - sizes / 2)
  return places
