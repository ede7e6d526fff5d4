"""Tables of the records of pods."""

from benchmarks.tables import cells, heading

_INTRODUCTION = """\
A training step compiled for slices of TPUs, without the hardware, as `--compile-for` does it for any command. Memory,
operations and traffic are those of the program, for each device. Times are estimates, not measured: a device computes
for the cycles that the compiler expects, and at least as long as its operations take at the peak, and then sends the
bytes of ring collectives at the peak of its links; nothing overlaps. The batch of a device is constant.
"""
_NAMES = ("slices", "devices", "batch", "params, optimizer and batch MiB", "temporary MiB", "GFLOP", "MB sent")
_NAMES += ("computing ms", "sending ms", "step ms, estimated", "rows/s, estimated", "compiled in s")


def table(rows: list[dict]) -> list[str]:
  """One table per learner, with a row for each way to lay it out."""
  lines = [_INTRODUCTION]
  for learner in dict.fromkeys(r["measure"] for r in rows):
    lines += [f"### {learner}\n", *heading("parameters", *_NAMES)]
    for r in (r for r in rows if r["measure"] == learner):
      how = ("sharded" if r["fsdp"] else "copies") + f", remat {r['remat']}" * (r["remat"] != "none")
      stored = round(r["params_mebibytes"] + r["optimizer_mebibytes"] + r["batch_mebibytes"], 1)
      if r["fits"]:
        shown = (f"{r['temporary_mebibytes']:,}", f"{r['gigaflops']:,}", f"{r['collective_bytes'] / 1e6:,.1f}")
        shown += (r["computing_ms"], r["sending_ms"], r["step_ms"], f"{r['rows_per_second']:,}")
      else:
        largest = f"{r['largest_batch']:,} fit" if r["largest_batch"] else "none fits"
        shown = (f"too many: {r['needed_mebibytes']:,} in all; {largest}", *[""] * 6)
      size = (r["topology"], r["devices"], f"{r['batch_size']:,}", f"{stored:,}")
      lines.append(cells(how, *map(str, (*size, *shown, r["compile_seconds"]))))
    lines.append("")
  return lines
