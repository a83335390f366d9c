"""End a process together with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_WATCH_EVERY_S = 1.0


def die_with(parent: int) -> None:
    """End this process when `parent` ends, even if that is killed with `kill -9`."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os._exit(os.EX_TEMPFAIL)

    if os.getppid() != parent:  # it ended before the call above
        os._exit(os.EX_TEMPFAIL)
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
