"""Pillow's modes: every one as 8 bits, grey or in colour, or refused by name."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

# Modes that Pillow converts as they are meant.
OPAQUE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
TRANSPARENT = {"LA", "La", "PA", "RGBA", "RGBa"}

# Formats by which Pillow's mode of 32 bits, "I", holds 16.
DEEP_FORMATS = {"PNG", "PPM"}

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0

# The upper 8 of 16 bits, of which 12 are used: up to 15, rounded up for PPM.
DARK = 2**4


@dataclass(frozen=True)
class Stored:
    """How the file of an image holds a pixel, as known before it is decoded.

    Parameters
    ----------
    bits : int
        Bits of a grey pixel; 8 if there are fewer, or colours.

    is_inverted : bool
        Whether 0 is white, and Pillow leaves that to us.

    grey_step : int
        By what Pillow multiplies the grey of fewer bits, but not the grey that stands
        for transparency.

    is_deep_colour : bool
        Whether colours, or grey with transparency, have 16 bits, of which Pillow takes
        the upper 8.
    """

    bits: int = 8
    is_inverted: bool = False
    grey_step: int = 1
    is_deep_colour: bool = False


def find_stored(image: Image.Image) -> Stored:
    """Return how an image is stored; call it before the image is decoded."""
    raw = _find_raw_mode(image)
    tags: Any = getattr(image, "tag_v2", {})
    bits = 8
    if image.mode.startswith("I;16"):
        bits = 12 if tags.get(BITS_PER_SAMPLE, (16,))[0] == 12 else 16
    elif image.mode == "I" and image.format in DEEP_FORMATS:
        bits = 16
    return Stored(
        bits=bits,
        is_inverted=bits > 8 and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO,
        grey_step={"L;2": 85, "L;4": 17}.get(raw, 1),
        is_deep_colour=bits == 8 and _is_deep(image, raw),
    )


def _is_deep(image: Image.Image, raw: str) -> bool:
    """Return whether pixels in the file have 16 bits a channel."""
    if ";16" in raw:
        return True
    for codec, _, _, args in getattr(image, "tile", ())[:1]:
        if codec == "SGI16":
            return True
        if codec in ("ppm", "ppm_plain") and isinstance(args, tuple):
            return args[-1] == 2**16 - 1
    if getattr(image, "tile", ()):
        return False
    # Once it is decoded, the colour that is transparent is all that tells.
    key = image.info.get("transparency")
    return image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255


def _find_raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the pixels in the file; "" if it has none."""
    for tile in getattr(image, "tile", ()):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        return args[0] if args and isinstance(args[0], str) else ""
    return ""


def flatten(
    image: Image.Image, stored: Stored, background: tuple[int, int, int]
) -> Image.Image:
    """Return a decoded image without transparency, in a mode that converts to others.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode.

    stored : Stored
        As from :func:`find_stored`.

    background : tuple of (int, int, int)
        The colour behind transparent pixels, from 0 to 255.

    Raises
    ------
    ValueError
        If it is not known which value is white.
    """
    if stored.bits > 8 or ("transparency" in image.info and image.mode in ("1", "L")):
        image = _join_grey(image, stored)
    elif "transparency" in image.info and image.mode == "RGB":
        if stored.is_deep_colour:
            raise ValueError(
                "16 bits a channel and one of its colours stands for transparency, "
                "which cannot be told from similar ones: save it with 8 bits"
            )
        image = image.convert("RGBA")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in OPAQUE | TRANSPARENT:
        raise ValueError(
            f"mode {image.mode!r} does not say which value is white: read it yourself, "
            "and give an array of uint8, or of floats from 0 to 1"
        )
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode not in TRANSPARENT and not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    behind = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(behind, image).convert("RGB")


def _join_grey(image: Image.Image, stored: Stored) -> Image.Image:
    """Return a grey image of whatever bits with 8, and with what is transparent."""
    values = np.asarray(image)
    if image.mode == "1":
        values = values.astype(np.uint8) * 255
    grey = values.astype(np.int64)
    if stored.bits > 8:
        # As Pillow does with colours of 16 bits.
        grey = grey >> (stored.bits - 8)
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    if stored.is_inverted:
        grey = 255 - grey
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(grey)
    alpha = np.where(values == key * stored.grey_step, 0, 255).astype(np.uint8)
    return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])


def uses_few_bits(image: Image.Image, stored: Stored) -> bool:
    """Return whether 16 bits hold nothing that 12 would not."""
    if stored.is_deep_colour:
        return _is_dark(image)
    if stored.bits != 16 or stored.is_inverted:
        return False
    return bool(0 < np.asarray(image).max() < 2**12)


def _is_dark(image: Image.Image) -> bool:
    """Return whether the upper 8 of 16 bits use 4, where an image is not transparent.

    What uses 8 bits or fewer is black, which is taken for dark as well.
    """
    if image.mode not in ("L", "RGB", "RGBA", "LA"):
        return False
    bands = [np.asarray(band) for band in image.split()]
    if image.mode in ("L", "RGB"):
        return all(bool(band.max() <= DARK) for band in bands)
    seen = bands.pop() > 0
    return bool(seen.any()) and all(bool(b[seen].max() <= DARK) for b in bands)
