"""CLIP's published weights: by whose names and configuration they come, in every precision; nothing is unpickled."""

import json
import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import published_clips as published
import pytest
from safetensors.numpy import save_file

from metajax.networks import load_clip, save_clip
from metajax.networks.checkpoints import settings
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.transformer import CLIP, Size
from metajax.types import Preprocessing

TINY = Towers(Size(24, 2, 3), 4, 8, Size(16, 2, 2), 10, 30, 9)
WITH_HEADS = published.changed(published.HF, "vision_config", num_attention_heads=3, hidden_act="gelu")
WITH_HEADS = published.changed(WITH_HEADS, "text_config", num_attention_heads=2, hidden_act="gelu")
PLAIN = {"config": WITH_HEADS, "preprocessor_config": published.PROCESSOR}


@pytest.fixture
def wrote(tmp_path):
  """Writes a folder of weights; by default of small arrays, as Hugging Face has them."""
  return lambda tensors=None, **how: published.write(tmp_path / "clip", tensors or published.arrays(), **how)


def features(found):
  """Of both towers, in one program."""
  given = zip(found.networks, ("image", "text"), (published.images(), published.TOKENS), strict=True)
  run = lambda params: tuple(n.apply(params[name], {}, x, train=False)[0] for n, name, x in given)
  return jax.device_get(jax.jit(run)(found.params))


# The first four values of `transformers` 5.24 and open_clip 3.3 for two images and two texts.
HF_WITHOUT_HEADS = (
  [[0.70877, 0.82785, 1.36718, -0.25878], [0.66122, 0.96546, 1.33227, -0.04742]],
  [[-0.52767, 1.05976, -0.16688, 1.58634], [-0.45647, 0.96197, -0.17054, 1.47001]],
)
BY_OPEN_CLIP = (
  [[0.78105, 0.62783, 1.48972, -0.23608], [0.65721, 0.84413, 1.33676, -0.0761]],
  [[-0.47195, 1.09132, -0.18862, 1.57513], [-0.41307, 1.11135, -0.22902, 1.63526]],
)


def test_without_heads_in_the_configuration_they_are_hugging_faces_12_and_8(wrote):
  found = load_clip(wrote(config=published.HF, preprocessor_config=published.PROCESSOR))
  assert (found.towers.image.num_heads, found.towers.text.num_heads, found.details) == (12, 8, CLIP)
  for ours, theirs in zip(features(found), HF_WITHOUT_HEADS, strict=True):
    np.testing.assert_allclose(ours[:, :4], theirs, atol=1e-4)


def test_open_clips_configuration_gives_its_gelu_head_width_mean_and_deviation(wrote):
  names = published.openai_names(published.arrays())
  found = load_clip(wrote(names, file="open_clip_model.safetensors", open_clip_config=published.OPEN_CLIP))
  assert found.towers == TINY and found.details.activation == "gelu"
  assert found.preprocessing.mean == (0.5, 0.4, 0.3) and found.preprocessing.resize == "squash"
  for ours, theirs in zip(features(found), BY_OPEN_CLIP, strict=True):
    np.testing.assert_allclose(ours[:, :4], theirs, atol=1e-4)


def test_the_same_network_is_read_of_either_configuration(wrote, tmp_path):
  """`transformers` and open_clip give the same features of these texts, to five places."""
  hugging_face = load_clip(wrote(**PLAIN))
  names = published.openai_names(published.arrays())
  other = load_clip(published.write(tmp_path / "other", names, open_clip_config=published.OPEN_CLIP))
  assert hugging_face[2:4] == other[2:4] == (TINY, CLIP._replace(activation="gelu"))
  jax.tree.map(np.testing.assert_array_equal, hugging_face.params, other.params)


