"""oi-VAE: which latent moves which bar of an image, and which joint of a walker.

command:   python experiments/oi_vae.py
hardware:  two CPU cores
time:      about 3 minutes
expected:  each of 8 bars keeps one dominant latent; on motion, 40 of 152 links are a tenth of the strongest or more at
           the test likelihood of a VAE, which has them all
source:    Ainsworth, Foti, Lee and Fox, 2018, and the settings of the authors' code for the bars

Bars: 2048 images of 8×8, one row of each at 0.5, noise of deviation 0.05 everywhere; a row is a group. Motion: CMU
motion capture, subject 35, walking, 16 sequences of 300 frames to learn from and 4 to test; joint angles divided by
their deviations, a joint is a group. JAXGEN_DATA names the folder that holds mocap/mocap35.npz: arrays `train` and
`test`, [sequences, frames, 50 channels], of mocap.cs.cmu.edu.

A link that is zero stays so only as long as its gradient over a batch is below λ. At the last step 54 of 64 links of
the bars and 118 of 152 of the walker's are not exactly zero, most of them small. With λ = 4 in place of 3 no more than
60 are left, and the likelihood is 8 nats below the VAE's.
"""

from pathlib import Path

import numpy as np
from figures import Figure, Outcome, evaluated, main
from files import given

from jaxgen import runs
from jaxgen.models.oi_vae import group_norms
from jaxgen.plots import group_links, save
from jaxgen.training import Options

SIDE = LATENTS = 8
SPARSITIES = (3.0, 4.0)
#: Nets at a rate of 1e-2, W at 1e-4: where W moves as fast as the nets, the lasso empties it before they can use it.
BARS = {
    "latents": LATENTS, "hidden": (), "group_width": 1, "activation": "tanh", "sparsity": 1.0,
    "step_ratio": 0.01, "weight_decay": 1.0,
}  # fmt: skip
#: Channels of a frame by joint, in the order of the file; the clavicles, which never move, are left out.
JOINTS = {
    "root": 6, "lower back": 3, "upper back": 3, "thorax": 3, "lower neck": 3, "upper neck": 3, "head": 3,
    "r clavicle": 2, "r humerus": 3, "r radius": 1, "r wrist": 1,
    "l clavicle": 2, "l humerus": 3, "l radius": 1, "l wrist": 1,
    "r femur": 3, "r tibia": 1, "r foot": 2, "l femur": 3, "l tibia": 1, "l foot": 2,
}  # fmt: skip


def bars(folder: Path) -> Path:
    path, rng = folder / "bars.npz", np.random.default_rng(0)
    x = rng.normal(0, 0.05, (2048 + 512, SIDE, SIDE, 1)).astype(np.float32)
    x[np.arange(len(x)), rng.integers(SIDE, size=len(x))] += 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=x[:2048], x_test=x[2048:])
    return path


def walking(folder: Path, source: Path) -> tuple[Path, dict[str, int]]:
    """Frames over the deviation of their channels, and the sizes of the groups that move."""
    path = folder / "walking.npz"
    with np.load(source) as archive:
        frames = {name: archive[name].reshape(-1, archive[name].shape[-1]) for name in ("train", "test")}
    deviation = frames["train"].std(axis=0)
    moves = deviation > 1e-6
    sizes, start = {}, 0
    for joint, size in JOINTS.items():
        if moves[start : start + size].all():
            sizes[joint] = size
        start += size
    x = {name: ((rows - frames["train"].mean(axis=0)) / np.where(moves, deviation, 1)) for name, rows in frames.items()}
    np.savez(path, **{f"x_{name}": rows[:, moves].astype(np.float32) for name, rows in x.items()})
    return path, sizes


def norms(path: Path, seeds: int) -> list[np.ndarray]:
    return [np.asarray(group_norms(runs.open_run(path, index=i, which="last").params)) for i in range(seeds)]


