"""Tables of the records of pods."""

from benchmarks.tables import cells, heading

_INTRODUCTION = """\
A training step compiled for slices of TPU v5e, without the hardware. Arithmetic in matrix products, memory and
collectives are those of the program. Times are projected, not measured: a chip computes at 40% of its 197 TFLOP/s and
then sends the bytes of ring collectives at 200 GB/s, without overlap. A chip has 16,384 MiB; the batch per chip is
constant.
"""


def table(rows: list[dict]) -> list[str]:
  """One table per learner, with a row per slice."""
  lines = [_INTRODUCTION]
  for learner in dict.fromkeys(r["measure"] for r in rows):
    names = ("chips", "batch", "GFLOP per chip", "MB sent per chip", "computing ms", "sending ms", "step ms, projected")
    names += ("params, optimizer and batch MiB per chip", "temporary MiB per chip")
    lines += [f"### {learner}\n", *heading("parameters", *names)]
    for r in (r for r in rows if r["measure"] == learner):
      shown = (r["devices"], f"{r['batch_size']:,}", f"{r['gigaflops']:,}", f"{r['collective_bytes'] / 1e6:,.2f}")
      shown += (r["computing_ms"], r["sending_ms"], r["value"], f"{r['state_mebibytes']:,}")
      shown += (f"{r['temporary_mebibytes']:,}" + " (too many)" * (not r["fits"]),)
      lines.append(cells("sharded" if r["fsdp"] else "replicated", *map(str, shown)))
    lines.append("")
  return lines
