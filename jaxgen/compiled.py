"""What was compiled before, kept in the user's cache folder: a second start of the same run begins at once."""

import contextlib
import importlib
import os
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import jax

from jaxgen.data.cache import cache_folder

#: How an entry begins that zlib packed, and one that Zstandard did.
_ZLIB, _ZSTD = b"\x78", b"\x28\xb5\x2f\xfd"


def compilation_cache() -> None:
    """Turns on JAX's persistent compilation cache in the user's cache folder, unless one is set already."""
    # JAX writes an entry in place: one that another process is writing at this moment is compiled anew.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    try:
        folder = cache_folder() / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"no compilation cache ({error}); every start compiles anew", stacklevel=2)
        return
    with contextlib.suppress(OSError):  # of what cannot be mended the worst is another compilation
        remove_damaged(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def remove_damaged(folder: Path) -> None:
    """Removes entries that a kill or a full disk cut short: JAX cannot read them, and overwrites none that is there.

    Only entries that were written since this was last done are unpacked, a few for each run.
    """
    stamp, now = folder / "checked", time.time()
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    for entry in os.scandir(folder):
        # A file's time may lie a little behind the clock; what is looked at twice does no harm.
        if entry.name.endswith("-cache") and entry.stat().st_mtime > since - 1:
            file = Path(entry.path)
            if not _is_whole(file.read_bytes()):
                file.unlink(missing_ok=True)
    stamp.touch()
    os.utime(stamp, (now, now))


def _is_whole(packed: bytes) -> bool:
    """Whether an entry can be unpacked; what nothing here can unpack is for JAX to judge."""
    unpack = zlib.decompress if packed.startswith(_ZLIB) else _zstandard() if packed.startswith(_ZSTD) else None
    if unpack is None:
        return len(packed) > 0
    try:
        unpack(packed)
    except Exception:  # each packer has errors of its own
        return False
    return True


def _zstandard() -> Callable[[bytes], bytes] | None:
    """JAX takes the one in Python's library since 3.14, and the package of that name before."""
    for module in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).decompress
    return None
