"""TensorFlow and TFDS, imported lazily: a command that only prints its help needs neither."""

import contextlib
import os

from etils import epy

# TensorFlow only feeds data here: it stays quiet (oneDNN ignores the log level) and leaves the accelerators to JAX.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _hide_accelerators(name: str):
  import tensorflow

  # RuntimeError: the program already runs TensorFlow on the accelerator, so it cannot be hidden any more.
  with contextlib.suppress(RuntimeError):
    tensorflow.config.set_visible_devices([], "GPU")
    tensorflow.config.set_visible_devices([], "TPU")


with epy.lazy_imports(success_callback=_hide_accelerators):
  import tensorflow as tf
  import tensorflow_datasets as tfds

__all__ = ["tf", "tfds"]
