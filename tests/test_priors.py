"""A prior over the codes of a run: learned from its codes, found beside it, decoded by it, and of no other codebook."""

import json
import shutil

import jax
import numpy as np
import pytest
from cli.commands import sentence

from jaxgen import apply, priors, report, runs
from jaxgen.cli import main
from jaxgen.data import check_values, load
from jaxgen.data.dataset import read_encoded
from jaxgen.errors import UserError
from jaxgen.losses import bits_per_dim
from jaxgen.training import Options

STEPS = Options(steps=2, batch_size=48)
SMALL = {"features": 8, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A VQ-VAE with a prior over its codes, as the command line makes them."""
    path = tmp_path_factory.mktemp("priors") / "codes"
    arguments = {"hidden": (8,), "num_codes": 12, "code_dim": 4}
    runs.train("vq_vae", arguments, data="digits", workdir=path, options=STEPS, quiet=True)
    command = ["train", "code_prior", "--from", str(path), "--features", "8", "--layers", "1", "--heads", "2"]
    assert main([*command, "--steps", "3", "--batch-size", "32"]) == 0
    return path


def test_a_prior_learns_the_codes_of_its_run(base):
    config = runs.read_config(base / "prior")
    assert config["arguments"]["codebook_size"] == 12
    assert config["arguments"]["grids"] == [[4, 4]]
    assert config["arguments"]["shape"] == [4, 4, 1]
    run = runs.open_run(base)
    assert config["encoded"]["fingerprint"] == apply.fingerprint(run)
    learned = load(config["data"]["name"])
    x = load("digits").test["x"][:9].astype(np.float32) / 16
    np.testing.assert_array_equal(learned.test["x"][:9, ..., 0], run.model.encode(run.params, run.statistics, x))


@pytest.mark.parametrize("asked", ["", "prior"])
def test_samples_are_the_prior_s_draws_decoded(base, asked, tmp_path):
    """Whichever of the two folders is asked, and without the word that uniform codes come with."""
    target, _ = report.sample(base / asked, num=5, seed=3, out=tmp_path / "samples.npz")
    run, prior = runs.open_run(base), runs.open_run(base / "prior")
    codes = prior.model.sample(prior.params, prior.statistics, jax.random.key(3), 5)
    index = np.asarray(codes).astype(np.int32)[..., 0]
    with np.load(target) as archive:
        expected = run.model.decode(run.params, run.statistics, index)
        np.testing.assert_allclose(archive["x"], expected, rtol=1e-5, atol=1e-5)


def test_uniform_codes_are_told_of(base, tmp_path):
    shutil.copytree(base, tmp_path / "alone", ignore=shutil.ignore_patterns("prior"))
    with pytest.warns(UserWarning, match=r"codes are drawn uniformly.*'jaxgen train code_prior --from .*alone' learns"):
        report.sample(tmp_path / "alone", num=2)
    # What learns the first replica's best codes would not help here.
    with pytest.warns(UserWarning, match=r"uniformly.*'jaxgen encode .*alone --replica 0 --checkpoint last' writes"):
        report.sample(tmp_path / "alone", num=2, which="last")


def test_the_bound_is_reconstruction_and_code_bits(base):
    report.evaluate(base / "prior")
    report.evaluate(base)
    figures, of_base = (
        json.loads((path / "evaluation.json").read_text())["figures"] for path in (base / "prior", base)
    )
    np.testing.assert_allclose(figures["nll"], of_base["nll"], rtol=1e-6)
    np.testing.assert_allclose(figures["rate"], figures["code_bits"] * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(figures["elbo"], -(figures["nll"] + figures["rate"]), rtol=1e-6)
    # Without a prior each code costs log K.
    np.testing.assert_allclose(of_base["elbo"], -(of_base["nll"] + 16 * np.log(12)), rtol=1e-6)
    for name in ("code_bits", "rate", "elbo"):
        assert of_base[f"prior/{name}"] == pytest.approx(figures[name])


def test_codes_have_their_size_under_the_prior(base, tmp_path, capsys):
    """Their mean over the test split is the prior's evaluated figure, which is said; the file names no folder."""
    report.evaluate(base / "prior")
    figures = json.loads((base / "prior" / "evaluation.json").read_text())["figures"]
    assert main(["encode", str(base), "--out", str(tmp_path / "codes.npz")]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"{figures['code_bits']:.1f} bits a test example" in said
    assert f"(uniform codes: {16 * np.log2(12):.0f})" in said
    with np.load(tmp_path / "codes.npz") as archive:
        assert json.loads(str(archive["encoded"]))["run"] == "codes"
        assert archive["bits_train"].shape == (1500,)
        np.testing.assert_allclose(archive["bits_test"].mean(), figures["code_bits"], rtol=1e-5)
        assert np.ptp(archive["bits_test"]) > 0
    load(str(tmp_path / "codes.npz"))


def test_both_pages_show_samples_with_the_prior_and_without(base):
    for path in (base, base / "prior"):
        page = report.write(path).read_text(encoding="utf-8")
        assert "Codes drawn from the learned prior, decoded." in page
        assert "Samples without the prior" in page
        assert (path / "plots" / "uniform.png").exists()


def test_a_prior_moves_with_its_run(base, tmp_path, capsys):
    """The run is no longer where it was when the prior was learned, but still around it, whatever is there now."""
    shutil.copytree(base, tmp_path / "copied")
    arguments = {"hidden": (8,), "num_codes": 12, "code_dim": 4}
    other = STEPS._replace(seed=1)
    runs.train("vq_vae", arguments, data="digits", workdir=tmp_path / "another", options=other, quiet=True)
    of_prior = json.loads((tmp_path / "copied" / "prior" / "config.json").read_text())
    of_prior["encoded"]["run"] = str(tmp_path / "another")
    (tmp_path / "copied" / "prior" / "config.json").write_text(json.dumps(of_prior))
    found = priors.run_behind(runs.open_run(tmp_path / "copied" / "prior"))
    assert found is not None
    assert found.path.name == "copied"
    command = ["train", "code_prior", "--from", str(tmp_path / "copied"), "--features", "8", "--layers", "1"]
    assert main([*command, "--heads", "2", "--steps", "3", "--batch-size", "32"]) == 0
    assert "already finished at step 3" in capsys.readouterr().out
    shutil.copytree(base, tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "prior" / "config.json").read_text())
    config["encoded"]["run"] = str(tmp_path / "gone")
    (tmp_path / "moved" / "prior" / "config.json").write_text(json.dumps(config))
    behind = priors.run_behind(runs.open_run(tmp_path / "moved" / "prior"))
    assert behind is not None
    assert behind.path.resolve() == (tmp_path / "moved").resolve()
    config["data"]["name"] = str(tmp_path / "gone" / "prior-codes.npz")
    (tmp_path / "moved" / "prior" / "config.json").write_text(json.dumps(config))
    assert report.evaluate(tmp_path / "moved" / "prior")
    (tmp_path / "moved" / "prior-codes.npz").unlink()
    with pytest.raises(UserError, match=r"no longer in .*; 'jaxgen encode \S+moved .*--out .*' writes them again"):
        report.evaluate(tmp_path / "moved" / "prior")
    shutil.copy(base / "prior-codes.npz", tmp_path / "moved" / "prior-codes.npz")
    shutil.move(tmp_path / "moved" / "prior", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"over the codes of .*gone, which is not there; put it back"):
        priors.run_behind(runs.open_run(tmp_path / "elsewhere"))
    config["encoded"]["run"] = "moved"  # as a file of codes that is meant for others calls it
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(config))
    beside = priors.run_behind(runs.open_run(tmp_path / "elsewhere"))
    assert beside is not None
    assert beside.path.resolve() == (tmp_path / "moved").resolve()


