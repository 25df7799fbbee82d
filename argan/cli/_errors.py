"""Every failure ends here: one line that says what, one that says what to do, and an exit code."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from argan.errors import ArganError, Interrupted, MissingError, UsageError, lower_first

DEBUG_HINT = "ARGAN_DEBUG=1 shows the traceback"
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")  # what PyTorch says of the CPU's


def exit_code_of(command: Callable[[], Any]) -> int:
    """Run `command`; report what it raises on stderr and return the process's exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        returned = command()
        if sys.stdout is not None:  # None: closed by whoever started us
            sys.stdout.flush()
        if returned == Interrupted.exit_code and not _is_said_by_another():  # typer has caught Ctrl-C
            print_failure("interrupted")
        return returned if isinstance(returned, int) else 0  # typer returns the code of typer.Exit
    except (Exception, KeyboardInterrupt) as error:
        if _is_of_a_closed_pipe(error):  # the reader has gone: say nothing, also not when Python closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        if debugging():
            raise
        failure = explain(error)
        if not (isinstance(failure, Interrupted) and _is_said_by_another()):
            print_failure(str(failure), failure.hint)
        return failure.exit_code


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("ARGAN_DEBUG") == "1"


def explain(error: BaseException) -> ArganError:
    """The ArganError that says to a person what any exception means."""
    if isinstance(error, ArganError):
        return error
    if is_interrupt(error) or isinstance(error, typer.Abort):
        return Interrupted("interrupted")
    if hasattr(error, "format_message"):  # typer's own usage errors: unknown option, value out of range, …
        return _usage(error)
    if _is_backend_unavailable(error):
        return MissingError(str(error), hint="argan doctor says what is available here")
    if _is_out_of_memory(error):
        return ArganError(
            f"out of memory: {error}" if str(error) else "out of memory", hint="use a smaller picture, or batch"
        )
    if isinstance(error, ModuleNotFoundError):
        return MissingError(
            f"the package {error.name or error} is not installed", hint="argan doctor says what mends it"
        )
    if isinstance(error, OSError):
        return ArganError(_os_message(error))
    return ArganError(f"{type(error).__name__}: {error}", hint=DEBUG_HINT)


def is_interrupt(error: BaseException) -> bool:
    """Ctrl-C or SIGTERM, also where another error came of it: in Numba's compiled code, in PyTorch's exporter."""
    before = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (before is not None and is_interrupt(before))


def print_failure(message: str, hint: str | None = None) -> None:
    """`error: …` and `hint: …` on stderr, one line each whatever the message holds."""
    print(f"error: {_one_line(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {_one_line(hint)}", file=sys.stderr)


def _is_of_a_closed_pipe(error: BaseException) -> bool:
    """Windows calls it an invalid argument, as it does a file's name that is none; but then it has that name."""
    invalid = os.name == "nt" and isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or invalid


def _is_said_by_another() -> bool:
    """Ctrl-C reaches all processes of torchrun, and the first one says so; without importing torch for that."""
    distributed = sys.modules.get("argan.distributed")
    return distributed is not None and not distributed.is_main()


def _usage(error: Any) -> ArganError:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if not message:  # no command was given: typer has printed the help
        return UsageError("a command is needed", hint="argan --help lists the commands")
    path = context.command_path if context is not None else "argan"
    message = lower_first(message.replace("Value error, ", "")).rstrip(".")  # pydantic's words, by way of typer
    hint = f"{path} --help lists what it takes"
    if any(word.startswith("-") and os.path.lexists(word) for word in sys.argv[1:]):
        hint += "; a file whose name begins with - is ./-NAME, or comes after --"
    return UsageError(message, hint=hint)


def _is_backend_unavailable(error: BaseException) -> bool:
    """Without importing the kernels (and torch with them): whoever raised it has imported them."""
    backend = sys.modules.get("argan.kernels.backend")
    return backend is not None and isinstance(error, backend.BackendUnavailable)


def _is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, or torch's: on the GPU it has a class of its own, on the CPU only a text."""
    torch = sys.modules.get("torch")
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        or (isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY))
    )


def _os_message(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    where = error.filename2 or error.filename
    reason = lower_first(error.strerror)
    return f"{where}: {reason}" if where is not None else reason


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _terminate(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM unwinds like Ctrl-C, so that temporary files are removed on the way out."""
    raise KeyboardInterrupt
