"""Pictures of figures that people would rather see; needs matplotlib, which is optional."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@contextmanager
def picture(path: Path, *, charts: int = 1, **settings: Any) -> Iterator[tuple[Figure, list[Axes]]]:
    """Draw charts beside each other in the block, which are then written to a file.

    Args:
        path: an SVG or PNG file, by its ending.
        charts: how many.
        settings: further ones of `matplotlib.pyplot.subplots`, such as `figsize` in inches.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("svg" if path.suffix.lower() == ".svg" else "agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(1, charts, layout="constrained", squeeze=False, **settings)
    axes = list(grid[0])
    try:
        yield figure, axes
        for axis in axes:
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", alpha=0.3)
        figure.savefig(path)
    finally:
        pyplot.close(figure)
