"""The network and the training of the paper that this package is named after."""

from sklearn_iis.cnn._classifier import CNNClassifier

PAPER = {
    "batch_norm": False,
    "batch_size": 64,
    "nesterov": False,
    "learning_rate": 0.01,
    "schedule": "constant",
    "max_epochs": 200,
    "shift": 0.0,
    "label_smoothing": 0.0,
    "early_stopping": True,
}


def paper_classifier(**params):
    """Return a classifier with the network and the training of the paper.

    No batch normalisation, stochastic gradient descent at a constant rate, no changes
    of the images, and an end once the validation accuracy has not got better for five
    epochs [1]_. Momentum is not published, nor is the most of epochs: they are 0.9 and
    200.

    Parameters
    ----------
    **params
        Further parameters of :class:`~sklearn_iis.cnn.CNNClassifier`, or other values
        of the same.

    Returns
    -------
    classifier : CNNClassifier

    References
    ----------
    .. [1] T. Hinz, N. Navarro-Guerrero, S. Magg, S. Wermter, "Speeding up the
       Hyperparameter Optimization of Deep Convolutional Neural Networks",
       International Journal of Computational Intelligence and Applications 17(2), 2018.
       :arxiv:`1807.07362`

    Examples
    --------
    >>> from sklearn_iis.cnn import paper_classifier
    >>> paper_classifier(n_conv_layers=2).schedule
    'constant'
    """
    return CNNClassifier(**PAPER | params)
