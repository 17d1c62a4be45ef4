"""TIFF files (TIFF revision 6.0, section 2) with damaged tags."""

import os
import struct
from typing import BinaryIO

# How such a file begins; those of more than 4 GB begin otherwise.
STARTS = {b"II*\0": "<", b"MM\0*": ">"}

# Bytes of a value, by the number of its type.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

# Without these the pixels would be others: size, bits, compression, and their place.
NEEDED = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320}
NEEDED |= {322, 323, 324, 325, 332, 338, 339, 347, 512, 513, 514, 529, 530, 532}


def drop_lost_tags(file: BinaryIO) -> bytes | None:
    """Return a TIFF file without the tags whose values lie beyond its end.

    Pillow drops all tags behind such a one, and then knows no pixels. Values that these
    depend on are left as they are.

    Parameters
    ----------
    file : binary file object
        Whatever file it is. Its position does not matter, and is changed.

    Returns
    -------
    content : bytes or None
        None if there is no such tag.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    order = STARTS.get(file.read(4))
    if order is None:
        return None
    try:
        (start,) = struct.unpack(order + "I", file.read(4))
        file.seek(start)
        (n_tags,) = struct.unpack(order + "H", file.read(2))
    except struct.error:
        return None
    entries = file.read(12 * n_tags)
    lost = []
    for i in range(len(entries) // 12):
        tag, kind, count, place = struct.unpack_from(order + "HHII", entries, 12 * i)
        width = count * WIDTHS.get(kind, 0)
        if width > 4 and place + width > length and tag not in NEEDED:
            lost.append(start + 2 + 12 * i)
    if not lost:
        return None
    file.seek(0)
    content = bytearray(file.read())
    for entry in lost:
        struct.pack_into(order + "I", content, entry + 4, 0)  # it has no values
    return bytes(content)
