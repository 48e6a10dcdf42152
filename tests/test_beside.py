"""One run's pictures with another's beside them: an autoencoder's beside a VAE's."""

import re
import shutil

import numpy as np
import pytest

from jaxgen import cli, report, runs
from jaxgen.errors import UserError
from jaxgen.training import Options

OPTIONS = Options(steps=2, batch_size=16)
RUNS = "vae", "ae"
SMALL = {"hidden": (8,), "latents": 3, "likelihood": "gaussian"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A VAE and an autoencoder of the digits, and an autoencoder of other images."""
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "mine.npz", x=np.random.default_rng(0).random((40, 8, 8), np.float32))
    others = {"vae": ("vae", "digits"), "ae": ("autoencoder", "digits"), "mine": ("autoencoder", folder / "mine.npz")}
    for name, (model, data) in others.items():
        arguments = SMALL | ({"importance_samples": 0} if model == "vae" else {})
        runs.train(model, arguments, data=str(data), workdir=folder / name, options=OPTIONS, num_devices=1, quiet=True)
    return folder


def test_a_run_does_not_stand_beside_itself(folders):
    with pytest.raises(UserError, match="vae is the run itself; give the folder of another one"):
        report.write(folders / "vae", beside=folders / "ae" / ".." / "vae")


def titles(page):
    return re.findall(r"<figcaption><h3>(.*?)</h3>", page.read_text())


def test_each_picture_has_its_fellow_next_to_it_and_the_rest_comes_last(folders, capsys):
    """The other's pictures are those of its own page, byte by byte, and this run's those of its page alone."""
    for name in ("vae", "ae"):
        report.write(folders / name)
    plots, page = folders / "vae" / "plots", folders / "vae" / "report.html"
    alone, theirs = ({path.name: path.read_bytes() for path in (folders / n / "plots").glob("*.png")} for n in RUNS)
    assert cli.main(["report", str(folders / "vae"), "--beside", str(folders / "ae")]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"

    # What a model makes of noise is asked of both, under the name that it deserves.
    first, *fellows = ["Reconstructions", "Latents", "Interpolation", "Traversals"]
    pairs = [(first, first), ("Samples", "Decoded noise"), *((title, title) for title in fellows)]
    expected = [f"{title}: {model}" for pair in pairs for title, model in zip(pair, ("vae", "autoencoder"))]
    found = titles(page)
    assert found[found.index(expected[0]) :] == [*expected, "Completions", "KL by latent"]
    assert f"those of autoencoder in {folders / 'ae'}, the best checkpoint, step 2." in page.read_text()

    written = {path.name: path.read_bytes() for path in plots.glob("*.png")}
    beside = {name.removeprefix("beside_"): png for name, png in written.items() if name not in alone}
    assert set(beside) == {f"{name}.png" for name in ("reconstructions", "noise", *map(str.lower, fellows))}
    assert alone == {name: written[name] for name in alone}
    assert beside == {name: theirs[name] for name in beside}
    assert beside["reconstructions.png"] != alone["reconstructions.png"]


def test_two_runs_of_one_model_are_called_by_their_folders(folders):
    shutil.copytree(folders / "ae", folders / "again")
    report.write(folders / "ae", beside=folders / "again")
    assert {f"Latents: {folders / name}" for name in ("ae", "again")} <= {*titles(folders / "ae" / "report.html")}


def test_runs_of_other_data_are_refused(folders):
    with pytest.raises(UserError, match=r"ae learned digits .* and .*mine .*mine\.npz .*same data"):
        report.write(folders / "ae", beside=folders / "mine")


def test_noise_has_the_mean_and_the_spread_of_the_codes_and_no_correlation():
    from jaxgen import latent_pictures

    rng = np.random.default_rng(1)
    codes = rng.normal(size=(5000, 1)) * [2.0, 2.0, 0.5] + [1.0, -1.0, 3.0]
    noise = np.concatenate([latent_pictures._noise(codes, seed=seed) for seed in range(100)])
    np.testing.assert_allclose(noise.mean(axis=0), codes.mean(axis=0), atol=5 * 2 / 80)
    np.testing.assert_allclose(noise.std(axis=0), codes.std(axis=0), rtol=0.05)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.05
