"""Clips and sounds: what is loaded, how they are cut and dealt out, and one clear line for what cannot be read."""

import wave

import numpy as np
import pytest
from PIL import Image

from metajax.data import (
  Recordings,
  cut_clips,
  eval_recording_batches,
  load_recordings,
  moving_glyphs,
  recording_batches,
  select_recordings,
)
from metajax.data.video.audio_file import decode_sound, fitted, read_sound, to_16_bits
from metajax.pretexts import shuffle_and_learn
from metajax.types import Pair

av = pytest.importorskip("av", reason="clips are decoded by PyAV: pip install 'metajax[video]'")


def clip(path, frames, rate=8, sound=True, late=False):
  """A clip whose frames get lighter by 10 each, and whose sound is a tone, written without loss."""
  with av.open(str(path), "w") as container:
    video = container.add_stream("ffv1", rate=rate)
    video.width = video.height = 16
    video.pix_fmt = "bgr0"
    audio = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
    for i in range(frames):
      image = np.full((16, 16, 3), 10 * i, np.uint8)
      container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(video.encode(None))
    if sound:
      samples = tone(frames * 8000 // rate // (2 if late else 1))
      frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
      frame.rate = 8000
      container.mux(audio.encode(frame))
      container.mux(audio.encode(None))


def tone(samples):
  return np.rint(8000 * np.sin(2 * np.pi * 400 * np.arange(samples) / 8000)).astype(np.int16)


def wav(path, samples, rate=8000, channels=1):
  with wave.open(str(path), "wb") as file:
    file.setnchannels(channels)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes(np.repeat(samples, channels).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Eleven clips of 10 to 20 frames."""
  path = tmp_path_factory.mktemp("clips")
  (path / "deep").mkdir()
  for i in range(11):
    clip(path / ("deep" if i % 2 else "") / f"{i:02}.mkv", 10 + i)
  (path / "notes.txt").write_text("not a clip")
  return path


def test_clips_are_brought_to_a_rate_and_cut_into_parts_with_their_sounds(folder):
  found = load_recordings(folder, "all", size=16, frames=5)
  assert found.images.shape == (2 * 5 + 3 * 5 + 4, 5, 16, 16, 3) and found.sounds.shape == (29, 5000)
  assert (found.frame_rate, found.sample_rate) == (8.0, 8000)
  first = [i for i, name in enumerate(found.names) if name.startswith("00.mkv")]
  light = found.images[first][..., 0, 0, 0].reshape(-1)
  np.testing.assert_array_equal(light, 10 * np.arange(10))
  np.testing.assert_array_equal(found.sounds[first].reshape(-1), tone(10000))
  half = load_recordings(folder, "all", size=8, frames=5, frame_rate=4.0)
  one = half.images[half.names.index("00.mkv 0")][..., 0, 0, 0]
  np.testing.assert_array_equal(one, [0, 20, 40, 60, 80])
  assert half.images.shape[1:] == (5, 8, 8, 3) and half.sounds.shape[1] == 10000


def test_files_are_dealt_out_once(folder):
  parts = [load_recordings(folder, part, size=8, frames=5) for part in ("train", "validation", "test")]
  files = [{name.split()[0] for name in part.names} for part in parts]
  assert (
    sorted(file for part in files for file in part) == sorted(set().union(*files)) and len(set().union(*files)) == 11
  )
  assert [len(part) for part in files] == [9, 1, 1]


def test_what_is_broken_is_named_or_left_out(folder, tmp_path):
  for file in list(folder.rglob("*.mkv"))[:2]:
    (tmp_path / file.name).write_bytes(file.read_bytes())
  (tmp_path / "broken.mp4").write_bytes(b"no clip at all" * 50)
  (tmp_path / "empty.mkv").write_bytes(b"")
  clip(tmp_path / "short.mkv", 1)
  clip(tmp_path / "silent.mkv", 9, sound=False)
  with pytest.raises(ValueError, match=r"4 of 6 files of .* cannot be read") as error:
    load_recordings(tmp_path, "all", size=8, frames=5)
  said = str(error.value)
  assert "short.mkv: it has 1 frame at 8 per second, fewer than the 5 of a part" in said and "\n" not in said
  assert "silent.mkv: it has no sound, which others have" in said and "broken.mp4: " in said and "empty.mkv: " in said
  kept = load_recordings(tmp_path, "all", size=8, frames=5, skip_unreadable=True)
  assert len(kept.unreadable) == 4 and {name.split()[0] for name in kept.names} == {
    file.name for file in list(folder.rglob("*.mkv"))[:2]
  }


def test_clips_without_any_sound_and_of_one_frame_are_clips(tmp_path):
  clip(tmp_path / "a.mkv", 3, sound=False)
  found = load_recordings(tmp_path, "all", size=8, frames=1)
  assert found.sounds is None and found.images.shape == (3, 1, 8, 8, 3)
  batch = next(recording_batches(found, batch_size=2)())
  with pytest.raises(ValueError, match=r"of at least 5 frames, got clips \[2, 1, 8, 8, 3\]"):
    shuffle_and_learn()(None, batch)


def test_a_sound_that_ends_early_is_followed_by_silence(tmp_path):
  clip(tmp_path / "a.mkv", 10, late=True)
  sound = load_recordings(tmp_path, "all", size=8, frames=10).sounds[0]
  np.testing.assert_array_equal(sound, np.concatenate([tone(5000), np.zeros(5000, np.int16)]))
  np.testing.assert_array_equal(fitted(np.arange(5), 3), [0, 1, 2])


def test_images_have_the_sounds_of_their_names(tmp_path):
  for i, name in enumerate(("cat", "dog", "owl")):
    Image.fromarray(np.full((9, 7, 3), 50 * i, np.uint8)).save(tmp_path / f"{name}.png")
  wav(tmp_path / "cat.wav", tone(16000))
  wav(tmp_path / "dog.wav", tone(4000), channels=2)
  (tmp_path / "cow.wav").write_bytes(b"RIFF")
  (tmp_path / "cat.txt").write_text("what is said")
  (tmp_path / "dog.wav").rename(tmp_path / "dog.Wav")
  found = load_recordings(tmp_path, "all", size=6, seconds=1.0)
  assert found.names == ("cat.png", "dog.png") and found.images.shape == (2, 6, 6, 3)
  np.testing.assert_array_equal(found.sounds[0], tone(8000))
  np.testing.assert_array_equal(found.sounds[1], np.concatenate([tone(4000), np.zeros(4000, np.int16)]))
  wav(tmp_path / "owl.wav", tone(8000), rate=16000)
  assert abs(len(read_sound(tmp_path / "owl.wav", 8000)) - 4000) < 20  # resampled
  (tmp_path / "owl.wav").write_bytes(b"RIFF")
  with pytest.raises(ValueError, match=r"1 of 3 files of .*: owl.png: "):
    load_recordings(tmp_path, "all", size=6)


@pytest.mark.parametrize(("rate", "frames"), [(25, 25), (8, 8), (2, 3)])
def test_a_clip_lasts_to_the_end_of_its_last_frame(tmp_path, rate, frames):
  clip(tmp_path / "a.mkv", frames, rate=rate)
  found = load_recordings(tmp_path, "all", size=8, frames=1)
  assert len(found.images) == round(8 * frames / rate)
  np.testing.assert_array_equal(found.images[:, 0, 0, 0, 0], 10 * (np.arange(len(found.images)) * rate // 8))


def test_a_sound_that_begins_late_follows_silence_and_what_is_before_the_images_is_cut(tmp_path):
  clip(tmp_path / "a.mkv", 8)
  with av.open(str(tmp_path / "a.mkv")) as container:
    late = decode_sound(container, 8000, begin=-0.5)
  np.testing.assert_array_equal(late, np.concatenate([np.zeros(4000, np.int16), tone(8000)]))
  with av.open(str(tmp_path / "a.mkv")) as container:
    np.testing.assert_array_equal(decode_sound(container, 8000, begin=0.5), tone(8000)[4000:])


def test_where_no_sound_is_wanted_none_is_asked_for(tmp_path):
  clip(tmp_path / "a.mkv", 9)
  clip(tmp_path / "b.mkv", 9, sound=False)
  found = load_recordings(tmp_path, "all", size=8, frames=3, frame_rate=24.0, sound=False)
  assert found.sounds is None and found.sample_rate == 0 and len(found.images) == 18
  with pytest.raises(ValueError, match=r"b\.mkv: it has no sound, which others have"):
    load_recordings(tmp_path, "all", size=8, frames=3)


def test_files_and_folders_are_factors(folder):
  found = load_recordings(folder, "all", size=8, frames=10)
  assert set(found.factors["folder"]) == {"", "deep"} and "00.mkv" in found.factors["file"]


def test_sounds_of_sets_become_one_channel_of_16_bits():
  np.testing.assert_array_equal(to_16_bits(np.array([0.0, 1, -1], np.float32)), [0, 32767, -32767])
  np.testing.assert_array_equal(to_16_bits(np.array([[100, 300], [-2, -4]])), [200, -3])
  np.testing.assert_array_equal(to_16_bits(np.array([-32768, 7], np.int16)), [-32768, 7])
  for wrong, said in (
    (np.array([70000]), "up to 70000"),
    (np.array([1.5]), "up to 1.5"),
    (np.ones((1, 1, 1)), "1, 1, 1"),
  ):
    with pytest.raises(ValueError, match=said):
      to_16_bits(wrong)


def some(clips=7, frames=6):
  """Clips that know their number and time, with sounds of ten samples a frame that do too."""
  at = 10 * np.arange(clips)[:, None] + np.arange(frames)
  images = np.broadcast_to(at[..., None, None, None], (clips, frames, 2, 2, 1)).astype(np.uint8)
  factors = {"of": np.arange(clips, dtype=np.int32), "time": np.tile(np.arange(frames, dtype=np.int32), (clips, 1))}
  names = tuple(map(str, range(clips)))
  return Recordings(images, np.repeat(at, 10, 1).astype(np.int16), 5.0, 50, names, names, factors)


def test_parts_of_clips_have_their_own_sounds_and_factors():
  parts = cut_clips(some(), 2, every=1, start=1, stop=5)
  assert parts.images.shape == (21, 2, 2, 2, 1) and parts.names[:4] == ("0 1", "0 2", "0 3", "1 1")
  np.testing.assert_array_equal(parts.images[..., 0, 0, 0], parts.sounds[:, ::10])
  np.testing.assert_array_equal(parts.factors["time"], parts.images[..., 0, 0, 0] % 10)
  np.testing.assert_array_equal(parts.factors["of"], parts.images[:, 0, 0, 0, 0] // 10)
  with pytest.raises(ValueError, match="parts that fit into clips of 6 frames, got 7 frames"):
    cut_clips(some(), 7)


def test_batches_are_a_function_of_the_step_and_hosts_have_shares_of_them():
  batches = recording_batches(some(), batch_size=4, seed=3)
  stream = batches()
  whole = [next(stream) for _ in range(7)]
  seen = np.concatenate([batch.first[:, 0, 0, 0, 0] for batch in whole])
  np.testing.assert_array_equal(np.sort(seen[:7]), np.arange(7) * 10)  # an epoch
  again = next(batches(5))
  np.testing.assert_array_equal(again.first, whole[5].first)
  halves = [next(batches(5, (host, 2))) for host in range(2)]
  np.testing.assert_array_equal(np.concatenate([half.second for half in halves]), whole[5].second)
  assert whole[0].second.dtype == np.float32 and np.abs(whole[0].second).max() < 1
  eval_batches = [batch.first[:, 0, 0, 0, 0] for batch in eval_recording_batches(some(), batch_size=3)()]
  np.testing.assert_array_equal(np.concatenate(eval_batches), np.arange(7) * 10)
  assert [len(batch) for batch in eval_batches] == [3, 3, 1]
  picked = select_recordings(some(), [2, 0])
  assert picked.names == ("2", "0") and picked.factors["of"].tolist() == [2, 0]


def test_a_moving_glyph_sounds_as_high_as_it_is_and_all_are_as_loud_and_long():
  found = moving_glyphs("test", size=16, clips=40, frames=8, seed=1)
  assert found.images.shape == (40, 8, 16, 16, 1) and found.sounds.shape == (40, 8000)
  sounds = found.sounds / 32768
  np.testing.assert_allclose(np.sqrt(np.square(sounds).mean(-1)), 0.1, rtol=1e-3)
  windows = sounds.reshape(40 * 8, 1000) * np.hanning(1000)
  pitch = np.abs(np.fft.rfft(windows, 8000)).argmax(-1)
  rows = (found.images[..., 0] > 0).any(-1)
  middle = np.array([np.flatnonzero(row).mean() for row in rows.reshape(-1, 16)])
  assert np.corrcoef(np.log(pitch), middle)[0, 1] < -0.9
  assert pitch.min() > 230 and pitch.max() < 1050
  again = moving_glyphs("test", size=16, clips=40, frames=8, seed=1)
  np.testing.assert_array_equal(found.images, again.images)
  assert set(found.captions).isdisjoint(moving_glyphs("train", size=16, clips=40, frames=1).captions)
  assert isinstance(next(recording_batches(found, batch_size=2)()), Pair)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ({"name": "moving_glyphs", "size": 8}, "size to be a whole number from 16 to 1024, got 8"),
    ({"name": "moving_glyphs", "frames": 0}, "frames to be a whole number from 1 to .*, got 0"),
    ({"name": "./nowhere"}, "expected a folder of clips, .*got './nowhere'"),
    ({"name": "{folder}", "split": "later"}, "unknown split 'later' of .*train, validation, test, all"),
    ({"name": "{folder}", "sample_rate": 8001}, "a multiple of the frame_rate 8, got 8001"),
    ({"name": "{empty}"}, r"holds no clips .* and no images with sounds of the same name \(0 files\)"),
  ],
)
def test_bad_input_is_named(arguments, said, folder, tmp_path):
  name = arguments.pop("name").format(folder=folder, empty=tmp_path)
  with pytest.raises((ValueError, FileNotFoundError), match=said):
    load_recordings(name, **arguments)
