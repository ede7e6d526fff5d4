"""Data as pure functions of the step: sources of labelled pictures, and the few-shot episodes drawn from them."""

import contextlib
import os

# TensorFlow only feeds data here: it keeps quiet (oneDNN announces itself whatever the log level) and, below, takes no
# accelerator from JAX.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf

# A program that already runs TensorFlow on an accelerator has given it away before: nothing is left to hide.
with contextlib.suppress(RuntimeError):
  tf.config.set_visible_devices([], "GPU")
  tf.config.set_visible_devices([], "TPU")

from metajax.data.batches import examples, in_order
from metajax.data.builtin.moving_glyphs import moving_glyphs
from metajax.data.episodes import episode_rows, episodes
from metajax.data.files.lazy_images import Pictures
from metajax.data.files.preprocessing import preprocess
from metajax.data.files.user_images import BrokenPictures
from metajax.data.load import load
from metajax.data.one_shot import one_shot_runs, one_shot_tasks
from metajax.data.pairs import balanced, pairs, triplets
from metajax.data.palette import fit_palette
from metajax.data.source import Source, from_arrays, select_classes, select_rows, with_rotations
from metajax.data.splits import NoSuchSplit, split_within_classes
from metajax.data.text.captions import load_captioned
from metajax.data.text.corpus import load_texts, token_batches, token_rows
from metajax.data.text.image_text import image_texts
from metajax.data.text.tokenizer import Tokenizer, train_tokenizer
from metajax.data.text.tokenizer_files import load_tokenizer
from metajax.data.video.loader import load_recordings
from metajax.data.video.recordings import Recordings, cut_clips, recordings, recordings_in_order, select_recordings

__all__ = [
  "BrokenPictures",
  "NoSuchSplit",
  "Pictures",
  "Recordings",
  "Source",
  "Tokenizer",
  "balanced",
  "cut_clips",
  "episode_rows",
  "episodes",
  "examples",
  "fit_palette",
  "from_arrays",
  "image_texts",
  "in_order",
  "load",
  "load_captioned",
  "load_recordings",
  "load_texts",
  "load_tokenizer",
  "moving_glyphs",
  "one_shot_runs",
  "one_shot_tasks",
  "pairs",
  "preprocess",
  "recordings",
  "recordings_in_order",
  "select_classes",
  "select_recordings",
  "select_rows",
  "split_within_classes",
  "token_batches",
  "token_rows",
  "train_tokenizer",
  "triplets",
  "with_rotations",
]
