"""What is heard: log-mel spectrograms as TensorFlow has them, even loudness, and the network of spectrograms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from metajax.augment.audio import even_loudness, log_mel, mel_bands
from metajax.networks import audio_conv

RATE = 8000
LIBROSA_SUMS = (2.094529, 2.685565, 3.498498, 4.526995, 5.888577, 7.612327)
LIBROSA_THIRD = (0.120779, 0.449494, 0.778209, 0.91758, 0.664196, 0.410812, 0.157428)


def tone(hertz, seconds=0.5, loudness=0.3):
  return (loudness * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize(("window", "hop", "mels"), [(0.025, 0.01, 40), (0.032, 0.016, 32)])
@pytest.mark.parametrize("loudness", [0.3, 1e-2])
def test_log_mel_agrees_with_tensorflow(window, hop, mels, loudness):
  samples = loudness * np.random.default_rng(0).normal(size=(2, 4000)) + tone(440)
  length, step = round(window * RATE), round(hop * RATE)
  spectrum = tf.signal.stft(samples, length, step, 256, tf.signal.hann_window)
  bands = tf.signal.linear_to_mel_weight_matrix(mels, 129, RATE, 60.0, 4000.0, tf.float64)
  expected = np.log(1e-6 + (tf.abs(spectrum) ** 2 @ bands).numpy())
  found = jax.jit(lambda x: log_mel(x, RATE, window=window, hop=hop, mels=mels))(samples.astype(np.float32))
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bands_over_hertz_are_those_of_librosa():
  """Of librosa 0.11, filters.mel(sr=8000, n_fft=64, n_mels=6, fmin=60, htk=True, norm=None): the sums of its bands, and
  the third one."""
  found = mel_bands(33, RATE, 6, triangles="hertz")
  np.testing.assert_allclose(found.sum(0), LIBROSA_SUMS, atol=1e-5)
  np.testing.assert_allclose(found[:, 2][found[:, 2] > 0], LIBROSA_THIRD, atol=1e-5)


def test_a_tone_is_in_the_band_of_its_pitch_and_silence_is_the_floor():
  middles = mel_bands(129, RATE, 32).argmax(0) * RATE / 256
  pitches = (300, 1000, 3000)
  found = np.asarray(jax.jit(lambda x: log_mel(x, RATE, mels=32))(np.stack([tone(hertz) for hertz in pitches])))
  for hertz, band in zip(pitches, found.mean(1).argmax(-1), strict=True):
    assert abs(middles[band] - hertz) < 0.15 * hertz
  silence = jax.jit(lambda x: log_mel(x, RATE, mels=20))(np.zeros((3, 2, 400), np.float32))
  np.testing.assert_allclose(silence, np.log(1e-6), rtol=1e-6)
  assert silence.shape == (3, 2, 3, 20)


def test_sounds_become_as_loud_as_each_other_and_silence_stays_silent():
  sounds = np.stack([tone(300, loudness=a) + 0.2 for a in (1e-3, 0.5, 3.0)] + [np.full(4000, 0.2, np.float32)])
  even = np.asarray(jax.jit(even_loudness)(sounds))
  np.testing.assert_allclose(np.sqrt(np.square(even).mean(-1)), [0.1, 0.1, 0.1, 0], rtol=1e-3)
  gradient = jax.jit(jax.grad(lambda x: jnp.square(even_loudness(x)[:, :5]).sum()))(np.zeros((2, 10), np.float32))
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("over_time", "width"), [("mean", 4 * 16), ("maximum", 4 * 16), ("flatten", 7 * 4 * 16)])
def test_the_network_of_spectrograms_keeps_pitches_apart(over_time, width):
  network = audio_conv(8, blocks=2, over_time=over_time)

  @jax.jit
  def run(key, tones):
    both = log_mel(tones, RATE, mels=16)[:, :26]
    params, state = network.init(key, both[:1])
    read = lambda x: network.apply(params, state, x, train=False)[0]
    assert over_time == "flatten" or jax.eval_shape(read, both[:1, :13]).shape == (1, width)
    return read(both)

  outputs = run(jax.random.key(0), np.stack([tone(hertz) for hertz in (300, 3000)]))
  assert outputs.shape == (2, width) and not np.allclose(*outputs, atol=1e-2)


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: log_mel(np.zeros(100, np.float32), RATE), r"at least the 200 samples of a window, got \[100\]"),
    (lambda: log_mel(np.zeros(400, np.float32), RATE, hop=0), "got 200, 0 and 40"),
    (lambda: log_mel(np.zeros(400, np.float32), RATE, high=5000.0), "4000 hertz, half the rate, got 60.0 and 5000.0"),
    (lambda: log_mel(np.zeros(400, np.float32), RATE, mels=400), r"band \d+ of 400 .* has none: use fewer bands"),
    (lambda: log_mel(np.zeros(400, np.float32), RATE, triangles="bark"), "'mel' or 'hertz', got 'bark'"),
    (lambda: audio_conv(8, over_time="last"), "got 8, 4, 'last'"),
    (
      lambda: audio_conv().init(jax.random.key(0), np.ones((2, 100), np.float32)),
      r"\[n, frames, bands\], got \[2, 100\]",
    ),
  ],
)
def test_bad_input_is_named(make, said):
  with pytest.raises(ValueError, match=said):
    make()
