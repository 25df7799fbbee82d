"""argan doctor."""

from typing import Annotated

import typer

from argan.cli import _output


def doctor(
    device: Annotated[str, typer.Option(help="Check for this one: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """What is installed, which device and back end each command would use, and the command that mends a fault.

    The exit code is 4 if something is missing or broken.

    Examples:

        argan doctor

        argan doctor --device cuda                                    can the GPU be used?
    """
    from dataclasses import asdict

    from argan import doctor as examine
    from argan.errors import MissingError

    report: dict[str, object] = {"versions": examine.installed()}
    faults = examine.package_faults()
    if not faults:  # what follows imports the packages
        faults = [*examine.device_faults(), *examine.model_faults()]
        report["devices"] = examine.devices()
        try:
            report["commands"] = examine.uses(device)
        except MissingError as error:
            faults.insert(0, examine.Fault(str(error), "argan doctor lists the devices that are here"))
    report["faults"] = [asdict(fault) for fault in faults]
    _output.result(report, as_json=as_json, human=_describe(report))
    if faults:
        raise MissingError(faults[0].fault, hint=faults[0].mend)


def _describe(report: dict) -> str:
    """The report's sections as tables, for people."""
    sections = {
        "installed": [{"package": name, "version": version} for name, version in report["versions"].items()],
        "devices": report.get("devices", []),
        "what commands use": report.get("commands", []),
        "faults": report["faults"],
    }
    return "\n\n".join(f"{title}\n{_output.table(rows)}" for title, rows in sections.items() if rows) + (
        "" if report["faults"] else "\n\nno faults found"
    )
