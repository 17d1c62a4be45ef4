"""Random changes of training images that leave their classes alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Flip, shift, crop and erase each image of a batch at random.

    It works where the images are, on their pixels as they came, and draws from torch's
    global generators. What a shift moves in repeats the pixels of the border.

    Parameters
    ----------
    flip : bool, default=False
        Mirror half of the images, left to right.

    shift : float, default=0.0
        Most pixels to move an image by, up or down and left or right, as a fraction of
        its side; rounded down.

    crop : float, default=0.0
        Most of each side to cut off. What remains, at a random place, is scaled up to
        the size of the image.

    erase : float, default=0.0
        Side of a square that is painted over, as a fraction of the shorter side. Its
        centre is anywhere in the image. (Cutout: DeVries and Taylor 2017,
        arXiv:1708.04552)

    own : callable, default=None
        Called before all of these with the images, of shape (n, channels, height,
        width) and dtype float32; returns such images.
    """

    flip: bool = False
    shift: float = 0.0
    crop: float = 0.0
    erase: float = 0.0
    own: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __call__(self, images: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
        """Return changed images.

        Parameters
        ----------
        images : tensor of shape (n, channels, height, width), uint8 or float32

        fill : tensor of shape (channels, 1, 1)
            What erased squares are painted with.
        """
        if self.own is not None:
            images = self._call_own(images.float())
        if self.flip or self.crop > 0 or any(self._most_pixels(images)):
            images = self._resample(images)
        if self.erase > 0:
            images = self._erase(images, fill)
        return images

    def _call_own(self, images):
        changed = self.own(images)
        shape = getattr(changed, "shape", None)
        if not isinstance(changed, torch.Tensor) or shape != images.shape:
            raise ValueError(
                "augment must return a tensor of the shape that it was given, "
                f"{tuple(images.shape)}, got {type(changed).__name__} of shape "
                f"{shape and tuple(shape)}"
            )
        return changed

    def _most_pixels(self, images):
        """Return how many pixels to move by at most, in height and width."""
        return [int(self.shift * side) for side in images.shape[2:]]

    def _resample(self, images):
        """Flip, shift and crop at once: read each pixel from elsewhere."""
        n_images, _, height, width = images.shape
        device = images.device
        most = self._most_pixels(images)

        def draw(*shape):
            return torch.rand(n_images, *shape, device=device)

        scale = 1 - self.crop * draw(1)
        grid = torch.empty(n_images, height, width, 2, device=device)
        for axis, (side, pixels) in enumerate(zip((height, width), most, strict=True)):
            # From -1 to 1, the centres of the pixels; a crop stays within the image.
            centres = (2 * torch.arange(side, device=device) + 1) / side - 1
            offset = (1 - scale) * (2 * draw(1) - 1)
            if pixels:
                moves = torch.randint(-pixels, pixels + 1, (n_images, 1), device=device)
                offset = offset + 2 * moves / side
            if axis == 1 and self.flip:
                scale = torch.where(draw(1) < 0.5, -scale, scale)
            places = centres * scale + offset
            grid[..., 1 - axis] = places[:, :, None] if axis == 0 else places[:, None]
        return F.grid_sample(
            images.float(),
            grid,
            # Without scaling, pixels are read from the centres of others.
            mode="bilinear" if self.crop > 0 else "nearest",
            padding_mode="border",
            align_corners=False,
        )

    def _erase(self, images, fill):
        n_images, _, height, width = images.shape
        side = round(self.erase * min(height, width))
        inside = torch.ones(n_images, 1, 1, 1, dtype=torch.bool, device=images.device)
        for length, shape in ((height, (-1, 1)), (width, (1, -1))):
            start = torch.randint(length, (n_images, 1, 1, 1), device=images.device)
            start = start - side // 2
            places = torch.arange(length, device=images.device).reshape(shape)
            inside = inside & (places >= start) & (places < start + side)
        return torch.where(inside, fill, images.float())
