"""One file for each figure of the benchmark; each has `measure(work, quick) -> list[Row]`."""
