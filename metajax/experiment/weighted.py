"""Several sources of data by weight, `--data a=0.7 b=0.3`: the first is `--data`, and all of them are `--mix`."""

import re
from collections.abc import Callable, Sequence

from metajax.experiment import flags
from metajax.experiment.flags import LONGEST

DATA, MIX = "--data", "--mix"
WEIGHTED = re.compile(r".+=-?[\d.]+(e-?\d+)?", re.DOTALL)


def apart(command: Callable, arguments: Sequence[str]) -> list[str]:
  """The arguments with `--data a --mix a=0.7 b=0.3` in place of `--data a=0.7 b=0.3`.

  Raises:
    ValueError: if sources have weights, but the command has no mixtures.
  """
  kinds, found = flags.kinds_of(command), list(arguments)
  at = max((i for i, one in enumerate(found) if one == DATA), default=None)
  if "data" not in kinds or at is None:
    return found
  end = next((i for i in range(at + 1, len(found)) if found[i].startswith("--")), len(found))
  values = found[at + 1 : end]
  if len(values) < 2:
    return found
  if "mix" in kinds:
    return [*found[: at + 1], values[0].rpartition("=")[0] or values[0], MIX, *values, *found[end:]]
  if all(WEIGHTED.fullmatch(value) for value in values):
    raise ValueError(f"expected one {DATA} here, as only pretraining mixes several, got {' '.join(values)[:LONGEST]}")
  return found


def weights_of(data: str, mix: Sequence[str]) -> dict[str, float]:
  """`{source: weight}` of the values of `--mix`, that of `--data` among them; none if there is no mixture.

  Raises:
    ValueError: if a weight is missing or not positive, a source occurs twice, or there are fewer than two.
  """
  found = {}
  for one in mix:
    name, equals, text = one.rpartition("=")
    try:
      weight = float(text)
    except ValueError:
      equals, weight = "", 0.0
    if not (name and equals):
      wanted = f"a weight for each of several sources, such as {DATA} a=0.7 b=0.3"
      raise ValueError(f"expected {wanted}, got {one[:LONGEST]!r}")
    if not 0 < weight < float("inf"):
      raise ValueError(f"expected a positive weight of {name[:LONGEST]!r} in {DATA}, got {text[:LONGEST]}")
    if name in found:
      raise ValueError(f"expected different sources in a mixture, got {name[:LONGEST]!r} twice")
    found[name] = weight
  if found and (len(found) < 2 or data not in found):
    wanted = f"{MIX} of two sources or more, {DATA} {data[:LONGEST]} among them"
    raise ValueError(f"expected {wanted}, got {' '.join(mix)[:LONGEST]}")
  return found