def test_a_prior_of_another_codebook_is_refused(base, tmp_path, capsys):
    other = tmp_path / "other"
    arguments = {"hidden": (8,), "num_codes": 12, "code_dim": 4}
    runs.train("vq_vae", arguments, data="digits", workdir=other, options=STEPS._replace(seed=1), quiet=True)
    shutil.copytree(base / "prior", other / "prior")
    said = sentence(capsys, "sample", str(other))
    assert "is of the codes of" in said
    assert apply.fingerprint(runs.open_run(base)) in said
    assert "remove the prior to draw codes uniformly, or to train another by --from" in said
    with pytest.warns(UserWarning, match="the page has no prior: .* is of the codes of"):
        assert "Samples without the prior" not in report.write(other).read_text(encoding="utf-8")
    with pytest.warns(UserWarning, match="no figures of the prior are given: .* is of the codes of"):
        report.evaluate(other)


def test_two_grids_are_learned_and_decoded(tmp_path):
    path = tmp_path / "two"
    arguments = {"hidden": (8,), "num_codes": 12, "code_dim": 4}
    runs.train("vq_vae2", arguments, data="digits", workdir=path, options=STEPS, quiet=True)
    codes = apply.encode(path)
    runs.train("code_prior", SMALL, data=str(codes), workdir=path / "prior", options=STEPS, quiet=True)
    assert runs.read_config(path / "prior")["arguments"]["grids"] == [[2, 2], [4, 4]]
    with np.load(report.sample(path, num=30)[0]) as archive:
        assert archive["x"].shape == (30, 8, 8, 1)
        assert np.isfinite(archive["x"]).all()


