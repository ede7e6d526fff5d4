"""TensorFlow and TFDS, imported once they are used: a command that only prints its help needs neither."""

import contextlib
import os

from etils import epy

# TensorFlow only feeds data here: it keeps quiet (oneDNN announces itself whatever the log level) and takes no
# accelerator from JAX.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def _hide_accelerators(name: str):
  import tensorflow

  # A program that already runs TensorFlow on an accelerator has given it away before: nothing is left to hide.
  with contextlib.suppress(RuntimeError):
    tensorflow.config.set_visible_devices([], "GPU")
    tensorflow.config.set_visible_devices([], "TPU")


with epy.lazy_imports(success_callback=_hide_accelerators):
  import tensorflow as tf
  import tensorflow_datasets as tfds

__all__ = ["tf", "tfds"]
