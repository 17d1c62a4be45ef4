"""Convolutional networks as a scikit-learn classifier, and as a transformer."""

from sklearn_iis.cnn._classifier import CNNClassifier
from sklearn_iis.cnn._features import ImageFeatures
from sklearn_iis.cnn._paper import paper_classifier

__all__ = ["CNNClassifier", "ImageFeatures", "paper_classifier"]