def test_a_folder_with_both_configurations_is_read_by_that_of_the_arrays_names(wrote):
  both = {"config": published.HF, "preprocessor_config": published.PROCESSOR, "open_clip_config": published.OPEN_CLIP}
  assert load_clip(wrote(**both)).details == CLIP
  theirs = load_clip(wrote(published.openai_names(published.arrays()), **both))
  assert theirs.details.activation == "gelu" and theirs.preprocessing.resize == "squash"


def test_open_clips_settings_are_read_or_refused(wrote):
  load = lambda section, **values: load_clip(wrote(open_clip_config=_open_clip(section, **values)))
  assert load("model_cfg", quick_gelu=True).details == CLIP
  epsilon = _open_clip("vision_cfg", norm_kwargs={"eps": 1e-6}, act_kwargs={"approximate": "tanh"})
  epsilon["model_cfg"]["text_cfg"] |= {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}
  found = load_clip(wrote(open_clip_config=epsilon))
  assert found.details == CLIP._replace(activation="tanh_gelu", epsilon=1e-6)
  for section, values, said in (
    ("vision_cfg", {"pool_type": "avg"}, "vision_cfg.pool_type to be 'tok' in .*got 'avg'"),
    ("vision_cfg", {"no_ln_pre": True}, "vision_cfg.no_ln_pre to be False"),
    ("vision_cfg", {"layers": [2, 2, 2, 2]}, r"vision_cfg.layers to be 2 in .*got \[2, 2, 2, 2\]"),
    ("vision_cfg", {"head_width": 7}, None),
    ("vision_cfg", {"head_width": "8"}, "vision_cfg.head_width in .*whole number from 1 to 24, got '8'"),
    ("vision_cfg", {"patch_size": 2}, "vision_cfg.patch_size to be 4 in .*as the arrays have it, got 2"),
    ("vision_cfg", {"norm_kwargs": {"eps": 1e-6}}, "the same activation and norms in both towers"),
    ("vision_cfg", {"act_kwargs": {"approximate": "erf"}}, "vision_cfg.act_kwargs of gelu"),
    ("text_cfg", {"no_causal_mask": True}, "text_cfg.no_causal_mask to be False"),
    ("text_cfg", {"pool_type": "last"}, "text_cfg.pool_type .*'argmax', 'eos', got 'last'"),
    ("text_cfg", {"pool_type": "eos"}, "text_cfg.eos_id to be 29 .*got 2"),
    ("text_cfg", {"heads": 3}, "a width divisible by the heads in the text tower"),
    ("text_cfg", {"invented": 1}, "known settings of text_cfg .*got 'invented'"),
    ("model_cfg", {"quick_gelu": "yes"}, "model_cfg.quick_gelu .*True or False, got 'yes'"),
    ("model_cfg", {"vision_cfg": []}, "vision_cfg to be an object .*got a list"),
  ):
    if said is None:
      assert load(section, **values).towers.image.num_heads == 3  # 24 // 7, as they have it
      continue
    with pytest.raises(ValueError, match=said):
      load(section, **values)
  with pytest.raises(ValueError, match=r"model_cfg to be an object .*got None"):
    load_clip(wrote(open_clip_config={}))


