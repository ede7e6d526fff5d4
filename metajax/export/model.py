"""Classifies with an exported metajax model. This file needs only jax and numpy.

    import model

    encoder = model.load(".")  # the folder of the export
    classifier = encoder.fit(support_images, labels)  # uint8 [s, height, width, channels], and s class names
    probabilities = classifier(images)  # [n, classes], in the order of classifier.classes

Nothing in an export is unpickled or executed, apart from its two StableHLO programs, which only compute.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

FORMAT = 2
BATCH = 256  # most inputs per call of a program
LEAVE_ONE_OUT = 100  # most support rows that are left out one by one; larger support sets are split into folds
FOLDS = 10
SMOOTHING = 0.25  # rows' worth of doubt in the calibration
COVERED = 0.95  # share of support rows within the threshold of the distance
TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1"}
TYPES |= {"U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?"}


class Model(NamedTuple):
  """A trained model.

  Attributes:
    config: The contents of `config.json`.
    embed: `inputs -> features float32 [n, d]`.
    logits: `(support inputs, one-hot labels [s, ways], inputs) -> logits float32 [n, ways]`.
  """

  config: dict
  embed: Callable[[Any], np.ndarray]
  logits: Callable[[Any, np.ndarray, Any], np.ndarray]

  def __repr__(self):
    return f"Model({self.config['name']!r})"

  def fit(self, inputs: Any, labels: Sequence[Any]) -> "Classifier":
    """Returns a classifier of the classes of a support set.

    The temperature of the probabilities is calibrated on support rows that are left out, one by one up to 100 rows and
    in ten folds beyond; so is the largest distance to a class mean. Both need classes with two rows or more.

    Args:
      inputs: Support inputs `[s, ...]`: for images uint8 (or floats in [0, 1]) `[s, height, width, channels]`.
      labels: Class of each row: names or numbers.

    Raises:
      ValueError: If rows and labels do not match, there are fewer than two classes, or more than the model can tell
        apart.
    """
    return _fit(self, inputs, labels)


class Prediction(NamedTuple):
  """Predictions of `n` inputs.

  Attributes:
    labels: Most probable class of each, `n` names.
    probabilities: `[n, classes]`, float32; each row sums to 1.
    margin: Lead of the largest probability over the second one, `[n]`.
    distance: Euclidean distance of the features to the nearest class mean, `[n]`.
    unlike: Whether the distance exceeds the classifier's threshold, `[n]`; None if it has none.
    nearest: Row of the support set with the nearest features, `[n]`.
    names: Names of the inputs if they have some, such as paths of image files.
  """

  labels: list
  probabilities: np.ndarray
  margin: np.ndarray
  distance: np.ndarray
  unlike: np.ndarray | None
  nearest: np.ndarray
  names: list | None = None


class Classifier(NamedTuple):
  """A classifier of the classes of a support set; a call returns probabilities.

  Attributes:
    model: The model.
    classes: Classes, sorted, in the order of the probabilities.
    inputs: Support inputs.
    labels: One-hot labels of the support set, `[s, classes]`.
    features: Features of the support set, `[s, d]`.
    temperature: Divisor of the logits; 1 if no support row could be left out.
    threshold: Largest distance to a class mean that counts as like the support set: 95% of the support rows are nearer
      to the mean of the others in their class. None if no support row could be left out.
    left_out: Support rows that were left out for calibration.
    left_out_logits: Their logits, `[left_out, classes]`.
  """

  model: Model
  classes: tuple
  inputs: Any
  labels: np.ndarray
  features: np.ndarray
  temperature: float
  threshold: float | None
  left_out: np.ndarray
  left_out_logits: np.ndarray

  def __repr__(self):
    return (
      f"Classifier({len(self.classes)} classes, {len(self.labels)} support rows, temperature {self.temperature:.3g})"
    )

  def __call__(self, inputs: Any) -> np.ndarray:
    """Returns the probabilities of the classes, float32 `[n, classes]`."""
    return _probabilities(self.model.logits(self.inputs, self.labels, inputs), self.temperature)

  def predict(self, inputs: Any) -> Prediction:
    """Returns labels, probabilities, and the distance to the support set."""
    return _predict(self, self(inputs), self.model.embed(inputs))


def load(folder: str | Path) -> Model:
  """Loads an export.

  Args:
    folder: Folder of the export.

  Returns:
    A `Model`, whose programs are compiled when they are first called, once per number of rows: 1, 16 or 256.

  Raises:
    FileNotFoundError: If the folder holds no export.
    ValueError: If it is damaged, of another version, or for another kind of device.
  """
  folder = Path(folder) if isinstance(folder, str) else folder
  config, arrays = read(folder)
  device = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
  if device not in config["platforms"]:
    raise ValueError(
      f"expected an export for {device}, got one for {', '.join(config['platforms'])} in {str(folder)!r}"
    )
  arrays = [jax.device_put(array) for array in arrays]
  embed, predict = (_program(folder, name, config) for name in ("embed", "predict"))

  def embedded(inputs):
    rows = rows_of(config, inputs)
    return in_batches(lambda *some: embed(arrays, list(some)), rows, config["joint"])

  def logits(support, labels, inputs):
    support, rows, labels = rows_of(config, support), rows_of(config, inputs), np.asarray(labels, np.float32)
    given = labels.shape[1]
    if config["ways"] and given != config["ways"]:
      if given > config["ways"]:
        raise ValueError(
          f"expected at most {config['ways']} classes, the width of the head of {config['name']}, got {given}"
        )
      labels = np.pad(labels, ((0, 0), (0, config["ways"] - given)))
    found = in_batches(lambda *some: predict(arrays, support, labels, list(some)), rows, config["joint"])
    return found[:, :given]

  return Model(config, embedded, logits)


def read(folder: Path) -> tuple[dict, list[np.ndarray]]:
  """Reads and checks the configuration and the parameters of an export."""
  try:
    config = json.loads((folder / "config.json").read_text("utf-8"))
  except FileNotFoundError:
    raise FileNotFoundError(f"expected an export in {str(folder)!r}, got no config.json") from None
  except ValueError:
    raise ValueError(f"{str(folder / 'config.json')!r} is damaged: it is not JSON") from None
  if not isinstance(config, dict) or config.get("format") != FORMAT:
    given = config.get("format") if isinstance(config, dict) else None
    raise ValueError(f"expected an export of format {FORMAT} in {str(folder)!r}, got {given!r}: export the run again")
  for name, digest in config["sha256"].items():
    path = folder / Path(name).name
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
      raise ValueError(f"{str(path)!r} is {'damaged' if path.is_file() else 'missing'}: export the run again")
  arrays = safetensors((folder / "model.safetensors").read_bytes())
  return config, [arrays[name] for name in config["arrays"]]


def safetensors(content: bytes) -> dict[str, np.ndarray]:
  """The arrays of a safetensors file."""
  length = int.from_bytes(content[:8], "little")
  header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
  found = {}
  for name, entry in header.items():
    if name == "__metadata__":
      continue
    kind = np.dtype(jax.numpy.bfloat16) if entry["dtype"] == "BF16" else np.dtype(TYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    found[name] = np.frombuffer(data[begin:end], kind).reshape(entry["shape"])
  return found


def rows_of(config: dict, inputs: Any) -> list[np.ndarray]:
  """The arrays of some inputs, checked; uint8 images become floats in [0, 1].

  Raises:
    ValueError: If their number, shapes or types are not those of the model.
  """
  leaves, specs = [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)], config["inputs"]
  expected = described_inputs(config)
  given = ", ".join(f"{leaf.dtype} {list(leaf.shape)}" for leaf in leaves) or "nothing"
  if config["images"] and len(leaves) == 1 and leaves[0].dtype == np.uint8:
    leaves = [leaves[0].astype(np.float32) / np.float32(255)]
  fits = len(leaves) == len(specs) and all(
    leaf.ndim and leaf.shape[1:] == tuple(spec["shape"]) and leaf.dtype.kind == np.dtype(spec["dtype"]).kind
    for leaf, spec in zip(leaves, specs, strict=True)
  )
  if not fits or len({len(leaf) for leaf in leaves}) != 1 or not len(leaves[0]):
    expected += ", or uint8" if config["images"] else ""
    raise ValueError(f"expected inputs {expected}, got {given}")
  if not all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind == "f"):
    raise ValueError(f"expected finite inputs, got NaN or infinity in {given}")
  return [leaf.astype(spec["dtype"]) for leaf, spec in zip(leaves, specs, strict=True)]


def described_inputs(config: dict) -> str:
  """The types and shapes of the inputs of a model, for messages."""
  return ", ".join(f"{spec['dtype']} {['n', *spec['shape']]}".replace("'", "") for spec in config["inputs"])


def in_batches(call: Callable, rows: list[np.ndarray], joint: bool) -> np.ndarray:
  """The results of a call for some rows, 256 at a time; fewer are padded to 1, 16 or 256, so that little is compiled.

  Rows that a model classifies jointly are not padded.
  """
  found, number = [], len(rows[0])
  for start in range(0, number, BATCH):
    some = [array[start : start + BATCH] for array in rows]
    there = len(some[0])
    size = there if joint else next(size for size in (1, 16, BATCH) if size >= there)
    some = [np.concatenate([array, np.repeat(array[-1:], size - there, 0)]) for array in some]
    found.append(np.asarray(call(*some), np.float32)[:there])
  return np.concatenate(found)


def _program(folder: Path, name: str, config: dict) -> Callable:
  """A StableHLO program as a function.

  `jax.export.deserialize` needs a further package. Here JAX exports a function of the same arguments and results, whose
  program is then replaced.
  """
  known, content = config["programs"][name], (folder / f"{name}.stablehlo").read_bytes()
  oldest = jax.export.minimum_supported_calling_convention_version
  newest = jax.export.maximum_supported_calling_convention_version
  if not oldest <= known["calling_convention_version"] <= newest:
    raise ValueError(
      f"expected a program of calling convention {oldest} to {newest}, which jax {jax.__version__} reads, got "
      f"{known['calling_convention_version']} in {str(folder)!r}: export the run again"
    )
  scope = jax.export.SymbolicScope(known["constraints"])

  def spec(described):
    dtype, _, shape = described.rstrip("]").partition("[")
    return jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape, scope=scope), dtype)

  arguments, result = jax.tree.map(spec, (known["arguments"], known["result"]))
  alike = jax.jit(lambda *_: jax.numpy.zeros(result.shape, result.dtype))
  replaced = dataclasses.replace(
    jax.export.export(alike, platforms=config["platforms"])(*arguments),
    fun_name=name,
    mlir_module_serialized=content,
    calling_convention_version=known["calling_convention_version"],
    module_kept_var_idx=tuple(known["module_kept_var_idx"]),
    uses_global_constants=known["uses_global_constants"],
  )
  return jax.jit(replaced.call)


def _fit(model: Model, inputs: Any, labels: Sequence[Any]) -> Classifier:
  rows, names = rows_of(model.config, inputs), list(labels)
  if len(names) != len(rows[0]):
    raise ValueError(f"expected a label for each of {len(rows[0])} support rows, got {len(names)}")
  classes = tuple(sorted(set(names)))
  if len(classes) < 2:
    raise ValueError(f"expected two classes or more in the support set, got one, {classes[0]!r}")
  one_hot = np.eye(len(classes), dtype=np.float32)[[classes.index(name) for name in names]]
  features = model.embed(rows)
  left_out, logits = leave_out(model, rows, one_hot)
  target = one_hot[left_out].argmax(1)
  temperature = calibrated(logits, target) if len(left_out) else 1.0
  threshold = _threshold(features, one_hot, left_out) if len(left_out) else None
  return Classifier(model, classes, rows, one_hot, features, temperature, threshold, left_out, logits)


def leave_out(model: Model, rows: list[np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The support rows whose class has another row, and the logits of each by a support set without it.

  Up to 100 rows are left out one by one, more in ten folds.
  """
  counts, place = labels.sum(0), (labels.cumsum(0) * labels).sum(1) - 1  # the row's place within its class
  there = np.flatnonzero(labels @ counts >= 2)
  one_by_one = len(there) <= LEAVE_ONE_OUT
  folds = [[row] for row in there] if one_by_one else [there[place[there] % FOLDS == fold] for fold in range(FOLDS)]
  logits = np.zeros((len(labels), labels.shape[1]), np.float32)
  for fold in folds:
    kept = np.setdiff1d(np.arange(len(labels)), fold)  # of every class, as its first two rows lie in different folds
    if len(fold):
      logits[fold] = model.logits([array[kept] for array in rows], labels[kept], [array[fold] for array in rows])
  return there, logits[there]


