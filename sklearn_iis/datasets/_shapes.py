"""Labelled images of textured shapes, made on the spot."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch, check_random_state

from sklearn_iis._sklearn_compat import Interval, Options, validate_params

TEXTURES = ("striped", "plaid")
FEWEST_LOBES = 3

# Lengths are in units of the image's side.
TEXTURE_WAVELENGTH = 0.1
LOBE_DEPTH = 0.3
EDGE_WIDTH = 1 / 128

# Pixels are averages over points of a grid with at least this many points a side.
GRID = 128
N_CLUTTER_WAVES = 8
BATCH = 64


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "size": [Interval(Integral, 1, None, closed="left")],
        "n_classes": [Interval(Integral, 2, 12, closed="both")],
        "channels": [Options(Integral, {1, 3})],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_shapes(
    n_samples=1000,
    *,
    size=64,
    n_classes=8,
    channels=3,
    noise=0.05,
    random_state=None,
    return_X_y=True,
):
    """Make images of lobed, textured shapes, which are harder to tell apart when small.

    A class is a number of lobes of the outline, 3 or more, together with a texture,
    stripes or plaid. The outline is coarse and the texture fine, with a wavelength of
    6.4 pixels in images of 64 pixels, and of 1.6 in images of 16. Position, extent,
    rotation, colours, contrast, and waves over the whole image are random and tell
    nothing about the class.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of images.

    size : int, default=64
        Height and width of the images in pixels. The same `random_state` gives the same
        images at any size.

    n_classes : int, default=8
        Number of classes, 2 to 12. All are equally frequent, but for a remainder.

    channels : {1, 3}, default=3
        Whether to make grey or colour images.

    noise : float, default=0.05
        Standard deviation of the waves over the image, where black is 0 and white 1.

    random_state : int, RandomState instance or None, default=None
        Determines all that is random. Pass an int for the same images in each call.

    return_X_y : bool, default=True
        Whether to return the images and classes alone.

    Returns
    -------
    X : ndarray of shape (n_samples, size, size[, 3]) of uint8
        The images, without the last axis if they are grey.

    y : ndarray of shape (n_samples,) of int
        The class of each image.

    shapes : :class:`~sklearn.utils.Bunch` if `return_X_y` is False
        Dictionary-like object with the attributes `data` (`X`), `target` (`y`),
        `target_names`, ndarray of shape (n_classes,) of str, and `DESCR`, str.

    Examples
    --------
    >>> from sklearn_iis.datasets import make_shapes
    >>> X, y = make_shapes(n_samples=100, size=32, random_state=0)
    >>> X.shape, X.dtype
    ((100, 32, 32, 3), dtype('uint8'))
    >>> shapes = make_shapes(n_samples=100, random_state=0, return_X_y=False)
    >>> shapes.target_names[:2].tolist()
    ['3 lobes, striped', '3 lobes, plaid']
    """
    rng = check_random_state(random_state)
    target = rng.permutation(np.arange(n_samples) % n_classes)
    scenes = _draw_scenes(target, noise, rng)
    data = np.empty((n_samples, size, size, channels), dtype=np.uint8)
    for start in range(0, n_samples, BATCH):
        batch = slice(start, start + BATCH)
        images = _render({name: value[batch] for name, value in scenes.items()}, size)
        if channels == 1:
            images = images.mean(axis=-1, keepdims=True)
        data[batch] = np.rint(255 * images.clip(0, 1))
    if channels == 1:
        data = data[..., 0]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=np.array([_name(label) for label in range(n_classes)]),
        DESCR=f"{n_samples} images of {n_classes} classes of textured shapes",
    )


def _lobes_and_texture(target):
    """Return the number of lobes and the index of the texture of each class."""
    return FEWEST_LOBES + target // len(TEXTURES), target % len(TEXTURES)


def _name(label):
    lobes, texture = _lobes_and_texture(label)
    return f"{lobes} lobes, {TEXTURES[texture]}"


def _draw_scenes(target, noise, rng):
    """All that is random about the images, as arrays with one row per image."""
    n = len(target)
    lobes, texture = _lobes_and_texture(target)
    radius = rng.uniform(0.3, 0.42, n)
    return {
        "lobes": lobes,
        "texture": texture,
        "radius": radius,
        "centre": rng.uniform(radius[:, np.newaxis], 1 - radius[:, np.newaxis], (n, 2)),
        "rotation": rng.uniform(0, 2 * np.pi, n),
        # Shapes are lighter than the background: if they are darker as often, a small
        # network learns little from 1000 images.
        "background": rng.uniform(0.2, 0.55, (n, 3)),
        "contrast": rng.uniform(0.2, 0.35, (n, 3)),
        "texture_direction": rng.uniform(0, np.pi, n),
        "texture_phase": rng.uniform(0, 2 * np.pi, (n, 2)),
        "texture_amplitude": rng.uniform(0.15, 0.25, n),
        "clutter_direction": rng.uniform(0, np.pi, (n, N_CLUTTER_WAVES)),
        "clutter_wavelength": rng.uniform(0.05, 0.5, (n, N_CLUTTER_WAVES)),
        "clutter_phase": rng.uniform(0, 2 * np.pi, (n, N_CLUTTER_WAVES)),
        "clutter_amplitude": np.full(
            (n, N_CLUTTER_WAVES), noise * np.sqrt(2 / N_CLUTTER_WAVES)
        ),
    }


def _render(scenes, size):
    """Images of shape (n, size, size, 3), black 0 and white 1, before clipping."""
    points_a_pixel = -(-GRID // size)
    side = size * points_a_pixel
    grid = ((np.arange(side) + 0.5) / side).astype(np.float32)
    mask = _outline(scenes, grid)

    # Stripes are one wave; plaid is two, at a right angle, of the same variance in all.
    direction = scenes["texture_direction"][:, np.newaxis] + [0, np.pi / 2]
    is_plaid = scenes["texture"] == TEXTURES.index("plaid")
    share = np.stack([np.where(is_plaid, np.sqrt(0.5), 1), np.sqrt(0.5) * is_plaid], 1)
    texture = _waves(
        grid,
        direction,
        np.full_like(direction, TEXTURE_WAVELENGTH),
        scenes["texture_phase"],
        share * scenes["texture_amplitude"][:, np.newaxis],
    )
    clutter = _waves(
        grid,
        scenes["clutter_direction"],
        scenes["clutter_wavelength"],
        scenes["clutter_phase"],
        scenes["clutter_amplitude"],
    )
    light = _block_mean(mask * texture + clutter, points_a_pixel)[..., np.newaxis]
    mask = _block_mean(mask, points_a_pixel)[..., np.newaxis]
    background, contrast = (
        scenes[name][:, np.newaxis, np.newaxis].astype(np.float32)
        for name in ("background", "contrast")
    )
    return background + mask * contrast + light


def _outline(scenes, grid):
    """1 inside of the shapes, 0 outside, (n, len(grid), len(grid))."""
    names = ("lobes", "radius", "rotation")
    lobes, radius, rotation, row, column = (
        values[:, np.newaxis, np.newaxis].astype(np.float32)
        for values in (*(scenes[name] for name in names), *scenes["centre"].T)
    )
    dy = grid[:, np.newaxis] - row
    dx = grid - column
    lobe = 1 + LOBE_DEPTH * np.cos(lobes * (np.arctan2(dy, dx) - rotation))
    distance = radius * lobe / (1 + LOBE_DEPTH) - np.hypot(dx, dy)
    return np.clip(distance / EDGE_WIDTH + 0.5, 0, 1)


def _waves(grid, direction, wavelength, phase, amplitude):
    """Sums of plane waves, (n, len(grid), len(grid)), from parameters (n, n_waves).

    A wave factors into functions of row and column, by cos(a + b) = cos a cos b -
    sin a sin b, so that the sums are matrix products.
    """
    direction, wavelength, phase, amplitude = (
        values[..., np.newaxis] for values in (direction, wavelength, phase, amplitude)
    )
    down = 2 * np.pi / wavelength * np.sin(direction) * grid + phase
    across = 2 * np.pi / wavelength * np.cos(direction) * grid
    rows = np.concatenate([amplitude * np.cos(down), -amplitude * np.sin(down)], axis=1)
    columns = np.concatenate([np.cos(across), np.sin(across)], axis=1)
    return rows.astype(np.float32).transpose(0, 2, 1) @ columns.astype(np.float32)


def _block_mean(fields, block):
    """Means over square blocks of points."""
    n, side, _ = fields.shape
    blocks = fields.reshape(n, side // block, block, side // block, block)
    return blocks.mean(axis=(2, 4))
