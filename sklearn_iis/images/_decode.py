"""Files and Pillow's images as arrays of 8 bits, grey or in colour."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sklearn_iis.images._budget import ByteBudget
from sklearn_iis.images._formats import list_formats, list_openers
from sklearn_iis.images._items import PATH
from sklearn_iis.images._jpeg import START, part_exif
from sklearn_iis.images._modes import find_stored, flatten, uses_few_bits
from sklearn_iis.images._orientation import DamagedExifError, lies_aside, turn_upright
from sklearn_iis.images._report import Notes
from sklearn_iis.images._tiff import drop_lost_tags

# A JPEG is decoded at the smallest scale of 1/8, 1/4, 1/2, 1 that leaves it this many
# times larger than `size`. Against decoding them in full, 240 photographs of 224 px
# deviate at 16, 28, 32, 56 px by 0.4, 1.2, 0.4, 0.8 grey levels on average (99th
# percentile 2, 6, 2, 4; standard deviation of the pixels 67); with 1 instead of 2, by
# 1.4, 3.6, 1.2, 3.0.
DRAFT_SCALE = 2

# Formats whose images, once decoded, do not tell all of how they were stored.
FORGETFUL = {"PNG", "PPM", "SGI", "TIFF"}

# The most bytes of a pixel while an image is decoded: by Pillow, after conversion, and
# in an array. What is neither plain grey nor plain colour is converted more often: 22
# were measured for 16 bits of grey, 20 with transparency, 17 for a palette with it.
BYTES_PER_PIXEL = 22
BYTES_PER_PLAIN_PIXEL = 11

# What is told of images that are read.
SEVERAL = "several frames or pages, of which the first one is read"
DAMAGED = "EXIF data that cannot be read, so that the image may lie on its side"
ASIDE = (
    "EXIF data that ask for a turn, of images that were made of opened ones and so are "
    "taken as they are (call PIL.ImageOps.exif_transpose as soon as they are opened)"
)
DARK = (
    "16 bits a channel, of which at most 12 are used, so that the image comes out "
    "nearly black (read it yourself, and scale it)"
)

Source = str | os.PathLike | bytes

# Pillow's images in memory may be the same one several times, and load at first use.
_lock = Lock()


def _renew_lock():
    """Have a new lock in a forked process, where nobody would free the old one."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Decoder:
    """Turns images into arrays of dtype uint8.

    Parameters
    ----------
    mode : {"RGB", "L"}
        Colour, with three channels, or grey, without an axis for them.

    background : tuple of (int, int, int)
        The colour behind transparent pixels.

    size : tuple of (int, int) or None
        Height and width that the images are for. A JPEG is not decoded much larger, by
        averages of its pixels. With None it is decoded in full.

    budget : ByteBudget
        Memory for all images that are decoded at a time.
    """

    def __init__(
        self,
        mode: str,
        background: tuple[int, int, int],
        size: tuple[int, int] | None,
        budget: ByteBudget,
    ):
        self.mode = mode
        self.background = background
        self.size = size
        self.budget = budget
        self.notes = Notes()

    def decode(
        self,
        source: Source | Image.Image,
        name: str,
        finish: Callable[[np.ndarray], Any] = lambda pixels: pixels,
    ) -> Any:
        """Return what `finish` makes of the pixels of an image.

        The memory counts as used until then.

        Raises
        ------
        FileNotFoundError
            If there is no such file.

        OSError
            If it cannot be read as an image.
        """
        in_memory = isinstance(source, Image.Image)
        try:
            opened: Any = nullcontext(source)
            exif = b""
            if not in_memory:
                opened, exif = _open(source)
            with _lock if in_memory else nullcontext(), opened as image:
                if not in_memory:
                    self._draft(image)
                with self.budget.spend(_count_bytes(image)):
                    pixels = self._to_pixels(image, exif, name, in_memory)
                    # Errors of `finish` are not of the file.
                    return self._finish(finish, pixels)
        except _FinishError as error:
            raise error.cause from None
        except (FileNotFoundError, MemoryError):  # their messages are clear
            raise
        except UnidentifiedImageError as error:
            formats = ", ".join(list_formats())
            raise OSError(
                f"{name} cannot be read as an image: it is in none of the formats "
                f"{formats}"
            ) from error
        except Exception as error:  # Pillow raises whatever the bytes lead it to
            text = str(error) or type(error).__name__
            raise OSError(f"{name} cannot be read as an image: {text}") from error

    def _finish(self, finish, pixels):
        try:
            return finish(pixels)
        except Exception as error:
            raise _FinishError(error) from error

    def _draft(self, image):
        # The larger side stands for both, as EXIF may ask to swap them.
        size = None if self.size is None else 2 * (DRAFT_SCALE * max(self.size),)
        image.draft(self.mode, size)

    def _to_pixels(self, image, exif, name, in_memory):
        """Return a uint8 array of an image."""
        # As opened; an image that was made of it is as its maker wants it.
        is_as_stored = type(image) is not Image.Image
        header = _find_header(image) if in_memory and is_as_stored else image
        if is_as_stored and _has_several(header):
            self.notes.add(SEVERAL, name)
        stored = find_stored(header)
        if getattr(image, "tile", ()) and not getattr(image, "filename", ""):
            # Once decoded, it could not tell the next time how it was stored.
            image = header
        image.load()
        if is_as_stored:
            try:
                image = turn_upright(image, exif)
            except DamagedExifError:
                self.notes.add(DAMAGED, name)
        elif in_memory and lies_aside(image):
            # A copy, or what its maker has turned already: nobody can tell.
            self.notes.add(ASIDE, name)
        if uses_few_bits(image, stored):
            self.notes.add(DARK, name)
        flat = flatten(image, stored, self.background)
        return np.asarray(flat if flat.mode == self.mode else flat.convert(self.mode))


