"""The file of codes that ``jaxgen encode`` writes, read back for the run that made them."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxgen.data.dataset import read_encoded
from jaxgen.data.files import UNREADABLE, why_unreadable
from jaxgen.errors import UserError
from jaxgen.places import misplaced
from jaxgen.runs import Run
from jaxgen.told import check_told

#: What a file keeps of each split, and under which names: those that ``load`` knows.
_KEYS = {"x": "x_{}", "label": "y_{}", "condition": "condition_{}"}


def read_codes(path: str | Path, run: Run, *, replica: int) -> dict[str, dict[str, np.ndarray]]:
    """What ``encode`` wrote, as splits by name with ``x``, ``label`` and ``condition``.

    Args:
      path: the file.
      run: that is to decode them.
      replica: which of its replicas.

    Raises:
      UserError: if it is no such file, the codes are another's, of another shape, or none of those that there are, or
        the condition of a conditional model is missing.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (*UNREADABLE, TypeError) as error:  # a TypeError: one array is no archive of several
        reason = "it holds one array" if isinstance(error, TypeError) else why_unreadable(error)
        raise UserError(f"{path} cannot be read ({reason}); give a file that 'jaxgen encode' wrote") from error
    _check_record(path, arrays.get("encoded"))
    names = [name.removeprefix("x_") for name in arrays if name.startswith("x_")]
    if not names or "fingerprint" not in arrays:
        raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}; give a file that 'jaxgen encode' wrote")
    made_by, here = str(arrays["fingerprint"]), fingerprint(run)
    if made_by != here:
        raise UserError(
            f"the codes in {path} were made by {made_by}, but {run.path} (replica {replica}, {run.which} checkpoint) "
            f"is {here}; encode the data again, or give the run that made them"
        )
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        keys = {field: key.format(name) for field, key in _KEYS.items()}
        found[name] = {field: arrays[key] for field, key in keys.items() if key in arrays}
        _check_codes(f"x_{name} of {path}", found[name], run)
    return found


def _check_record(path: str | Path, told: np.ndarray | None) -> None:
    """Nothing is decoded by it, but who finds it damaged should not trust the rest."""
    try:
        record = None if told is None else json.loads(str(told))
        if record is not None:
            read_encoded({**record, "fingerprint": ""})
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: what it says of its codes is damaged ({error}); encode the data again") from error


def size_of_codes(path: Path) -> str | None:
    """What the codes in a file take under the prior that was learned of them, in words; ``None`` without one."""
    with np.load(path, allow_pickle=False) as archive:
        if "bits_test" not in archive or "encoded" not in archive:
            return None
        bits, places = archive["bits_test"].mean(), archive["x_test"][0].size
        kind = read_encoded({**json.loads(str(archive["encoded"])), "fingerprint": ""})
    uniform = places * math.log2(kind.size / (kind.stages * max(1, len(kind.grids))))
    return f"codes take {bits:.1f} bits a test example under the prior (uniform codes: {uniform:.0f})"


def _check_codes(whose: str, split: Mapping[str, np.ndarray], run: Run) -> None:
    """Whether codes are as the run's encoder gives them, with what its decoder is told besides."""
    x, condition, codes = split["x"], run.model.condition, run.model.codes
    assert run.model.encode is not None  # a fingerprint came out of one
    example = jax.ShapeDtypeStruct((2, *run.config["arguments"]["shape"]), np.float32)
    told = {}
    if condition is not None:
        classes = jax.ShapeDtypeStruct((2,), np.int32)
        vectors = jax.ShapeDtypeStruct((2, condition.size), np.float32)
        told["condition"] = classes if condition.classes else vectors
    expected = jax.eval_shape(run.model.encode, run.params, run.statistics, example, **told)
    if x.dtype.kind not in ("iu" if codes is not None else "fiu") or x.shape[1:] != expected.shape[1:]:
        shape = ", ".join(map(str, expected.shape[1:]))
        raise UserError(
            f"{whose} is {x.dtype} of shape {x.shape}, but the codes of {run.config['model']} are {expected.dtype} "
            f"[examples, {shape}]; encode the data again"
        )
    if not len(x) or not np.isfinite(x).all():
        raise UserError(f"{whose} holds no codes, or some that are not finite; encode the data again")
    problem = None if codes is None else misplaced(x, codes.size, grids=codes.grids, stages=codes.stages)
    if problem is not None:
        raise UserError(f"{whose} holds {problem}; encode the data again")
    if condition is not None and condition.name not in split:
        raise UserError(f"{whose} comes without the {condition.name} that the model is told; encode the data again")
    for name, array in split.items():
        if array.shape[:1] != x.shape[:1]:
            raise UserError(f"{whose} has {len(x)} examples, its {name} the shape {array.shape}; encode the data again")
    if condition is not None:
        check_told(whose, split[condition.name], condition)


def kept_beside(name: str, split: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Labels and conditions of the split of that name, as a file of its codes or of what they decode to keeps them."""
    return {
        key.format(name): np.asarray(split[field]) for field, key in _KEYS.items() if field != "x" and field in split
    }


def fingerprint(run: Run) -> str:
    """Digest of all that a run has learned, so that codes are not decoded by another."""
    digest = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves((run.params, run.statistics)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
