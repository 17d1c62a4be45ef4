"""TIFF files with tags whose values are not in the file."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.images._tiff import drop_lost_tags

PIXELS = np.random.RandomState(0).randint(256, size=(6, 9, 3)).astype(np.uint8)

# Make, StripOffsets and DateTime.
MAKER, STRIPS, DATE = 0x10F, 0x111, 0x132


def encode(**options):
    exif = Image.Exif()
    exif.update({0x112: 6, MAKER: "a maker", DATE: "2020:01:01 00:00:00"})
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "TIFF", exif=exif, **options)
    return buffer.getvalue()


def lose(data, tag):
    """Have a tag's values begin far beyond the end of the file."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (n_tags,) = struct.unpack_from(order + "H", data, start)
    entries = range(start + 2, start + 2 + 12 * n_tags, 12)
    (entry,) = (
        e for e in entries if struct.unpack_from(order + "H", data, e)[0] == tag
    )
    damaged = bytearray(data)
    struct.pack_into(order + "I", damaged, entry + 8, 2**31)
    return bytes(damaged)


def read(source):
    return ImageResizer().transform([source])[0]


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
@pytest.mark.parametrize("tag", [MAKER, DATE])
def test_a_tag_that_says_nothing_of_the_pixels(tag, options, tmp_path):
    """Pillow drops all that follow, and refuses an image without its pixels."""
    data = encode(**options)
    damaged = lose(data, tag)
    if tag < STRIPS:
        with (
            pytest.warns(UserWarning, match="Truncated"),
            pytest.raises(OSError, match="cannot identify"),
        ):
            Image.open(io.BytesIO(damaged))
    expected = np.rot90(PIXELS, -1)  # the orientation is read, too
    np.testing.assert_array_equal(read(data), expected)
    np.testing.assert_array_equal(read(damaged), expected)
    path = tmp_path / "damaged.tif"
    path.write_bytes(damaged)
    np.testing.assert_array_equal(read(path), expected)
    assert Image.open(io.BytesIO(drop_lost_tags(io.BytesIO(damaged)))).tag_v2[274] == 6


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tag_that_says_where_the_pixels_are():
    exif = Image.Exif()
    buffer = io.BytesIO()
    large = Image.fromarray(np.zeros((600, 600), np.uint8))
    large.save(buffer, "TIFF", exif=exif)
    damaged = lose(buffer.getvalue(), STRIPS)
    assert drop_lost_tags(io.BytesIO(damaged)) is None
    with pytest.raises(OSError, match="cannot be read as an image"):
        read(damaged)


@pytest.mark.parametrize(
    "data", [encode(), encode(big_tiff=True), b"", b"II*", b"II*\0", b"MM\0*\1\1\1\1"]
)
def test_what_is_left_as_it_is(data):
    assert drop_lost_tags(io.BytesIO(data)) is None
