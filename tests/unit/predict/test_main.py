from __future__ import annotations

import subprocess
import sys

ARENAS = """
import ctypes, sys, threading
from rayonnage_predict.__main__ import MEMORY_ARENAS, share_memory_between_threads
if not share_memory_between_threads():
    sys.exit("another C library")
keep, ready = threading.Event(), threading.Barrier(9)

def work():
    bytearray(100_000)
    ready.wait()
    keep.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
ready.wait()
ctypes.CDLL(None).malloc_stats()
keep.set()
"""


def test_the_threads_of_predict_share_their_memory() -> None:
    found = subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0 and found.stderr.count("Arena ") <= 2, found.stderr
