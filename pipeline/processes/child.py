"""A child of this process by fork: what was imported is shared, and it never outlives its parent."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable

from pipeline.processes.this_process import die_with_parent, set_title

log = logging.getLogger(__name__)


def fork(title: str, body: Callable[[], int]) -> int:
    """Run `body` in a child, whose exit code it returns; gives the child's pid to the parent.

    SIGTERM ends the child until `body` says otherwise. What `body` raises is logged: code 1.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        gc.freeze()  # looking for garbage among what is shared would copy it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(parent)
        set_title(f"oddwatch {title}")
        code = body()
    except BaseException:
        log.exception("%s failed", title)
    finally:
        sys.stderr.flush()
        os._exit(code)


def how_it_ended(status: int) -> str:
    """A status of `waitpid` in words."""
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)}"
    return f"ended with code {os.WEXITSTATUS(status)}"
