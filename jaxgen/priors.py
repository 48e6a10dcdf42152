"""A learned prior in the place of uniform codes: the run that it was learned for, and both as one model."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxgen.code_files import fingerprint
from jaxgen.data.dataset import Encoded, read_encoded
from jaxgen.errors import UserError
from jaxgen.folder import read_config
from jaxgen.runs import Run, Which, open_run

#: Folder, in that of a run, of the prior over its codes.
_FOLDER = "prior"


def prior_folder(path: str | Path) -> Path:
    """Where the prior over a run's codes lies, if nobody said otherwise."""
    return Path(path) / _FOLDER


def encoded_by(run: Run) -> Encoded | None:
    """Whose codes a run has learned, ``None`` where it learned none, or codes of nobody known.

    Raises:
      UserError: if what the run recorded of it is damaged.
    """
    record = run.config.get("encoded")
    if record is None:
        return None
    try:
        return read_encoded(record)
    except ValueError as error:
        raise UserError(f"{run.path / 'config.json'} is damaged: of 'encoded', {error}") from error


def run_behind(prior: Run) -> Run | None:
    """The run whose codes a prior has learned: around the prior's folder or its codes, beside either, or where it was.

    Raises:
      UserError: if it is in none of these places, or all runs there have another codebook.
    """
    encoded = encoded_by(prior)
    if encoded is None:
        return None
    which: Which = "last" if encoded.checkpoint == "last" else "best"
    around = prior.path.resolve().parent, Path(prior.config["data"]["name"]).resolve().parent
    places = *around, *(folder / encoded.run for folder in around), Path(encoded.run)
    refused = None
    for place in dict.fromkeys(places):
        if not (place / "config.json").exists():
            continue
        try:  # another run may have come to a place
            base = open_run(place, index=encoded.replica, which=which)
            _check_codebook(base, prior, encoded)
            return base
        except UserError as error:
            refused = refused or error
    raise refused or UserError(
        f"{prior.path} is a prior over the codes of {encoded.run}, which is not there; put it back to decode them"
    )


def prior_of(base: Run, *, replica: int) -> Run | None:
    """The prior over a run's codes, ``None`` where none has been learned yet, or that of another replica.

    Args:
      base: the run, of one replica.
      replica: which.

    Raises:
      UserError: if it is one over other codes.
    """
    path = prior_folder(base.path)
    if base.model.codes is None or not path.exists():
        return None
    if not (path / "checkpoints").is_dir() or not (path / "config.json").exists():
        warnings.warn(f"{path} holds no trained prior; codes are drawn uniformly", stacklevel=3)
        return None
    prior = open_run(path)
    encoded = encoded_by(prior)
    if encoded is None:
        raise UserError(f"{path} is no prior over the codes of {base.path}; give it another place")
    if fingerprint(base) != encoded.fingerprint and (replica, base.which) != (encoded.replica, encoded.checkpoint):
        return None
    _check_codebook(base, prior, encoded)
    return prior


def _check_codebook(base: Run, prior: Run, encoded: Encoded) -> None:
    here = fingerprint(base)
    if here != encoded.fingerprint:
        raise UserError(
            f"the prior in {prior.path} is of the codes of {encoded.fingerprint} (replica {encoded.replica}, "
            f"{encoded.checkpoint} checkpoint), but that of {base.path} is {here} now; remove the prior to draw codes "
            f"uniformly, or to train another by --from"
        )


def learned_of(path: str | Path, *, which: Which) -> tuple[Run, Run] | None:
    """The replica of a run whose codes a prior in its folder has learned, and the prior; ``None`` without one.

    Args:
      path: the run's folder.
      which: checkpoint of the run.

    Raises:
      UserError: as `prior_of`.
    """
    folder = prior_folder(path)
    record = read_config(folder).get("encoded") if (folder / "config.json").exists() else None
    replica = record.get("replica") if isinstance(record, Mapping) else None
    if type(replica) is not int:
        return None
    base = open_run(path, index=replica, which=which)
    prior = prior_of(base, replica=replica)
    return None if prior is None else (base, prior)


def pair_of(run: Run, *, replica: int) -> tuple[Run | None, Run | None]:
    """A run that decodes codes and the prior over them, whichever of both is asked for; ``None`` for what is not there.

    Args:
      run: of one replica.
      replica: which.

    Raises:
      UserError: as `run_behind` and `prior_of`.
    """
    if run.model.domain == "codes":
        return run_behind(run), run
    return run, prior_of(run, replica=replica)


def with_prior(base: Run, prior: Run) -> Run:
    """A run whose samples are decoded from codes that the prior draws; all else is the run's own."""
    decode, draw, encode = base.model.decode, prior.model.sample, base.model.encode
    assert decode is not None
    assert draw is not None
    assert encode is not None
    x = jax.ShapeDtypeStruct((1, *base.config["arguments"]["shape"]), jnp.float32)
    shape = jax.eval_shape(encode, base.params, base.statistics, x).shape[1:]

    def sample(
        params: Mapping[str, Any],
        statistics: Mapping[str, Any],
        key: Array,
        n: int,
        *,
        condition: ArrayLike | None = None,
    ) -> Array:
        """Codes drawn from the learned prior, decoded."""
        told = {} if prior.model.condition is None else {"condition": condition}
        codes = draw(params["prior"], statistics["prior"], key, n, **told)
        index = jnp.round(codes).astype(jnp.int32).reshape(n, *shape)
        return decode(params["base"], statistics["base"], index)

    def own(function: Any) -> Any:
        """A function of the run itself, which is told no condition."""
        if function is None:
            return None
        return lambda params, statistics, *arrays, condition=None: function(params["base"], statistics["base"], *arrays)

    model = base.model._replace(
        sample=sample,
        encode=own(base.model.encode),
        decode=own(base.model.decode),
        reconstruct=own(base.model.reconstruct),
        condition=prior.model.condition,
    )
    return base._replace(
        model=model,
        params={"base": base.params, "prior": prior.params},
        statistics={"base": base.statistics, "prior": prior.statistics},
    )
