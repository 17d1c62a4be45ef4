"""Orientation: every value, a fuzz of damaged EXIF, and what is said of the rest."""

import copy
import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from sklearn_iis import ImageResizer
from sklearn_iis.images._jpeg import part_exif
from sklearn_iis.images._orientation import DamagedExifError, read_orientation

PIXELS = np.zeros((24, 32, 3), np.uint8)
PIXELS[:8, :16] = 200


def make_exif():
    """EXIF data with tags of many types; the orientation is 6."""
    exif = Image.Exif()
    exif.update({0x112: 6, 0x10F: "maker", 0x11A: 72.0, 0x128: 2, 0x100: 32})
    exif.get_ifd(0x8769)[0x829A] = 0.01
    return exif.tobytes()


def encode(exif, format="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format, exif=exif, **options)
    return buffer.getvalue()


def read(data):
    return ImageResizer().transform([data])[0].astype(int)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(9))
def test_every_orientation(value, format):
    exif = Image.Exif()
    exif[0x112] = value
    data = encode(exif, format, **({"lossless": True} if format == "WEBP" else {}))
    # Pillow's own, which rewrites the EXIF data, is right where these are.
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(read(data), np.asarray(expected.convert("RGB")))


def damage(exif, rng, type_of_tag):
    """Change one byte, or the type of one tag."""
    exif = bytearray(exif)
    order = "<" if exif[6:8] == b"II" else ">"
    if type_of_tag:
        (n_tags,) = struct.unpack_from(order + "H", exif, 14)
        at = 16 + 12 * int(rng.integers(n_tags)) + 2
        struct.pack_into(order + "H", exif, at, int(rng.integers(14)))
    else:
        exif[int(rng.integers(6, len(exif)))] = int(rng.integers(256))
    return bytes(exif)


@pytest.mark.parametrize("type_of_tag", [False, True])
def test_damaged_exif_is_no_error(type_of_tag):
    """Nearly all come out upright; of the others most are told of."""
    rng, exif = np.random.default_rng(0), make_exif()
    upright = read(encode(exif))
    n_right = n_told = 0
    for _ in range(150):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = read(encode(damage(exif, rng, type_of_tag)))
        n_right += np.array_equal(image, upright)
        n_told += any("EXIF data that cannot be read" in str(w.message) for w in caught)
    assert n_right + n_told >= 145
    assert n_right == 150 or not type_of_tag


@pytest.mark.parametrize(
    "exif",
    [b"", b"XX*\0", b"II*\0", b"II*\0\xff\xff\xff\xff", make_exif()[:10]],
)
def test_no_directory(exif):
    with pytest.raises(DamagedExifError):
        read_orientation(exif)


def test_unknown_orientation():
    """The message names the file."""
    exif = Image.Exif()
    exif[0x112] = 77
    with pytest.warns(UserWarning, match=r"on its side: 1 of the images, .* X\[0\]"):
        assert read(encode(exif)).shape == PIXELS.shape


def test_exif_is_parted_from_the_rest():
    exif = make_exif()
    data = encode(exif)
    rest, found = part_exif(data)
    assert found == exif.removeprefix(b"Exif\0\0")
    assert len(rest) == len(data) - len(exif) - 4
    np.testing.assert_array_equal(Image.open(io.BytesIO(rest)), read(encode(b"")))
    assert part_exif(rest) == (rest, b"")
    for end in range(2, 60):
        part_exif(data[:end])  # never an endless loop, nor an error


def test_image_that_was_opened_by_pillow():
    """It is turned as its file is; what was made of it is as its maker wants it."""
    data = encode(make_exif())
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(read(opened), read(data))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(read(upright), read(data))
    made = Image.open(io.BytesIO(data)).rotate(180)
    with pytest.warns(UserWarning, match="ask for a turn"):
        np.testing.assert_array_equal(read(made), np.asarray(made))


@pytest.mark.parametrize(
    "make", [copy.copy, lambda image: image.convert("L"), lambda image: image.copy()]
)
def test_what_was_made_of_an_opened_image_is_taken_as_it_is_with_a_warning(make):
    """Nobody can tell a copy from an image that was turned by hand."""
    data = encode(make_exif())
    made = make(Image.open(io.BytesIO(data)))
    with pytest.warns(UserWarning, match="ask for a turn.*: 1 of the images, .*X"):
        pixels = ImageResizer().transform([made])[0]
    np.testing.assert_array_equal(pixels, np.asarray(made.convert("RGB")))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(
        ImageResizer().transform([upright.copy()])[0], np.asarray(upright)
    )
