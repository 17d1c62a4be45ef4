"""JPEG files without their EXIF data, on which Pillow may fail when it opens them."""

START = b"\xff\xd8"
EXIF = b"Exif\0"

APP1, START_OF_SCAN, END = 0xE1, 0xDA, 0xD9
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}


def part_exif(data: bytes) -> tuple[bytes, bytes]:
    """Return a JPEG file without its EXIF data, and these; b"" if it has none."""
    kept, exif, start = [], [], 0
    for begin, end in _find_exif(data):
        kept.append(data[start:begin])
        exif.append(data[begin + 4 : end].removeprefix(EXIF + b"\0"))
        start = end
    if not exif:
        return data, b""
    return b"".join([*kept, data[start:]]), b"".join(exif)


def _find_exif(data):
    """Yield where segments of EXIF data begin and end."""
    position = len(START)
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker in WITHOUT_LENGTH:
            position += 2
        elif marker in (START_OF_SCAN, END):
            return
        else:
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            end = position + 2 + length
            if marker == APP1 and data.startswith(EXIF, position + 4):
                yield position, end
            position = end
