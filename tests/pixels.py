"""What workers of all engines fit in the tests; they start sooner with few imports."""

import os
import signal
import time
import warnings
from pathlib import Path

from sklearn.linear_model import LogisticRegression

from sklearn_iis.datasets import make_shapes

# Of 6 MB, and at half the size still more than joblib sends with each task.
X, y = make_shapes(60, size=192, n_classes=2, random_state=0)


class Pixels(LogisticRegression):
    """A linear model of some pixels; some of its fits kill their process.

    That is those whose C is above `deadly`, unless the process is that of the test,
    `home`; with a file `killed`, only as long as there is that file.
    """

    def __init__(
        self,
        C=1.0,
        fit_intercept=True,
        max_iter=9,
        deadly=None,
        killed=None,
        home=None,
        seconds=0.0,
    ):
        super().__init__(C=C, fit_intercept=fit_intercept, max_iter=max_iter)
        self.deadly = deadly
        self.killed = killed
        self.home = home
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        if self.deadly is not None and self.deadly < self.C and self._may_kill():
            os.kill(os.getpid(), signal.SIGKILL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it need not converge
            return super().fit(_some_pixels(X), y)

    def score(self, X, y):
        return super().score(_some_pixels(X), y)

    def _may_kill(self):
        if os.getpid() == self.home:
            return False
        if self.killed is not None:
            try:
                Path(self.killed).unlink()
            except FileNotFoundError:
                return False
        return True


def _some_pixels(X):
    return X[:, ::16, ::16, 0].reshape(len(X), -1) / 255.0
