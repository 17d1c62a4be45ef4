"""Random changes of training images that leave their classes alone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Flip, shift, crop and erase each image of a batch at random.

    It works where the images are, on their pixels as they came. What a shift moves in
    repeats the pixels of the border.

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

    """

    flip: bool = False
    shift: float = 0.0
    crop: float = 0.0
    erase: float = 0.0

    def __call__(
        self,
        images: torch.Tensor,
        fill: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return changed images.

        Parameters
        ----------
        images : tensor of shape (n, channels, height, width), uint8 or float32

        fill : tensor of shape (channels, 1, 1)
            What erased squares are painted with.

        generator : torch.Generator, default=None
            What is drawn from, on the device of the images; None means torch's global
            one.
        """
        if self.flip or self.crop > 0 or any(self._most_pixels(images)):
            images = self._resample(images, generator)
        if self.erase > 0:
            images = self._erase(images, fill, generator)
        return images

    def _most_pixels(self, images):
        """Return how many pixels to move by at most, in height and width."""
        return [int(self.shift * side) for side in images.shape[2:]]

    def _resample(self, images, generator):
        """Flip, shift and crop at once: read each pixel from elsewhere."""
        n_images, _, height, width = images.shape
        device = images.device
        most = self._most_pixels(images)

        def draw():
            return torch.rand(n_images, 1, device=device, generator=generator)

        scale = 1 - self.crop * draw()
        grid = torch.empty(n_images, height, width, 2, device=device)
        for axis, (side, pixels) in enumerate(zip((height, width), most, strict=True)):
            # From -1 to 1, the centres of the pixels; a crop stays within the image.
            centres = (2 * torch.arange(side, device=device) + 1) / side - 1
            offset = (1 - scale) * (2 * draw() - 1)
            if pixels:
                # Whole pixels, each as likely as the others.
                moves = torch.floor((2 * pixels + 1) * draw()) - pixels
                offset = offset + 2 * moves / side
            if axis == 1 and self.flip:
                scale = torch.where(draw() < 0.5, -scale, scale)
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

    def _erase(self, images, fill, generator):
        n_images, _, height, width = images.shape
        device = images.device
        side = round(self.erase * min(height, width))
        inside = torch.ones(n_images, 1, 1, 1, dtype=torch.bool, device=device)
        for length, shape in ((height, (-1, 1)), (width, (1, -1))):
            centre = torch.randint(
                length, (n_images, 1, 1, 1), device=device, generator=generator
            )
            start = centre - side // 2
            places = torch.arange(length, device=device).reshape(shape)
            inside = inside & (places >= start) & (places < start + side)
        return torch.where(inside, fill, images.float())


def call_augment(
    augment: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """Return what a user's callable makes of images, of their shape and in float32."""
    changed = augment(images.float())
    shape = getattr(changed, "shape", None)
    if not isinstance(changed, torch.Tensor) or shape != images.shape:
        raise ValueError(
            "augment must return a tensor of the shape that it was given, "
            f"{tuple(images.shape)}, got {type(changed).__name__} of shape "
            f"{shape and tuple(shape)}"
        )
    return changed
