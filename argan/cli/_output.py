"""The one place where commands speak: results on stdout (for people, or as JSON), everything else on stderr.

Facts about the run (`info`) and progress (`progress`, `track`) are not results: whoever reads stdout
never sees them. Every command that reports something takes `--json` and ends in one call of `result`.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")


def info(message: str) -> None:
    """A line on stderr that a person may want to know and a script does not."""
    print(message, file=sys.stderr, flush=True)


def progress() -> "Progress":
    """A rich progress bar on stderr (a context manager), silent where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def line_a_minute(bar: "Progress") -> Callable[[str], None]:
    """What says how far a long run is where there is no bar to see: in a log, from a job that runs by itself."""
    last = time.monotonic()

    def say(message: str) -> None:
        nonlocal last
        if bar.disable and time.monotonic() - last >= 60:
            info(message)
            last = time.monotonic()

    return say


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Iterate with a progress bar on stderr. One item gets no bar."""
    if len(items) == 1:
        yield from items
        return
    with progress() as bar:
        yield from bar.track(items, description=description)


def result(data: Any, *, as_json: bool, human: str | None = None) -> None:
    """Print what was asked for on stdout: `data` as JSON, or `human` (default: a table of `data`)."""
    if as_json:
        print(json.dumps(finite(data), indent=2, default=_plain, allow_nan=False))
    elif text := human if human is not None else table(data if isinstance(data, list) else [data]):
        print(text)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows (mappings with the same keys) as aligned columns under their names; numbers to the right."""
    if not rows:
        return ""
    names = list(rows[0])
    cells = [names, *[[_cell(row.get(name)) for name in names] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    right = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def finite(value: Any) -> Any:
    """JSON has no infinity and no not-a-number: null in their place."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """JSON for what json does not know: paths, numpy and torch scalars and arrays."""
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    raise TypeError(f"{type(value).__name__} is not JSON")
