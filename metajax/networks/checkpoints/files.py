"""Readers of published weights: safetensors, in one file or several, and JSON. Only numbers and text are read."""

import os

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from metajax import checks

INDEX = ".safetensors.index.json"
FILES = ("model.safetensors", f"model{INDEX}", "open_clip_model.safetensors", f"open_clip_model{INDEX}")  # the first


def folder_of(path: str) -> str:
  """Returns the folder of the configuration: the path itself if it is a folder, else the file's folder."""
  return path if os.path.isdir(path) else os.path.dirname(path)


def read_tensors(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a weights file, or of a folder with one; floating arrays become float32.

  Raises:
    FileNotFoundError: if the file does not exist, the folder has no safetensors, or a file of an index is missing.
    ValueError: if a file is damaged or not safetensors, or an index does not match the arrays in its files.
  """
  path = _in_folder(path) if os.path.isdir(path) else path
  if not os.path.isfile(path):
    raise FileNotFoundError(f"no such file or folder: {path!r}")
  if path.endswith(INDEX):
    return _read_shards(path)
  if not path.endswith(".safetensors"):
    raise ValueError(f"expected a .safetensors file, got {path!r}: other formats may run code when read")
  return _read(path)


def read_config(folder: str, name: str) -> dict | None:
  """Reads the object in a JSON file of a folder; None if the file does not exist.

  Raises:
    ValueError: if the content is not a JSON object.
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
  """Reads the arrays of several files, listed in an index."""
  with open(path, "rb") as file:
    table = checks.parse_json(path, file.read()).get("weight_map")
  if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
    raise ValueError(f"expected a weight_map from arrays to files in {path!r}, got {checks.describe(table)}")
  found = {}
  for name in sorted(set(table.values())):
    shard = os.path.join(os.path.dirname(path), os.path.basename(name))  # cannot leave the folder
    if not os.path.isfile(shard):
      raise FileNotFoundError(f"expected the file {shard!r} that {path!r} names")
    found |= _read(shard)
  if wrong := sorted(set(table) ^ set(found)):
    raise ValueError(f"expected the same arrays in {path!r} and its files, got {wrong[0]!r} in only one of them")
  return found


def _read(path):
  found = {}
  try:
    with safe_open(path, framework="np") as file:
      for name in file.keys():  # noqa: SIM118
        try:
          found[name] = file.get_tensor(name)
        except (AttributeError, TypeError):  # a dtype that NumPy does not know
          raise ValueError(f"expected arrays of 16, 32 or 64 bits in {path!r}, got another dtype: {name!r}") from None
  except SafetensorError as error:
    raise ValueError(f"{path!r} is not a complete safetensors file: {error}") from None
  return {name: x.astype(np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x for name, x in found.items()}
