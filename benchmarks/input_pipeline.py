"""The claims: the input pipeline draws tasks many times faster than a trainer on the same machine consumes them;
augmentation on the device is faster than tf.image on the same cores; and crops of JPEGs cost as little CPU time as
TensorFlow's own operations.

python -m benchmarks.input_pipeline --record     # writes benchmarks/results/input_pipeline.json

About four minutes on 2 CPU cores. The trainer is second-order MAML with conv4-64 and one inner step; the views are
SimCLR's for small photographs, on images of 32 and 96 pixels. The JPEGs have 500 x 375 pixels and some 50 KB; random
crops of them are resized to 224. `image_files.py` says how each reader does it.
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import image_files
from benchmarks.command import Timing, run_main
from benchmarks.page import write
from benchmarks.step import alternate, calls_per_second, compile_program, maml_step
from metajax import images_to_float
from metajax.augment import augment_batch
from metajax.augment.image import simclr_cifar
from metajax.data import ImageDataset, episodes, load
from metajax.experiment.records import stamped as measured


def pipeline_tasks_per_second(
  source: ImageDataset, *, ways: int, shots: int, queries: int, tasks: int, seconds: float, start: int = 0
) -> float:
  """Tasks per second of `episodes` as host arrays, over at least `seconds`, without other work."""
  batches = episodes(source, ways=ways, shots=shots, queries=queries, meta_batch_size=tasks)(start=start)
  for _ in range(20):  # the pipeline tunes its buffers, and their initial contents are consumed
    next(batches)
  began = time.perf_counter()
  for count in itertools.count(1):
    next(batches)
    elapsed = time.perf_counter() - began
    if elapsed >= seconds:
      return count * tasks / elapsed


def views_per_second(size: int, batch_size: int, rounds: int, seconds: float) -> dict[str, list[float]]:
  """Views per second of images of `size` x `size` pixels, by metajax on the device and by tf.image in tf.data."""
  from benchmarks import tensorflow_views  # after metajax.data, which keeps TensorFlow quiet and off accelerators

  images = np.random.default_rng(0).random((batch_size, size, size, 3), np.float32)
  view = simclr_cifar()
  run = compile_program(
    lambda key, x: augment_batch(view, jax.random.wrap_key_data(key), x), np.zeros(2, np.uint32), images
  )
  stream = tensorflow_views.views(images, batch_size)
  found = alternate({"views": run, "tf.image views": lambda: next(stream)}, rounds, seconds)
  return {name: [batch_size * rate for rate in rates] for name, rates in found.items()}


def crops_per_cpu_second(photos: int, rounds: int, seconds: float) -> dict[str, list[float]]:
  """Crops per CPU-second of every reader that is installed, from JPEGs on the disk to batches."""
  with tempfile.TemporaryDirectory() as home:
    folder, data_dir, shards = (Path(home) / name for name in ("photos", "tfds", "shards"))
    image_files.write_photos(folder, photos)
    image_files.write_tfds(folder, data_dir)
    pattern = image_files.write_shards(folder, shards)
    streams = {
      "metajax, folder": image_files.of_metajax(str(folder)),
      "metajax, TFDS": image_files.of_metajax("photos", data_dir),
      "metajax, tar shards": image_files.of_metajax(pattern),
      "tf.data": image_files.of_tensorflow(folder, antialias=False),
      "tf.data, antialias": image_files.of_tensorflow(folder, antialias=True),
      "Pillow": image_files.of_pillow(folder),
    }
    for name, stream in (("webdataset", lambda: image_files.of_webdataset(pattern)),
                         ("grain", lambda: image_files.of_grain(folder))):  # fmt: skip
      try:
        streams[name] = stream()
      except ImportError:
        print(f"{name} is not installed")
    return image_files.images_per_cpu_second(streams, rounds, seconds)


def main(
  data: str = "glyphs",
  split: str = "train",
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  tasks: int = 32,
  view_sizes: tuple[int, ...] = (32, 96),
  view_batch: int = 256,
  photos: int = 512,
  timing: Timing = Timing(seconds=3.0, rounds=5),
):
  """Measures tasks per second of the input pipeline and of a trainer, and views per second, as medians of rounds.

  Args:
    data: Data set, as for `metajax.data.load`.
    split: Split of the data set.
    ways: Classes per task.
    shots: Support images per class.
    queries: Query images per class.
    tasks: Tasks per batch.
    view_sizes: Sides of the images to augment, in pixels.
    view_batch: Images per batch of views.
    photos: JPEGs to read crops from.
    timing: Timing rounds; each starts at a different step of the pipeline.
  """
  task = {"ways": ways, "shots": shots, "queries": queries, "tasks": tasks}
  source = load(data, split)
  drawn = episodes(source, ways=ways, shots=shots, queries=queries, meta_batch_size=tasks)
  step = maml_step("slices", images_to_float(next(drawn())))
  pipeline, trainer = [], []
  for turn in range(timing.rounds):
    pipeline.append(pipeline_tasks_per_second(source, **task, seconds=timing.seconds, start=1_000_000 * turn))
    trainer.append(tasks * calls_per_second(step, timing.seconds))
  values = {"pipeline": statistics.median(pipeline), "trainer": statistics.median(trainer)}
  print(f"pipeline {values['pipeline']:.0f} tasks/s (rounds: {', '.join(f'{rate:.0f}' for rate in pipeline)})")
  print(f"trainer {values['trainer']:.1f} tasks/s (rounds: {', '.join(f'{rate:.1f}' for rate in trainer)})")
  print(f"the pipeline is {values['pipeline'] / values['trainer']:.0f} x as fast as the trainer")
  found = [_measured(what, value, "tasks/s", data=data, **task) for what, value in values.items()]
  found += _views(view_sizes, view_batch, timing) + _crops(photos, timing)
  if timing.record:
    write("input_pipeline", found)


def _measured(what: str, value: float, unit: str, **about: Any) -> dict:
  return measured(benchmark="input_pipeline", measure=what, value=round(value, 1), unit=unit, **about)


def _views(sizes: tuple[int, ...], batch_size: int, timing: Timing) -> list[dict]:
  """Records of the views per second of every size, by metajax and by tf.image."""
  found = []
  for size in sizes:
    rates = views_per_second(size, batch_size, timing.rounds, timing.seconds)
    shown = {name: statistics.median(some) for name, some in rates.items()}
    ours, others = shown.values()
    print(f"{size} pixels: {ours:.0f} views/s, {ours / others:.1f} x the {others:.0f} views/s of tf.image")
    found += [_measured(f"{what}, {size} pixels", value, "views/s") for what, value in shown.items()]
  return found


def _crops(photos: int, timing: Timing) -> list[dict]:
  """Records of the crops per CPU-second of every reader."""
  rates = crops_per_cpu_second(photos, timing.rounds, timing.seconds)
  cut = {name: statistics.median(some) for name, some in rates.items()}
  for name, rate in cut.items():
    print(f"{name}: {rate:.0f} crops per CPU-second, {100 * rate / cut['tf.data']:.0f}% of tf.data")
  return [_measured(f"crops of JPEGs, {name}", rate, "crops/CPU-s") for name, rate in cut.items()]


if __name__ == "__main__":
  run_main(main)
