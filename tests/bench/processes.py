"""What the system tells of processes."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path


def parent(pid: int) -> int:
    """The process that started this one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_seconds(pid: int) -> float:
    """The processor time of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM 0")
    return int(peak.split()[1]) * 1024


def peak_until_it_ends(process: subprocess.Popen[bytes]) -> int:
    """Wait for *process*; the most memory that it ever held, in bytes.

    What the system tells when it has ended counts the memory of who started it as well.
    """
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_bytes(process.pid))
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return peak
