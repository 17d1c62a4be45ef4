"""Bring images to one size."""

from numbers import Integral

import numpy as np
from PIL import Image, ImageColor
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, validate_data

from sklearn_iis._sklearn_compat import (
    Interval,
    StrOptions,
    check_feature_names_in,
    fit_context,
    get_table_adapter,
)
from sklearn_iis.images._items import (
    describe,
    find_items,
    is_encoded,
    take_image,
    to_array,
)
from sklearn_iis.images._layout import move_channels_last, seems_channels_last
from sklearn_iis.images._read import (
    SMALL,
    find_unreadable,
    make_decoder,
    name_image,
    read_images,
)
from sklearn_iis.images._report import make_error
from sklearn_iis.images._resample import (
    find_inner_size,
    fit_images,
    refuse_mixed_scales,
)


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
        What image files, and images of Pillow's, are read as: "RGB" for colour, of
        shape (height, width, 3), "L" for grey, of shape (height, width). Arrays keep
        the channels they have.

    aspect : {"stretch", "crop", "pad"}, default="stretch"
        What becomes of images of another shape than `size`: they are stretched to it;
        their middle is taken, as large as may be; or they are resized to fit within it,
        with `background` around them.

    background : str or tuple of (int, int, int), default="white"
        The colour behind transparent pixels of files and around padded images: a name
        or another form that :func:`PIL.ImageColor.getrgb` reads, or red, green and blue
        from 0 to 255. It is divided by 255 where images are floats.

    channels : {"first", "last"} or None, default=None
        Where arrays and tensors have their channels: (n_images, channels, height,
        width), as torch has them, or (n_images, height, width, channels). None means
        last, and refuses arrays that seem to have them first. They come out last in
        any case.

    row_shape : tuple of int or None, default=None
        The shape of the image that a row of 2-D `X` holds, with channels as `channels`
        says, such as (28, 28), or (3, 32, 32) with ``channels="first"``. With None,
        rows are features, which stay as they are.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        Shape of one image after `transform`, (height, width) or (height, width,
        channels). None if `X` is a 2-D array of features.

    n_features_in_ : int
        Number of features, if `X` is a 2-D array.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if `X` is a data frame.

    Notes
    -----
    JPEG files are decoded at a reduced scale of 1/8, 1/4 or 1/2 where that leaves them
    at least twice as large as `size`, but for "nearest". The orientation that the EXIF
    data of a file asks for is applied. Of 16 bits a channel the upper 8 are taken.
    Files in which white may be any value (32 bits, floats) are refused. Of several
    frames or pages the first one is read, with a warning. Formats are AVIF, BMP, GIF,
    JPEG, JPEG 2000, MPO, PCX, PNG, PPM, QOI, SGI, TIFF and WebP, as far as Pillow was
    built with them; no other one is opened, whatever the extension. A table of what is
    read how is in doc/images.md.

    Files are read by threads, one for each core that the process may use and a few
    more, which together hold about 256 MiB of images, or one larger image.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_iis import ImageResizer
    >>> X = np.zeros((10, 48, 64, 3), dtype=np.uint8)
    >>> ImageResizer(size=16).fit_transform(X).shape
    (10, 16, 16, 3)
    >>> ImageResizer(size=(24, 32)).fit_transform([X[0], X[1, :20, :20]]).shape
    (2, 24, 32, 3)
    >>> rows = np.zeros((5, 3072), dtype=np.uint8)  # 3 channels of 32 x 32 pixels
    >>> resizer = ImageResizer(size=16, row_shape=(3, 32, 32), channels="first")
    >>> resizer.fit_transform(rows).shape
    (5, 16, 16, 3)
    """

    _parameter_constraints = {
        "size": [Interval(Integral, 1, None, closed="left"), tuple, None],
        "interpolation": [StrOptions({"nearest", "bilinear", "bicubic"})],
        "mode": [StrOptions({"RGB", "L"})],
        "aspect": [StrOptions({"stretch", "crop", "pad"})],
        "background": [str, tuple],
        "channels": [StrOptions({"first", "last"}), None],
        "row_shape": [tuple, None],
    }

    def __init__(
        self,
        size=None,
        *,
        interpolation="bilinear",
        mode="RGB",
        aspect="stretch",
        background="white",
        channels=None,
        row_shape=None,
    ):
        self.size = size
        self.interpolation = interpolation
        self.mode = mode
        self.aspect = aspect
        self.background = background
        self.channels = channels
        self.row_shape = row_shape

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
            return self
        size = self._check_size()
        if isinstance(X, np.ndarray):
            self.image_shape_ = (size or X.shape[1:3]) + X.shape[3:]
        else:
            decoder = self._make_decoder(size)
            try:
                image = self._fit_image(self._load(X, 0, size, decoder), size)
            except OSError as error:
                # `transform` would find the others only later.
                others = find_unreadable(X, decoder, range(1, len(X)))
                raise make_error({0: error} | others) from error
            self.image_shape_ = image.shape
        return self

    def transform(self, X):
        """Resize the images.

        Parameters
        ----------
        X : array or sequence
            One of

            - an array or a tensor of shape (n_images, height, width) or (n_images,
              height, width, channels) of dtype uint8, float32 or float64; for channels
              first see `channels`,
            - a sequence of such images, without the first axis, of any sizes,
            - a sequence of paths of image files, str or path-like, of encoded images as
              bytes, or of images of Pillow's; also as the only column of a data frame
              or 2-D array,
            - a data set of torch whose items are such images,
            - rows of a data set of Hugging Face's: dicts with an image named "image" or
              "img", or with no other one,
            - an array of shape (n_samples, n_features): rows of pixels, see
              `row_shape`; otherwise, if `size` is None, it is returned as it is.

        Returns
        -------
        X : ndarray of shape (n_images, height, width[, channels])
            The resized images, of the same dtype; uint8 if they are read from files or
            are images of Pillow's. It is `X` itself if that is an array of the right
            size already. Images are an array also where data frames are asked for, see
            `set_output`.

        Raises
        ------
        ValueError
            If `X` is none of the above, has no pixels, holds NaN or infinity, mixes
            grey and colour images, or mixes sizes while `size` is None; if its channels
            seem to be elsewhere than `channels` says.

        OSError
            If files cannot be read as images. The message names them, and `unreadable`
            of the error has the index and the message of each.
        """
        self._validate_params()
        original = X
        X = self._check_X(X, reset=False)
        size = self._check_size()
        if not isinstance(X, np.ndarray):
            return self._stack(X, size)
        if X.ndim == 2:
            return self._as_table(X, original)
        return X if size is None else self._fit_size(X, size)

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

    def _check_background(self):
        """`background` as red, green and blue from 0 to 255."""
        try:
            colour = self.background
            if isinstance(colour, str):
                colour = ImageColor.getrgb(colour)[:3]
            red, green, blue = (int(v) for v in colour if 0 <= v <= 255 and v == int(v))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`background` must be a colour that Pillow knows, such as 'white' or"
                " '#ff8000', or a tuple of three ints from 0 to 255; got"
                f" {self.background!r}."
            ) from error
        return red, green, blue

    def _make_decoder(self, size):
        """The decoder of files, and of images of Pillow's, for one call."""
        # "nearest" asks for pixels as they are, and a smaller scale averages them.
        draft_size = None if self.interpolation == "nearest" else size
        return make_decoder(self.mode, self._check_background(), draft_size)

    def _fit_size(self, X, size):
        """Checked images of one size at another one."""
        return fit_images(
            X,
            size,
            interpolation=self.interpolation,
            aspect=self.aspect,
            background=self._check_background(),
        )

    def _check_X(self, X, *, reset):
        """`X` as an array of 2 to 4 dimensions, or as a sequence of images or paths."""
        items = find_items(X)
        if items is not None:
            return items
        X = to_array(X)
        is_table = getattr(X, "ndim", 2) <= 2
        X = validate_data(self, X, reset=reset, ensure_2d=is_table, allow_nd=True)
        if is_table:
            return self._check_rows(X)
        if X.ndim > 4 or 0 in X.shape:
            raise ValueError(
                "X must have the shape (n_images, height, width[, channels]), with at"
                f" least one pixel; got {X.shape}."
            )
        if X.ndim == 3:
            self._refuse_one_image(X.shape)
            return X
        return move_channels_last(X, self.channels, "X")

    def _check_rows(self, X):
        """A 2-D array as it is, or as the images that it holds."""
        if self.row_shape is None:
            if self.size is not None:
                raise ValueError(
                    f"X of shape {X.shape} holds no images that can be resized to"
                    f" {self.size!r}; reshape it to (n_images, height, width[,"
                    " channels]), or set `row_shape`."
                )
            return X
        shape = self.row_shape
        if len(shape) not in (2, 3) or not all(
            isinstance(n, Integral) and n > 0 for n in shape
        ):
            raise ValueError(
                "`row_shape` must be a tuple of two or three positive ints, the shape"
                f" of an image; got {shape!r}."
            )
        if np.prod(shape) != X.shape[1]:
            raise ValueError(
                f"row_shape={shape!r} has {np.prod(shape)} values, but the rows of X"
                f" have {X.shape[1]}."
            )
        X = X.reshape(-1, *shape)
        return X if X.ndim == 3 else move_channels_last(X, self.channels, "X")

    def _refuse_one_image(self, shape):
        """Raise an error if an array seems to be one image in colour."""
        if self.channels is None and seems_channels_last(shape):
            raise ValueError(
                f"X of shape {shape} seems to be a single image with {shape[2]}"
                " channels: pass X[np.newaxis]; grey images that are so narrow, with"
                ' channels="last".'
            )

    def _load(self, X, index, size, decoder):
        """One image of a sequence, from memory or from its file.

        It is at its size already if it is large.
        """
        name = f"X[{index}]"
        item = take_image(X[index], name)

        def finish(image):
            return image if image.nbytes <= SMALL else self._fit_image(image, size)

        if is_encoded(item) or isinstance(item, Image.Image):
            return decoder.decode(item, name_image(item, index), finish)
        item = to_array(item)
        if np.ndim(item) not in (2, 3):
            raise ValueError(
                f"{name} must be the path of a file, or an image of shape (height,"
                f" width[, channels]); got {describe(item)}."
            )
        image = check_array(item, ensure_2d=False, allow_nd=True, input_name=name)
        if image.ndim == 3:
            image = move_channels_last(image, self.channels, name)
        return image

    def _fit_image(self, image, size):
        """One image at its size."""
        if size in (None, image.shape[:2]):
            return image
        return self._fit_size(image[np.newaxis], size)[0]

    def _stack(self, X, size):
        """A sequence of images or paths as one array."""
        decoder = self._make_decoder(size)

        shapes = set()

        def load(index):
            image = self._load(X, index, size, decoder)
            shapes.add(image.shape[:2])
            return image

        def fit(image):
            return self._fit_image(image, size)

        images = read_images(X, load, fit, self.size)
        decoder.notes.warn(stacklevel=3)
        if self.aspect != "pad" or size is None:
            return images
        if any(find_inner_size(shape, size) != size for shape in shapes):
            refuse_mixed_scales(images, self._check_background())
        return images
