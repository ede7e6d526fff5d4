"""Compiled programs: their collectives by axis and iteration, and what `--compile-for` says without TPUs."""

import functools
import importlib.util
import json

import commands
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from experiments import maml
from metajax import Examples, make_mesh
from metajax.compiled import Projection, Slices, projection, read_program, slices_of
from metajax.compiled.chips import CHIPS
from metajax.compiled.program import Collective
from metajax.compose import linear
from metajax.experiment.compile_for import entries, lines
from metajax.learners import supervised
from metajax.mesh import mesh_over
from metajax.networks import resnet

TPU = importlib.util.find_spec("libtpu") is not None
V5E = CHIPS["TPU v5 lite"]


def test_collectives_are_read_with_their_axes_and_iterations():
  def island(x):
    x = lax.psum(x, "data")

    def again(x, _):
      return lax.psum_scatter(lax.all_gather(x, "fsdp", tiled=True), "fsdp", tiled=True), None

    x, _ = lax.scan(again, x, length=5)
    return lax.ppermute(x, "model", [(0, 1), (1, 0)])

  with jax.set_mesh(make_mesh(8, fsdp=2, model=2)):
    spec = P(("data", "fsdp"))
    run = jax.jit(jax.shard_map(island, in_specs=spec, out_specs=spec, check_vma=False))
    text = run.lower(jax.ShapeDtypeStruct((16, 3), jnp.float32)).compile().as_text()
  found = {one.kind: one for one in read_program(text, {"data": 2, "fsdp": 2, "model": 2}).collectives}
  assert found["all-reduce"] == Collective("all-reduce", 48, 1, 2, ("data",))
  assert found["all-gather"] == Collective("all-gather", 96, 5, 2, ("fsdp",))
  assert found["reduce-scatter"] == Collective("reduce-scatter", 48, 5, 2, ("fsdp",))
  assert found["collective-permute"].axes == ("model",)
  assert found["all-gather"].sent == 5 * 48 and found["reduce-scatter"].sent == 5 * 48


def test_cycles_are_counted_over_loops_in_loops():
  text = """HloModule step

%inner_body (p: s32[]) -> s32[] {
  ROOT %a = s32[] fusion(%p), backend_config={"estimated_cycles":"10"}
}

%inner_condition (p: s32[]) -> pred[] {
  %n = s32[]{:T(128)} constant(4)
  ROOT %lt = pred[] compare(%p, %n), direction=LT
}

%outer_body (p: s32[]) -> s32[] {
  %b = s32[] fusion(%p), backend_config={"estimated_cycles":"100"}
  ROOT %w = s32[] while(%b), condition=%inner_condition, body=%inner_body
}

%outer_condition (p: s32[]) -> pred[] {
  %n = s32[] constant(3)
  ROOT %lt = pred[] compare(%p, %n), direction=LT
}

%unknown (p: s32[]) -> pred[] {
  ROOT %lt = pred[] compare(%p, %p), direction=LT
}

ENTRY %main (p: s32[]) -> s32[] {
  %c = s32[] fusion(%p), backend_config={"estimated_cycles":"1000"}
  %v = s32[] while(%c), condition=%unknown, body=%inner_body
  ROOT %w = s32[] while(%v), condition=%outer_condition, body=%outer_body
}
"""
  found = read_program(text)
  assert found.cycles == 1000 + 10 + 3 * (100 + 4 * 10) and found.unknown_loops == 1


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (("v9:2x2",), "such as v5e:4x4 or v5p:2x2x2.* got 'v9:2x2'"),
    (("v5e:4x4", "two"), "slices=N for several of them, got 'v5e:4x4 two'"),
    (("v5e:4x4", "slices=0"), "slices=0"),
    (("v5e:4x4", "slices=2", "slices=2"), "slices=2 slices=2"),
  ],
)
def test_slices_that_there_are_not_are_refused(words, said):
  with pytest.raises(ValueError, match=said):
    slices_of(words)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
  """Runs a command in a folder of its own: (its status, its standard output, its standard error)."""

  def run(module, *arguments):
    main = functools.partial(commands.run_command, module)
    return commands.run(monkeypatch, capsys, module.__name__, main, *arguments, "--output", str(tmp_path / "runs"))

  return run


@pytest.mark.skipif(TPU, reason="libtpu is installed")
def test_without_the_compiler_for_tpus_one_line_says_how_to_install_it(command, tmp_path):
  status, _, error = command(maml, "--compile-for", "v5e:2x4")
  assert status == 2 and error.endswith("which needs no TPU: pip install libtpu\n") and error.count("\n") == 1
  assert not (tmp_path / "runs").exists()


USED = "Used {}G of {}G hbm."
TEMPORARIES = "the total memory required for HLO temporaries ({}G) exceeds available HBM ({}G)."


