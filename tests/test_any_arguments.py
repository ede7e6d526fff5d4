"""The law of public functions: whatever they are given, an error of ours that quotes it, or the right number."""

import contextlib
import re
import signal
import traceback
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import Invalid
from table_of_functions import FUNCTIONS, ways_to_go_wrong

import metajax

OURS = Path(metajax.__file__).parent
OF_ARRAYS = ("metajax.losses", "metajax.predictors", "metajax.compose")
SECONDS = 10
SQUARED = 1e18  # what 32 bits do not hold the square of, which may be infinite, or NaN
CHANGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=3)
SEARCH = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
TOLERANCE = {2: 2e-2, 4: 2e-4, 8: 2e-4}  # by the bytes of the smallest floats that are given


def check(name, seed, wrongs, compiled=False):
  """Calls a function with arguments of which some are changed, by `[(which, how)]`: numbers that are taken modulo.

  Compiled it is one program; of what is called by itself each operation is one.
  """
  function, rng = FUNCTIONS[name], np.random.default_rng(seed)
  arguments, said = {key: make(rng) for key, make in function.arguments.items()}, {}
  for which, how in wrongs:
    key = list(arguments)[which % len(arguments)]
    changes = ways_to_go_wrong(arguments[key])
    what = list(changes)[how % len(changes)]
    impossible = contextlib.suppress(ValueError, TypeError, IndexError, OverflowError)
    with impossible, np.errstate(all="ignore"):
      arguments[key], said[key] = changes[what](arguments[key]), what
  about = f"{name} with {said or 'nothing'} changed, from seed {seed}"
  with np.errstate(all="ignore"):
    expected = right(function, arguments)
  try:
    with at_most(SECONDS), np.errstate(all="ignore"):
      call = lambda: function.call(**arguments)
      found = jax.jit(call)() if compiled and function.call.__module__.startswith(OF_ARRAYS) else call()
  except (ValueError, TypeError, FloatingPointError) as error:
    assert said, f"{about}: {error}"
    assert is_ours(error), f"{about}: {type(error).__name__} from elsewhere: {error}"
    return
  assert expected is not None, f"{about}: gave {found}, where nothing is right"
  small = min([x.dtype.itemsize for x in map(np.asarray, arguments.values()) if "float" in str(x.dtype)], default=4)
  numbers = [np.asarray(x, np.float64) for x in arguments.values() if x is not None and not isinstance(x, str)]
  finite = all((np.abs(x) < SQUARED).all() for x in numbers)
  for got, wanted in zip(*(x if isinstance(x, tuple) else (x,) for x in (found, expected)), strict=True):
    compare(np.asarray(got, np.float64), np.asarray(wanted, np.float64), TOLERANCE[small], finite, about)


def compare(got, wanted, tolerance, finite, about):
  assert got.shape == wanted.shape, f"{about}: a result {got.shape}, expected {wanted.shape}"
  there = np.isfinite(got)
  assert not finite or there.all() or not np.isfinite(wanted).all(), f"{about}: {got}, expected {wanted}"
  scale = max(1.0, np.abs(wanted[np.isfinite(wanted)]).max(initial=0))
  error = f"{about}: gave {got}, expected {wanted}"
  np.testing.assert_allclose(got[there] / scale, wanted[there] / scale, atol=tolerance, rtol=tolerance, err_msg=error)


def right(function, arguments):
  try:
    return function.right(**arguments)
  except Invalid:
    return None


def is_ours(error):
  """Whether it was raised on purpose, and quotes what was given."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  return OURS in Path(last.filename).parents and re.search(r"expected .*(got|which)", str(error), re.S)


@contextlib.contextmanager
def at_most(seconds):
  def stop(*_):
    raise TimeoutError(f"no answer after {seconds} s")

  before = signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_that_are_fine_give_the_right_number(name, seed):
  check(name, seed, [], compiled=seed == 0)


@pytest.mark.parametrize(
  ("name", "argument", "change"),
  [
    ("logit_scale", "log_scale", "the number 1e+30"),
    ("nt_xent", "temperature", "the number 1e+30"),
    ("info_nce", "scale", "the number 100000000000000000000000"),
    ("ridge_logits", "support", "a huge one"),
    ("normalized_patches", "patches", "a huge one"),
    ("centroid_logits", "labels", "complex numbers"),
    ("attention", "labels", "objects"),
    ("class_means", "labels", "a list"),
    ("class_means", "support", "no columns"),
    ("retrieval", "texts", "texts"),
    ("ratio_with_interval", "counts", "a set of names"),
    ("from_palette", "tokens", "minus one"),
    ("from_palette", "palette", "one row fewer"),
    ("to_palette", "images", "a NaN"),
    ("to_palette", "palette", "an infinity"),
    ("patchify", "patch", "True"),
  ],
)
def test_what_the_search_has_found_stays_mended(name, argument, change):
  arguments = FUNCTIONS[name].arguments
  how = list(ways_to_go_wrong(arguments[argument](np.random.default_rng(0)))).index(change)
  check(name, 0, [(list(arguments).index(argument), how)], compiled=True)


def test_the_search_is_of_2000_calls_at_least():
  values = lambda name: [make(np.random.default_rng(0)) for make in FUNCTIONS[name].arguments.values()]
  assert sum(len(ways_to_go_wrong(value)) for name in FUNCTIONS for value in values(name)) >= 2000


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(SEARCH, max_examples=6)
@given(seed=st.integers(0, 99), wrongs=CHANGES)
def test_some_arguments_are_refused_or_answered_rightly(name, seed, wrongs):
  check(name, seed, wrongs, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_change_of_every_argument_is_refused_or_answered_rightly(name):
  arguments = {key: make(np.random.default_rng(0)) for key, make in FUNCTIONS[name].arguments.items()}
  for which, value in enumerate(arguments.values()):
    for how in range(len(ways_to_go_wrong(value))):
      check(name, 0, [(which, how)])


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@settings(SEARCH, max_examples=60)
@given(seed=st.integers(0, 99), wrongs=CHANGES)
def test_arguments_that_are_anything_are_refused_or_answered_rightly(name, seed, wrongs):
  check(name, seed, wrongs)
