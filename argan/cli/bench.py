"""argan bench."""

from typing import Annotated

import typer

from argan.cli import _output


def bench(
    side: Annotated[int, typer.Option(min=16, help="Side of render_bokeh's photo, px; for gradients up to 512.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each; the median and the least are shown.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine and all rows as JSON.")] = False,
) -> None:
    """Time every back end of the rendering operations beside the reference, after checking that it computes the same.

    Examples:

        argan bench

        argan bench --device cuda --side 2048 --json > bench.json
    """
    from argan.bench import back_ends, machine, measure, operations
    from argan.devices import resolve_device

    where = resolve_device(device)
    described = machine(where)
    reasons = back_ends(where)
    for name, reason in reasons.items():
        if reason is not None:
            _output.info(f"{name} is not timed: {reason}")
    usable = [name for name, reason in reasons.items() if reason is None]
    work = [
        (operation, impl)
        for operation in operations(side, where)
        for impl in usable
        if impl != "numba" or operation.loops
    ]
    rows = [measure(operation, impl, repeats) for operation, impl in _output.track(work, "bench")]
    heading = ", ".join(f"{name} {value}" for name, value in described.items())
    _output.result({"machine": described, "rows": rows}, as_json=as_json, human=f"{heading}\n\n{_output.table(rows)}")
