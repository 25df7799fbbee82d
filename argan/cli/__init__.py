"""The command line: one file a command, registered here; `argan --help` imports no torch.

A command is a typed function with the name of its file. It imports torch and the rest of argan inside its body, reports
through `argan.cli._output` and raises `argan.errors`, which `argan.cli._errors` turns into one line and an exit code.
"""

import atexit
import gc
import os
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated

import typer

from argan import __version__
from argan.cli._errors import exit_code_of
from argan.errors import UsageError

# In the order of the work: learn, look, use, deploy, judge. "eval" would hide the built-in, so its file is evaluate.py.
COMMANDS = {
    "train": "train",
    "train-depth": "train_depth",
    "sample": "sample",
    "render": "render",
    "depth": "depth",
    "export": "export",
    "verify": "verify",
    "info": "info",
    "eval": "evaluate",
    "bench": "bench",
    "doctor": "doctor",
}

NEW_OBJECTS = 20_000  # between two searches for garbage; with Python's 700, importing torch took 0.2 s longer


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"argan {__version__}")
        raise typer.Exit


def describe(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Depth and depth of field, learned from unlabelled photographs.

    Start with a photo:  argan render photo.jpg --blur 2.0
    """


def build_app() -> typer.Typer:
    app = typer.Typer(
        name="argan",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(describe)
    for name, module in COMMANDS.items():
        app.command(name)(getattr(import_module(f"argan.cli.{module}"), module))
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code (README.md, "Exit codes")."""
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(leave)
    warnings.formatwarning = lambda message, *_where, **_line: f"warning: {message}\n"  # no line of source
    if sys.stderr is None:  # closed by who started us: print would take stdout in its place
        sys.stderr = open(os.devnull, "w", errors="replace")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):  # names of files are bytes, and need not be text
        bytes_again = sys.stdout.encoding.lower() in ("utf-8", "utf8") and os.name != "nt"  # where they are UTF-16
        sys.stdout.reconfigure(errors="surrogateescape" if bytes_again else "backslashreplace")
    sys.exit(exit_code_of(lambda: run(arguments)))


def run(arguments: list[str] | None) -> int | None:
    """Run these arguments. None: the process's own, in which typer expands `*.jpg` where no shell has: on Windows."""
    if "" in (sys.argv[1:] if arguments is None else arguments):  # as a path it would be the current folder
        raise UsageError("an empty argument", hint="a variable of the shell that is not set?")
    return build_app()(arguments, prog_name="argan", standalone_mode=False)


def leave() -> None:
    """Before it ends, Python would look all of torch through for garbage, for half a second."""
    if not {"triton", "onnx"} & sys.modules.keys():  # their bindings would report what is not looked through as leaks
        gc.freeze()
