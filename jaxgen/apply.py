"""A trained run applied to data: examples to codes, codes to examples, and what is missing filled in."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxgen.code_files import fingerprint, kept_beside, read_codes
from jaxgen.data import Dataset
from jaxgen.data.checks import check_categories
from jaxgen.data.files import UNREADABLE, why_unreadable
from jaxgen.errors import UserError, nearest
from jaxgen.mapped import batches, dataset_for, joined, mapped, save_arrays, splits
from jaxgen.models.imputation import Method
from jaxgen.priors import prior_of
from jaxgen.runs import Run, Which, check_number, compilation_cache, open_run
from jaxgen.told import check_conditions
from jaxgen.training.options import check_seeds

#: In a run's folder, what data are encoded to, and the run's own for its prior.
_CODES, _LEARNED = "codes.npz", "prior-codes.npz"


def encode(
    path: str | Path,
    /,
    *,
    data: str | None = None,
    data_dir: str | None = None,
    replica: int = 0,
    checkpoint: Which = "best",
    out: str | Path | None = None,
) -> Path:
    """Codes of a data set, as a file that is a data set itself: jaxgen encode RUN --data ...

    The file (.npz) holds x_train, x_test, labels as y_train, y_test, vectors of conditions as condition_train,
    condition_test, and the fingerprint of the encoder. Where a prior was learned, bits_train and bits_test are the size
    of each example's codes under it, −log₂ p(codes).

    Args:
      path: The run's folder.
      data: A data set or file of the run's shape, instead of the run's own.
      data_dir: Folder of prepared TensorFlow Datasets, instead of the run's own.
      replica: Which of the run's replicas.
      checkpoint: The best by the evaluated objective, or the last.
      out: The .npz to write; RUN/codes.npz by default, RUN/codes-DATA.npz of other data than the run's own.

    Raises:
      UserError: if the model has no encoder, or the data is not of the run's shape.
    """
    compilation_cache()
    run = open_run(path, index=replica, which=checkpoint)
    dataset = dataset_for(run, data, data_dir)
    arrays = encoded(run, dataset, replica=replica, maker=run.path.resolve().name)
    own = dataset.fingerprint == run.config["data"]["fingerprint"]
    name = _CODES if own else f"codes-{Path(dataset.name).stem}.npz"
    return save_arrays(out or Path(path) / name, arrays | sizes(run, dataset, arrays, replica=replica))


def quantizer(path: str | Path) -> Run:
    """The first replica of a run whose codes can be learned.

    Raises:
      UserError: if it has no codes, or none that are whole numbers.
    """
    run = open_run(path)
    if run.model.codes is None:
        lacks = "has no codes" if run.model.encode is None else "has codes that are no whole numbers"
        raise UserError(f"{path} holds a run of {run.config['model']}, which {lacks}; give a quantizer's run")
    return run


def codes_to_learn(run: Run, *, data_dir: str | None = None) -> Path:
    """The codes of a run's own data by its first replica, as the file that a prior learns."""
    compilation_cache()
    path, dataset = run.path.resolve(), dataset_for(run, None, data_dir)
    return save_arrays(path / _LEARNED, encoded(run, dataset, replica=0, maker=str(path)))


def encoded(run: Run, dataset: Dataset, *, replica: int, maker: str) -> dict[str, Any]:
    """The arrays that 'jaxgen encode' writes.

    Args:
      run: of one replica.
      dataset: what is encoded.
      replica: which.
      maker: how the file calls the run: by its folder, or by the name alone where the file is for others.

    Raises:
      UserError: if the model has no encoder.
    """
    encoder, codes = run.model.encode, run.model.codes
    if encoder is None:
        raise UserError(f"{run.config['model']} has no encoder: it gives no codes")
    arrays: dict[str, Any] = {"fingerprint": fingerprint(run)}
    if codes is not None:
        made_by = {"run": maker, "replica": replica, "checkpoint": run.which}
        arrays["encoded"] = json.dumps({**codes._asdict(), "data": dataset.fingerprint, **made_by})
    encode_split = mapped(run, encoder)
    for name, split in splits(dataset):
        arrays[f"x_{name}"] = encode_split(name, split)
        arrays |= kept_beside(name, split)
    return arrays


