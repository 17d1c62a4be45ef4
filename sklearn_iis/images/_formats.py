"""The formats of image files that are opened, and no others."""

from functools import cache

from PIL import Image, features

# Pillow's names, the frequent ones first, as they are tried in this order. What starts
# another program (EPS), fetches or describes other files, or has no mark to be known
# by (TGA) is not among them.
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "MPO",
    "PPM",
    "AVIF",
    "JPEG2000",
    "PCX",
    "QOI",
    "SGI",
)

# Libraries that Pillow may have been built without.
NEEDED = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "zlib",
    "WEBP": "webp",
    "AVIF": "avif",
    "JPEG2000": "jpg_2000",
}


@cache
def list_formats() -> tuple[str, ...]:
    """Return the formats that this Pillow reads, of those that are opened at all."""
    supported = features.get_supported()  # older ones warn if asked for "avif"
    return tuple(
        name for name in FORMATS if name not in NEEDED or NEEDED[name] in supported
    )


@cache
def list_openers() -> tuple[str, ...]:
    """Return what Pillow is to try on a file: it opens an MPO as a JPEG."""
    return tuple(name for name in list_formats() if name != "MPO")


@cache
def list_extensions() -> tuple[str, ...]:
    """Return the extensions of files in these formats, in lower case, with the dot."""
    Image.init()  # only then are all extensions known
    formats = list_formats()
    known = Image.registered_extensions().items()
    return tuple(sorted(ext for ext, name in known if name in formats))
