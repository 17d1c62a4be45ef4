"""A convolutional network as a scikit-learn classifier."""

from sklearn_iis.cnn._classifier import CNNClassifier

__all__ = ["CNNClassifier"]
