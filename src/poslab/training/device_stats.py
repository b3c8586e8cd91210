"""Use of the devices while a run trains."""

from __future__ import annotations

from lightning.pytorch.callbacks import DeviceStatsMonitor

from poslab.arguments import CheckedArguments


class DeviceStats(CheckedArguments, DeviceStatsMonitor):
    """Lightning's callback: memory of a GPU, or load and memory of processors, for every logger.

    Args:
        cpu_stats: True records processors too, beside a GPU; null records them where there is no GPU. It takes the
            package psutil.
    """

    def __init__(self, cpu_stats: bool | None = None) -> None:
        super().__init__(cpu_stats)