def projected(monkeypatch, memory, of_row, said=USED, chip=V5E):
  """The projection of a step that needs `of_row` bytes a row, compiled for 8 CPU devices as if they were chips."""
  learner = supervised(linear(2))
  batch = Examples(np.zeros((64, 3), np.float32), np.eye(2, dtype=np.float32)[np.zeros(64, int)])
  asked, real = [], projection.compile_step

  def compile_step(learner, optimizer, before, batch, mesh, accumulate):
    rows = batch.labels.shape[0]
    asked.append(rows)
    if rows * of_row > memory:
      sizes = (f"{size / 2**30:.2f}" for size in (rows * of_row, memory))
      raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {said.format(*sizes)}")
    return real(learner, optimizer, before, batch, mesh, accumulate)

  monkeypatch.setattr(projection, "compile_step", compile_step)
  slices = Slices("v5e:2x4", jax.devices()[:8], 1, chip)
  with jax.default_matmul_precision("default"):
    return projection.project(learner, optax.sgd(0.1), batch, slices, make_mesh(8)), asked


@pytest.mark.parametrize("said", [USED, TEMPORARIES])
def test_a_batch_that_does_not_fit_says_the_largest_that_does(monkeypatch, said):
  found, asked = projected(monkeypatch, 16 * 2**30, 2**29, said)
  assert not found.fits and found.largest == 32 and asked[0] == 64 and len(asked) <= 6
  assert ("memory", "does not fit: 32,768.0 of 16,384.0 MiB; a batch of 32 fits") in lines(found)
  found, _ = projected(monkeypatch, 2**30, 2**30)
  assert not found.fits and found.largest is None and "no batch was found to fit" in dict(lines(found))["memory"]


def test_a_step_whose_params_leave_no_room_does_not_fit_although_it_compiles(monkeypatch):
  found, asked = projected(monkeypatch, 16 * 2**30, 1, chip=V5E._replace(memory=2**10))
  assert found.temporary is not None and found.needed > 2**10 and not found.fits and asked[0] == 64
  assert "does not fit" in dict(lines(found))["memory"]


def test_a_step_that_fits_is_described(monkeypatch):
  found, asked = projected(monkeypatch, 16 * 2**30, 1)
  assert found.fits and asked == [64] and json.dumps(entries(found))
  assert found.operations * 8 == 2 * 64 * (2 * 3 * 2 + 3 * 2 * 2) and found.sent.keys() == {("all-reduce", "data")}
  assert found.parameters == 4 * (3 * 2 + 2 + 2 * 2 + 2) and found.batch == 4 * 64 * (3 + 2) // 8
  said = dict(lines(found))
  assert said["step"].endswith("sending") and said["devices"] == "8 (v5e:2x4)"


def test_several_slices_send_through_their_hosts():
  big = Collective("all-reduce", 10**9, 1, 8, ("data",))
  one = Projection(Slices("a", [None] * 8, 1, V5E), 8, 0, 0, 0, 0, 1, 0, None, 0.0, 0, (big,), 0, 0.0)
  two = one._replace(slices=Slices("b", [None] * 8, 2, V5E))
  assert one.sending == pytest.approx(2 * 7 / 8 * 1e9 / 200e9)
  assert two.sending == pytest.approx(one.sending + 2 * (1 / 2) * 1e9 / 25e9)


@pytest.mark.slow
@pytest.mark.skipif(not TPU, reason="libtpu is not installed")
@pytest.mark.parametrize("words", [("v5e:2x4",), ("v5e:2x4", "slices=2")])
def test_a_command_is_compiled_for_slices(command, tmp_path, words):
  status, out, error = command(maml, "--filters", "4", "--meta-batch-size", "16", "--compile-for", *words)
  assert status == 0 and "fits" in out, error
  (folder,) = (tmp_path / "runs").iterdir()
  (record,) = json.loads((folder / "projection.json").read_text())
  assert record["fits"] and record["cycles"] > 0 and (folder / "index.html").is_file()
  assert set(record["bytes_of"]) == {"all-reduce along data"}, "an inner loop without collectives"


@pytest.mark.slow
@pytest.mark.skipif(not TPU, reason="libtpu is not installed")
def test_sharded_parameters_take_less_memory_and_no_more_cycles():
  """XLA would gather the activations of all devices to compute a part of a gradient each, if it may choose."""
  learner, optimizer = supervised(resnet(10, stem="imagenet", convolution="native")), optax.sgd(0.1, momentum=0.9)
  batch = Examples(np.zeros((512, 64, 64, 3), np.uint8), np.eye(16, dtype=np.float32)[np.arange(512) % 16])
  slices = slices_of(("v5e:2x4",))
  copies, sharded = (
    projection.project(learner, optimizer, batch, slices, mesh_over(slices.devices, fsdp=fsdp))
    for fsdp in (False, True)
  )
  assert sharded.needed < 0.75 * copies.needed and sharded.cycles < 1.1 * copies.cycles