def calibrated(logits: np.ndarray, target: np.ndarray) -> float:
  """The temperature of least cross-entropy, with smoothed targets: `h / (h + 1/4)` for the true class of `h` rows.

  Without smoothing, rows that are all right would be given a temperature of 0; with Platt's (h + 1) / (h + 2),
  probabilities are too low.
  The cross-entropy is convex in `b = 1 / temperature`: its slope is bisected in float64, the same on every machine.
  """
  logits, rows = np.asarray(logits, np.float64), len(target)
  logits = logits - logits.max(1, keepdims=True)
  wrong = SMOOTHING / (rows + SMOOTHING)
  smooth = np.full(logits.shape, wrong / max(1, logits.shape[1] - 1))
  smooth[np.arange(rows), target] = 1 - wrong
  scale = np.abs(logits).mean()
  if not scale:
    return 1.0

  def slope(b):
    weights = np.exp(b * logits)
    weights /= weights.sum(1, keepdims=True)
    return ((weights - smooth) * logits).sum(1).mean()

  low, high = 1e-4 / scale, 1e4 / scale
  for _ in range(100):
    middle = np.sqrt(low * high)
    low, high = (middle, high) if slope(middle) < 0 else (low, middle)
  return float(1 / np.sqrt(low * high))


def _threshold(features: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
  """The distance that 95% of new rows of a class stay below, by the support rows left out (split conformal)."""
  features, labels = np.asarray(features, np.float64), np.asarray(labels, np.float64)
  counts = labels.sum(0)
  others = ((labels.T @ features)[labels.argmax(1)] - features) / np.maximum(counts[labels.argmax(1)] - 1, 1)[:, None]
  distances = np.sort(np.linalg.norm(features - others, axis=1)[rows])
  return float(distances[min(int(np.ceil(COVERED * (len(rows) + 1))), len(rows)) - 1])


def _predict(classifier: Classifier, probabilities: np.ndarray, features: np.ndarray) -> Prediction:
  ordered = np.sort(probabilities, 1)
  means = (classifier.labels.T @ classifier.features) / classifier.labels.sum(0)[:, None]
  distance = _distances(features, means).min(1)
  nearest = _distances(features, classifier.features).argmin(1)
  unlike = None if classifier.threshold is None else distance > classifier.threshold
  labels = [classifier.classes[way] for way in probabilities.argmax(1)]
  return Prediction(labels, probabilities, ordered[:, -1] - ordered[:, -2], distance, unlike, nearest)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Euclidean distances `[n, m]` of rows `[n, d]` and `[m, d]`."""
  return np.stack(
    [np.linalg.norm(np.asarray(first, np.float64) - row, axis=1) for row in np.asarray(second, np.float64)], 1
  )


def _probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
  scaled = np.asarray(logits, np.float64) / temperature
  weights = np.exp(scaled - scaled.max(1, keepdims=True))
  return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