def sizes(run: Run, dataset: Dataset, arrays: Mapping[str, Any], *, replica: int) -> dict[str, np.ndarray]:
    """−log₂ p(codes) of each example, where a prior was learned of them: ``bits_train`` and ``bits_test``.

    Args:
      run: of one replica.
      dataset: what was encoded.
      arrays: what `encoded` made of it.
      replica: which.

    Returns:
      Nothing, with a warning, where the prior is one over other codes, or is told what it does not know of the data.
    """
    try:
        prior = prior_of(run, replica=replica)
        if prior is None:
            return {}
        check_conditions(dataset, prior.model.condition)
    except UserError as error:
        warnings.warn(f"no sizes of the codes under the prior are written: {error}", stacklevel=3)
        return {}
    evaluate, learned = prior.model.evaluate, jax.device_put((prior.params, prior.statistics))
    bits = jax.jit(lambda learned, batch: evaluate(*learned, batch, jax.random.key(0))["code_bits"])
    found = {}
    for name in ("train", "test"):
        codes = arrays[f"x_{name}"]
        batch = {"x": codes.reshape(len(codes), *prior.config["arguments"]["shape"]).astype(np.float32)}
        if f"y_{name}" in arrays:
            batch["label"] = arrays[f"y_{name}"]
        found[f"bits_{name}"] = joined((bits(learned, raw), count) for raw, count in batches(batch))
    return found


def decode(
    path: str | Path,
    codes: str | Path,
    /,
    *,
    replica: int = 0,
    checkpoint: Which = "best",
    out: str | Path | None = None,
) -> Path:
    """Examples from codes that the same run encoded: jaxgen decode RUN CODES.

    The file (.npz) holds x_train and x_test, in which 1 is the raw value --data-scale, with the labels and conditions
    of the codes, of which a conditional model is told; codes of another run are refused.

    Args:
      path: The run's folder.
      codes: What 'jaxgen encode' wrote.
      replica: Which of the run's replicas.
      checkpoint: The best by the evaluated objective, or the last.
      out: The .npz to write; RUN/decoded.npz by default.

    Raises:
      UserError: if the model has no decoder, or the codes are another's, or none.
    """
    compilation_cache()
    run = open_run(path, index=replica, which=checkpoint)
    decoder, condition = run.model.decode, run.model.condition
    if decoder is None:
        raise UserError(f"{run.config['model']} has no decoder: it makes nothing of codes")
    arrays = read_codes(codes, run, replica=replica)
    compiled, learned = jax.jit(decoder), jax.device_put((run.params, run.statistics))

    def of_batch(raw: Mapping[str, np.ndarray]) -> Array:
        return compiled(*learned, raw["x"], **({} if condition is None else {"condition": raw[condition.name]}))

    decoded: dict[str, np.ndarray] = {}
    for name, split in arrays.items():
        decoded[f"x_{name}"] = joined((of_batch(raw), count) for raw, count in batches(split))
        decoded |= kept_beside(name, split)
    return save_arrays(out or Path(path) / "decoded.npz", decoded)


