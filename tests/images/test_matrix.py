"""The table in doc/images.md: format x mode x how it comes in -> what becomes of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sklearn_iis import ImageResizer
from sklearn_iis.images._formats import FORMATS, NEEDED, list_formats

DOCUMENT = Path(__file__).parents[2] / "doc" / "images.md"
MODES = ("1", "L", "I;16", "I", "F", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")

# Formats that keep pixels as they are, and options by which the others nearly do.
OPTIONS = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "MPO": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}
LOSSY = {"JPEG": 4, "MPO": 4, "AVIF": 6}

SIDE = 16


def make_image(mode):
    """An image of a mode, and what it looks like in colour on white."""
    ramp = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1)).round().astype(np.uint8)
    colours = np.dstack([ramp, ramp.T, 255 - ramp])
    if mode == "I;16":
        return Image.fromarray(ramp.astype(np.uint16) * 257), np.dstack([ramp] * 3)
    if mode in ("I", "F"):
        return Image.fromarray(ramp).convert(mode), None
    if mode == "LAB":
        return Image.frombytes("LAB", (SIDE, SIDE), colours.tobytes()), None
    image = Image.fromarray(colours)
    if mode in ("LA", "RGBA"):
        image = image.convert("L" if mode == "LA" else "RGB")
        alpha = (ramp.T > 99).astype(np.uint8) * 255
        seen = np.where(alpha[..., None] > 0, np.asarray(image.convert("RGB")), 255)
        image.putalpha(Image.fromarray(alpha))
        return image, seen
    image = image.convert(mode)
    return image, np.asarray(image.convert("RGB"))


def try_to_read(source, expected, atol):
    """The cell of the table for one image."""
    try:
        pixels = ImageResizer().transform([source])[0]
    except OSError as error:
        text = str(error).partition("cannot be read as an image: ")[2]
        return f"refused: {text.partition(':')[0]}"
    if expected is None:
        return "read, without a white"
    difference = np.abs(pixels.astype(int) - expected).mean()
    return "right" if difference <= atol else f"WRONG by {difference:.0f}"


def find_cell(format, mode, path):
    """The cell for images from a file, from bytes, and opened by Pillow."""
    image, expected = make_image(mode)
    if format is None:
        return try_to_read(image, expected, 0)
    buffer = io.BytesIO()
    try:
        image.save(buffer, format, **OPTIONS.get(format, {}))
    except (OSError, ValueError, KeyError):
        return "-"
    stored = Image.open(io.BytesIO(buffer.getvalue())).mode
    # Pillow has no other mode for the 16 bits of a PPM.
    if stored != mode and (format, mode, stored) != ("PPM", "I;16", "I"):
        return "-"
    if (format, mode) == ("PPM", "I"):
        return "-"
    path.write_bytes(buffer.getvalue())
    atol = LOSSY.get(format, 0)
    cells = [try_to_read(s, expected, atol) for s in (path, buffer.getvalue())]
    with Image.open(path) as opened:
        cells.append(try_to_read(opened, expected, atol))
    return " / ".join(dict.fromkeys(cells))


def make_table(folder):
    """The rows: for each format, what becomes of each mode."""
    rows = ["| format | " + " | ".join(MODES) + " |", "|---" * (len(MODES) + 1) + "|"]
    notes = {}
    for format in (*FORMATS, None):
        if format is not None and format not in list_formats():
            cells = ["not in this Pillow"] * len(MODES)
        else:
            cells = []
            for mode in MODES:
                cell = find_cell(format, mode, folder / "image")
                if cell.startswith("refused"):
                    note = notes.setdefault(cell, f"refused ({len(notes) + 1})")
                    cell = note
                cells.append(cell)
        rows.append(f"| {format or 'in memory'} | " + " | ".join(cells) + " |")
    messages = [f"{note}: {text.partition(': ')[2]}" for text, note in notes.items()]
    return "\n".join([*rows, "", *(f"- {message}" for message in messages), ""])


def test_nothing_is_read_wrong(tmp_path):
    for format in (*list_formats(), None):
        for mode in MODES:
            cell = find_cell(format, mode, tmp_path / "image")
            assert cell in ("right", "-") or cell.startswith("refused"), (format, mode)
            assert "/" not in cell, "however it comes in, the same becomes of it"


def test_table_is_that_of_the_document(tmp_path):
    """If it has changed, put in what `python -m tests.images.test_matrix` prints."""
    if set(list_formats()) != set(FORMATS):
        pytest.skip(f"this Pillow lacks some of {sorted(NEEDED)}")
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition("<!-- table -->\n")[2].partition("<!-- end -->")[0]
    assert table.strip() == make_table(tmp_path).strip()


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        print(make_table(Path(folder)))  # noqa: T201
