"""How the records of pods are shown: a table a learner, a row a slice."""

from benchmarks.tables import cells, heading

_INTRODUCTION = """\
A training step compiled by XLA's compiler for TPUs for slices of v5e that are not here: arithmetic in matrix
products, memory and collectives are the program's; times are projected, not measured: a chip computes at 40% of
its 197 TFLOP/s, and sends what a ring takes at 200 GB/s, one after the other. A chip has 16,384 MiB; its batch
is the same on any number of chips.
"""


def table(rows: list[dict]) -> list[str]:
  """A table a learner: a row a slice."""
  lines = [_INTRODUCTION]
  for learner in dict.fromkeys(r["measure"] for r in rows):
    names = ("chips", "batch", "GFLOP a chip", "MB sent a chip", "computing ms", "sending ms", "step ms, projected")
    names += ("params, optimizer and batch MiB a chip", "temporary MiB a chip")
    lines += [f"### {learner}\n", *heading("parameters", *names)]
    for r in (r for r in rows if r["measure"] == learner):
      shown = (r["devices"], f"{r['batch_size']:,}", f"{r['gigaflops']:,}", f"{r['collective_bytes'] / 1e6:,.2f}")
      shown += (r["computing_ms"], r["sending_ms"], r["value"], f"{r['state_mebibytes']:,}")
      shown += (f"{r['temporary_mebibytes']:,}" + " (too many)" * (not r["fits"]),)
      lines.append(cells("sharded" if r["fsdp"] else "copies", *map(str, shown)))
    lines.append("")
  return lines
