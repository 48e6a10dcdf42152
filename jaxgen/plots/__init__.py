"""Arrays in, `matplotlib.figure.Figure` out: no pyplot, no global state, no display."""

from jaxgen.plots._curves import code_usage, curves, latent_usage
from jaxgen.plots._groups import group_links
from jaxgen.plots._images import completions, image_grid, reconstructions, samples
from jaxgen.plots._latents import carpet, interpolation, traversals
from jaxgen.plots._points import embedding, points
from jaxgen.plots._save import save

__all__ = [
    # images
    "image_grid",
    "samples",
    "reconstructions",
    "completions",
    # latents
    "interpolation",
    "traversals",
    "carpet",
    "group_links",
    # points
    "points",
    "embedding",
    # numbers
    "curves",
    "code_usage",
    "latent_usage",
    # files
    "save",
]
