"""Labelled images: from a folder, or made on the spot."""

from sklearn_iis.datasets._image_folder import load_image_folder
from sklearn_iis.datasets._shapes import make_shapes

__all__ = ["load_image_folder", "make_shapes"]
