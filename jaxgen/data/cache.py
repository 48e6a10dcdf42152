"""Arrays kept in the user's cache folder, opened as memory maps; each entry is a manifest of file names."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxgen.data.dataset import array_fingerprint

Arrays = dict[str, np.ndarray]
Allocate = Callable[[tuple[int, ...], type[np.generic]], np.ndarray]


def cached(stem: str, produce: Callable[[Allocate], Arrays]) -> Arrays:
    """The arrays of an entry, memory-mapped from the cache, or produced and kept there.

    Files are written under temporary names and renamed, the manifest last, so that neither a kill nor another
    process leaves half an entry. Each file's name ends in the fingerprint of its content, compared when it is
    opened: a damaged entry is produced anew. Without a folder that can be written, the arrays stay in memory.

    Args:
        stem: the entry's name; it must say everything that the content depends on.
        produce: fills arrays that it gets from the function passed to it, and returns them by name.

    Returns:
        What `produce` returned, read-only where it comes from the cache.
    """
    entry = _Entry(stem)
    arrays = entry.open()
    if arrays is None:
        try:
            arrays = entry.publish(produce(entry.allocate))
        finally:
            entry.clean()
    return arrays


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/jaxgen, or ~/.cache/jaxgen.

    Raises:
        OSError: if there is no home either.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base, "jaxgen")
    try:
        return Path.home() / ".cache" / "jaxgen"
    except RuntimeError as error:
        raise OSError("there is no home folder") from error


class _Entry:
    def __init__(self, stem: str):
        self._stem = stem
        self._temporary: list[Path] = []
        self._folder: Path | None = None
        try:
            self._folder = cache_folder() / "data"
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(error)

    def open(self) -> Arrays | None:
        """The stored arrays, None where one is missing or not what its name promises."""
        if self._folder is None:
            return None
        try:
            manifest = json.loads((self._folder / f"{self._stem}.json").read_text(encoding="utf-8"))
            arrays = {}
            for key, file_name in manifest.items():
                arrays[key] = np.load(self._folder / file_name, mmap_mode="r", allow_pickle=False)
                if file_name != self._name(key, arrays[key]):
                    return None
        except Exception:  # a damaged header makes np.load raise nearly anything, and reading anew is always right
            return None
        return arrays

    def allocate(self, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        """An array to fill: on disk under a temporary name, in memory if there is no room."""
        if self._folder is not None:
            try:
                path = self._temporary_file()
                array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
                _reserve(path)
                return array
            except OSError as error:
                self._give_up(error)
        return np.empty(shape, dtype)

    def publish(self, arrays: Arrays) -> Arrays:
        """Give the files their names and write the manifest; the arrays as they are where that fails."""
        if self._folder is None:
            return arrays
        manifest = {}
        try:
            for key, array in arrays.items():
                if not isinstance(array, np.memmap) or array.filename is None:
                    return arrays  # this one found no room on the disk
                array.flush()
                manifest[key] = self._name(key, array)
                os.replace(array.filename, self._folder / manifest[key])
            path = self._temporary_file()
            path.write_text(json.dumps(manifest), encoding="utf-8")
            os.replace(path, self._folder / f"{self._stem}.json")
        except OSError as error:
            self._give_up(error)
            return arrays
        return self.open() or arrays

    def clean(self) -> None:
        for path in self._temporary:
            path.unlink(missing_ok=True)

    def _name(self, key: str, array: np.ndarray) -> str:
        return f"{self._stem}-{key}-{array_fingerprint(array)}.npy"

    def _temporary_file(self) -> Path:
        descriptor, path = tempfile.mkstemp(dir=self._folder, prefix=f"{self._stem}-", suffix=".part")
        os.close(descriptor)
        self._temporary.append(Path(path))
        return Path(path)

    def _give_up(self, error: OSError) -> None:
        warnings.warn(
            f"Data cannot be cached ({error}), so each run reads it anew: "
            "set XDG_CACHE_HOME to a folder with room that can be written.",
            stacklevel=2,
        )
        self._folder = None


def _reserve(path: Path) -> None:
    """Take the space of a sparse file now: writing to a memory map on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
