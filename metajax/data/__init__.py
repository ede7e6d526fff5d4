"""Data as pure functions of the step: labeled images, texts and recordings, and the batches drawn from them."""

from metajax.data.batches import eval_batches, train_batches
from metajax.data.builtin.moving_glyphs import moving_glyphs
from metajax.data.episodes import episode_rows, episodes
from metajax.data.files.crops import RandomCrop
from metajax.data.files.lazy_images import LazyImages
from metajax.data.files.preprocessing import preprocess
from metajax.data.files.user_images import UnreadableImages
from metajax.data.load import load
from metajax.data.mixture import Mixture, mixture
from metajax.data.one_shot import one_shot_runs, one_shot_tasks
from metajax.data.pairs import balanced, pairs, triplets
from metajax.data.palette import fit_palette
from metajax.data.prompted import prompted_episodes
from metajax.data.shards.captioned import ImageTexts, as_image_dataset
from metajax.data.source import ImageDataset, from_arrays, select_classes, select_rows, with_rotations
from metajax.data.splits import NoSuchSplit, split_within_classes
from metajax.data.text.captions import load_captioned
from metajax.data.text.corpus import load_texts, token_batches, token_rows
from metajax.data.text.image_text import image_texts
from metajax.data.text.siglip_tokenizer import SiglipTokenizer, load_siglip_tokenizer
from metajax.data.text.tokenizer import Tokenizer, train_tokenizer
from metajax.data.text.tokenizer_files import load_tokenizer
from metajax.data.variable_episodes import variable_episodes
from metajax.data.video.loader import load_recordings
from metajax.data.video.recordings import (
  Recordings,
  cut_clips,
  eval_recording_batches,
  recording_batches,
  select_recordings,
)

__all__ = [
  "ImageDataset",
  "ImageTexts",
  "LazyImages",
  "Mixture",
  "NoSuchSplit",
  "RandomCrop",
  "Recordings",
  "SiglipTokenizer",
  "Tokenizer",
  "UnreadableImages",
  "as_image_dataset",
  "balanced",
  "cut_clips",
  "episode_rows",
  "episodes",
  "eval_batches",
  "eval_recording_batches",
  "fit_palette",
  "from_arrays",
  "image_texts",
  "load",
  "load_captioned",
  "load_recordings",
  "load_siglip_tokenizer",
  "load_texts",
  "load_tokenizer",
  "mixture",
  "moving_glyphs",
  "one_shot_runs",
  "one_shot_tasks",
  "pairs",
  "preprocess",
  "prompted_episodes",
  "recording_batches",
  "select_classes",
  "select_recordings",
  "select_rows",
  "split_within_classes",
  "token_batches",
  "token_rows",
  "train_batches",
  "train_tokenizer",
  "triplets",
  "variable_episodes",
  "with_rotations",
]