def test_several_codes_of_a_place_are_drawn_each_of_its_own_codebook(tmp_path):
    path = tmp_path / "stages"
    arguments = {"quantizer": "residual", "stages": 2, "hidden": (8,), "num_codes": 12, "code_dim": 4}
    runs.train("vq_vae", arguments, data="digits", workdir=path, options=STEPS, quiet=True)
    codes = apply.encode(path)
    told = {**SMALL, "heads": 4, "network": "pixelcnn", "kernel": 3, "condition": "label"}
    runs.train("code_prior", told, data=str(codes), workdir=path / "prior", options=STEPS, quiet=True)
    with np.load(report.sample(path, num=30)[0]) as archive:
        assert np.isfinite(archive["x"]).all()
        np.testing.assert_array_equal(archive["condition"], np.arange(30) % 10)
    # Of data with labels of which it knows nothing, or with none, it gives no sizes; the codes are there.
    x, label = np.random.default_rng(0).uniform(0, 16, (40, 8, 8)).astype(np.float32), np.arange(40) % 10
    for name, more in (("known", {"y": label}), ("unknown", {"y": label + 1}), ("unlabelled", {})):
        np.savez(tmp_path / f"{name}.npz", x=x, **more)
    with np.load(apply.encode(path, data=str(tmp_path / "known.npz"))) as archive:
        assert np.isfinite([*archive["bits_train"], *archive["bits_test"]]).all()
    for name, reason in (("unknown", "holds class 10, .* 0 … 9"), ("unlabelled", "has no array 'label'")):
        with pytest.warns(UserWarning, match=f"no sizes of the codes under the prior are written: .*{name}.* {reason}"):
            target = apply.encode(path, data=str(tmp_path / f"{name}.npz"))
        with np.load(target) as archive:
            assert not {"bits_train", "bits_test"} & {*archive}
            assert archive["x_train"].shape[1:] == (4, 4, 2)
    with np.load(codes) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(codes, **{**arrays, "x_test": arrays["x_test"][..., ::-1]})
    problem = r"holds code \d+ at \[0, 0, 0\] of an example, where codes lie in 0 … 11[;:] encode the data again"
    with pytest.raises(UserError, match=problem):
        runs.train("code_prior", told, data=str(codes), workdir=path / "swapped", options=STEPS, quiet=True)
    with pytest.raises(UserError, match=problem):
        apply.decode(path, codes)


def test_bits_of_a_dimension_are_those_of_reconstruction_and_codes(tmp_path):
    path = tmp_path / "levels"
    arguments = {"hidden": (8,), "num_codes": 12, "code_dim": 4}
    options = STEPS._replace(dequantize=True)
    runs.train("vq_vae", arguments, data="digits", workdir=path, options=options, quiet=True)
    codes = apply.encode(path)
    runs.train("code_prior", SMALL, data=str(codes), workdir=path / "prior", options=STEPS, quiet=True)
    report.evaluate(path / "prior")
    figures = json.loads((path / "prior" / "evaluation.json").read_text())["figures"]
    nats = figures["nll"] + figures["code_bits"] * np.log(2)
    np.testing.assert_allclose(figures["bits_per_dim"], bits_per_dim(nats, 64, bin_width=1 / 17), rtol=1e-6)


def test_codes_of_other_data_bound_nothing(base, tmp_path):
    np.savez(tmp_path / "other.npz", x=np.random.default_rng(0).uniform(0, 16, (40, 8, 8)).astype(np.float32))
    codes = apply.encode(base, data=str(tmp_path / "other.npz"))
    assert codes.name == "codes-other.npz"
    assert not (base / "codes.npz").exists()
    options = STEPS._replace(batch_size=16)
    runs.train("code_prior", SMALL, data=str(codes), workdir=tmp_path / "prior", options=options, quiet=True)
    report.evaluate(tmp_path / "prior")
    prior = runs.open_run(tmp_path / "prior")
    assert priors.run_behind(prior).path == base.resolve()  # where the codes lie
    assert not {"elbo", "nll"} & json.loads((tmp_path / "prior" / "evaluation.json").read_text())["figures"].keys()


