"""Which parts of a model hold weights that others have trained, and their licence."""

from typing import Any

from sklearn_iis.cnn import CNNClassifier, ImageFeatures
from sklearn_iis.cnn._backbones import LITE0, LITE0_PACKAGE

LITE0_LICENCE = (
    "trained on ImageNet; under the Apache License 2.0, by the LICENSE file of the "
    f"package {LITE0_PACKAGE.replace('_', '-')}."
)
OTHER_LICENCE = "under the licence that {library} states for these weights."


def list_pretrained(model: Any) -> dict[str, str]:
    """Return the licence of the pretrained weights in a model, by the backbone."""
    parts = [model, *model.get_params().values()]
    names = {name for part in parts if (name := _find_backbone(part)) is not None}
    return {name: _find_licence(name) for name in sorted(names)}


def _find_backbone(part: Any) -> str | None:
    """Return the name of the pretrained backbone of an estimator, if it has one."""
    if isinstance(part, ImageFeatures):
        name = part.backbone
    elif isinstance(part, CNNClassifier):
        is_pretrained = part.get_params().get("module__pretrained", True)
        name = part.module if is_pretrained else None
    else:
        return None
    return name if isinstance(name, str) else None


def _find_licence(name: str) -> str:
    if name == LITE0:
        return LITE0_LICENCE
    return OTHER_LICENCE.format(library=name.partition("/")[0])