def _open(source):
    """Return an image whose pixels are not decoded yet, and its EXIF data if apart."""
    in_file = isinstance(source, PATH)
    with open(source, "rb") if in_file else BytesIO(source) as file:
        mended, exif = _mend(file)
    if mended is not None:
        source = BytesIO(mended)
    elif not in_file:
        source = BytesIO(source)
    # Other formats may start other programs, whatever the name of the file.
    return Image.open(source, formats=list_openers()), exif


def _mend(file):
    """Return a file without metadata that Pillow fails on, and its EXIF data if apart.

    None in place of the file if there is nothing to mend.
    """
    start = file.read(len(START))
    if start == START:
        return part_exif(start + file.read())
    return drop_lost_tags(file), b""


def _count_bytes(image):
    """Return the most memory that an image takes while it is decoded."""
    is_plain = image.mode in ("L", "RGB") and "transparency" not in image.info
    per_pixel = BYTES_PER_PLAIN_PIXEL if is_plain else BYTES_PER_PIXEL
    return per_pixel * image.width * image.height


def _find_header(image):
    """Return an image that is not decoded yet in place of one of Pillow's, if need be.

    An image that is decoded has forgotten how it was stored. The image itself, if that
    does not matter, or there is no file any more.
    """
    if image.format not in FORGETFUL:
        return image
    again = _open_again(image)
    if again is None or (again.mode, again.size) != (image.mode, image.size):
        return image
    return again


def _open_again(image):
    """Return the first image in the file of another one; None if that is gone."""
    file, path = getattr(image, "fp", None), getattr(image, "filename", "")
    try:
        if image.tell():
            return None
        if file is not None and not file.closed:
            position = file.tell()
            file.seek(0)
            source = BytesIO(file.read())
            file.seek(position)
        elif path:
            source = BytesIO(Path(path).read_bytes())
        else:
            return None
        return Image.open(source, formats=list_openers())
    except Exception:  # what a file has become is no matter of the image
        return None


def _has_several(image):
    """Return whether an image is the first one of a file with several."""
    if image.format == "PPM":
        return _has_next_ppm(image)
    # The others in an MPO are of the same view: previews, or maps of the depth.
    is_single = image.format == "MPO" or not getattr(image, "is_animated", False)
    return not is_single and image.tell() == 0


def _has_next_ppm(image):
    """Return whether another image follows, which Pillow does not look for."""
    if not image.tile or image.fp is None:
        return False
    codec, _, start, args = image.tile[0]
    if codec == "ppm_plain":  # these have one image
        return False
    n_bytes = {"I": 2, "F": 4}.get(image.mode, len(image.getbands()))
    if codec == "ppm" and image.mode != "I" and args[-1] > 255:
        n_bytes *= 2
    row = -(-image.width // 8) if image.mode == "1" else n_bytes * image.width
    position = image.fp.tell()
    image.fp.seek(start + row * image.height)
    following = image.fp.read(2)
    image.fp.seek(position)
    return following[:1] == b"P" and following[1:].isdigit()


class _FinishError(Exception):
    """An error of what is done with the pixels, on its way out."""

    def __init__(self, cause):
        super().__init__()
        self.cause = cause