def impute(
    path: str | Path,
    /,
    *,
    data: str | None = None,
    data_dir: str | None = None,
    mask: str | Path | None = None,
    num: int = 5,
    method: Method = "importance",
    draws: int = 100,
    noise: bool = False,
    seed: int = 0,
    replica: int = 0,
    checkpoint: Which = "best",
    out: str | Path | None = None,
) -> Path:
    """Several completions of what is missing in the test examples: jaxgen impute RUN --mask M.

    The file (.npz) holds x [num, examples, ...], in which 1 is the raw value --data-scale, the mask, and the names of a
    .csv's columns.

    Args:
      path: The run's folder.
      data: A data set or file of the run's shape, with NaN or a mask, instead of the run's own.
      data_dir: Folder of prepared TensorFlow Datasets, instead of the run's own.
      mask: A .npy of the test split's shape, or of one example's, True where a value was observed; it is joined to the
        data's own.
      num: Completions of each example.
      method: Latents kept by their importance weights, or turns of a pseudo-Gibbs chain.
      draws: Latents to choose from, or turns of the chain.
      noise: Whether a completion has the observation's noise, or is the decoder's mean.
      seed: Of the draws.
      replica: Which of the run's replicas.
      checkpoint: The best by the evaluated objective, or the last.
      out: The .npz to write; RUN/imputed.npz by default.

    Raises:
      UserError: if the model does not impute, or nothing or everything is missing.
    """
    compilation_cache()
    run = open_run(path, index=replica, which=checkpoint)
    complete = run.model.impute
    if complete is None:
        raise UserError(f"{run.config['model']} does not impute: it models no joint density of the values")
    if method not in get_args(Method):
        raise UserError(f"--method {method!r} is not known; {nearest(method, get_args(Method))}")
    if num < 1 or draws < 1:
        name, value = ("num", num) if num < 1 else ("draws", draws)
        raise UserError(f"--{name} must be at least 1, got {value}")
    check_number("--num", num)
    check_number("--draws", draws)
    check_seeds(seed)
    if method == "importance" and num > draws:
        warnings.warn(
            f"--num {num} completions are chosen among --draws {draws}, so that some will be the same; give more draws",
            stacklevel=2,
        )
    dataset = dataset_for(run, data, data_dir)
    split = dict(dataset.test)
    observed = np.asarray(split.get("mask", np.ones(split["x"].shape, bool)))
    if mask is not None:
        observed = observed & _read_mask(mask, split["x"].shape)
    if observed.all():
        raise UserError(f"nothing is missing in {dataset.name}; give --mask, or NaN in the data")
    if not observed.any():
        raise UserError(f"every value of {dataset.name} is hidden; a mask is True where a value was observed")
    check_categories(dataset.name, observed, run.config["arguments"].get("columns"))
    split["mask"] = observed

    def filled(params: PyTree, statistics: PyTree, x: Array, keys: Array, **told: Array) -> Array:
        values = complete(params, statistics, x, keys, num, method=method, draws=draws, noise=noise, **told)
        return jnp.moveaxis(values, 0, 1)

    completions = np.moveaxis(mapped(run, filled)("test", split, key=jax.random.key(seed)), 1, 0)
    _check_completions(completions, observed, draws=draws, method=method)
    names = {} if dataset.names is None else {"names": np.array(dataset.names)}
    return save_arrays(out or Path(path) / "imputed.npz", {"x": completions, "mask": observed, **names})


def _check_completions(values: np.ndarray, observed: np.ndarray, *, draws: int, method: str) -> None:
    """Refuses what diverged, and says where several completions are one.

    Raises:
      UserError: if a value is not finite.
    """
    if not np.isfinite(values).all():
        raise UserError(
            f"the completions are not finite: a {method} chain left what the model knows; take --method importance, or "
            f"train on data that are partly missing themselves"
        )
    hidden = ~observed.reshape(len(observed), -1)
    same = (np.ptp(values, axis=0).reshape(hidden.shape) == 0) | ~hidden
    alone = np.mean(same[hidden.any(axis=1)].all(axis=1)) if len(values) > 1 else 0.0
    if alone > 0.5:
        warnings.warn(
            f"of {alone:.0%} of the examples all completions are the same: one of {draws} draws fits far better than "
            f"the others; give more --draws, or train on data that are partly missing themselves",
            stacklevel=3,
        )


def _read_mask(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with Path(path).open("rb") as file:
            mask = np.load(file, allow_pickle=False)
    except UNREADABLE as error:
        raise UserError(f"the mask {path} cannot be read ({why_unreadable(error)}); give a .npy of booleans") from error
    if not isinstance(mask, np.ndarray):
        raise UserError(f"the mask {path} is an archive of several arrays; give a .npy of booleans")
    # One for all examples or one for each, with the axis of channels or without it where there is one channel.
    shapes = [shape, shape[1:]] + ([shape[:-1], shape[1:-1]] if shape[-1] == 1 and len(shape) > 2 else [])
    if mask.dtype != bool or mask.shape not in shapes:
        raise UserError(
            f"the mask {path} is {mask.dtype} of shape {mask.shape}; give booleans of shape {shape}, "
            f"or {shape[1:]} for one that all examples share"
        )
    return np.broadcast_to(mask.reshape(*mask.shape, 1) if shapes.index(mask.shape) > 1 else mask, shape)
