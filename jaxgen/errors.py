"""The one exception a user's mistake raises, and what its sentences are made of."""

import difflib
import os
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: one sentence with what was wrong, the value seen and what to do.

    The command line prints it and exits with code 2; in Python it is an ordinary exception.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """What to do about a mistyped word.

    >>> nearest("trian", ["train", "evaluate"]), nearest("x", ["train", "evaluate"])
    ("did you mean 'train'?", 'choose from train, evaluate')
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"


def memory_error(error: BaseException) -> str | None:
    """What memory was not enough for, where that is what an exception is about; else ``None``.

    >>> memory_error(MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000000000,)"))
    'out of memory (7.28 TiB at once)'
    >>> memory_error(RuntimeError("RESOURCE_EXHAUSTED: of another library"))
    """
    if type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
        if "RESOURCE_EXHAUSTED" not in str(error):
            return None
    elif not isinstance(error, MemoryError):
        return None
    found = re.search(r"allocat\w+ ([\d.]*\d)\.? ?(bytes|[KMGTPE]iB)", str(error))
    if not found:
        return "out of memory"
    size = f"{int(found[1]) / 2**30:,.2f} GiB" if found[2] == "bytes" else f"{found[1]} {found[2]}"
    return f"out of memory ({size} at once)"


def storage_error(error: BaseException) -> OSError | None:
    """What the operating system refused, where that is what an exception of the storage is about; else ``None``.

    Orbax raises an ``OSError`` for what it does itself. TensorStore, which writes the arrays, raises a ``ValueError``
    whose text has the number: "RESOURCE_EXHAUSTED: … No space left on device [os_error_code='28']".

    >>> storage_error(ValueError("NOT_FOUND: … [os_error_code='2']"))
    FileNotFoundError(2, 'No such file or directory')
    >>> storage_error(ValueError("shapes differ"))
    """
    if isinstance(error, OSError):
        return error
    found = re.search(r"\[os_error_code='(\d+)'\]", str(error)) if isinstance(error, ValueError) else None
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None
