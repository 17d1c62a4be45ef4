"""Modes: the right colours, whatever the mode, from files and from memory."""

import io

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer

ROW = np.arange(256, dtype=np.uint8)
COLOURS = np.dstack([np.tile(ROW, (8, 1)), np.tile(ROW[::-1], (8, 1))] * 2)[..., :3]
GREY = COLOURS[..., 0]


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def read(image, **params):
    return ImageResizer(**params).transform([image])[0]


def make(mode):
    return Image.fromarray(COLOURS).convert(mode)


FORMATS = {"P": "PNG", "1": "PNG", "L": "PNG", "CMYK": "TIFF", "LAB": "TIFF"}


@pytest.mark.parametrize("mode", ["P", "1", "L", "RGB", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("wanted", ["RGB", "L"])
def test_opaque_modes(mode, wanted):
    image = make(mode)
    expected = np.asarray(image.convert(wanted))
    np.testing.assert_array_equal(read(image, mode=wanted), expected)
    if mode not in ("YCbCr", "HSV"):
        data = encode(image, FORMATS.get(mode, "PNG"))
        np.testing.assert_array_equal(read(data, mode=wanted), expected)


def blend(values, alpha, background):
    """Transparent pixels on a background, in exact numbers."""
    alpha = alpha[..., np.newaxis] / 255
    return alpha * values + (1 - alpha) * np.array(background)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
@pytest.mark.parametrize(
    ("background", "rgb"),
    [("white", (255,) * 3), ("#ff8000", (255, 128, 0)), ((1, 2, 3), (1, 2, 3))],
)
def test_transparency(mode, background, rgb):
    alpha = np.tile(ROW[::-1], (8, 1))
    image = make(mode)
    image.putalpha(Image.fromarray(alpha))
    colours = np.asarray(make("L" if mode == "LA" else "RGB").convert("RGB"))
    if mode == "PA":
        colours = np.asarray(image.convert("RGBA"))[..., :3]
    expected = blend(colours, alpha, rgb)
    sources = [image] if mode == "PA" else [image, encode(image, "PNG")]
    for source in sources:
        np.testing.assert_allclose(
            read(source, background=background), expected, atol=1
        )


def test_premultiplied():
    image = make("RGBA")
    image.putalpha(128)
    for mode in ("RGBa", "La"):
        straight = image if mode == "RGBa" else image.convert("LA")
        expected = read(straight).astype(int)
        np.testing.assert_allclose(read(straight.convert(mode)), expected, atol=1)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_transparent_colour_of_a_palette(format):
    image = Image.fromarray(np.tile(np.arange(4, dtype=np.uint8), (4, 1)), "L")
    image = image.convert("P")
    image.putpalette([10, 0, 0, 20, 0, 0, 30, 0, 0, 40, 0, 0])
    data = encode(image, format, transparency=2)
    assert read(data, background="blue")[0].tolist() == [
        [10, 0, 0],
        [20, 0, 0],
        [0, 0, 255],
        [40, 0, 0],
    ]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey(bits):
    """PNG: the grey that is transparent is given in the bits of the file."""
    n = 2**bits
    levels = np.unique(np.linspace(0, n - 1, min(n, 16)).astype(int))
    key = int(levels[-1])
    data = make_png(levels, bits, key)
    expected = np.round(levels * 255 / (n - 1))
    expected[-1] = 100
    image = read(data, background=(100,) * 3, mode="L")
    np.testing.assert_allclose(image[0], expected, atol=1)


def make_png(levels, bits, key=None, kind=0):
    """A PNG of one row of samples, with a transparent pixel, written chunk by chunk.

    The kind is 0 for grey, 2 for RGB, 4 for LA, 6 for RGBA.
    """
    import struct
    import zlib

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    width = len(levels) // {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    text = "".join(f"{level:0{bits}b}" for level in levels)
    text += "0" * (-len(text) % 8)
    row = int(text, 2).to_bytes(len(text) // 8, "big")
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)),
            b"" if key is None else chunk(b"tRNS", np.array(key, ">u2").tobytes()),
            chunk(b"IDAT", zlib.compress(b"\0" + row)),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("is_decoded", [False, True])
def test_opened_images_are_the_same_each_time(is_file, is_decoded, tmp_path):
    """Once it is decoded, an image of Pillow's has forgotten its bits."""
    data = make_png([0, 1, 2, 3], 2, key=1)
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(tmp_path / "a.png" if is_file else io.BytesIO(data)) as image:
        if is_decoded and is_file:
            image.load()
        for _ in range(3):
            assert read(image, mode="L").tolist() == [[0, 255, 170, 255]]


@pytest.mark.parametrize("is_decoded", [False, True])
def test_transparent_colour_of_16_bits_is_refused(is_decoded):
    data = make_png([0x1234] * 3 + [0x1299] * 3, 16, key=[0x1234] * 3, kind=2)
    image = Image.open(io.BytesIO(data))
    if is_decoded:
        image.load()
    for source in (data, image, image):
        with pytest.raises(OSError, match="stands for transparency"):
            read(source)


@pytest.mark.parametrize(("kind", "n"), [(2, 3), (4, 2), (6, 4)])
def test_16_bits_of_colour_that_hold_12(kind, n):
    levels = np.tile(np.linspace(0, 4095, 8).astype(int)[:, np.newaxis], (1, n))
    if kind != 2:
        levels[:, -1] = 65535
    data = make_png(levels.ravel(), 16, kind=kind)
    for source in (data, Image.open(io.BytesIO(data))):
        for _ in range(2):
            with pytest.warns(UserWarning, match="at most 12 are used"):
                assert read(source).max() == 15
    levels[-1, 0] = 65535
    read(make_png(levels.ravel(), 16, kind=kind))
    if kind != 2:  # what is dark is not seen
        levels[:, 0], levels[:, -1] = 0, 0
        read(make_png(levels.ravel(), 16, kind=kind))


@pytest.mark.parametrize(("most", "is_told"), [(4095, False), (65535, True)])
def test_16_bits_of_colour_that_hold_12_in_ppm(most, is_told):
    """Pillow scales by the largest value that the header names."""
    deep = np.dstack([DEEP // 16] * 3)
    data = b"P6 %d %d %d\n" % (*deep.shape[1::-1], most) + deep.astype(">u2").tobytes()
    if not is_told:
        np.testing.assert_allclose(read(data), deep / 4095 * 255, atol=1)
        return
    with pytest.warns(UserWarning, match="at most 12 are used"):
        read(data)


DEEP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (4, 1))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000", None])
def test_16_bits_of_grey_are_scaled(format):
    image = Image.fromarray(DEEP)
    source = encode(image, format) if format else image
    np.testing.assert_allclose(read(source, mode="L"), DEEP / 257, atol=1)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_in_tiff(inverted, order):
    """In either order of bytes, and where 0 is white."""
    mode = "I;16" if order == "<" else "I;16B"
    image = Image.frombytes(mode, DEEP.shape[::-1], DEEP.astype(order + "u2").tobytes())
    data = encode(image, "TIFF")
    if inverted:
        at = data.index(np.array([262, 3], order + "u2").tobytes()) + 8
        value = np.array([0], order + "u2").tobytes()
        data = data[:at] + value + data[at + 2 :]
    if inverted and order == ">":
        with pytest.raises(OSError, match=r"X\[0\] cannot be read"):
            read(data)
        return
    expected = (65535 - DEEP if inverted else DEEP) / 257
    np.testing.assert_allclose(read(data, mode="L"), expected, atol=1)


def test_16_bits_of_colour_are_scaled():
    """In a PPM, as Pillow writes no PNG of this kind."""
    deep = np.dstack([DEEP, DEEP[:, ::-1], DEEP // 2])
    header = b"P6 %d %d 65535\n" % deep.shape[1::-1]
    data = header + deep.astype(">u2").tobytes()
    np.testing.assert_allclose(read(data), deep / 257, atol=1)


def test_16_bits_that_hold_12():
    data = encode(Image.fromarray(DEEP // 16), "PNG")
    with pytest.warns(UserWarning, match=r"at most 12 are used.*: 1 of the images"):
        assert read(data).max() == 15


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_modes_without_a_white_are_refused(mode):
    array = np.zeros((4, 4, 3), np.uint8)
    image = Image.fromarray(array[..., 0]).convert(mode) if mode in "IF" else None
    if image is None:
        image = Image.frombytes("LAB", (4, 4), array.tobytes())
    for source in (image, encode(image, "TIFF")):
        with pytest.raises(OSError, match=rf"X\[0\] .* mode '{mode}' does not say"):
            read(source)


def test_several_frames_are_told_of():
    frames = [Image.new("L", (4, 4), v) for v in (10, 20, 30)]
    for format in ("GIF", "TIFF"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match=r"several frames.*: 2 of .* X\[0\]"):
            images = ImageResizer(mode="L").transform([data, data])
        assert (images == 10).all()


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB"])
def test_several_images_of_a_ppm_are_told_of(mode):
    """Pillow looks at the first one only."""
    data = encode(Image.new(mode, (9, 4)), "PPM")
    read(data + b"\n")
    for source in (data * 2, Image.open(io.BytesIO(data * 2))):
        for _ in range(2):
            with pytest.warns(UserWarning, match="several frames"):
                read(source)


@pytest.mark.parametrize("background", ["no colour", (1, 2), (1, 2, 300), (1, 2, None)])
def test_background_is_refused(background):
    with pytest.raises(ValueError, match="`background` must be a colour"):
        read(make("RGB"), background=background)
