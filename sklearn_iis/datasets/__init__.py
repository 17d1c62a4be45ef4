"""Labelled images: published sets, from a folder, or made on the spot."""

from sklearn_iis.datasets._ckplus import load_ckplus
from sklearn_iis.datasets._flowers102 import fetch_flowers102
from sklearn_iis.datasets._image_folder import load_image_folder
from sklearn_iis.datasets._shapes import make_shapes
from sklearn_iis.datasets._stl10 import fetch_stl10

__all__ = [
    "fetch_flowers102",
    "fetch_stl10",
    "load_ckplus",
    "load_image_folder",
    "make_shapes",
]
