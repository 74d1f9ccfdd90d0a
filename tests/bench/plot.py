"""Plot the number of attachments over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def draw(path: Path, runs: dict[str, list[float]], *, rate: float = 2) -> None:
    """Write a plot with one line for each strategy, and the physical limit."""
    import matplotlib as mpl  # noqa: PLC0415 - only `make bench` installs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    figure, axes = plt.subplots(figsize=(9, 5))
    most = max(len(times) for times in runs.values())
    axes.plot([0, most / rate], [0, most], color="black", linestyle=":", label="physical limit")
    for name, times in runs.items():
        axes.plot(times, range(1, len(times) + 1), label=name, linewidth=2 if name == "Shared" else 1)
    axes.set(xlabel="seconds since the first join", ylabel="policies attached", title="1,000 joins within a minute")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
