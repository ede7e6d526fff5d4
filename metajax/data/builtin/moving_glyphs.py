"""Moving glyphs, the built-in clips: bouncing characters, and a tone whose pitch follows their height."""

import math

import numpy as np

from metajax import checks
from metajax.data.builtin.glyphs import MOST_SIDE, SPLITS, glyphs
from metajax.data.video.recordings import Recordings, check_bytes

CHARACTER = 0.5  # side of a character, as a fraction of the image's
FRAME_RATE, SAMPLE_RATE = 8, 8000
SECONDS = (1.2, 3.0)  # range of a character's period, from one end to the other and back, along either axis
LOW, OCTAVES = 250.0, 2.0  # the tone at the bottom in hertz, and its range up to the top
LOUDNESS = 0.1  # root mean square, full scale being 1
OVERTONE = 0.5  # amplitude of the overtone an octave above, relative to the tone
HEIGHTS = 8


def moving_glyphs(
  split: str = "train", *, size: int = 32, clips: int = 2048, frames: int = 16, seed: int = 0
) -> Recordings:
  """Clips of characters that move vertically and horizontally, each with a tone whose pitch follows the height.

  A character moves in straight lines and bounces off the borders; speed and start are random. The tone spans two
  octaves from bottom to top, 250 to 1,000 hertz, with one overtone and a random phase. All sounds have the same
  loudness and duration: only the pitch tells the position of a character, and nothing tells its class. Everything is a
  pure function of (split, seed, clip).

  Args:
    split: "train", "validation" or "test", which share no script, or "all": see `metajax.data.builtin.glyphs.glyphs`.
    size: side of a frame in pixels, at least 16; the character's side is half of it.
    clips: number of clips, at least 1.
    frames: frames per clip, at 8 per second with 1,000 samples of sound each.
    seed: seed of characters and movements, 0 to 2^32 - 1.

  Returns:
    `Recordings` of clips with one channel, ink at 255, and the factors "character" `[clips]`, "height" and "across"
    `[clips, frames]`, 0 to 7 from the bottom and from the left.

  Raises:
    ValueError: if an argument is out of range.
  """
  checks.choice("split", split, (*SPLITS, "all"))
  checks.count("size", size, 16, 2 * MOST_SIDE)
  checks.count("seed", seed, 0, 2**32 - 1)
  for name, value in (("clips", clips), ("frames", frames)):
    checks.count(name, value)
  check_bytes("moving_glyphs", clips, frames * (size**2 + 8 * SAMPLE_RATE // FRAME_RATE))
  side = max(8, round(CHARACTER * size))
  characters = glyphs(split, size=side)
  random = np.random.RandomState([seed, len(split), clips])  # its stream is frozen by NumPy, unlike newer generators'
  rows = random.randint(len(characters.labels), size=clips)
  periods = np.exp(random.uniform(*np.log(SECONDS), (clips, 2, 1)))
  phases, tone = random.uniform(0, 1, (clips, 2, 1)), random.uniform(0, 2 * math.pi, (clips, 1))

  def at(seconds):
    return 1 - np.abs(1 - 2 * ((seconds / periods + phases) % 1))  # 0 to 1 and back, [clips, 2, times]

  places = at((np.arange(frames) + 0.5) / FRAME_RATE)  # in the middle of each frame
  samples = frames * SAMPLE_RATE // FRAME_RATE
  heights = at((np.arange(samples) + 0.5) / SAMPLE_RATE)[:, 0]
  return Recordings(
    images=_drawn(characters.images[rows], places, size, side),
    sounds=_sung(heights, tone),
    frame_rate=float(FRAME_RATE),
    sample_rate=SAMPLE_RATE,
    names=tuple(f"{characters.classes[characters.labels[row]]} {i}" for i, row in enumerate(rows)),
    captions=tuple(characters.captions[characters.labels[row]][0] for row in rows),
    factors={
      "character": characters.labels[rows].astype(np.int32),
      "height": np.minimum(HEIGHTS * places[:, 0], HEIGHTS - 1).astype(np.int32),
      "across": np.minimum(HEIGHTS * places[:, 1], HEIGHTS - 1).astype(np.int32),
    },
  )


def _drawn(characters, places, size, side):
  """Frames uint8 `[clips, frames, size, size, 1]`; places `[clips, 2, frames]`, 0 to 1 from the bottom and left."""
  clips, _, frames = places.shape
  shown = np.zeros((clips, frames, size, size, 1), np.uint8)
  rows, columns = np.rint((size - side) * np.stack([1 - places[:, 0], places[:, 1]])).astype(int)
  for clip in range(clips):
    for frame in range(frames):
      top, left = rows[clip, frame], columns[clip, frame]
      shown[clip, frame, top : top + side, left : left + side] = characters[clip]
  return shown


def _sung(heights, phases):
  """Samples int16 `[clips, samples]` of a tone whose pitch follows heights from 0 to 1."""
  turns = np.cumsum(LOW * 2 ** (OCTAVES * heights), -1) * (2 * math.pi / SAMPLE_RATE) + phases
  wave = np.sin(turns) + OVERTONE * np.sin(2 * turns)
  wave *= LOUDNESS / np.sqrt(np.mean(np.square(wave), -1, keepdims=True))
  return np.rint(32767 * wave).astype(np.int16)