def _open_clip(section, **values):
  model = json.loads(json.dumps(published.OPEN_CLIP["model_cfg"]))
  (model if section == "model_cfg" else model[section]).update(values)
  return {"model_cfg": model}


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"text_config": None}, "text_config to be an object in .*config.json', got None"),
    ({"vision_config": [1]}, "vision_config to be an object in .*got a list"),
    ({"text_config_dict": "a"}, "text_config_dict to be an object in .*got 'a'"),
    ({"model_type": "siglip"}, "model_type 'clip' in .*got 'siglip'"),
    ({"projection_dim": 512}, "projection_dim to be 10 in .*as the arrays have it, got 512"),
    ({"vision_config": {"image_size": 336}}, "vision_config.image_size to be 8 in .*got 336"),
    ({"vision_config": {"num_attention_heads": "3"}}, "vision_config.num_attention_heads .* whole number .*got '3'"),
    ({"vision_config": {"num_attention_heads": 0}}, "whole number of at least 1, got 0"),
    ({"vision_config": {"num_attention_heads": True}}, "whole number of at least 1, got True"),
    ({"vision_config": {"num_attention_heads": 5}}, "divisible by the heads in the image tower of .*got 5 heads"),
    ({"text_config": {"layer_norm_eps": None}}, "text_config.layer_norm_eps .*above 0, got None"),
    ({"text_config": {"hidden_act": "relu"}}, "text_config.hidden_act in .*'quick_gelu', 'gelu'.*got 'relu'"),
    ({"text_config": {"hidden_act": "gelu"}}, "the same activation and norms in both towers"),
    ({"text_config": {"eos_token_id": 7}}, "the end of text to be token 29, the last one, got 7"),
    ({"text_config": {"eos_token_id": [29]}}, r"the end of text to be token 29, the last one, got \[29\]"),
  ],
)
def test_a_configuration_of_another_kind_is_refused_by_name(wrote, change, said):
  sections = {key: published.HF[key] | x if isinstance(x, dict) else x for key, x in change.items()}
  with pytest.raises(ValueError, match=said):
    load_clip(wrote(config=published.HF | sections))


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("[" * 100_000, "config.json' is not a JSON file: it is nested too deeply"),
    ('{"a":' * 100_000, "config.json' is not a JSON file: it is nested too deeply"),
    ("[1]", "expected a dict in .*config.json', got a list"),
    ("3", "expected a dict in .*got 3"),
    ("", "config.json' is not a JSON file"),
    ("\ufffd", "config.json' is not a JSON file"),
    ('{"projection_dim": ' + "1" * 5000 + "}", "config.json' is not a JSON file"),
    ('{"model_type": "clip", "model_type": "siglip"}', "config.json' is not a JSON file: 'model_type' occurs twice"),
  ],
)
def test_a_configuration_that_is_no_json_object_is_one_clear_error(wrote, text, said):
  with pytest.raises(ValueError, match=said):
    load_clip(wrote(config=text))


def test_old_configurations_have_another_key_beside_each_tower(wrote):
  old = published.HF | {"vision_config_dict": {"num_attention_heads": 3}, "text_config_dict": None}
  assert load_clip(wrote(config=old, preprocessor_config=published.PROCESSOR)).towers.image.num_heads == 3


def test_what_no_configuration_says_is_a_guess_that_is_said_or_refused(wrote):
  with pytest.warns(UserWarning, match="config.json': without a preprocessor_config.json .*8 pixels, bicubic, mean"):
    load_clip(wrote(config=WITH_HEADS))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    load_clip(wrote(**PLAIN))
  for name in ("config", "preprocessor_config"):
    (wrote() / f"{name}.json").unlink()
  with pytest.raises(ValueError, match=r"got none, and the number of attention heads .* widths of 24 and 16"):
    load_clip(wrote())


def test_without_a_configuration_openais_heads_are_a_guess_that_is_said(wrote, monkeypatch):
  monkeypatch.setattr(settings, "HEAD", 8)
  guess = r"neither config.json nor open_clip_config.json .*3 and 2 attention heads, quick_gelu .*without a preproc"
  with pytest.warns(UserWarning, match=guess):
    found = load_clip(wrote(published.openai_names(published.arrays())) / "model.safetensors")
  assert (found.towers, found.details, found.preprocessing) == (TINY, CLIP, Preprocessing(8))