def test_another_replica_or_checkpoint_has_no_prior(base):
    run = runs.open_run(base)
    assert priors.prior_of(run, replica=0) is not None
    changed = run._replace(params=jax.tree.map(lambda leaf: leaf + 1, run.params))
    assert priors.prior_of(changed, replica=1) is None
    with pytest.raises(UserError, match="is of the codes of"):
        priors.prior_of(changed, replica=0)


def test_codes_without_a_known_run_are_learned_by_their_own_size(tmp_path):
    """Whole numbers of anybody's tokenizer."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "tokens.npz", x=rng.integers(0, 300, (60, 6)))
    made = load(str(tmp_path / "tokens.npz"))
    check_values(made, "codes")
    assert made.codebook_size == 1 + int(max(made.train["x"].max(), made.test["x"].max()))
    assert made.grids == ((1, 6),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x + 0.5, r"is no code: learn codes that 'jaxgen encode' wrote"),
        (lambda x: x - 1.0, r"-1 is no code"),
        (lambda x: np.where(x == x.max(), 12, x), r"holds code 12 at .* where codes lie in 0 … 11: encode the data"),
    ],
)
def test_what_is_no_code_of_the_codebook_is_refused(base, tmp_path, change, message):
    with np.load(base / "prior-codes.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["x_train"], arrays["x_test"] = (change(arrays[name]).astype(np.float32) for name in ("x_train", "x_test"))
    np.savez(tmp_path / "codes.npz", **arrays)
    with pytest.raises(UserError, match=message):
        runs.train("code_prior", SMALL, data=str(tmp_path / "codes.npz"), workdir=tmp_path / "run", options=STEPS)


def test_images_are_no_codes(tmp_path):
    with pytest.raises(UserError, match=r"digits: codes are whole numbers, not shares of 16: .* by --from"):
        runs.train("code_prior", {}, data="digits", workdir=tmp_path / "run", options=STEPS)


def test_a_damaged_word_of_whose_codes_they_are_is_named(base, tmp_path):
    with np.load(base / "prior-codes.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(tmp_path / "codes.npz", **{**arrays, "encoded": "{}"})
    with pytest.raises(UserError, match=r"what it says of its codes is damaged .*: encode the data again"):
        load(str(tmp_path / "codes.npz"))
    with pytest.raises(UserError, match=r"what it says of its codes is damaged .*; encode the data again"):
        apply.decode(base, tmp_path / "codes.npz")
    good = json.loads(str(arrays["encoded"])) | {"fingerprint": "0"}
    assert read_encoded(good).grids == ((4, 4),)
    wrong = {"size": "12", "grids": [[-4, -4]], "replica": "x", "run": 3, "checkpoint": "foo", "stages": 0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"'{name}' is"):
            read_encoded({**good, name: value})


def test_from_is_for_what_learns_codes_and_says_it_alone(base, tmp_path, capsys):
    assert "--from gives the codes of a run, which vae does not learn" in sentence(
        capsys, "train", "vae", "--from", str(base)
    )
    assert "--from says whose codes are learned" in sentence(
        capsys, "train", "code_prior", "--from", str(base), "--data", "digits"
    )
    runs.train("autoencoder", {"hidden": (), "latents": 1}, data="digits", workdir=tmp_path, options=STEPS, quiet=True)
    said = sentence(capsys, "train", "code_prior", "--from", str(tmp_path))
    assert "holds a run of autoencoder, which has codes that are no whole numbers; give a quantizer's run" in said
    for model, there in (("vae", False), ("code_prior", True)):
        with pytest.raises(SystemExit):
            main(["train", model, "--help"])
        assert ("--from" in capsys.readouterr().out) == there
    vae = ["train", "code_prior", "--from", str(base / "nothing")]
    assert "is not a run folder" in sentence(capsys, *vae)


@pytest.mark.parametrize(
    ("model", "arguments", "encodings"),
    [
        ("shallow_vq", {}, 1500),
        # Of two grids, 2×2 and 4×4, the coarser has the fewer; of stages, each has one at each of 4×4 places.
        ("vq_vae2", {"hidden": (4,)}, 6000),
        ("vq_vae", {"hidden": (4,), "quantizer": "residual", "stages": 2}, 24000),
    ],
)
def test_more_codes_than_encodings_are_refused(model, arguments, encodings, tmp_path):
    given = {**arguments, "num_codes": encodings + 1}
    said = f"{encodings + 1} codes are more than the {encodings} encodings of the training split"
    with pytest.raises(UserError, match=said):
        runs.train(model, given, data="digits", workdir=tmp_path / "run", options=STEPS)
