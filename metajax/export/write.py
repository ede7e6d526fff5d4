"""Writes the export of a trained learner: parameters, a configuration, two StableHLO programs, and a model card."""

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from metajax import paths
from metajax.export import model, programs
from metajax.export.card import model_card
from metajax.export.images import ImageFormat, image_format
from metajax.pixels import images_to_float
from metajax.types import Episode, Learner, Params, State

PLATFORMS = ("cpu", "cuda", "tpu")


def write_export(
  folder: Path | str,
  learner: Learner,
  params: Params,
  state: State,
  example: Episode,
  *,
  name: str = "model",
  about: Mapping[str, Any] | None = None,
  images: ImageFormat | None = None,
  platforms: Sequence[str] = PLATFORMS,
) -> Path:
  """Exports a trained learner to a folder, which `load_exported` reads without the learner's code.

  It holds parameters, StableHLO programs with symbolic numbers of rows and classes, a checked example, a reader that
  needs only jax and numpy, and a model card. It appears whole or not at all.

  Args:
    folder: New folder, or one with an export, which is replaced.
    learner: Trained learner.
    params, state: Its parameters and state.
    example: A task: its shapes and types become those of the model, and the programs are checked on it.
    name: Name of the model.
    about: Facts for the model card, as JSON types; see `metajax.export.card`.
    images: Format of the images; by default measured on the example, None for other inputs.
    platforms: Platforms of the programs: "cpu", "cuda", "rocm", "tpu".

  Returns:
    The folder.

  Raises:
    ValueError: If the folder holds other files, or the programs cannot be exported or disagree with the learner.
    OSError: If it cannot be written.

  Example:
    `write_export("my_model", learner, params, state, task)`, then `metajax.load_exported("my_model")`
  """
  folder, example = paths.place("the folder of an export", folder), jax.tree.map(np.asarray, images_to_float(example))
  _check_replaceable(folder)
  names, arrays, restore = programs.flat_arrays((params, state))
  exported = programs.export(learner, restore, arrays, example, tuple(platforms))
  features, logits = programs.check(learner, params, state, exported, arrays, example)
  images = image_format(example.query.inputs) if images is None else images
  config = {
    "format": model.FORMAT,
    "name": name,
    "versions": {name: version(name) for name in ("metajax", "jax")},
    "platforms": list(platforms),
    "inputs": _specs(example),
    "images": images and {name: value for name, value in images._asdict().items() if value is not None},
    "features": int(features.shape[-1]),
    "ways": exported.ways,
    "joint": programs.is_joint(exported, arrays, example, logits),
    "parameters": int(sum(leaf.size for leaf in jax.tree.leaves(params))),
    "arrays": names,
    "about": dict(about or {}),
  }
  weights = save(dict(zip(names, arrays, strict=True)))
  _write(folder, config, exported, {"model.safetensors": weights, "example.npz": _example(example, features, logits)})
  return folder


def _write(folder: Path, config: dict[str, Any], exported: programs.Exported, files: dict[str, bytes]):
  """Writes the files of an export, with a digest of each."""
  called = {"embed": exported.embed, "predict": exported.predict}
  files = files | {f"{name}.stablehlo": program.mlir_module_serialized for name, program in called.items()}
  config = config | {"programs": {name: programs.described(program) for name, program in called.items()}}
  config = config | {"sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
  files["config.json"] = (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
  files["model.py"] = Path(model.__file__).read_bytes()
  files["README.md"] = model_card(config).encode(errors="backslashreplace")
  if paths.remote(folder):
    _put(folder, files)
    return
  with _replacing(folder) as scratch:
    for name, content in files.items():
      paths.write_whole(scratch / name, content)


def _put(folder: Path, files: dict[str, bytes]):
  """Puts the files of an export into a bucket: it is one while it has its configuration, deleted first and put last."""
  paths.remove_tree(folder, first="config.json")
  for name, content in sorted(files.items(), key=lambda file: file[0] == "config.json"):
    paths.write_whole(folder / name, content)


def _specs(example: Episode) -> list[dict[str, Any]]:
  leaves = jax.tree.leaves(example.query.inputs)
  return [{"shape": list(leaf.shape[1:]), "dtype": str(leaf.dtype)} for leaf in leaves]


def _check_replaceable(folder: Path):
  if folder.exists() and not (folder / "config.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(f"expected a new folder or an export to replace, got {str(folder)!r}")


def _example(example: Episode, features: np.ndarray, logits: np.ndarray) -> bytes:
  arrays: dict[str, Any] = {"support_labels": example.support.labels, "features": features, "logits": logits}
  for part, inputs in (("support", example.support.inputs), ("inputs", example.query.inputs)):
    arrays |= {f"{part}_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(inputs))}
  with io.BytesIO() as file:
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


@contextmanager
def _replacing(folder: Path) -> Generator[Path]:
  """Yields an empty folder, which replaces `folder` at the end and is removed after an error."""
  scratch = folder.with_name(f"{paths.SCRATCH}-{os.getpid()}-{secrets.token_hex(8)}")
  with paths.naming(folder):
    scratch.mkdir(parents=True)
    try:
      yield scratch
      old = folder.with_name(f"{scratch.name}-old")
      with contextlib.suppress(FileNotFoundError):
        os.rename(folder, old)
      os.rename(scratch, folder)
      shutil.rmtree(old, ignore_errors=True)
    finally:
      shutil.rmtree(scratch, ignore_errors=True)
