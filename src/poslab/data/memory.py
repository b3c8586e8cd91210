"""Refuse files that memory does not hold, before they are read whole."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Measured on texts of 900 bytes: 6.7 for CSV, 7.2 for Parquet, 7.9 for JSON lines.
BYTES_PER_BYTE = 8


def available_memory() -> int | None:
    """Return how many bytes a process can still take; None where the system does not report it."""
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.exists() else "max"
    return available if limit == "max" else min(available, int(limit))


def require_memory(argument: str, path: Path, num_bytes: int, available: int | None) -> None:
    """Raise ValueError for a file, named by an argument, whose text takes more memory than is available.

    Args:
        num_bytes: of text in the file, as far as they are known; they take `BYTES_PER_BYTE` times as much.
        available: see `available_memory`.
    """
    if available is not None and num_bytes * BYTES_PER_BYTE > available:
        raise ValueError(
            f"{argument} must fit in memory, but {str(path)!r} holds at least {_gb(num_bytes)} of text, which takes"
            f" {_gb(num_bytes * BYTES_PER_BYTE)} where {_gb(available)} can be had; dataset=hub, hub_classification,"
            " hub_pairs and hub_answers leave it on the disk"
        )


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
