"""How much more memory this process can take, by the limit of its container and the machine."""

from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_KIB = 1024


def find_room(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return how many more bytes this process can take.

    A control group limits the memory of a container. Beyond the limit, the kernel may end all
    processes of the container.

    Parameters
    ----------
    proc : Path
        Where Linux shows its processes.
    cgroups : Path
        Where Linux shows control groups of version 2.

    Returns
    -------
    int
        Bytes, 0 or more.
    """
    folder = cgroups / _find_group(proc)
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # version 1, no limit ("max"), or the root
        return _find_available(proc)
    # The kernel drops cached files before it ends a process.
    cached = _read_counts(folder / "memory.stat")
    used -= cached.get("inactive_file", 0) + cached.get("active_file", 0)
    return max(0, min(limit - used, _find_available(proc)))


def _find_group(proc: Path) -> str:
    """Return the path of this process's control group, relative to the root group."""
    lines = (proc / "self" / "cgroup").read_text().splitlines()
    paths = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return paths[0] if paths else ""


def _find_available(proc: Path) -> int:
    return _read_counts(proc / "meminfo")["MemAvailable:"] * _KIB


def _read_counts(path: Path) -> dict[str, int]:
    """Return number by name, for a file with a name and a number in each line."""
    words = (line.split() for line in path.read_text().splitlines())
    return {word[0]: int(word[1]) for word in words if len(word) > 1}
