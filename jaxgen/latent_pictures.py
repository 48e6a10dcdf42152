"""The pictures of a run's latents: where test examples lie among them, and what they look like decoded."""

from collections.abc import Iterator, Mapping

import numpy as np

from jaxgen import plots
from jaxgen.model import Codes
from jaxgen.shown import Drawn, Shown

#: Lines between test examples and frames of each; latents that are traversed and frames along each; tiles of a plane.
_NUM_LINES, _NUM_BETWEEN, _NUM_TRAVERSED, _NUM_ALONG, _NUM_ACROSS = 6, 7, 4, 9, 15
#: Decoded noise, where there is no prior to sample from.
_NUM_NOISE = 64
#: How far from the centre of a latent pictures go, in standard deviations.
_REACH = 2.5


def code_pictures(shown: Shown, codes: np.ndarray, kind: Codes) -> Iterator[Drawn]:
    """How codes are used, a picture for each codebook, or the classes of categorical latents."""
    size, caption = kind.size, f"How often {len(shown.x)} test examples use each code."
    books = kind.stages * max(1, len(kind.grids))
    if books > 1:
        counts = np.bincount(codes.ravel(), minlength=size).reshape(books, -1)
        for book, of_book in enumerate(counts):
            height, width = kind.grids[book // kind.stages]
            place = f"stage {book + 1}" if kind.stages > 1 else f"the grid of {height}×{width}"
            caption = f"How often {len(shown.x)} test examples use each code of {place}."
            figure = plots.code_usage(of_book)
            yield Drawn(f"codes_{book + 1}", f"Use of the codes of {place}", caption, "Latents", figure)
        return
    if not kind.shared:
        codes = codes.reshape(len(codes), -1)
        count = codes.shape[1]
        codes, size = codes + kind.size * np.arange(count), kind.size * count
        caption = f"How often {len(shown.x)} test examples use each of {kind.size} classes of {count} latents."
    figure = plots.code_usage(np.bincount(codes.ravel(), minlength=size))
    yield Drawn("codes", "Use of the codes", caption, "Latents", figure)


def latent_pictures(shown: Shown, codes: np.ndarray, kl: np.ndarray | None) -> Iterator[Drawn]:
    """Test examples among the latents; then interpolation, traversals, the plane and noise, decoded in one call.

    Args:
      shown: the run.
      codes: [examples, latents] of its test examples.
      kl: [latents], what each carries, where that is known.
    """
    what = "Posterior means" if shown.model.posterior else "Codes"
    where = "." if codes.shape[1] <= 2 else ", on two principal components."
    caption = f"{what} of {len(codes)} test examples{where}"
    yield Drawn("latents", "Latents", caption, "Latents", plots.embedding(codes, shown.labels))
    if not (shown.model.decode and shown.drawable):
        return
    # Arcs are for a prior whose draws all lie about as far from the origin.
    kinds = {"linear": linear} | ({"spherical": spherical} if shown.images and shown.model.sample else {})
    pairs = pairs_of(shown.conditions(np.arange(len(codes))), len(codes), _NUM_LINES // len(kinds))
    lines = [between(codes[pairs[:, 0]], codes[pairs[:, 1]], _NUM_BETWEEN) for between in kinds.values()]
    rank = np.argsort(-(codes.var(axis=0) if kl is None else kl), kind="stable")[:_NUM_TRAVERSED]
    along = _along(shown, codes, rank) if shown.images and codes.shape[1] > 2 else None
    plane = _plane(shown, codes) if shown.images and codes.shape[1] == 2 else None
    noise = _noise(codes) if shown.images and not shown.model.sample else None
    # All in one call: another number of latents would be another compilation.
    asked = {"lines": (np.stack(lines, axis=1), pairs[:, :1, None]), "along": (along, 0), "plane": (plane, 0)}
    decoded = _decode(shown, asked | {"noise": (noise, 0)})
    yield _interpolation(shown, decoded["lines"], pairs, [*kinds])
    if along is not None:
        yield _traversals(shown, decoded["along"], rank, carries="variance of the codes" if kl is None else "KL")
    if plane is not None:
        caption = f"What the decoder makes of {_span(shown)}."
        yield Drawn("carpet", "The plane of latents", caption, "Latents", plots.carpet(decoded["plane"], plane))
    if noise is not None:
        caption = (
            "Normal noise with the mean and spread of the test examples' codes, decoded: training never asked what "
            "lies between its codes to look like an example."
        )
        yield Drawn("noise", "Decoded noise", caption, "Latents", plots.samples(decoded["noise"]))


def pairs_of(conditions: np.ndarray | None, count: int, wanted: int) -> np.ndarray:
    """[pairs, 2], numbers of test examples; of the same class where a class is told, so that it is both's own."""
    wanted, free, found = min(wanted, count // 2), list(range(count)), []
    if conditions is not None and conditions.ndim == 1:
        while free and len(found) < wanted:
            first = free.pop(0)
            same = [other for other in free if conditions[other] == conditions[first]]
            if same:
                free.remove(same[0])
                found.append((first, same[0]))
    return np.array(found or [(i, wanted + i) for i in range(wanted)])


def linear(start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """[pairs, count, latents], evenly spaced on the straight lines between [pairs, latents] and [pairs, latents]."""
    share = np.arange(1, count + 1)[None, :, None] / (count + 1)
    return (1 - share) * start[:, None] + share * end[:, None]


def spherical(start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """The same on arcs around the origin, in equal angles: as far from it as draws of a wide normal prior are.

    sin((1−t)Ω)/sin Ω · start + sin(tΩ)/sin Ω · end, with Ω the angle between both (Shoemake, 1985).
    """
    share = np.arange(1, count + 1)[None, :, None] / (count + 1)
    lengths = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    cosine = (start * end).sum(axis=-1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    angle = np.arccos(np.clip(cosine, -1, 1))[:, None, None]
    # Where both point the same way, or away from each other, no arc is preferred.
    sine = np.where(np.sin(angle) < 1e-4, np.nan, np.sin(angle))
    arc = (np.sin((1 - share) * angle) * start[:, None] + np.sin(share * angle) * end[:, None]) / sine
    return np.where(np.isnan(sine), linear(start, end, count), arc)


def _standard_prior(shown: Shown) -> bool:
    """Whether latents are in units of the prior's standard deviation; what is told may move a conditional prior."""
    return shown.model.sample is not None and shown.model.condition is None


def _along(shown: Shown, codes: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """[ranked, steps, latents]: the first example's code with one latent after the other moved."""
    standard = _standard_prior(shown)
    size = codes.shape[1]
    center, scale = (np.zeros(size), np.ones(size)) if standard else (codes.mean(axis=0), codes.std(axis=0))
    moved = np.tile(codes[0], (len(rank), _NUM_ALONG, 1))
    for row, latent in enumerate(rank):
        moved[row, :, latent] = center[latent] + scale[latent] * np.linspace(-_REACH, _REACH, _NUM_ALONG)
    return moved


def _plane(shown: Shown, codes: np.ndarray) -> np.ndarray | None:
    """[tiles, tiles, 2], over the prior or over the codes; nothing where these are all the same, or not finite."""
    low, high = np.full(2, -_REACH), np.full(2, _REACH)
    if not _standard_prior(shown):
        low, high = np.quantile(codes, [0.01, 0.99], axis=0)
    if not np.all(high - low > 1e-3):
        return None
    return np.stack(np.meshgrid(*np.linspace(low, high, _NUM_ACROSS).T), axis=-1)


def _noise(codes: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """[draws, latents], each latent as its codes are spread, and none told of another."""
    draws = np.random.default_rng(seed).standard_normal((_NUM_NOISE, codes.shape[1]))
    return codes.mean(axis=0) + codes.std(axis=0) * draws


def _span(shown: Shown) -> str:
    if _standard_prior(shown):
        return f"the plane of both latents, up to {_REACH} standard deviations of the prior from its mean"
    return "the plane of both latents, over the range of its own codes (98% of the test examples' along each)"


def _decode(shown: Shown, asked: Mapping[str, tuple[np.ndarray | None, np.ndarray | int]]) -> dict[str, np.ndarray]:
    """Images by name, of latents [..., latents] beside the numbers [...] of the examples whose condition is told."""
    given = {name: (z, examples) for name, (z, examples) in asked.items() if z is not None}
    flat = [z.reshape(-1, z.shape[-1]) for z, _ in given.values()]
    examples = [np.broadcast_to(examples, z.shape[:-1]).ravel() for z, examples in given.values()]
    images = shown.decode(np.concatenate(flat), examples=np.concatenate(examples))
    parts = np.split(images, np.cumsum([len(part) for part in flat])[:-1])
    return {
        name: part.reshape(*z.shape[:-1], *shown.dataset.shape) for (name, (z, _)), part in zip(given.items(), parts)
    }


def _interpolation(shown: Shown, between: np.ndarray, pairs: np.ndarray, kinds: list[str]) -> Drawn:
    """Of each pair its lines [pairs, kinds, steps, ...], one below the other."""
    x = shown.batch["x"]  # black where nothing was observed, since orange is for what the model broke
    first, last = (np.broadcast_to(x[p][:, None, None], between[:, :, :1].shape) for p in pairs.T)
    frames = np.concatenate([first, between, last], axis=2)
    caption = "Framed: two test examples. Between them: the straight line between their codes, decoded"
    caption += "; below it, the arc around the origin." if len(kinds) > 1 else "."
    if shown.model.condition is not None:
        caption += " Each line is told what its first example comes with."
    names = kinds * len(pairs) if len(kinds) > 1 else []
    figure = plots.interpolation(frames.reshape(-1, *frames.shape[2:]), rows=names)
    return Drawn("interpolation", "Interpolation", caption, "Latents", figure)


def _traversals(shown: Shown, frames: np.ndarray, rank: np.ndarray, *, carries: str) -> Drawn:
    unit = "the prior" if _standard_prior(shown) else "the codes, from their mean"
    caption = (
        f"The code of one test example with one latent moved and the others kept: the {len(rank)} latents "
        f"of the largest {carries}."
    )
    figure = plots.traversals(
        frames,
        np.linspace(-_REACH, _REACH, _NUM_ALONG),
        rows=[f"latent {latent + 1}" for latent in rank],
        xlabel=f"in standard deviations of {unit}",
    )
    return Drawn("traversals", "Traversals", caption, "Latents", figure)
