"""The benchmarks' own parts: what they count, and that the commands run. PyTorch is not needed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import one_block
import optax
import pytest

from benchmarks import accelerator, accelerator_parts, contrastive_loss, input_pipeline, page
from benchmarks.command import Timing
from benchmarks.devices import collectives
from benchmarks.meta_gradient import EXACT, MODES, check_agreement, measure, meta_gradient, network_of
from metajax.compiled import flops
from metajax.mesh import make_mesh
from metajax.networks import mlp
from metajax.types import Episode, Examples

PRODUCT = 2 * 3 * 4 * 5


def tasks(count=2, queries=1):
  drawn = np.random.RandomState(0)
  part = lambda n: Examples(
    drawn.rand(count, 5 * n, 28, 28, 1).astype("f"), np.tile(np.eye(5, dtype="f"), (count, n, 1))
  )
  return Episode(part(1), part(queries))


@pytest.mark.parametrize(
  ("fn", "expected"),
  [
    (lambda a, b: a @ b, PRODUCT),
    (lambda a, b: (a @ b, jnp.sum(a) + 1)[1], 0),
    (lambda a, b: jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((3, 5)), length=7)[0], 7 * PRODUCT),
    (lambda a, b: jax.lax.while_loop(lambda c: c.sum() < 1, lambda c: c + a @ b, jnp.zeros((3, 5))), 2 * PRODUCT),
    (lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: jnp.zeros((3, 5))), PRODUCT),
    (lambda a, b: jax.grad(lambda a: jnp.sum(jnp.sin(a @ b)))(a), 2 * PRODUCT),
    (lambda a, b: jax.vmap(lambda row: row @ b)(a), PRODUCT),
  ],
)
def test_flops_are_those_of_the_products_that_the_outputs_need(fn, expected):
  assert flops(fn, jnp.ones((3, 4)), jnp.ones((4, 5)), while_trips=2) == expected


def test_a_convolution_counts_as_its_sums():
  convolve = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  assert flops(convolve, jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))) == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)


def test_collectives_are_found_with_their_bytes_inside_and_outside_of_loops():
  def island(x):
    x = jax.lax.psum(x, "data")
    return jax.lax.fori_loop(0, 3, lambda i, x: jax.lax.psum(jnp.sin(x), "data"), x)

  spec = jax.sharding.PartitionSpec("data")
  with jax.set_mesh(make_mesh(8)):
    run = jax.jit(jax.shard_map(island, in_specs=spec, out_specs=spec, check_vma=False))
    program = run.lower(jnp.ones((8, 5))).compile().as_text()
  assert collectives(program) == ([("all-reduce", 20)], [("all-reduce", 20)])


def test_ways_that_disagree_are_refused():
  check_agreement({"a": (1.0, 2.0), "b": (1.000001, 2.0001)})
  with pytest.raises(AssertionError, match="all losses to agree to 5 digits"):
    check_agreement({"a": (1.0, 2.0), "b": (1.0001, 2.0)})
  with pytest.raises(AssertionError, match="gradient norm"):
    check_agreement({"a": (1.0, 2.0), "b": (1.0, 2.01)})
  with pytest.raises(AssertionError, match="nan"):
    check_agreement({"a": (1.0, 2.0), "b": (1.0, float("nan"))})


@pytest.mark.slow
def test_the_transformer_has_one_meta_gradient_however_it_is_differentiated():
  found = {}
  for name, remat in (("reverse", False), ("mixed", True)):
    network = network_of("transformer", width=8, blocks=1, remat_blocks=remat)
    run, arguments = meta_gradient(network, EXACT[name](optax.sgd(0.1), 2), tasks())
    found[name] = tuple(map(float, jax.jit(run)(*arguments)[:2]))
  check_agreement(found)


def test_a_measured_setting_becomes_records_a_table_and_a_figure(tmp_path, monkeypatch):
  monkeypatch.setattr(page, "HERE", tmp_path)
  setting = {"network": "conv4", "optimizer": "sgd", "inner_steps": 1, "tasks": 2, "ways": 5, "shots": 1, "queries": 1}
  setting |= {"size": 4, "device": "cpu", "peak_gigaflops": 100, "load": 0.0, "clock": "processor", "threads": 1}
  network = mlp((64,), 5)  # in place of conv4, which takes seconds to compile
  measured = lambda limit: measure(setting, network, tasks(), ("mixed",), False, 1, 0.0, limit)
  page.write("meta_gradient", measured(0.0), of=("inner_steps", "measure"))
  assert "more than 0 GiB" in (tmp_path / "README.md").read_text()
  page.write("meta_gradient", measured(16.0), of=("inner_steps", "measure"))
  records = json.loads((tmp_path / "results" / "meta_gradient.json").read_text())
  assert [one["measure"] for one in records] == ["mixed", "one inner gradient"]
  mixed = records[0]
  assert mixed["value"] > 0 and mixed["temporary_mebibytes"] > 0 and mixed["gigaflops_a_task"] > 0
  assert "| mixed | " in (tmp_path / "README.md").read_text()
  assert (tmp_path / "results" / "meta_gradient.png").stat().st_size > 1000


def test_every_way_has_a_name_of_its_own():
  assert set(EXACT) < set(MODES) and len(MODES) == 7


def test_measured_contrastive_losses_become_records_tables_and_a_figure(tmp_path, monkeypatch):
  monkeypatch.setattr(page, "HERE", tmp_path)
  contrastive_loss.main(quick=True, peers=False, timing=Timing(record=True))
  records = json.loads((tmp_path / "results" / "contrastive_loss.json").read_text())
  of = lambda loss: {one["measure"] for one in records if one["loss"] == loss}
  assert of("info_nce") == {"dense", "tiled", "sharded", "ring"}
  assert of("nt_xent") == {"dense", "tiled", "sharded", "ring", "optax"}
  assert all(one["value"] > 0 and one["temporary_mebibytes"] > 0 for one in records)
  assert "| ring, 8 devices | " in (tmp_path / "README.md").read_text()
  assert (tmp_path / "results" / "contrastive_loss.png").stat().st_size > 1000


def test_contrastive_losses_that_disagree_are_refused():
  contrastive_loss.check_agreement({"a": 2.0, "b": 2.000001})
  with pytest.raises(AssertionError, match="all losses to agree to 5 digits"):
    contrastive_loss.check_agreement({"a": 2.0, "b": 2.0001})
  with pytest.raises(AssertionError, match="nan"):
    contrastive_loss.check_agreement({"a": 2.0, "b": float("nan")})


def test_augment_of_both_kinds_are_taken_and_counted():
  found = input_pipeline.views_per_second(16, 8, rounds=1, seconds=0.01)
  assert list(found) == ["views", "tf.image views"] and all(rate > 0 for (rate,) in found.values())
  from benchmarks import tensorflow_views

  images = np.random.default_rng(0).random((8, 16, 16, 3)).astype(np.float32)
  views = next(tensorflow_views.views(images, 8))
  assert views.shape == images.shape and views.min() >= 0 and views.max() <= 1 and np.ptp(views) > 0.3


def of_an_accelerator(tmp_path, monkeypatch, sizes, parts, minutes=9.0):
  """The records of the accelerator benchmark at tiny sizes, after each row of which the file is read."""
  monkeypatch.setattr(page, "HERE", tmp_path)
  monkeypatch.setattr(accelerator_parts, "TINY", sizes)
  accelerator.main(parts, peers=False, seconds=0.0, minutes=minutes, record=True, tiny=True)
  path = tmp_path / "results" / "accelerator.json"
  return json.loads(path.read_text()) if path.exists() else []


def test_an_accelerator_is_measured_row_by_row_and_both_convolutions_have_one_loss(tmp_path, monkeypatch, capsys):
  sizes = accelerator_parts.TINY._replace(filters=4, chunk_sizes=(2,), rows=(16,), batch=2, pixels=8)
  monkeypatch.setattr(accelerator_parts, "PRECISIONS", ("highest",))
  one_block.use(monkeypatch)
  found = of_an_accelerator(tmp_path, monkeypatch, sizes, ("maml", "contrastive", "transfers"))
  assert all(one["value"] > 0 and one["precision"] and one["machine"] and one["tiny"] for one in found)
  native, slices = (one["loss"] for one in found if one["part"] == "maml")
  assert native == pytest.approx(slices, rel=1e-5)
  assert {one["measure"] for one in found if one["part"] == "transfers"} == {
    "2 of 8 pixels as uint8",
    "2 of 8 pixels as float32",
  }
  assert "no time left" not in capsys.readouterr().out


def test_a_row_that_fails_or_has_no_time_left_is_named_and_the_others_stay(tmp_path, monkeypatch, capsys):
  def jobs(sizes):
    yield "good", lambda seconds: {"value": 1.0, "unit": "images/s"}
    yield "too large", lambda seconds: (_ for _ in ()).throw(RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore"))

  monkeypatch.setattr(accelerator_parts, "transfer_jobs", jobs)
  good, large = of_an_accelerator(tmp_path, monkeypatch, accelerator_parts.TINY, ("transfers",))
  assert good["value"] == 1 and large["value"] is None and large["skipped"] == "RESOURCE_EXHAUSTED: out of memory"
  of_an_accelerator(tmp_path, monkeypatch, accelerator_parts.TINY, ("transfers",), minutes=0.0)
  assert "transfers: good: no time left" in capsys.readouterr().out


@pytest.mark.slow
def test_the_steps_of_an_accelerator_run_at_tiny_sizes(tmp_path, monkeypatch):
  found = of_an_accelerator(tmp_path, monkeypatch, accelerator_parts.TINY, ("steps",))
  assert len(found) == 6 and all(one["value"] > 0 for one in found)
