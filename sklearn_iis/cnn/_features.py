"""Features of images from a network that was trained on other images."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from numbers import Integral
from threading import Lock

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_array, check_is_fitted
from torch import nn

from sklearn_iis._sklearn_compat import Interval, StrOptions, fit_context
from sklearn_iis.cnn._backbones import Backbone, make_backbone
from sklearn_iis.cnn._device import resolve_device, resolve_precision
from sklearn_iis.cnn._memory import keep_freed_memory
from sklearn_iis.cnn._module import Standardize
from sklearn_iis.cnn._net import GPU_PIXELS_PER_BATCH, PIXELS_PER_BATCH
from sklearn_iis.cnn._pixels import check_unit_range
from sklearn_iis.cnn._random import TorchRandom

# So many networks stay in memory, each on one device.
N_LOADED = 4

_lock = Lock()


class ImageFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn images into features by a network that stays as it is.

    A simple classifier on the features of a network that has learned from many other
    photographs needs few images of its own, and no training of a network. The
    transformer is stateless: `transform` may be called without `fit`, and the features
    of an image depend on that image only, but for rounding.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="efficientnet-lite0"
        The network, one of

        - "efficientnet-lite0": 1280 features. Its weights, trained on ImageNet, come
          with the extra ``pretrained``.
        - "timm/<name>" or "torchvision/<name>": a model of the library, without its
          classifier, where the library can be imported. Its weights are downloaded on
          first use. (Neither can be imported beside torch 2.13 without CUDA; they were
          tried with stand-ins only.)
        - a module of your own. It is called with float32 images of shape (n, 3, height,
          width), pixels from 0 to 1, not shifted or scaled otherwise, and returns
          features (n, n_features) or feature maps (n, n_features, height', width'). A
          copy of it is run, in evaluation mode.

        The named ones shift and scale the pixels as in their training.

    pooling : {"average", "max"}, default="average"
        What feature maps come down to, for each feature over the image. Features that
        are no maps stay as they are.

    batch_size : int, default=None
        At most so many images at a time. If None, as many as have about 260 thousand
        pixels, on a GPU 8 million, but at least one.

    device : str, default="auto"
        What the network runs on, as torch calls it. "auto" takes a GPU if there is one,
        and within a search that of the evaluation.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        What the network computes in. "auto" takes bfloat16 where the device multiplies
        in it, float32 elsewhere.

    Attributes
    ----------
    n_features_out_ : int
        Number of features of the first image that `fit` was given.

    See Also
    --------
    sklearn_iis.ImageResizer : Brings images to one size, and reads them from files.
    CNNClassifier : A network that is trained on the images.

    Notes
    -----
    A named network is loaded once per process and device, and is no part of the
    transformer: it is not pickled with it. A module of your own is a parameter, and is.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from sklearn_iis.cnn import ImageFeatures
    >>> X = np.zeros((10, 32, 48, 3), dtype=np.uint8)
    >>> ImageFeatures(nn.Conv2d(3, 8, kernel_size=5)).fit_transform(X).shape
    (10, 8)
    """

    _parameter_constraints = {
        "backbone": [str, nn.Module],
        "pooling": [StrOptions({"average", "max"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    }

    # Parameters that change no score but by rounding.
    score_neutral_params = ("batch_size", "device")

    def __init__(
        self,
        backbone="efficientnet-lite0",
        *,
        pooling="average",
        batch_size=None,
        device="auto",
        precision="auto",
    ):
        self.backbone = backbone
        self.pooling = pooling
        self.batch_size = batch_size
        self.device = device
        self.precision = precision

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the parameters, `X`, and the network on the first image.

        Parameters
        ----------
        X : array or sequence
            Images, as in `transform`.

        y : None
            Ignored.

        Returns
        -------
        self : ImageFeatures
            The transformer itself.
        """
        self.n_features_out_ = self._extract(_check_images(X)[:1]).shape[1]
        return self

    def transform(self, X):
        """Compute the features of images.

        Parameters
        ----------
        X : array or sequence
            One of

            - an array of shape (n_images, height, width), which is grey, or (n_images,
              height, width, channels) with 1 channel or 3,
            - a sequence of such images, without the first axis, of any sizes. Those of
              one size that follow each other are computed together.

            Pixels are of dtype uint8, from 0 to 255, or float, from 0 to 1. Grey images
            are taken as colour images whose channels are equal.

        Returns
        -------
        features : ndarray of shape (n_images, n_features), float32
            Or a data frame, see `set_output`.

        Raises
        ------
        ValueError
            If `X` is none of the above or holds NaN or infinity, if there is no such
            backbone, or if it does not return features as described.

        ImportError
            If the weights of the backbone are not installed, or its library cannot be
            imported.
        """
        self._validate_params()
        return self._extract(_check_images(X))

    @property
    def _n_features_out(self):
        # By this scikit-learn names the features, also of what was never fitted.
        if isinstance(self.backbone, str):
            return self._load().n_features
        check_is_fitted(self, "n_features_out_")
        return self.n_features_out_

    def __sklearn_tags__(self):
        """Images are 3-D or 4-D arrays; nothing is learned from them."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _load(self) -> Backbone:
        """The network that is named, on its device."""
        # One thread loads it; the others wait, and find it loaded.
        with _lock:
            return _load(self.backbone, str(resolve_device(self.device)))

    def _make_network(self, device: torch.device) -> nn.Module:
        """The network from pixels to features, in evaluation mode on the device."""
        if isinstance(self.backbone, str):
            return self._load().module
        # `view` would fail with the channels last.
        pixels = Standardize((0.0,) * 3, (1.0,) * 3, torch.contiguous_format)
        return nn.Sequential(pixels, deepcopy(self.backbone)).to(device).eval()

    def _extract(self, images: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """The features of checked images."""
        device = resolve_device(self.device)
        network = self._make_network(device)
        bfloat16 = resolve_precision(self.precision, device) == "bfloat16"
        on_cpu = device.type == "cpu"
        n_pixels = PIXELS_PER_BATCH if on_cpu else GPU_PIXELS_PER_BATCH
        features = []
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16),
            keep_freed_memory() if on_cpu else nullcontext(),
        ):
            for batch in _divide(images, n_pixels, self.batch_size):
                output = network(_to_tensor(batch, device))
                rows = _pool(output, len(batch), self.pooling)
                features.append(rows.cpu().numpy())
        widths = sorted({rows.shape[1] for rows in features})
        if len(widths) > 1:
            raise ValueError(
                f"The backbone gives from {widths[0]} to {widths[-1]} features, "
                "depending on the size of the image: put an ImageResizer in front."
            )
        return np.concatenate(features)


@lru_cache(maxsize=N_LOADED)
def _load(name: str, device: str) -> Backbone:
    """Load a backbone, which takes pixels from 0 to 1, for evaluation on a device."""
    # Other libraries draw weights before they load them.
    with TorchRandom(0).lent():
        backbone = make_backbone(name)
    module = nn.Sequential(Standardize(backbone.mean, backbone.std), backbone.module)
    module.eval().requires_grad_(False)
    # EfficientNet-Lite0 takes two thirds of the time with the channels last.
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return replace(backbone, module=module)


def _check_images(X) -> np.ndarray | list[np.ndarray]:
    """Return images with channels, as one array or as a list of arrays, or raise."""
    is_sequence = isinstance(X, (list, tuple)) or len(getattr(X, "shape", ())) == 1
    items = list(X) if is_sequence else []
    if any(isinstance(item, (str, os.PathLike)) for item in (X, *items)):
        raise ValueError(
            "X holds paths, and images are wanted: put an ImageResizer in front, which "
            "reads them."
        )
    if items and np.ndim(items[0]) in (2, 3):
        return [_check_pixels(x, f"X[{i}]", ()) for i, x in enumerate(items)]
    return _check_pixels(X, "X", ("n_images",))


def _check_pixels(images, name: str, leading: tuple[str, ...]) -> np.ndarray:
    """Return an array of images, or one image, with an axis of 1 or 3 channels."""
    images = check_array(images, ensure_2d=False, allow_nd=True, input_name=name)
    shape = images.shape
    if images.ndim == len(leading) + 2:
        images = images[..., np.newaxis]
    if images.ndim != len(leading) + 3 or images.shape[-1] not in (1, 3):
        axes = ", ".join((*leading, "height", "width[, channels]"))
        raise ValueError(
            f"{name} must have the shape ({axes}), with 1 channel or 3; got {shape}."
        )
    if 0 in images.shape:
        raise ValueError(f"{name} of shape {shape} has no pixels.")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(
            f"{name} must be of dtype uint8, with pixels from 0 to 255, or float, with "
            f"pixels from 0 to 1; got {images.dtype}."
        )
    check_unit_range(images, name)
    return images


def _divide(
    images: np.ndarray | list[np.ndarray], n_pixels: int, batch_size: int | None
) -> Iterator[np.ndarray]:
    """Yield batches of consecutive images of one shape and dtype."""
    groups: list[np.ndarray | list[np.ndarray]] = [images]
    if isinstance(images, list):
        groups = [list(g) for _, g in groupby(images, lambda x: (x.shape, x.dtype))]
    for group in groups:
        height, width, _ = group[0].shape
        step = max(1, n_pixels // (height * width))
        step = min(step, batch_size or step)
        for start in range(0, len(group), step):
            yield np.asarray(group[start : start + step])


def _to_tensor(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return images as float32 of shape (n, 3, height, width), pixels from 0 to 1."""
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    # torch wants memory in order, and warns if it must not write to it.
    images = np.require(images, requirements=["C", "W"])
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    if tensor.dtype == torch.uint8:
        tensor = tensor.float() / 255
    return tensor.expand(-1, 3, -1, -1)


def _pool(output, n_images: int, pooling: str) -> torch.Tensor:
    """Return features in float32, from what a network has returned for images."""
    is_tensor = isinstance(output, torch.Tensor)
    if not (is_tensor and output.ndim in (2, 4) and len(output) == n_images):
        what = f"one of shape {tuple(output.shape)}" if is_tensor else type(output)
        raise ValueError(
            "For n images, the backbone must return a tensor of shape (n, n_features) "
            f"or (n, n_features, height, width); for {n_images} it returned {what}."
        )
    if output.ndim == 2:
        return output.float()
    maps = output.float()
    return maps.mean((2, 3)) if pooling == "average" else maps.amax((2, 3))
