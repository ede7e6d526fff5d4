"""Image files on a disk, and the readers of them that `input_pipeline` compares: from JPEG to a batch of crops."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metajax.data import RandomCrop, load, train_batches
from metajax.data._tensorflow import tf
from metajax.data.files.crops import DRAWS, crop_boxes

HEIGHT, WIDTH, QUALITY = 375, 500, 88  # a usual photo of ImageNet: some 50 KB
SIZE, BATCH = 224, 64
Stream = Iterator[Any]


def write_photos(folder: Path, number: int, seed: int = 0):
  """Writes JPEGs of noise over smooth colors, in folders of four classes."""
  random = np.random.default_rng(seed)
  for i in range(number):
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize((WIDTH, HEIGHT), 3)
    noisy = np.asarray(coarse) + random.integers(-12, 13, (HEIGHT, WIDTH, 3))
    there = folder / f"class{i % 4}"
    there.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(np.clip(noisy, 0, 255))).save(there / f"{i:06}.jpg", quality=QUALITY)


def write_tfds(folder: Path, data_dir: Path):
  """Writes the photos of a folder as a prepared set of TFDS named photos."""
  import tensorflow_datasets as tfds

  classes = sorted(path.name for path in folder.iterdir())
  features = {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=classes)}
  examples = ((i, {"image": str(path), "label": path.parent.name}) for i, path in enumerate(sorted(folder.glob("*/*"))))
  tfds.dataset_builders.store_as_tfds_dataset(
    "photos", version="1.0.0", features=tfds.features.FeaturesDict(features), split_datasets={"train": list(examples)},
    data_dir=str(data_dir),
  )  # fmt: skip


def write_shards(folder: Path, shards: Path, each: int = 256) -> str:
  """Writes the photos of a folder as tar shards with the names of their classes; returns their pattern."""
  import tarfile

  shards.mkdir()
  paths = sorted(folder.glob("*/*"))
  for first in range(0, len(paths), each):
    with tarfile.TarFile(shards / f"{first // each:05}.tar", "w") as tar:
      for path in paths[first : first + each]:
        for name, content in ((path.name, path.read_bytes()), (f"{path.stem}.cls", path.parent.name.encode())):
          member = tarfile.TarInfo(name)
          member.size = len(content)
          tar.addfile(member, io.BytesIO(content))
  return str(shards / "*.tar")


def of_metajax(name: str, data_dir: Path | None = None) -> Stream:
  """Batches of random crops, as the paper of SimCLR takes them, of a folder, a set of TFDS or shards."""
  source = load(name, "official/train" if data_dir else "official/all", size=SIZE, originals=True, data_dir=data_dir)
  return train_batches(source, batch_size=BATCH, crop=RandomCrop(SIZE))()


def of_tensorflow(folder: Path, antialias: bool) -> Stream:
  """The same crops by `tf.image.decode_and_crop_jpeg` alone in tf.data, with the boxes known beforehand."""
  paths = [str(path) for path in sorted(folder.glob("*/*"))]
  boxes = crop_boxes(np.random.default_rng(0).random((len(paths), DRAWS)), HEIGHT, WIDTH, RandomCrop())

  def read(path, box):
    part = tf.image.decode_and_crop_jpeg(tf.io.read_file(path), box, channels=3)
    return tf.cast(tf.round(tf.image.resize(part, (SIZE, SIZE), antialias=antialias)), tf.uint8)

  images = tf.data.Dataset.from_tensor_slices((paths, boxes)).repeat().map(read, num_parallel_calls=tf.data.AUTOTUNE)
  return images.batch(BATCH, drop_remainder=True).prefetch(2).as_numpy_iterator()


def _cut(image: Image.Image, random: np.random.Generator) -> np.ndarray:
  """A random crop of an image by Pillow, as `RandomResizedCrop` of torchvision."""
  ((top, left, tall, wide),) = crop_boxes(random.random((1, DRAWS)), image.height, image.width, RandomCrop())
  part = image.crop((left, top, left + wide, top + tall))
  return np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def of_pillow(folder: Path) -> Stream:
  """The same crops by Pillow alone, decoding whole images in the calling thread, as torchvision's transforms do."""
  paths, random = sorted(folder.glob("*/*")), np.random.default_rng(0)
  while True:
    for first in range(0, len(paths) - BATCH + 1, BATCH):
      yield np.stack([_cut(Image.open(path).convert("RGB"), random) for path in paths[first : first + BATCH]])


def of_webdataset(pattern: str) -> Stream:
  """The same crops by webdataset and Pillow; raises ImportError where it is not installed."""
  import glob

  import webdataset

  random = np.random.default_rng(0)
  shards = webdataset.WebDataset(sorted(glob.glob(pattern)), shardshuffle=False).repeat().decode("pilrgb")
  return iter(shards.to_tuple("jpg").map_tuple(lambda image: _cut(image, random)).batched(BATCH))


def of_grain(folder: Path) -> Stream:
  """The same crops by grain and Pillow; raises ImportError where it is not installed."""
  import grain.python as grain

  paths = [str(path) for path in sorted(folder.glob("*/*"))]
  data = (
    grain.MapDataset.source(paths)
    .seed(0)
    .shuffle()
    .repeat()
    .random_map(lambda path, random: _cut(Image.open(path).convert("RGB"), random))
    .batch(BATCH)
  )
  return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=2)))


def images_per_cpu_second(streams: dict[str, Stream], rounds: int, seconds: float) -> dict[str, list[float]]:
  """Images per second of CPU time in all threads, in rounds that alternate between the streams."""
  found: dict[str, list[float]] = {name: [] for name in streams}
  for stream in streams.values():
    for _ in range(6):  # fills what is decoded ahead
      next(stream)
  for _ in range(rounds):
    for name, stream in streams.items():
      found[name].append(_rate(lambda stream=stream: next(stream), seconds))
  return found


def _rate(call: Callable, seconds: float) -> float:
  """Images per CPU second from full buffers to full buffers, so that as many are decoded as are counted."""
  until, cpu, count = time.perf_counter() + seconds, time.process_time(), 0
  while time.perf_counter() < until:
    call()
    count += BATCH
  time.sleep(1)
  return count / (time.process_time() - cpu)
