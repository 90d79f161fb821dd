"""Thread counts of numeric libraries. Imports nothing that could load one of them."""

from __future__ import annotations

import os


def single_thread_libraries() -> None:
    """One thread per numeric library and worker: workers share the cores, and sums keep their order.

    Must run before numpy is imported; what the user has set stands.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
