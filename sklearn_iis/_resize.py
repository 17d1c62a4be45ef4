"""Bring images to one size."""

import os
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import numpy as np
from PIL import Image, ImageOps
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, validate_data

from sklearn_iis._sklearn_compat import (
    Interval,
    StrOptions,
    check_feature_names_in,
    fit_context,
    get_table_adapter,
)

PATH = (str, os.PathLike)

# Images are resized in batches of about this many bytes.
BATCH_BYTES = 2**25

# So many files are read by a pool of threads before their images are resized.
FILES_AT_ONCE = 256

# A JPEG is decoded at the smallest scale of 1/8, 1/4, 1/2, 1 that leaves it this many
# times larger than `size`. Against decoding them in full, 240 photographs of 224 px
# deviate at 16, 28, 32, 56 px by 0.4, 1.2, 0.4, 0.8 grey levels on average (99th
# percentile 2, 6, 2, 4; standard deviation of the pixels 67); with 1 instead of 2, by
# 1.4, 3.6, 1.2, 3.0.
DRAFT_SCALE = 2


class ImageResizer(  # type: ignore[call-arg]  # scikit-learn has no types
    TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Resize images, given as arrays or as files, to one size.

    The transformer is stateless: `transform` may be called without `fit`. Each image is
    resized on its own, with antialiasing, so that it comes out the same whatever other
    images it is passed with.

    Parameters
    ----------
    size : int, tuple of (int, int) or None, default=None
        Height and width of the images after `transform`, in pixels; an int stands for
        both. With None all images must have one size already, and keep it.

    interpolation : {"nearest", "bilinear", "bicubic"}, default="bilinear"
        The kernel. The last two are antialiased: widened by the factor by which an
        image shrinks, as in Pillow. "bicubic" may exceed the range of float images.

    mode : {"RGB", "L"}, default="RGB"
        What image files are read as: "RGB" for colour, of shape (height, width, 3),
        "L" for grey, of shape (height, width). Arrays keep the channels they have.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        Shape of one image after `transform`, (height, width) or (height, width,
        channels). None if `X` is a 2-D array.

    n_features_in_ : int
        Number of features, if `X` is a 2-D array.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` is a data frame.

    Notes
    -----
    JPEG files are decoded at a reduced scale of 1/8, 1/4 or 1/2 where that leaves them
    at least twice as large as `size`. The orientation that the EXIF data of a file asks
    for is applied, transparency is dropped, and files with more than 8 bits a channel
    are refused.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_iis import ImageResizer
    >>> X = np.zeros((10, 48, 64, 3), dtype=np.uint8)
    >>> ImageResizer(size=16).fit_transform(X).shape
    (10, 16, 16, 3)
    >>> ImageResizer(size=(24, 32)).fit_transform([X[0], X[1, :20, :20]]).shape
    (2, 24, 32, 3)
    """

    _parameter_constraints = {
        "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
        "interpolation": [StrOptions({"nearest", "bilinear", "bicubic"})],
        "mode": [StrOptions({"RGB", "L"})],
    }

    def __init__(self, size=None, *, interpolation="bilinear", mode="RGB"):
        self.size = size
        self.interpolation = interpolation
        self.mode = mode

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the parameters and `X`; nothing is learned.

        Parameters
        ----------
        X : array or sequence
            Images, as in `transform`.

        y : None
            Ignored.

        Returns
        -------
        self : ImageResizer
            The transformer itself.
        """
        X = self._check_X(X, reset=True)
        if isinstance(X, np.ndarray) and X.ndim == 2:
            self.image_shape_ = None
        else:
            size = self._check_size()
            image = self._load(X, 0, size)
            self.image_shape_ = (size or image.shape[:2]) + image.shape[2:]
        return self

    def transform(self, X):
        """Resize the images.

        Parameters
        ----------
        X : array or sequence
            One of

            - an array of shape (n_images, height, width) or (n_images, height, width,
              channels) of dtype uint8, float32 or float64,
            - a sequence of such images, without the first axis, of any sizes,
            - a sequence of paths of image files, str or path-like,
            - if `size` is None, an array of shape (n_samples, n_features), which is
              returned as it is.

        Returns
        -------
        X : ndarray of shape (n_images, height, width[, channels])
            The resized images, of the same dtype; uint8 if they are read from files. It
            is `X` itself if that is an array of the right size already. Images are an
            array also where data frames are asked for, see `set_output`.

        Raises
        ------
        ValueError
            If `X` is none of the above, has no pixels, holds NaN or infinity, mixes
            grey and colour images, or mixes sizes while `size` is None.

        OSError
            If a file cannot be read as an image.
        """
        self._validate_params()
        original = X
        X = self._check_X(X, reset=False)
        size = self._check_size()
        if not isinstance(X, np.ndarray):
            return self._stack(X, size)
        if X.ndim == 2:
            return self._as_table(X, original)
        if size in (None, X.shape[1:3]):
            return X
        return _resize(X, size, self.interpolation)

    def set_output(self, *, transform=None):
        """Choose what `transform` and `fit_transform` return for a 2-D `X`.

        Images are no table: they come out as an array, whatever is chosen here or by
        ``sklearn.set_config(transform_output=...)``.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            What a 2-D `X` is returned as; None leaves it as it was.

        Returns
        -------
        self : ImageResizer
            The transformer itself.
        """
        if transform is not None:
            # The name under which scikit-learn looks for it, and clones it.
            self._sklearn_output_config = {"transform": transform}
        return self

    def get_feature_names_out(self, input_features=None):
        """Names of the features of 2-D `X`, or of the pixels of flattened images.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the features of 2-D `X`; ignored for images.

        Returns
        -------
        feature_names_out : ndarray of str objects
            For images "pixel_<row>_<column>", with "_<channel>" if they have channels.
        """
        if getattr(self, "image_shape_", None) is None:
            return check_feature_names_in(self, input_features)
        names = ["_".join(map(str, index)) for index in np.ndindex(self.image_shape_)]
        return np.array([f"pixel_{name}" for name in names], dtype=object)

    def __sklearn_tags__(self):
        """Images are 3-D or 4-D arrays; nothing is learned from them."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _as_table(self, X, original):
        """A 2-D array as a data frame, if that is asked for."""
        adapter = get_table_adapter("transform", estimator=self)
        if adapter is None:
            return X
        return adapter.create_container(X, original, columns=self.get_feature_names_out)

    def _check_size(self):
        """`size` as (height, width), or None."""
        if self.size is None:
            return None
        size = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if len(size) != 2 or not all(isinstance(n, Integral) and n > 0 for n in size):
            raise ValueError(
                "`size` must be a positive int, a tuple of two of them, or None;"
                f" got {self.size!r}."
            )
        return int(size[0]), int(size[1])

    def _check_X(self, X, *, reset):
        """`X` as an array of 2 to 4 dimensions, or as a list of images or paths."""
        items = _as_items(X)
        if items is not None:
            return items
        is_table = getattr(X, "ndim", 2) <= 2
        X = validate_data(self, X, reset=reset, ensure_2d=is_table, allow_nd=True)
        if is_table and self.size is not None:
            raise ValueError(
                f"X of shape {X.shape} holds no images that can be resized to"
                f" {self.size!r}; reshape it to (n_images, height, width[, channels])."
            )
        if X.ndim > 4 or 0 in X.shape:
            raise ValueError(
                "X must have the shape (n_images, height, width[, channels]), with at"
                f" least one pixel; got {X.shape}."
            )
        return X

    def _load(self, X, index, size):
        """One image of a sequence, from memory or from its file."""
        item = X[index]
        if isinstance(item, PATH):
            return _read(item, size, self.mode)
        name = f"X[{index}]"
        if np.ndim(item) not in (2, 3):
            raise ValueError(
                f"{name} must be the path of a file, or an image of shape (height,"
                f" width[, channels]); got {item!r}."
            )
        return check_array(item, ensure_2d=False, allow_nd=True, input_name=name)

    def _load_all(self, X, size):
        """The images of a sequence one after the other; files are read in threads."""
        if not isinstance(X[0], PATH):
            yield from (self._load(X, index, size) for index in range(len(X)))
            return
        with ThreadPoolExecutor() as pool:
            # A part at a time, so that few images wait to be resized.
            for start in range(0, len(X), FILES_AT_ONCE):
                part = range(start, min(start + FILES_AT_ONCE, len(X)))
                yield from pool.map(lambda index: self._load(X, index, size), part)

    def _stack(self, X, size):
        """A sequence of images or paths as one array."""
        for index, image in enumerate(self._load_all(X, size)):
            if size not in (None, image.shape[:2]):
                image = _resize(image[np.newaxis], size, self.interpolation)[0]
            if index == 0:
                stacked = np.empty((len(X), *image.shape), image.dtype)
            elif (image.shape, image.dtype) != (stacked.shape[1:], stacked.dtype):
                raise ValueError(
                    f"With size={self.size!r}, X[0] has shape {stacked.shape[1:]} and"
                    f" dtype {stacked.dtype}, X[{index}] {image.shape} and"
                    f" {image.dtype}: set `size` to bring images to one size, and do"
                    " not mix grey and colour images, or dtypes."
                )
            stacked[index] = image
        return stacked


def _as_items(X):
    """A sequence of images or paths as a list; None for anything else."""
    if isinstance(X, PATH):
        raise ValueError(f"X must be a sequence of paths; got a single one, {X!r}.")
    if not isinstance(X, (list, tuple)) and len(getattr(X, "shape", ())) != 1:
        return None
    items = list(X)
    if items and (isinstance(items[0], PATH) or np.ndim(items[0]) in (2, 3)):
        return items
    return None


def _read(path, size, mode):
    """The image of a file as a uint8 array, decoded no larger than `size` needs."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"more than 8 bits a channel (mode {image.mode!r})")
            # The larger side stands for both, as EXIF may ask to swap them below.
            image.draft(mode, None if size is None else 2 * (DRAFT_SCALE * max(size),))
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(image.convert(mode))
    except FileNotFoundError:  # its message is clear
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"'{path}' cannot be read as an image: {error}") from error


def _resize(X, size, interpolation):
    """Images of shape (n, height, width[, channels]) at another size."""
    # torch takes a fifth of Pillow's time for uint8 images, channels last, and also
    # knows float64. Its import takes a second or two, so it is left until needed.
    import torch
    from torch.nn.functional import interpolate

    if X.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(
            "Images of dtype uint8, float32 or float64 can be resized; got"
            f" {X.dtype}. Convert them first."
        )
    options = (
        {"mode": "nearest-exact"}
        if interpolation == "nearest"
        else {"mode": interpolation, "antialias": True}
    )
    resized = np.empty((len(X), *size, *X.shape[3:]), X.dtype)
    step = max(1, BATCH_BYTES // X[0].nbytes)
    for start in range(0, len(X), step):
        # torch wants contiguous memory, and warns if it must not write to it.
        batch = np.require(X[start : start + step], requirements=["C", "W"])
        batch = torch.from_numpy(batch.reshape(*batch.shape[:3], -1))
        batch = interpolate(batch.permute(0, 3, 1, 2), size, **options)
        batch = batch.permute(0, 2, 3, 1).reshape(-1, *resized.shape[1:])
        resized[start : start + step] = batch.numpy()
    return resized
