"""One table says where each array of a published file goes: its name and shape there, its place here."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Preprocessing


class Entry(NamedTuple):
  """An array of a published network.

  Attributes:
    theirs: Name in the file.
    shape: Shape in the file.
    ours: Dotted path in our variables.
    kind: Kind of conversion, see `forward`.
    num_heads: Number of attention heads.
  """

  theirs: str
  shape: tuple[int, ...]
  ours: str
  kind: str = "same"
  num_heads: int = 1


class Found(NamedTuple):
  """What was read of a published network.

  Attributes:
    variables: `{"params": ...}`, and `{"state": ...}` if it has one.
    preprocessing: Preprocessing of the images.
    unused: Names of the arrays in the file that features do not need.
    said: Warnings on assumed settings.
  """

  variables: dict
  preprocessing: Preprocessing
  unused: tuple[str, ...]
  said: tuple[str, ...]


def forward(x: np.ndarray, kind: str, num_heads: int) -> np.ndarray:
  """Converts an array of theirs to ours."""
  if kind == "filters":
    return x.transpose(2, 3, 1, 0)
  if kind == "into_heads":
    return x.T.reshape(x.shape[1], num_heads, -1)
  if kind == "out_of_heads":
    return x.T.reshape(num_heads, -1, x.shape[0])
  if kind == "heads":
    return x.reshape(num_heads, -1)
  if kind == "rows":
    return x.reshape(x.shape[-2:])
  if kind == "row":
    return x.reshape(x.shape[-1])
  return x.T if kind == "matrix" else x


def backward(x: np.ndarray, entry: Entry) -> np.ndarray:
  """Converts an array of ours to theirs."""
  if entry.kind == "filters":
    return x.transpose(3, 2, 0, 1)
  if entry.kind == "into_heads":
    return x.reshape(x.shape[0], -1).T
  if entry.kind == "out_of_heads":
    return x.reshape(-1, x.shape[-1]).T
  if entry.kind in ("heads", "rows", "row"):
    return x.reshape(entry.shape)
  return x.T if entry.kind == "matrix" else x


def norm_entries(theirs: str, ours: str, width: int) -> Iterator[Entry]:
  """Yields the scale and the bias of a norm."""
  yield Entry(f"{theirs}.weight", (width,), f"{ours}.scale")
  yield Entry(f"{theirs}.bias", (width,), f"{ours}.bias")


def dense_entries(
  theirs: str, ours: str, outputs: int, inputs: int, kind: str = "matrix", num_heads: int = 1
) -> Iterator[Entry]:
  """Yields the kernel and the bias of a linear map."""
  yield Entry(f"{theirs}.weight", (outputs, inputs), f"{ours}.kernel", kind, num_heads)
  yield Entry(f"{theirs}.bias", (outputs,), f"{ours}.bias", "heads" if kind == "into_heads" else "same", num_heads)


def convolution_entries(
  theirs: str, norm: str, ours: str, outputs: int, inputs: int, size: int, params: str = "params", state: str = "state"
) -> Iterator[Entry]:
  """Yields the kernel of a convolution without bias, and params and statistics of its batch norm.

  Args:
    theirs, norm: Their names of the convolution and of the norm.
    ours: Our name of both, a `resnet.normalized_convolution`.
    outputs, inputs, size: Sizes of the kernel.
    params, state: Our dotted paths of the params and of the state.
  """
  yield Entry(f"{theirs}.weight", (outputs, inputs, size, size), f"{params}.{ours}_convolution.kernel", "filters")
  places = {"weight": f"{params}.{ours}_norm.scale", "bias": f"{params}.{ours}_norm.bias"}
  places |= {"running_mean": f"{state}.batch_stats.{ours}_norm.mean"}
  places |= {"running_var": f"{state}.batch_stats.{ours}_norm.var"}
  for name, place in places.items():
    yield Entry(f"{norm}.{name}", (outputs,), place)


def find(
  tensors: Mapping[str, np.ndarray],
  called: Mapping[str, str],
  name: str,
  shape: tuple[int | None, ...],
  path: str,
  model: str,
  turned: Iterable[str] = (),
) -> np.ndarray:
  """Returns a floating array and checks its shape, in which None matches any size.

  Args:
    tensors: Arrays by the names of a table.
    called: Name in the file per name of a table.
    name: Name of the array.
    shape: Expected shape.
    path: Path of the file, for messages.
    model: The expected network, for messages.
    turned: Names of arrays that the file holds transposed, for messages.

  Raises:
    ValueError: if the array is missing, not floating, or has another shape; the message names it.
  """
  if name not in tensors:
    raise ValueError(f"expected the arrays of {model}, got none named {called.get(name, name)!r} in {path!r}")
  x, is_turned = tensors[name], called[name] in turned
  fits = x.ndim == len(shape) and all(size in (None, there) for size, there in zip(shape, x.shape, strict=True))
  if x.dtype != np.float32 or not fits:
    wanted, given = (sizes[::-1] if is_turned else sizes for sizes in (shape, x.shape))
    wanted = ", ".join("any" if size is None else str(size) for size in wanted)
    raise ValueError(f"expected {called[name]!r} to be floating [{wanted}] in {path!r}, got {x.dtype} {list(given)}")
  return x


def variables_of(
  tensors: Mapping[str, np.ndarray],
  called: Mapping[str, str],
  table: Iterable[Entry],
  path: str,
  model: str,
  turned: Iterable[str] = (),
) -> dict:
  """Converts all arrays of a file to our variables, a nested dict, and checks each of them.

  Args:
    tensors, called, path, model, turned: As for `find`.
    table: All arrays that the network has.

  Raises:
    ValueError: if an array is missing, has another shape, or is not floating or not finite; or if others are present.
  """
  rest, variables = dict(tensors), {}
  for entry in table:
    x = find(tensors, called, entry.theirs, entry.shape, path, model, turned)
    if not np.isfinite(x).all():
      raise ValueError(f"expected {called[entry.theirs]!r} to be finite in {path!r}, got NaN or an infinity")
    *folders, name = entry.ours.split(".")
    place = variables
    for folder in folders:
      place = place.setdefault(folder, {})
    place[name] = jax.device_put(forward(x, entry.kind, entry.num_heads))  # jnp.asarray compiles, once for each shape
    del rest[entry.theirs]
  if rest:
    raise ValueError(f"expected the arrays of {model}, got {called[min(rest)]!r} too in {path!r}")
  return variables


def tensors_of(variables: Mapping, table: Iterable[Entry], model: str) -> dict[str, jnp.ndarray]:
  """Converts our variables to the arrays of a file, the inverse of `variables_of`.

  Raises:
    ValueError: if a variable is missing or has another shape, or others are present; the message names it.
  """
  flat, tensors = {}, {}
  for path, x in jax.tree.leaves_with_path(variables):
    flat[jax.tree_util.keystr(path, simple=True, separator=".")] = np.asarray(x, np.float32)
  for entry in table:
    if entry.ours not in flat:
      raise ValueError(f"expected params of {model}, got none named {entry.ours!r}")
    x, wanted = flat.pop(entry.ours), forward(np.zeros(entry.shape, np.uint8), entry.kind, entry.num_heads).shape
    if x.shape != wanted:
      raise ValueError(f"expected params of {model}, {entry.ours!r} of shape {list(wanted)}, got {list(x.shape)}")
    tensors[entry.theirs] = jax.device_put(np.array(backward(x, entry), order="C"))
  if flat:
    raise ValueError(f"expected params of {model}, got {next(iter(flat))!r} too")
  return tensors
