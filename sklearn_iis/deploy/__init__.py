"""Fitted models as files that hold no code: to be loaded again, or run elsewhere."""

from sklearn_iis.deploy._card import write_model_card
from sklearn_iis.deploy._onnx import export_onnx
from sklearn_iis.deploy._save import load_model, save_model

__all__ = ["export_onnx", "load_model", "save_model", "write_model_card"]
