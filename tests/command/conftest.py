import shutil

import pytest
from PIL import Image

from sklearn_iis.command._fit import Arguments, fit
from sklearn_iis.datasets import make_shapes


def write_shapes(folder, n_images=60, size=16, n_classes=3, random_state=0):
    """Write images of shapes to a folder of classes, and return it."""
    images, labels = make_shapes(
        n_images, size=size, n_classes=n_classes, random_state=random_state
    )
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"class {label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def make_arguments(source, **changes):
    """The arguments of a run of few seconds, which depends on the seed only."""
    defaults = {
        "source": str(source),
        "seconds": 600.0,
        "ways": ["from-scratch"],
        "candidates": 3,
        "max_size": 16,
        "max_epochs": 1,
        "seed": 0,
        "n_jobs": 1,
        "device": "cpu",
    }
    return Arguments(**defaults | changes)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A folder of images; not to be changed."""
    return write_shapes(tmp_path_factory.mktemp("shapes") / "images")


@pytest.fixture(scope="session")
def finished(shapes, tmp_path_factory):
    """The folder of a run that has ended, and its last line; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "out"
    line = fit(make_arguments(shapes), out, quiet=True)
    return out, line


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the folder of that run."""
    return shutil.copytree(finished[0], tmp_path / "copy")
