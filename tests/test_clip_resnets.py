"""CLIP's modified residual networks: features as the paper has them, every array in its place, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import published_clip_resnets as published
import pytest
from published_clips import TOKENS, write

from experiments.families.image_text.model import read_model
from metajax.data import train_tokenizer
from metajax.learners import clip
from metajax.networks import ClipResNet, Size, Towers, clip_resnet, clip_towers, load_clip, load_encoder, save_clip
from metajax.networks.checkpoints.settings import guessed
from metajax.networks.linen.vision_transformer import resized_positions
from metajax.types import Pair

ARRAYS = published.arrays()
TOWERS = Towers(ClipResNet((1, 2, 1, 1), 4, 4), 32, 64, Size(16, 2, 2), 10, 30, 9)
WIDE_TEXT = Towers(ClipResNet((1, 1, 1, 1), 4, 0), 32, 64, Size(128, 1, 0), 10)


@pytest.fixture
def wrote(tmp_path):
  """Writes a folder of weights; by default of the small arrays."""
  return lambda tensors=ARRAYS, config=published.CONFIG: write(tmp_path / "clip", tensors, open_clip_config=config)


def with_vision(**values):
  """The configuration with other settings of the image tower."""
  model = published.CONFIG["model_cfg"]
  return published.CONFIG | {"model_cfg": model | {"vision_cfg": published.VISION | values}}


def test_features_are_the_papers_and_every_array_is_in_its_place(wrote):
  found, encoder = load_clip(wrote()), load_encoder(wrote())
  assert found.towers == TOWERS and found.details.activation == "quick_gelu"
  run = lambda params, state: found.networks.first.apply(params, state, published.IMAGES, train=False)
  features, after = jax.jit(run)(found.params["image"], found.state["image"])
  wanted = published.image_features(ARRAYS, published.IMAGES)
  np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
  equal = lambda first, second: jax.tree.map(np.testing.assert_array_equal, first, second)
  equal((after, encoder.params, encoder.state), (found.state["image"], found.params["image"], found.state["image"]))
  statistics = found.state["image"]["batch_stats"]
  equal(statistics["stem_0_norm"]["mean"], ARRAYS["visual.bn1.running_mean"])
  equal(statistics["stage_1_block_1_2_norm"]["var"], ARRAYS["visual.layer2.1.bn3.running_var"])
  made = jax.eval_shape(clip(*clip_towers(TOWERS)).init, jax.random.key(0), Pair(published.IMAGES, TOKENS))
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes((found.params, found.state)) == shapes(made)


def test_a_training_step_changes_the_statistics_and_has_a_gradient_of_every_param(wrote):
  found = load_clip(wrote())
  learner, batch = clip(*found.networks), Pair(published.IMAGES, TOKENS)
  step = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))
  (_, (state, _)), gradient = step(found.params, found.state, batch, jax.random.key(0))
  assert state["text"] == {}
  for old, new in zip(*map(jax.tree.leaves, (found.state, state)), strict=True):
    assert np.isfinite(new).all() and (np.asarray(old) != np.asarray(new)).all()
  flat = jax.tree.leaves_with_path(gradient["image"])
  # Softmax does not see a bias of the keys, which adds the same to all scores of a query.
  assert all(np.abs(x).max() > 1e-7 for path, x in flat if "'key']['bias" not in jax.tree_util.keystr(path))


def test_arrays_that_are_missing_misshaped_or_additional_are_refused_by_name(wrote):
  changes = {
    "visual.layer2.1.conv2.weight": (None, "a residual network, got none named 'visual.layer2.1.conv2.weight'"),
    "visual.conv1.weight": (None, "none named 'visual.conv1.weight'"),
    "visual.layer1.0.bn2.running_mean": (None, "none named 'visual.layer1.0.bn2.running_mean'"),
    "visual.attnpool.positional_embedding": (
      np.ones((4, 128), "f"),
      r"positional_embedding' to be floating \[5, 128\]",
    ),
    "visual.layer3.0.downsample.0.weight": (
      np.ones((64, 32, 2, 2), "f"),
      r"3.0.downsample.0.weight' .*\[64, 32, 1, 1\]",
    ),
    "visual.attnpool.q_proj.weight": (np.ones((128, 64), "f"), r"'visual.attnpool.q_proj.weight' .*\[128, 128\]"),
    "visual.attnpool.c_proj.bias": (np.full(10, np.nan, "f"), "'visual.attnpool.c_proj.bias' to be finite"),
    "visual.layer4.0.bn1.running_var": (np.ones(32, int), r"4.0.bn1.running_var' to be floating \[32\].* got int64"),
    "visual.layer5.0.conv1.weight": (np.ones(3, "f"), "got 'visual.layer5.0.conv1.weight' too"),
    "visual.proj": (np.ones((3, 3), "f"), "got 'visual.proj' too"),
    "ln_final.bias": (None, "none named"),
  }
  for name, (x, said) in changes.items():
    with pytest.raises(ValueError, match=said) as caught:
      load_clip(wrote({other: y for other, y in (ARRAYS | {name: x}).items() if y is not None}))
    assert "\n" not in str(caught.value)
  for stage in ("visual.layer1", "visual.layer3"):
    without = {name: x for name, x in ARRAYS.items() if not name.startswith(stage)}
    with pytest.raises(ValueError, match=rf"none named '{stage}.0.conv1.weight'"):
      load_encoder(wrote(without))
  path = wrote() / "model.safetensors"
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(ValueError, match="is not a complete safetensors file"):
    load_clip(path)


def test_open_clips_configuration_is_read_and_must_match_the_arrays(wrote, tmp_path):
  assert load_clip(wrote(config=with_vision(head_width=64))).towers.image.num_heads == 2
  assert load_clip(wrote(config=with_vision(head_width=None))).towers.image.num_heads == 2
  for values, said in (
    ({"layers": [1, 1, 1, 1]}, r"vision_cfg.layers to be \[1, 2, 1, 1\] .*got \[1, 1, 1, 1\]"),
    ({"layers": 12}, r"vision_cfg.layers to be \[1, 2, 1, 1\] .*got 12"),
    ({"width": 64}, "vision_cfg.width to be 4 .*got 64"),
    ({"image_size": 224}, "vision_cfg.image_size to be 64 .*got 224"),
    ({"head_width": 24}, "a width divisible by the heads in the image tower .*got 5 heads"),
    ({"head_width": 200}, "vision_cfg.head_width .* from 1 to 128, got 200"),
  ):
    with pytest.raises(ValueError, match=said):
      load_clip(wrote(config=with_vision(**values)))
  (tmp_path / "clip" / "open_clip_config.json").unlink()
  (tmp_path / "clip" / "config.json").write_text(json.dumps({"model_type": "timm"}))  # it says nothing of such a CLIP
  with pytest.raises(ValueError, match=r"expected open_clip_config.json next to .* for widths of 128 and 16"):
    load_clip(tmp_path / "clip")


def test_without_a_configuration_heads_are_of_64_values(tmp_path):
  settings = guessed(str(tmp_path), "clip.safetensors", WIDE_TEXT)
  assert settings.num_heads == Pair(2, 2)
  assert settings.said[0].startswith(
    "found no open_clip_config.json next to 'clip.safetensors': assuming one of OpenAI's"
  )


def test_another_image_size_interpolates_the_positions_of_the_attention_pool(wrote):
  found, plain = load_clip(wrote(), image_size=96), ARRAYS["visual.attnpool.positional_embedding"]
  assert found.towers == TOWERS._replace(pixels=96) and found.preprocessing.pixels == 96
  np.testing.assert_array_equal(found.params["image"]["positions"], resized_positions(plain, 3))
  apply, images = found.networks.first.apply, jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.float32)
  embedded = jax.eval_shape(lambda x: apply(found.params["image"], found.state["image"], x, train=False)[0], images)
  assert embedded.shape == (2, 10)
  with pytest.raises(ValueError, match="an image_size that patches of 32 pixels divide, got 100"):
    load_clip(wrote(), image_size=100)


def test_experiments_read_the_statistics_too(tmp_path):
  words = train_tokenizer(["a photo of a cat", "a photo of a dog"], vocab_size=300)
  text = published.CONFIG["model_cfg"]["text_cfg"] | {"vocab_size": words.vocab_size}
  config = published.CONFIG | {"model_cfg": published.CONFIG["model_cfg"] | {"text_cfg": text}}
  folder = write(tmp_path, published.arrays(words.vocab_size), open_clip_config=config)
  words.save(folder / "tokenizer.json")
  found = read_model(folder)
  jax.tree.map(np.testing.assert_array_equal, found.state, load_clip(folder).state)
  embed = lambda params, state: found.learner.embed(params, state, published.IMAGES)
  assert jax.eval_shape(embed, found.params, found.state).shape == (2, 10)


def test_it_is_not_saved_for_transformers_which_has_no_such_model(wrote, tmp_path):
  found = load_clip(wrote())
  with pytest.raises(ValueError, match=r"a CLIP with a vision transformer, transformers has no other, got ClipResNet"):
    save_clip(tmp_path / "saved", *found[1:5])
  assert not (tmp_path / "saved").exists()


def test_half_precision_is_of_activations_only():
  network = clip_resnet((1, 1, 1, 1), 4, 10, 2, pixels=32, dtype=jnp.bfloat16)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  params, state = jax.eval_shape(network.init, jax.random.key(0), images)
  apply = lambda *given: network.apply(*given, train=True)
  outputs, after = jax.eval_shape(apply, params, state, images)
  assert {x.dtype for x in jax.tree.leaves((params, state, outputs, after))} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
  ("make", "said"),
  [
    (lambda: clip_resnet((1, 1, 1), 4, 10, 2, pixels=64), r"four stages of at least 1 block, got \(1, 1, 1\)"),
    (lambda: clip_resnet((1, 0, 1, 1), 4, 10, 2, pixels=64), r"four stages of at least 1 block"),
    (lambda: clip_resnet((1, 1, 1, 1), 3, 10, 2, pixels=64), "an even width of at least 2, got 3"),
    (lambda: clip_resnet((1, 1, 1, 1), 4, 10, 3, pixels=64), "heads that divide 128, 32 times the width, got 3"),
    (lambda: clip_resnet((1, 1, 1, 1), 4, 0, 2, pixels=64), "at least 1 output, got 0"),
    (lambda: clip_resnet((1, 1, 1, 1), 4, 10, 2, pixels=100), "pixels to be a multiple of 32, got 100"),
    (lambda: clip_towers(TOWERS._replace(patch=16)), "a patch of 32, .*, got 16"),
    (
      lambda: clip_resnet((1, 1, 1, 1), 4, 10, 2, pixels=64).init(jax.random.key(0), jnp.zeros([2, 32, 32, 3])),
      r"images \[n, 64, 64, channels\], got \[2, 32, 32, 3\]",
    ),
  ],
)
def test_wrong_arguments_are_refused_with_what_was_given(make, said):
  with pytest.raises(ValueError, match=said):
    make()
