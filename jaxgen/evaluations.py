"""Figures of a run on its test split, over all its replicas."""

import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data import Dataset, load
from jaxgen.errors import UserError
from jaxgen.folder import read_config, write_json
from jaxgen.losses import bits_per_dim
from jaxgen.mapped import mapped
from jaxgen.meanings import figure_rows
from jaxgen.metrics import mutual_information
from jaxgen.page import FigureRow
from jaxgen.priors import encoded_by, learned_of, run_behind
from jaxgen.runs import Run, Which, check_number, compilation_cache, data_folder, open_run, preparation
from jaxgen.training import evaluate as evaluation
from jaxgen.training.devices import Devices, replicate
from jaxgen.training.feed import num_bytes

#: Test examples among which I(x; z) is counted, at most: time grows with their square.
_NUM_INFORMED = 5000


def evaluate(path: str | Path, *, which: Which = "best", importance_samples: int | None = None) -> list[FigureRow]:
    """Figures of a run on its test split, over all its replicas; written to ``evaluation.json``.

    Args:
      path: the run's folder.
      which: checkpoint, "best" or "last".
      importance_samples: instead of the run's own number.

    Raises:
      UserError: if the folder is not a trained run, or the model estimates no log p(x).
    """
    compilation_cache()
    config = read_config(Path(path))
    if importance_samples is not None and importance_samples < 0:
        raise UserError(f"--importance-samples must be at least 0, got {importance_samples}; 0 leaves the estimate out")
    overrides = {} if importance_samples is None else {"importance_samples": importance_samples}
    check_number("--importance-samples", importance_samples)
    if overrides and "importance_samples" not in config["arguments"]:
        raise UserError(f"{config['model']} has no --importance-samples: it gives no estimate of log p(x)")
    run = open_run(path, index=None, which=which, overrides=overrides)
    dataset = dataset_of(run)
    figures = figures_of(run, dataset)
    if run.model.domain == "codes":
        figures |= bound_of(run, figures)
    elif config["options"]["dequantize"]:
        figures |= _bits(figures, dataset)
    if run.model.codes is not None:
        figures |= by_prior(run)
    arguments = {**config["arguments"], **overrides}
    content = {"step": run.step, "checkpoint": run.which, "split": "test", "examples": len(dataset.test["x"])}
    write_json(run.path / "evaluation.json", {**content, "arguments": arguments, "figures": figures})
    return figure_rows(figures, arguments | {"chosen_by": run.model.objective})


def dataset_of(run: Run) -> Dataset:
    """What a run was trained on; codes that moved with the run that made them are found around it."""
    config, data = run.config, run.config["data"]
    name, beside = data["name"], run.path.resolve().parent / Path(data["name"]).name
    encoded = encoded_by(run)
    if encoded is not None and not Path(name).exists():
        if not beside.exists():
            around = run.path.resolve().parent
            maker = str(around) if (around / "config.json").exists() else encoded.run
            options = f"--replica {encoded.replica} --checkpoint {encoded.checkpoint} --out {shlex.quote(name)}"
            raise UserError(
                f"the codes that {run.path} has learned are no longer in {name}; "
                f"'jaxgen encode {shlex.quote(maker)} {options}' writes them again"
            )
        name = str(beside)
    dataset = load(name, data_dir=data_folder(config), seed=config["options"]["seed"], scale=data["scale"])
    if dataset.fingerprint != data["fingerprint"]:
        raise UserError(
            f"the data {dataset.name!r} changed since training: its fingerprint was {data['fingerprint']} "
            f"and is now {dataset.fingerprint}; give back the old data or train again"
        )
    return dataset


