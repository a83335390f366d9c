"""Run the packaged self-check of the text preprocessing in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading

from pydantic import BaseModel, Field

from rayonnage_shared.core.errors import Overloaded

COMMAND = (sys.executable, "-I", "-X", "utf8", "-m", "rayonnage_shared.ml.features.text_check")
MAX_OUTPUT_CHARACTERS = 20_000
EXIT_TIMEOUT = 124
"""What `timeout` of coreutils exits with too."""


class SelfCheckResult(BaseModel):
    """How the self-check ended."""

    exit_code: int = Field(description="0 if every text was cleaned as expected, 124 if the time limit was reached.")
    stdout: str
    stderr: str
    success: bool


class SelfCheck:
    """Runs one self-check at a time."""

    def __init__(self, timeout_s: float, command: tuple[str, ...] = COMMAND) -> None:
        self._timeout_s = timeout_s
        self._command = command
        self._running = threading.Lock()

    def run(self) -> SelfCheckResult:
        """Run the check and return its output. Raises Overloaded while another one runs."""
        if not self._running.acquire(blocking=False):
            raise Overloaded("A self-check is running already; try again in a few seconds.")
        try:
            return self._run()
        finally:
            self._running.release()

    def _run(self) -> SelfCheckResult:
        try:
            # Without the service's environment, which holds secrets that an error message could print.
            done = subprocess.run(
                self._command,
                check=False,
                capture_output=True,
                env={},
                stdin=subprocess.DEVNULL,
                timeout=self._timeout_s,
            )
        except subprocess.TimeoutExpired as late:
            stopped = f"The self-check was stopped after {self._timeout_s:g} s."
            return _result(EXIT_TIMEOUT, late.stdout or b"", (late.stderr or b"") + stopped.encode())
        return _result(done.returncode, done.stdout, done.stderr)


def _result(exit_code: int, stdout: bytes, stderr: bytes) -> SelfCheckResult:
    out, err = (text.decode(errors="replace")[-MAX_OUTPUT_CHARACTERS:] for text in (stdout, stderr))
    return SelfCheckResult(exit_code=exit_code, stdout=out, stderr=err, success=exit_code == 0)
