"""What a process of Oddwatch does to itself before it works. Imports nothing that could load a numeric library."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def single_thread_libraries() -> None:
    """One thread per numeric library and worker: workers share the cores, and sums keep their order.

    Must run before numpy is imported; what the user has set stands.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def die_with_parent(parent_pid: int, signum: int = signal.SIGKILL) -> None:
    """Have the kernel send `signum` to this process when its parent ends, however it ends (on Linux only)."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signum)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent_pid:  # it died before we asked
        os.kill(os.getpid(), signum)


def set_title(title: str) -> None:
    """What `ps` and `pgrep -f` show of this process."""
    from setproctitle import setproctitle

    setproctitle(title)


def log_to_stderr(level: str, stage: str) -> None:
    """Plain lines on stderr: time, stage, level, message."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, force=True, format=f"%(asctime)s {stage} %(levelname)s %(message)s"
    )


def allow_many_files() -> None:
    """Each camera's shared memory is an open file: the usual 1024 would not do for hundreds of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