def figures_of(run: Run, dataset: Dataset) -> evaluation.Figures:
    """Figures of all replicas, as the trainer takes them; devices are as many as are here, which changes no figure."""
    options = run.config["options"]
    replicas, resident = options["seeds"], num_bytes(dataset.test) <= options["memory_budget"] * 2**20
    devices = Devices(jax.local_devices(), replicas)
    prepare, learned = preparation(run.config), (run.params, run.statistics)
    evaluator = evaluation.Evaluator(run.model, dataset.test, prepare, devices, resident=resident)
    figures = evaluation.summarize(run.model, evaluator(*replicate(learned, devices)), replicas=replicas)
    of_samples = evaluation.of_samples(run.model, dataset, *learned, prepare=prepare, replicas=replicas)
    return figures | of_samples | information(run, dataset)


def bound_of(prior: Run, figures: Mapping[str, Any]) -> dict[str, Any]:
    """With the run whose codes a prior has learned: log p(x) ≥ log p(x | codes) + log p(codes).

    Nothing where the run is not there, the codes are of other data, or the run draws its codes: then these are not
    those that are decoded. Of data that noise is added to both terms are means over noise of their own.
    """
    encoded = encoded_by(prior)
    try:
        base = run_behind(prior)
    except UserError as error:
        warnings.warn(f"no bound on log p(x) is given: {error}", stacklevel=3)
        return {}
    if base is None or encoded is None or encoded.data != base.config["data"]["fingerprint"]:
        return {}
    dataset = dataset_of(base)
    run = base._replace(config={**base.config, "options": {**base.config["options"], "seeds": 1}})
    of_base = figures_of(run, dataset)
    if "kl" in of_base:
        return {}
    nll, rate = of_base["nll"], np.asarray(figures["loss"])
    bound = {"nll": nll, "rate": rate.tolist(), "elbo": (-(nll + rate)).tolist()}
    return bound | (_bits(bound, dataset) if base.config["options"]["dequantize"] else {})


def by_prior(run: Run) -> dict[str, Any]:
    """Size of the codes and bound on log p(x) under the prior that was learned of them, ``prior/…``; of one replica."""
    try:
        pair = learned_of(run.path, which=run.which)
        if pair is None:
            return {}
        _, prior = pair
        figures = figures_of(prior, dataset_of(prior))
        figures |= bound_of(prior, figures)
    except UserError as error:
        warnings.warn(f"no figures of the prior are given: {error}", stacklevel=3)
        return {}
    names = ("code_bits", "rate", "elbo", "bits_per_dim")
    return {f"prior/{name}": np.mean(figures[name]).item() for name in names if name in figures}


def information(run: Run, dataset: Dataset) -> evaluation.Figures:
    """I(x; z) over the first test examples, where the posterior is a Gaussian and no condition says a part of it."""
    posterior, replicas = run.model.posterior, run.config["options"]["seeds"]
    if posterior is None or run.model.condition is not None:
        return {}

    def of_replica(params: Any, statistics: Any, x: jax.Array) -> jax.Array:
        return jnp.stack(posterior(params, statistics, x), axis=1)

    @jax.jit
    def of_split(found: jax.Array) -> jax.Array:
        mean, logvar = jnp.moveaxis(found, 1, 0)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(jax.random.key(0), mean.shape)
        return mutual_information(z, mean, logvar).mean()

    posteriors = mapped(run, of_replica if replicas == 1 else jax.vmap(of_replica, (0, 0, None), 1))
    found = posteriors("test", {name: a[:_NUM_INFORMED] for name, a in dataset.test.items()})
    rows = [found] if replicas == 1 else list(np.moveaxis(found, 1, 0))
    values = [float(of_split(row)) for row in rows]
    return {"mutual_information": values[0] if replicas == 1 else values}


def _bits(figures: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Bits per dimension of the data's own levels, from the best bound on log p(x) that there is."""
    bound = figures.get("log_px", figures.get("elbo"))
    if bound is None:
        return {}
    bits = bits_per_dim(-np.asarray(bound), int(np.prod(dataset.shape)), bin_width=1 / (dataset.scale + 1))
    return {"bits_per_dim": np.asarray(bits).tolist()}
