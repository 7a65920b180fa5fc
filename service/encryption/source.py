"""Where the master key comes from: a file, the environment, or a command that asks a key management service."""

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from models.text import printable
from service.encryption.master_key import MasterKey, make_master_key_file, parse_master_key, read_master_key_file
from service.errors import MasterKeyUnfit

_COMMAND_S = 60.0
_MAX_SAID_BYTES = 300


@dataclass(frozen=True, slots=True)
class MasterKeySource:
    """Where the master key comes from; at most one of `file`, `text` and `command` is set.

    Attributes:
        file: File that holds it.
        text: The key itself, from an environment variable.
        command: Command that prints it, run without a shell.
        variable: Name of the environment variable of `text`.
    """

    file: Path | None = None
    text: str | None = None
    command: str | None = None
    variable: str = "VULTUS_ENCRYPTION__MASTER_KEY"

    def __repr__(self) -> str:
        return f"MasterKeySource({self.described()})"

    @property
    def is_set(self) -> bool:
        """Whether one of the attributes is set."""
        return (self.file, self.text, self.command) != (None, None, None)

    def described(self) -> str:
        """Return where the key comes from, without the key."""
        if self.file is not None:
            return f"the file {self.file}"
        return "the environment" if self.text is not None else "a command"

    def read(self) -> MasterKey:
        """Read the master key.

        Raises:
            MasterKeyUnfit: It is missing, cannot be read, or is not a key of 32 bytes.
        """
        if self.file is not None:
            return read_master_key_file(self.file)
        if self.text is not None:
            return parse_master_key(self.text.encode("utf-8", "surrogateescape"), f"the value of {self.variable}")
        return parse_master_key(_printed(self.command or ""), "what the command of the master key printed")

    def read_or_make(self) -> MasterKey:
        """Read the master key; make it if it is a file that is missing.

        Raises:
            MasterKeyUnfit: As `read`, or the file system refused to write the file.
        """
        if self.file is not None and not self.file.exists():
            make_master_key_file(self.file)
        return self.read()


def _printed(command: str) -> bytes:
    """Run a command and return what it printed.

    Raises:
        MasterKeyUnfit: The command is malformed, failed, or took longer than a minute.
    """
    try:
        words = shlex.split(command)
        if not words:
            raise MasterKeyUnfit("the command of the master key is empty")
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False)
    except ValueError as error:
        raise MasterKeyUnfit(f"the command of the master key is malformed: {error}") from error
    except OSError as error:
        raise MasterKeyUnfit(f"the command of the master key cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise MasterKeyUnfit(f"the command of the master key printed nothing within {_COMMAND_S:.0f} s") from error
    if done.returncode:
        said = printable(done.stderr[-_MAX_SAID_BYTES:].decode("utf-8", "replace").strip())
        raise MasterKeyUnfit(
            f"the command of the master key failed with status {done.returncode}" + (f": {said}" if said else "")
        )
    return done.stdout
