"""The orientation of photographs, read from EXIF data that may be damaged."""

import struct
from contextlib import suppress

from PIL import Image

ORIENTATION = 0x0112

# What turns an image of each orientation upright; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DamagedExifError(ValueError):
    """EXIF data that do not say what the orientation is."""


def turn_upright(image: Image.Image, exif: bytes = b"") -> Image.Image:
    """Return a loaded image turned as its metadata ask for; they are not rewritten.

    Parameters
    ----------
    image : PIL.Image.Image
        The image.

    exif : bytes, default=b""
        Its EXIF data if it no longer has them.

    Raises
    ------
    DamagedExifError
        If the EXIF data cannot be read.
    """
    # Pillow's `exif_transpose` writes the EXIF data anew, and fails on odd tags.
    turn = TURNS.get(_find_orientation(image, exif) or 1)
    return image if turn is None else image.transpose(turn)


def lies_aside(image: Image.Image) -> bool:
    """Return whether the metadata of a loaded image ask for it to be turned."""
    if not {"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys():
        return False
    try:
        return _find_orientation(image, b"") in TURNS
    except DamagedExifError:
        return False


def _find_orientation(image: Image.Image, exif: bytes) -> int | None:
    """Return the orientation from EXIF, or XMP if EXIF has none."""
    exif = exif or image.info.get("exif") or b""
    if isinstance(exif, bytes) and exif:
        found = read_orientation(exif)
        if found or not {"xmp", "XML:com.adobe.xmp"} & image.info.keys():
            return found
    try:
        return image.getexif().get(ORIENTATION)
    except Exception as error:  # Pillow raises whatever the bytes lead it to
        raise DamagedExifError(str(error)) from error


def read_orientation(exif: bytes) -> int | None:
    """Return the orientation that EXIF data hold, from 1 to 8; None if there is none.

    Only the tag itself is read, so that no other one matters.

    Raises
    ------
    DamagedExifError
        If the data hold no directory of tags, or an orientation that is none.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            raise DamagedExifError(f"no order of bytes in {exif[:8]!r}")
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (n_tags,) = struct.unpack_from(order + "H", exif, start)
    except struct.error as error:
        raise DamagedExifError(f"no directory of tags: {error}") from error
    with suppress(struct.error):  # as many as there are
        for entry in range(start + 2, start + 2 + 12 * n_tags, 12):
            (tag,) = struct.unpack_from(order + "H", exif, entry)
            if tag == ORIENTATION:
                return _read_value(exif, entry + 8, order)
    return None


def _read_value(exif: bytes, start: int, order: str) -> int | None:
    """Return the value of the tag; its type, which may be wrong, does not matter."""
    for kind in "HBI":
        (value,) = struct.unpack_from(order + kind, exif, start)
        if 1 <= value <= 8:
            return int(value)
    if value:  # 0 is what some cameras write if they do not know
        raise DamagedExifError(f"the orientation is {value}, not from 1 to 8")
    return None