def of_bars(seeds: int, workdir: Path) -> tuple[list[Figure], np.ndarray]:
    """Figures, and the norms of the first seed's columns."""
    path = workdir / "bars"
    options = Options(steps=20_000, batch_size=64, learning_rate=1e-2, seeds=seeds)
    runs.train("oi_vae", BARS, data=str(bars(workdir)), workdir=path, options=options)
    found = norms(path, seeds)
    dominated = [float(np.sum(n.max(axis=0) > 0.9 * n.sum(axis=0))) for n in found]
    distinct = [float(len(set(n.argmax(axis=0).tolist()))) for n in found]
    left, links = evaluated(path)["links"], SIDE * LATENTS
    paper, own = "Ainsworth et al., 2018, figure 2", "own measurement"
    figures = [
        Figure("bars: groups with 90% from one latent", dominated, f"of {SIDE}", SIDE, paper, 0.0, "above"),
        Figure("bars: latents that dominate a group", distinct, f"of {LATENTS}", None, own),
        Figure("bars: links that are not exactly zero", left, f"of {links}", links - 1, "all but one", 0.0, "below"),
    ]
    return figures, found[0]


def of_walking(seeds: int, workdir: Path) -> tuple[list[Figure], np.ndarray, list[str]]:
    """Figures, the norms of the first seed's columns at the smaller λ, and the names of the joints."""
    data, sizes = walking(workdir, given("mocap/mocap35.npz", origin="mocap.cs.cmu.edu"))
    options = Options(epochs=200, batch_size=96, learning_rate=1e-3, schedule="cosine", seeds=seeds)
    common = {"latents": 8, "likelihood": "gaussian", "scale": "per_dimension", "hidden": (64,), "activation": "tanh"}
    runs.train("vae", common, data=str(data), workdir=workdir / "vae", options=options)
    plain = evaluated(workdir / "vae", importance_samples=500)["log_px"]
    links = common["latents"] * len(sizes)
    figures = [Figure("motion: test log p(x), VAE", plain, "nats a frame", None, "own measurement")]
    for sparsity in SPARSITIES:
        path, of = workdir / f"oi-{sparsity:g}", f"motion, λ = {sparsity:g}:"
        groups = {"groups": tuple(sizes.values()), "sparsity": sparsity, "step_ratio": 0.3}
        runs.train("oi_vae", common | groups, data=str(data), workdir=path, options=options)
        found = evaluated(path, importance_samples=500)
        strong = [float(np.sum(n > 0.1 * n.max())) for n in norms(path, seeds)]
        # The smaller λ is held to the likelihood, the larger to its zeros.
        likely, zeros = (0.0, None) if sparsity == SPARSITIES[0] else (None, 0.0)
        unit, half = f"of {links}", (links / 2, "half of all")
        mean = (float(np.mean(plain)), "a VAE of 8 latents")
        figures += [
            Figure(f"{of} test log p(x), oi-VAE", found["log_px"], "nats a frame", *mean, likely, "above"),
            Figure(f"{of} links that are not exactly zero", found["links"], unit, *half, zeros, "below"),
            Figure(f"{of} links of a tenth of the strongest or more", strong, unit, *half, 0.0, "below"),
        ]
    return figures, norms(workdir / f"oi-{SPARSITIES[0]:g}", seeds)[0], list(sizes)


def run(*, seeds: int = 3, workdir: Path) -> Outcome:
    figures, found = of_bars(seeds, workdir)
    caption = "Bars: which latent drives which row of the image, of the first seed."
    drawn = save(group_links(found, ylabel="row"), workdir / "bars.png")
    pictures = {"bars": (caption, drawn)}
    more, found, joints = of_walking(seeds, workdir)
    caption = f"Walking: which latent drives which joint, λ = {SPARSITIES[0]:g}, of the first seed."
    drawn = save(group_links(found, groups=joints, ylabel="joint"), workdir / "joints.png")
    return Outcome(figures + more, pictures | {"joints": (caption, drawn)})


if __name__ == "__main__":
    main(run)
