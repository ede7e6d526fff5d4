"""Writes the features of images by a trained run or a published encoder.

metajax embed runs/mine --images photos --output features.npz
metajax embed --encoder dinov2-small --images photos
"""

import io
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tyro.conf import Positional

from metajax import paths
from metajax.cli._models import model_of
from metajax.data.files.verification import Progress
from metajax.experiment.bounds import MayBeRemote
from metajax.experiment.command_line import command
from metajax.inference.images import files_of, read_ahead, unreadable_images


def embed(
  images: tuple[Path, ...],
  run: Annotated[Positional[Path | None], tyro.conf.arg(metavar="RUN"), MayBeRemote()] = None,
  encoder: Path | None = None,
  output: Path = Path("features.npz"),
  dtype: Literal["float16", "float32"] = "float32",
  invert: bool = False,
):
  """Writes the features of images: an .npz file with the arrays names, features and model.

  Args:
    images: Images: files and folders.
    run: Folder of a finished run, or of an export.
    encoder: Published weights in place of a run: a .safetensors file or its folder, of a ViT, DeiT, DINOv2, SigLIP,
      CLIP or ResNet.
    output: File to write.
    dtype: Type of the features.
    invert: Exchange dark and light, for characters on the opposite background of that in training.
  """
  if output.suffix != ".npz":
    raise ValueError(f"expected an output that ends in .npz, got {str(output)!r}")
  files, model = files_of(images), model_of(run, encoder)
  features = np.zeros((len(files), model.model.config["features"]), dtype)
  said = Progress(f"embedded {{}} of {len(files):,} images", len(files))
  done = 0
  for batch, found, unreadable in read_ahead(files, model.form, invert):
    if unreadable:
      raise ValueError(unreadable_images(list(batch), unreadable))
    features[done : done + len(batch)] = model.model.embed(found)
    done += len(batch)
    said.advance(len(batch))
  if not np.isfinite(features).all():
    raise ValueError(f"expected features within the range of {dtype}: --dtype float32 holds them")
  with io.BytesIO() as file:
    np.savez(file, names=np.array(files), features=features, model=model.model.config["name"])
    paths.write_whole(output, file.getvalue())
  print(f"features: {output} ({len(files):,} images, {features.shape[1]} numbers each)")


if __name__ == "__main__":
  command(embed, on_hosts=False)