def test_what_is_saved_is_read_to_the_bit(wrote, tmp_path):
  params, details = load_clip(wrote(**PLAIN)).params, CLIP._replace(activation="tanh_gelu", epsilon=1e-6)
  how = Preprocessing(8, "squash", 10, "bilinear", (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
  save_clip(tmp_path / "saved", params, TINY, details, how)
  assert {path.name for path in (tmp_path / "saved").iterdir()} == {
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
  }
  for path in (tmp_path / "saved", tmp_path / "saved" / "model.safetensors"):  # what lies beside it is read too
    found = load_clip(path)
    assert (found.towers, found.details, found.preprocessing) == (TINY, details, how)
    jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_what_cannot_be_saved_is_refused_before_a_file_is_written(wrote, tmp_path):
  params = load_clip(wrote(**PLAIN)).params
  wrong = params | {"log_scale": jnp.zeros(1)}
  for given, how, said in (
    ({"image": {}}, None, "got none named"),
    (params | {"more": jnp.zeros(1)}, None, "got 'more' too"),
    (wrong, None, r"'log_scale' of shape \[\], got \[1\]"),
    (params, Preprocessing(9), "a preprocessing to 8 pixels"),
    (params, Preprocessing(8, "longest"), "'shortest' or 'squash'"),
  ):
    with pytest.raises(ValueError, match=said):
      save_clip(tmp_path / "new", given, TINY, CLIP, how)
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_numbers_of_other_widths_are_read_as_they_are(wrote, dtype):
  rounded = {name: x.astype(dtype) for name, x in published.arrays().items()}
  found = load_clip(wrote(rounded, **PLAIN)).params["image"]["class_token"]
  assert found.dtype == jnp.float32
  np.testing.assert_array_equal(
    found, rounded["vision_model.embeddings.class_embedding"].astype(np.float32), strict=True
  )


def sharded(folder, arrays, **index):
  """Split as Hugging Face splits large models."""
  names = sorted(arrays)
  files = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(names)}
  for file in set(files.values()):
    save_file({name: arrays[name] for name in names if files[name] == file}, folder / file)
  said = {"metadata": {"total_size": 1}, "weight_map": files} | index
  (folder / "model.safetensors.index.json").write_text(json.dumps(said))
  return files


def test_several_files_and_other_names_are_the_same_weights(wrote, tmp_path):
  arrays, folder = published.arrays(), wrote(**PLAIN)
  whole = load_clip(folder).params
  (folder / "model.safetensors").unlink()
  sharded(folder, arrays)
  for path in (folder, folder / "model.safetensors.index.json"):
    jax.tree.map(np.testing.assert_array_equal, load_clip(path).params, whole)
  names = published.openai_names(arrays)
  theirs = published.write(tmp_path / "theirs", names, "open_clip_model.safetensors", **PLAIN)
  jax.tree.map(np.testing.assert_array_equal, load_clip(theirs).params, whole)
  custom = {name if name.startswith(("visual", "logit")) else f"text.{name}": x for name, x in names.items()}
  theirs = published.write(tmp_path / "custom", custom, "open_clip_model.safetensors", **PLAIN)
  jax.tree.map(np.testing.assert_array_equal, load_clip(theirs).params, whole)


def test_an_index_that_does_not_match_its_files_is_refused_by_name(wrote):
  arrays, folder = published.arrays(), wrote(**PLAIN)
  (folder / "model.safetensors").unlink()
  files = sharded(folder, arrays)
  first = files["logit_scale"]
  for index, said in (
    ({"weight_map": files | {"more": first}}, "got 'more' in only one of them"),
    ({"weight_map": {n: f for n, f in files.items() if n != "logit_scale"}}, "got 'logit_scale' in only one of"),
    ({"weight_map": files | {"logit_scale": "../none.safetensors"}}, "expected the file .*clip/none.safetensors' that"),
    ({"weight_map": files | {"logit_scale": 3}}, "a weight_map from arrays to files .*got a dict"),
    ({"weight_map": None}, "a weight_map from arrays to files .*got None"),
  ):
    sharded(folder, arrays, **index)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
      load_clip(folder)


SHAPES = [  # of an array in the file, by whose name; what is said
  ("logit_scale", (1,), r"'logit_scale' to be floating \[\] in .*got float32 \[1\]"),
  (
    "vision_model.encoder.layers.1.mlp.fc1.weight",
    (72, 24),
    r"1.mlp.fc1.weight' to be floating \[96, 24\] .*\[72, 24\]",
  ),
  ("text_model.encoder.layers.0.self_attn.k_proj.bias", (17,), r"k_proj.bias' to be floating \[16\] .*\[17\]"),
  ("vision_model.embeddings.position_embedding.weight", (7, 24), r"position_embedding.weight' .*\[5, 24\] .*\[7, 24\]"),
  ("vision_model.embeddings.patch_embedding.weight", (24, 4, 4, 4), r"patch_embedding.weight' .*\[24, 3, 4, 4\]"),
  ("vision_model.embeddings.patch_embedding.weight", (24, 48), r"patch_embedding.weight' .*\[any, any, any, any\]"),
  ("text_projection.weight", (10,), r"'text_projection.weight' to be floating \[10, 16\] in .*\[10\]"),
  ("text_model.embeddings.token_embedding.weight", (0, 16), "got an empty one"),
]


@pytest.mark.parametrize(("name", "shape", "said"), SHAPES)
def test_an_array_of_another_shape_is_refused_by_name(wrote, name, shape, said):
  with pytest.raises(ValueError, match=said):
    load_clip(wrote(published.arrays() | {name: np.ones(shape, np.float32)}, **PLAIN))


def test_arrays_in_openais_names_are_refused_by_these(wrote):
  names = published.openai_names(published.arrays())
  for name, x, said in (
    ("visual.proj", np.ones((23, 10), np.float32), r"'visual.proj' to be floating \[24, 10\] .*got float32 \[23, 10\]"),
    ("text_projection", np.ones((16, 11), np.float32), r"'text_projection' to be floating \[16, 10\] .*\[16, 11\]"),
    ("visual.transformer.resblocks.0.attn.in_proj_weight", np.ones((70, 24), np.float32), "of three equal parts"),
    ("visual.transformer.resblocks.0.attn.in_proj_bias", np.ones(75, np.float32), r"0.attn.in_proj_bias' .*\[24\]"),
    ("text.ln_final.bias", np.ones(16, np.float32), "got 'text.ln_final.bias' too"),
    ("logit_bias", np.ones((), np.float32), "got 'logit_bias' too"),
    ("visual.class_embedding", np.ones(24, np.int8), "'visual.class_embedding' to be floating .*got int8"),
    ("visual.class_embedding", np.full(24, np.nan, np.float32), "'visual.class_embedding' to be finite"),
  ):
    with pytest.raises(ValueError, match=said):
      load_clip(wrote(names | {name: x}, **PLAIN))
  sizes = {name: np.array(size) for name, size in (("input_resolution", 8), ("context_length", 9), ("vocab_size", 30))}
  load_clip(wrote(names | sizes, **PLAIN))  # OpenAI's own files have them


def test_a_scale_of_shape_1_is_open_clips_where_its_configuration_says_so(wrote):
  arrays = published.openai_names(published.arrays()) | {"logit_scale": np.full(1, 2.5, np.float32)}
  found = load_clip(wrote(arrays, open_clip_config=_open_clip("model_cfg", nonscalar_logit_scale=True)))
  assert found.params["log_scale"].shape == () and found.params["log_scale"] == 2.5
  with pytest.raises(ValueError, match=r"'logit_scale' to be floating \[\]"):
    load_clip(wrote(arrays, open_clip_config=_open_clip("model_cfg")))


def test_files_that_are_no_clip_are_refused_and_pickles_never_read(wrote, tmp_path):
  path = wrote(**PLAIN) / "model.safetensors"
  (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
  (tmp_path / "half.safetensors").write_bytes(path.read_bytes()[:-10])
  save_file({"weight": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
  (tmp_path / "empty").mkdir()
  for given, said in (
    ("model.pt", "expected a .safetensors file, got .*model.pt.*: other formats may run code"),
    ("half.safetensors", "not a complete safetensors file"),
    ("other.safetensors", "got none named"),
    ("empty", "expected model.safetensors in"),
    ("none.safetensors", "no such file or folder"),
  ):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
      load_clip(tmp_path / given)
  with pytest.raises(ValueError, match="to be a path on this machine, got 'gs://bucket/clip'"):
    load_clip("gs://bucket/clip")


def test_another_image_size_interpolates_positions_as_open_clip_does(wrote):
  found = load_clip(wrote(**PLAIN), image_size=12)
  assert found.towers.pixels == found.preprocessing.pixels == 12
  positions = np.asarray(found.params["image"]["positions"])[:, :2]  # of a 2 x 2 grid, as `open_clip` 3.3 has them
  expected = [[0.1221, -0.14708], [-0.34875, -0.19115], [0.30718, 0.05393], [0.9631, 0.29901], [0.00504, 0.09555]]
  expected += [[0.30815, 0.18734], [0.61126, 0.27912], [0.35883, 0.38226], [0.30913, 0.32074], [0.25942, 0.25922]]
  np.testing.assert_allclose(positions, expected, atol=1e-5)
  plain = load_clip(wrote(**PLAIN))
  same = load_clip(wrote(**PLAIN), image_size=8)
  jax.tree.map(np.testing.assert_array_equal, same.params, plain.params)
  apply, images = found.networks.first.apply, jax.ShapeDtypeStruct((2, 12, 12, 3), jnp.float32)
  embedded = jax.eval_shape(lambda x: apply(found.params["image"], {}, x, train=False)[0], images)
  assert embedded.shape == (2, 10)


def test_images_that_the_weights_have_no_positions_for_are_refused_with_both_sizes(wrote):
  network, params = (found := load_clip(wrote(**PLAIN))).networks.first, found.params["image"]
  for images, said in (
    (
      np.zeros((1, 12, 12, 3), np.float32),
      r"\[n, 8, 8, 3\], .*got \[1, 12, 12, 3\]: image_size=... adapts",
    ),
    (np.zeros((1, 8, 8, 4), np.float32), r"got \[1, 8, 8, 4\]"),
    (np.zeros((1, 8, 8, 3), np.uint8), r"images in \[0, 1\] to be floating .*got uint8"),
    (np.zeros((8, 8, 3), np.float32), r"got float32 \[8, 8, 3\]"),
  ):
    with pytest.raises(ValueError, match=said):
      network.apply(params, {}, images, train=False)
  for size, said in (
    (10, "an image_size that patches of 4 pixels divide, got 10"),
    (10**23, "image_size to be a whole number from 4 to 4096, got 1000"),
    (8.0, "image_size to be a whole number"),
  ):
    with pytest.raises(ValueError, match=said):
      load_clip(wrote(**PLAIN), image_size=size)
  larger = published.PROCESSOR | {"size": {"shortest_edge": 12}, "crop_size": 12}
  with pytest.raises(ValueError, match=r"images of 8 x 8, .* got a preprocessing to 12 x 12: image_size=12"):
    load_clip(wrote(config=WITH_HEADS, preprocessor_config=larger))
  assert load_clip(wrote(config=WITH_HEADS, preprocessor_config=larger), image_size=12).preprocessing.pixels == 12


def test_open_clips_defaults_are_8_heads_of_text_and_64_values_a_head_of_images(wrote):
  config = _open_clip("model_cfg")
  del config["model_cfg"]["text_cfg"]["heads"]
  found = load_clip(wrote(open_clip_config=config))
  assert found.towers.text.num_heads == 8 and found.preprocessing == Preprocessing(8, middle="even")
  del config["model_cfg"]["vision_cfg"]["head_width"]
  with pytest.raises(ValueError, match=r"vision_cfg.head_width .* from 1 to 24, got 64"):
    load_clip(wrote(open_clip_config=config))
