"""ImageResizer as a graph of ONNX, from images of any size to those of one size."""

from typing import Any, NamedTuple

import numpy as np

from sklearn_iis.deploy._onnx_network import OPSET
from sklearn_iis.images._resample import make_fill

RESIZE = {
    # torch's "nearest-exact" takes the pixel in which the centre is.
    "nearest": 'mode="nearest", nearest_mode="round_prefer_ceil"',
    "bilinear": 'mode="linear", antialias=1, exclude_outside=1',
    # Pillow and torch have -0.5 where they are antialiased, ONNX -0.75 by default.
    "bicubic": 'mode="cubic", antialias=1, exclude_outside=1, cubic_coeff_a=-0.5',
}

# As `find_crop` has it: in double precision, halves are rounded to even numbers.
CROP = """
    shape = Shape <start=1, end=3> (images)
    sides = Cast <to=11> (shape)
    scales = Div(sides, size)
    scale = ReduceMin <keepdims=0> (scales)
    scaled = Mul(scale, size)
    rounded = Round(scaled)
    bounded = Max(rounded, one)
    lengths = Cast <to=7> (bounded)
    free = Sub(shape, lengths)
    starts = Div(free, two)
    ends = Add(starts, lengths)
    source = Slice(first, starts, ends, axes)
"""

# As `find_inner_size` has it.
INNER = """
    shape = Shape <start=1, end=3> (images)
    sides = Cast <to=11> (shape)
    scales = Div(size, sides)
    scale = ReduceMin <keepdims=0> (scales)
    scaled = Mul(scale, sides)
    rounded = Round(scaled)
    bounded = Max(rounded, one)
    inner = Cast <to=7> (bounded)
"""

# Filled by a mask: the constant of Pad is the same for all channels.
PAD = """
    free = Sub(size, bounded)
    halves = Div(free, two_)
    rounded_halves = Round(halves)
    before = Cast <to=7> (rounded_halves)
    integers = Cast <to=7> (free)
    after = Sub(integers, before)
    pads = Concat <axis=0> (before, after)
    padded = Pad(small, pads, nothing, axes)
    mask_shape = Concat <axis=0> (ones, inner)
    inside = ConstantOfShape <value = uint8[1] {1}> (mask_shape)
    padded_mask = Pad(inside, pads, nothing, axes)
    mask = Cast <to=9> (padded_mask)
    resized = Where(mask, padded, fill)
"""


class Images(NamedTuple):
    """Images as a graph takes them: of dtype uint8.

    Parameters
    ----------
    channels : int

    input_size : tuple of (int, int) or None
        Height and width of those that come in; None if each may be of its own.

    size : tuple of (int, int)
        Height and width that the network gets.
    """

    channels: int
    input_size: tuple[int, int] | None
    size: tuple[int, int]

    @property
    def has_channels(self) -> bool:
        """Whether they have an axis for their channels, the last one."""
        return self.channels > 1


def make_graph(resizer: Any, images: Images, ir_version: int) -> Any:
    """Return a model of ONNX from "images" to "resized", channels first.

    Parameters
    ----------
    resizer : ImageResizer or None
        None if images are of one size already.

    images : Images

    ir_version : int
        The version of ONNX's format.
    """
    from onnx import parser

    sides = ("height", "width") if images.input_size is None else images.input_size
    before = ["n", *sides] + [images.channels] * images.has_channels
    after = ["n", images.channels, *images.size]
    shapes = [", ".join(map(str, shape)) for shape in (before, after)]
    body, constants = _make_body(resizer, images)
    return parser.parse_model(f"""
<ir_version: {ir_version}, opset_import: ["" : {OPSET}]>
resize (uint8[{shapes[0]}] images) => (uint8[{shapes[1]}] resized)
<{", ".join(constants)}>
{{ {body} }}
""")


def _make_body(resizer: Any, images: Images) -> tuple[str, list[str]]:
    """Return the nodes of the graph, and the constants that they use."""
    height, width = images.size
    constants = []
    if images.has_channels:
        body = "first = Transpose <perm=[0, 3, 1, 2]> (images)\n"
    else:
        constants.append("int64[1] channel = {1}")
        body = "first = Unsqueeze(images, channel)\n"
    if resizer is None or images.input_size == images.size:
        return body + "resized = Identity(first)\n", constants
    constants.append(f"int64[1] channels = {{{images.channels}}}")
    # All sizes, not those of two axes: the optimiser of onnxruntime confuses these.
    body += "number = Shape <start=0, end=1> (images)\n"
    resize = (
        "sizes = Concat <axis=0> (number, channels, {1})\n"
        f"{{2}} = Resize <{RESIZE[resizer.interpolation]}, "
        'coordinate_transformation_mode="half_pixel"> ({0}, , , sizes)\n'
    )
    target = f"int64[2] target = {{{height}, {width}}}"
    if resizer.aspect == "stretch":
        body += resize.format("first", "target", "resized")
        return body, [*constants, target]
    constants += [
        f"double[2] size = {{{height}.0, {width}.0}}",
        "double[1] one = {1.0}",
        "int64[2] axes = {2, 3}",
    ]
    if resizer.aspect == "crop":
        body += CROP + resize.format("source", "target", "resized")
        return body, [*constants, target, "int64[1] two = {2}"]
    fill = make_fill(
        resizer._check_background(),
        np.empty((1, 1, 1, images.channels)[: 3 + images.has_channels], np.uint8),
    )
    values = ", ".join(map(str, np.atleast_1d(fill).tolist()))
    constants += [
        "double[1] two_ = {2.0}",
        "uint8 nothing = {0}",
        "int64[2] ones = {1, 1}",
        f"uint8[1, {images.channels}, 1, 1] fill = {{{values}}}",
    ]
    return body + INNER + resize.format("first", "inner", "small") + PAD, constants
