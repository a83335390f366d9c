"""The host that node-exporter sees: this machine, but for what a test puts over it, such as a memory that is used up.

node-exporter reads `/proc` from a folder of links in which a file can take the place of a link. Its one disk more is a
small one that is mounted for its process alone; the table of mounts says ext4 of it, since the rules leave tmpfs out.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
DISK_BYTES = 16 * 2**20
_MOUNTING = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
_MOUNT = f"mount -t tmpfs -o size={DISK_BYTES} tmpfs"


@cache
def may_mount() -> bool:
    """Return whether a process may be given a disk of its own here."""
    try:
        done = subprocess.run([*_MOUNTING, "sh", "-c", f"{_MOUNT} /mnt"], capture_output=True, timeout=10, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@dataclass(frozen=True)
class Host:
    """What node-exporter is shown."""

    proc: Path
    disk: Path

    def shown_to(self, command: list[str]) -> list[str]:
        """Return the command that runs node-exporter on this host."""
        command = [*command, f"--path.procfs={self.proc}"]
        if not may_mount():
            return command
        return [*_MOUNTING, "sh", "-c", f'{_MOUNT} {self.disk} && exec "$@"', "sh", *command]

    @contextlib.contextmanager
    def full_disk(self, exporter_pid: int) -> Iterator[None]:
        """Fill the disk to 97 % as long as the block lasts."""
        filling = PROC / str(exporter_pid) / "root" / self.disk.relative_to("/") / "filling"
        filling.write_bytes(bytes(int(0.97 * DISK_BYTES)))
        try:
            yield
        finally:
            filling.unlink()

    @contextlib.contextmanager
    def used_up_memory(self) -> Iterator[None]:
        """Show a memory of which 1 MB is left."""
        with self._changed("meminfo", r"(MemAvailable: +)\d+", r"\g<1>1024"):
            yield

    @contextlib.contextmanager
    def killed_for_memory(self) -> Iterator[None]:
        """Show one process more that the kernel has killed for want of memory."""
        (killed,) = re.findall(r"^oom_kill (\d+)$", (PROC / "vmstat").read_text(), re.MULTILINE)
        with self._changed("vmstat", r"(?m)^oom_kill \d+$", f"oom_kill {int(killed) + 1}"):
            yield

    @contextlib.contextmanager
    def _changed(self, name: str, pattern: str, replacement: str) -> Iterator[None]:
        text, replaced = re.subn(pattern, replacement, (PROC / name).read_text())
        assert replaced == 1, text
        new = self.proc / f"{name}.new"
        new.write_text(text)
        new.replace(self.proc / name)
        try:
            yield
        finally:
            new.symlink_to(PROC / name)
            new.replace(self.proc / name)


def make_host(folder: Path) -> Host:
    """Make the links, and the table of mounts, in the empty `folder`."""
    host = Host(folder / "proc", folder / "disk")
    host.proc.mkdir(parents=True)
    host.disk.mkdir()
    for path in PROC.iterdir():
        if not path.name.isdecimal():
            (host.proc / path.name).symlink_to(path)
    mounts = (PROC / "self" / "mounts").read_text()
    if may_mount():
        mounts += f"/dev/small {host.disk} ext4 rw 0 0\n"
    (host.proc / "1").mkdir()
    (host.proc / "1" / "mounts").write_text(mounts)
    return host
