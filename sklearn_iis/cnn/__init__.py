"""A convolutional network as a scikit-learn classifier."""

from sklearn_iis.cnn._classifier import CNNClassifier
from sklearn_iis.cnn._paper import paper_classifier

__all__ = ["CNNClassifier", "paper_classifier"]
