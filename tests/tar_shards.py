"""Tiny tar shards of solid images, whose gray value is the number of the sample."""

import io
import tarfile

import numpy as np
from PIL import Image


def encoded(value: int, kind: str = "png", side: int = 8) -> bytes:
  file = io.BytesIO()
  Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(file, kind)
  return file.getvalue()


def write_tar(path, members, format=tarfile.USTAR_FORMAT, mtime=0.0):
  """Writes (name, content) or (name, None), a symbolic link, as a tar file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w", format=format) as file:
    for name, content in members:
      info = tarfile.TarInfo(name)
      info.mtime = mtime
      if content is None:
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        file.addfile(info)
      else:
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
  return path


def sample(number: int, *, text: bool = True, label: bool = True):
  """The members of a sample: an image, a caption, and one of three classes."""
  members = [(f"{number:05d}.png", encoded(number))]
  members += [(f"{number:05d}.txt", f"caption {number}\n".encode())] if text else []
  return members + ([(f"{number:05d}.cls", b"%d" % (number % 7))] if label else [])


def write_shards(folder, shards: int = 3, each: int = 14, change=lambda number, members: members):
  """Writes shards of consecutive samples, each changed by a function, and returns their pattern."""
  for shard in range(shards):
    numbers = range(shard * each, (shard + 1) * each)
    members = [member for number in numbers for member in change(number, sample(number))]
    write_tar(folder / f"{shard:05d}.tar", members)
  return f"{folder}/{{00000..{shards - 1:05d}}}.tar"
