"""Files of published weights: safetensors, perhaps in several files, and JSON. Only numbers and texts are read."""

import os

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from metajax import checks

INDEX = ".safetensors.index.json"
FILES = ("model.safetensors", f"model{INDEX}", "open_clip_model.safetensors", f"open_clip_model{INDEX}")  # the first


def folder_of(path: str) -> str:
  """Where the configuration lies: a folder itself, or that of a file."""
  return path if os.path.isdir(path) else os.path.dirname(path)


def read_tensors(path: str) -> dict[str, np.ndarray]:
  """The arrays of a file of weights or of a folder with one, float32 where they are floating.

  Raises:
    FileNotFoundError: if there is no such file, no safetensors in the folder, or not all files that an index names.
    ValueError: if a file is damaged or not safetensors, or an index names other arrays than its files hold.
  """
  path = _in_folder(path) if os.path.isdir(path) else path
  if not os.path.isfile(path):
    raise FileNotFoundError(f"there is no file or folder {path!r}")
  if path.endswith(INDEX):
    return _read_shards(path)
  if not path.endswith(".safetensors"):
    raise ValueError(f"expected a .safetensors file, got {path!r}: other formats may run code when they are read")
  return _read(path)


def read_config(folder: str, name: str) -> dict | None:
  """The object in a JSON file of a folder; None where there is no such file.

  Raises:
    ValueError: if it is no JSON object.
  """
  path = os.path.join(folder, name)
  if not os.path.isfile(path):
    return None
  with open(path, "rb") as file:
    return checks.parse_json(path, file.read())


def _in_folder(path):
  there = [os.path.join(path, name) for name in FILES if os.path.isfile(os.path.join(path, name))]
  if not there:
    raise FileNotFoundError(f"expected model.safetensors in {path!r}, got {', '.join(sorted(os.listdir(path)))!r}")
  return there[0]


def _read_shards(path):
  """The arrays of several files, as an index says which file holds which."""
  with open(path, "rb") as file:
    table = checks.parse_json(path, file.read()).get("weight_map")
  if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
    raise ValueError(f"expected a weight_map of the file of each array in {path!r}, got {checks.describe(table)}")
  found = {}
  for name in sorted(set(table.values())):
    shard = os.path.join(os.path.dirname(path), os.path.basename(name))  # no way out of the folder
    if not os.path.isfile(shard):
      raise FileNotFoundError(f"expected the file {shard!r} that {path!r} names")
    found |= _read(shard)
  if wrong := sorted(set(table) ^ set(found)):
    raise ValueError(f"expected the arrays that {path!r} names, got {wrong[0]!r} in one of index and files alone")
  return found


def _read(path):
  found = {}
  try:
    with safe_open(path, framework="np") as file:
      for name in file.keys():  # noqa: SIM118
        try:
          found[name] = file.get_tensor(name)
        except (AttributeError, TypeError):  # a kind of numbers that NumPy does not know
          raise ValueError(f"expected arrays of 16, 32 or 64 bits in {path!r}, got another kind: {name!r}") from None
  except SafetensorError as error:
    raise ValueError(f"{path!r} is no whole safetensors file: {error}") from None
  return {name: x.astype(np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x for name, x in found.items()}
