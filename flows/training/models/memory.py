"""The memory that this process may still take."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")
UNIT_BYTES = 1024


def find_available_bytes(
    meminfo: Path = MEMINFO, control_group: Path = CONTROL_GROUP
) -> int:
    """Return the available memory of the machine, or of the control group if that is less.

    Parameters
    ----------
    meminfo : Path
        Linux's own file.
    control_group : Path
        Folder of the process's control group, version 2.

    Returns
    -------
    int
        Bytes; 0 where the system does not say.
    """
    if not meminfo.exists():
        return 0
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * UNIT_BYTES
    limit = control_group / "memory.max"
    if not limit.exists() or (text := limit.read_text().strip()) == "max":
        return available
    used = int((control_group / "memory.current").read_text())
    return min(available, max(0, int(text) - used))
