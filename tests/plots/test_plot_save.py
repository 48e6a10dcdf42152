"""Files that depend on the figure alone, from a package that leaves no trace in the process."""

import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from jaxgen import plots
from jaxgen.plots import _style

HISTORY = [{"step": step, "kind": "train", "loss": 1.0 / step} for step in range(1, 9)]
FIGURES = {
    "image_grid": lambda: plots.image_grid(np.eye(8)[None], title="one"),
    "curves": lambda: plots.curves(HISTORY, names=["loss"]),
    "strip": lambda: plots.strip(np.zeros((2, 3, 2)), [1, 2], reference=np.eye(2)),
    "embedding": lambda: plots.embedding(np.eye(6), np.arange(6)),
}


def chunks(png):
    at, names = 8, []
    while at < len(png):
        names.append(png[at + 4 : at + 8])
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return names


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES.keys())
def test_the_bytes_know_neither_the_day_nor_the_users_style(make, tmp_path):
    one = plots.save(make(), tmp_path / "new folder" / "one.png").read_bytes()
    theirs = {
        "font.size": 30,
        "axes.facecolor": "black",
        "lines.marker": "x",
        "axes.grid": True,
        "image.cmap": "jet",
    }
    with matplotlib.rc_context(theirs):
        other = plots.save(make(), tmp_path / "other.png").read_bytes()
        assert matplotlib.rcParams["font.size"] == 30
    assert one == other
    assert set(chunks(one)) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}  # no text, no time
    assert int.from_bytes(one[16:20], "big") == 1120  # 5.6 inches, two pixels for each of a page


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .png, got 'x.pdf'"):
        plots.save(FIGURES["curves"](), tmp_path / "x.pdf")


def test_pyplot_is_never_imported():
    code = (
        "import sys, numpy as np; from jaxgen import plots\n"
        "plots.points(np.zeros((3, 2))); plots.image_grid(np.zeros((3, 8, 8)))\n"
        "print('matplotlib.pyplot' in sys.modules, 'sklearn' in sys.modules, 'flax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3


# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def cielab(color, sight):
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = SRGB_TO_XYZ @ np.clip(sight @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT.values(), ids=SIGHT.keys())
@pytest.mark.parametrize("palette", [_style.LINES, _style.CLASSES], ids=["lines", "classes"])
def test_colours_stay_apart_for_colour_blind_eyes(palette, sight):
    nearest = min(np.linalg.norm(cielab(a, sight) - cielab(b, sight)) for a, b in combinations(palette, 2))
    assert nearest > 10  # about four times what an eye can just tell apart
