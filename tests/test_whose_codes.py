"""Whose codes a prior has learned: of which replica, by which checkpoint, of which codebook."""

import json
import shutil

import jax
import numpy as np
import pytest

from jaxgen import apply, code_files, evaluations, priors, report, runs
from jaxgen.data import load
from jaxgen.errors import UserError
from jaxgen.training import Options

STEPS = Options(steps=2, batch_size=48)
CODES = {"hidden": (4,), "num_codes": 12, "code_dim": 4}
SMALL = {"features": 4, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two replicas whose steps are so long that the second makes both worse; a prior over the last codes of one."""
    path = tmp_path_factory.mktemp("whose") / "two"
    options = STEPS._replace(seeds=2, learning_rate=1.0, evaluate_every=1)
    runs.train("vq_vae", CODES, data="digits", workdir=path, options=options, quiet=True)
    assert runs.open_run(path).step == 1
    codes = apply.encode(path, replica=1, checkpoint="last", out=path / "learned.npz")
    runs.train("code_prior", SMALL, data=str(codes), workdir=path / "prior", options=STEPS, quiet=True)
    return path


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_prior_is_of_the_replica_and_the_checkpoint_that_it_learned_the_codes_of(two):
    last = runs.open_run(two, index=1, which="last")
    behind = priors.run_behind(runs.open_run(two / "prior"))
    assert behind is not None
    assert behind.step == 2
    assert same((behind.params, behind.statistics), (last.params, last.statistics))
    assert priors.prior_of(last, replica=1) is not None
    for replica, which in ((0, "last"), (0, "best"), (1, "best")):
        assert priors.prior_of(runs.open_run(two, index=replica, which=which), replica=replica) is None


def test_what_it_draws_is_decoded_and_bounded_by_that_replica_alone(two, tmp_path):
    last, prior = runs.open_run(two, index=1, which="last"), runs.open_run(two / "prior")
    codes = prior.model.sample(prior.params, prior.statistics, jax.random.key(0), 3)
    decoded = last.model.decode(last.params, last.statistics, np.asarray(codes, np.int32).reshape(3, 4, 4))
    with np.load(report.sample(two / "prior", num=3, out=tmp_path / "samples.npz")[0]) as archive:
        np.testing.assert_allclose(archive["x"], decoded, rtol=1e-4, atol=1e-4)
    report.evaluate(two / "prior")
    figures = json.loads((two / "prior" / "evaluation.json").read_text())["figures"]
    x = load("digits").test["x"] / np.float32(16)
    batch, evaluate = {"x": x, "position": np.arange(len(x))}, jax.jit(last.model.evaluate)
    nll, of_other = (
        float(evaluate(run.params, run.statistics, batch, jax.random.key(0))["nll"].mean())
        for run in (last, runs.open_run(two, index=0, which="last"))
    )
    np.testing.assert_allclose(figures["nll"], nll, rtol=1e-5)
    np.testing.assert_allclose(figures["elbo"], -(nll + figures["code_bits"] * np.log(2)), rtol=1e-5)
    assert abs(of_other - nll) > 1e-3 * abs(nll)


def test_codes_of_another_codebook_are_neither_drawn_nor_decoded(two, tmp_path):
    """Of a run that says it is another replica's, and of one that differs in its running means alone."""
    shutil.copytree(two / "prior", tmp_path / "prior")
    config = json.loads((tmp_path / "prior" / "config.json").read_text())
    config["encoded"]["replica"] = 0
    (tmp_path / "prior" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is of the codes of"):
        priors.run_behind(runs.open_run(tmp_path / "prior"))
    with pytest.raises(UserError, match="is of the codes of"):
        report.sample(tmp_path / "prior", num=1)
    last = runs.open_run(two, index=1, which="last")
    codebook = jax.tree.map(lambda leaf: leaf + 1, last.statistics["codebook"])
    other = last._replace(statistics={**last.statistics, "codebook": codebook})
    assert code_files.fingerprint(other) != code_files.fingerprint(last)
    code_files.read_codes(two / "learned.npz", last, replica=1)
    with pytest.raises(UserError, match=r"the codes in .* were made by"):
        code_files.read_codes(two / "learned.npz", other, replica=1)


def test_codes_that_a_run_draws_bound_nothing(two, monkeypatch):
    """Those that the prior has learned are the likeliest, not those that the run decodes: its figures have a KL."""
    prior = runs.open_run(two / "prior")
    for of_base, bound in (
        ({"nll": 1.0}, {"nll": 1.0, "rate": 3.0, "elbo": -4.0}),
        ({"nll": 1.0, "kl": 2.0}, {}),
    ):
        monkeypatch.setattr(evaluations, "figures_of", lambda run, dataset, found=of_base: found)
        assert evaluations.bound_of(prior, {"loss": 3.0}) == bound
