"""VQ-VAE-2 against one grid of codes of as many bits: what is left over of an image.

command:   python experiments/vq_vae2.py
hardware:  two CPU cores; for --scale full one GPU, and MNIST in TFDS_DATA_DIR
time:      about 3 minutes; full 5 minutes on an H200 that trained five other experiments beside it
expected:  the squared error of two grids is below that of one whose codes take as many bits, 120 (full: 390)
source:    own gate; the two grids: Razavi, van den Oord and Vinyals, 2019

On digits two grids of 2×2 and 4×4 places choose among 64 codes each, 20 · 6 = 120 bits; one grid of 4×4 places among
181 codes, 16 · log₂ 181 = 120 bits. On MNIST they are 4×4 and 7×7 places of 64 codes, 390 bits, against 7×7 places of
256 codes, 392 bits. Encoder and decoder of the image have the same channels; what two grids have besides, the networks
between them, makes them 2 to 9 times as large. At full scale three seeds cannot tell the two apart: the difference is
1.3 of its standard errors.
"""

import math
from pathlib import Path
from typing import NamedTuple

from figures import Figure, Outcome, Scale, evaluated, main, pictures
from generated import num_parameters

from jaxgen import runs
from jaxgen.training import Options


class Setting(NamedTuple):
    """What differs between the scales; `places` are of each grid, coarse first."""

    data: str
    hidden: tuple[int, ...]
    places: tuple[int, int]
    one: int
    two: int
    pixels: int
    options: Options


SETTINGS: dict[Scale, Setting] = {
    "cpu": Setting("digits", (32,), (4, 16), 181, 64, 64, Options(epochs=150, learning_rate=2e-3, schedule="cosine")),
    "full": Setting(
        *("mnist", (64, 64), (16, 49), 256, 64, 784),
        Options(epochs=15, learning_rate=1e-3, schedule="cosine"),
    ),
}


def run(*, seeds: int = 3, scale: Scale = "cpu", workdir: Path) -> Outcome:
    setting, errors, use = SETTINGS[scale], {}, {}
    for model, codes in (("vq_vae", setting.one), ("vq_vae2", setting.two)):
        path, arguments = workdir / model, {"hidden": setting.hidden, "num_codes": codes}
        options = setting.options._replace(seeds=seeds)
        runs.train(model, arguments, data=setting.data, workdir=path, options=options)
        found = evaluated(path)
        errors[model] = [value / setting.pixels for value in found["squared_error"]]
        use[model] = found["usage"]
    bits = {
        "vq_vae": setting.places[1] * math.log2(setting.one),
        "vq_vae2": sum(setting.places) * math.log2(setting.two),
    }
    one, own = sum(errors["vq_vae"]) / seeds, "own measurement"
    size = {model: num_parameters(workdir / model) for model in errors}
    figures = [
        Figure("bits of an image, two grids", [bits["vq_vae2"]], "bits", bits["vq_vae"], "one grid", 0.01, "below"),
        Figure("squared error a pixel, one grid", errors["vq_vae"], "", None, own),
        Figure("squared error a pixel, two grids", errors["vq_vae2"], "", one, "one grid", 0.0, "below"),
        Figure("parameters, one grid", [size["vq_vae"]], "", None, own),
        Figure("parameters, two grids", [size["vq_vae2"]], "", None, own),
        Figure("codes in use, one grid", use["vq_vae"], "share", None, own),
        Figure("codes in use, two grids", use["vq_vae2"], "share", None, own),
    ]
    caption = "Test images, and what two grids of codes keep of them."
    return Outcome(figures, pictures(workdir / "vq_vae2", {"reconstructions": caption}))


if __name__ == "__main__":
    main(run)
