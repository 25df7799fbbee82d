"""What argan tells a person when something goes wrong: one line, a hint, an exit code (no torch here)."""


class ArganError(Exception):
    """A failure that a person can act on. `hint` says what to do; the command line exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class UsageError(ArganError):
    """The request itself is wrong: an unknown option, a value out of range, an unknown name."""

    exit_code = 2


class VerificationError(ArganError):
    """An exported file does not compute what PyTorch computes."""

    exit_code = 3


class MissingError(ArganError):
    """Something that was asked for is not here: a device, an execution provider, an optional package."""

    exit_code = 4


class MissingReaderError(MissingError):
    """What reads a file of this kind is not installed; files of other kinds can be read."""


class Interrupted(ArganError):
    """Ctrl-C or SIGTERM arrived. `argan train` writes a checkpoint first."""

    exit_code = 130


def lower_first(text: str) -> str:
    """`text` with a small first letter: what another library says, to go on a line after a colon."""
    return text[:1].lower() + text[1:]
