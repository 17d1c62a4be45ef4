"""An estimator for the workers of all executors; few imports let them start sooner."""

import os
import signal
import time
from pathlib import Path

from sklearn.linear_model import SGDClassifier

from sklearn_iis.datasets import make_shapes

# Of 6 MB, and at half the size still more than joblib sends with each task.
X, y = make_shapes(60, size=192, n_classes=2, random_state=0)


class Pixels(SGDClassifier):
    """A linear model of some pixels; some of its fits kill their process.

    That is those whose alpha is above `deadly`, unless the process is that of the test,
    `home`; with a file `killed`, only as long as there is that file. It never warns,
    as filters of warnings are shared by threads.
    """

    def __init__(
        self,
        alpha=1e-4,
        fit_intercept=True,
        max_iter=9,
        deadly=None,
        killed=None,
        home=None,
        seconds=0.0,
    ):
        super().__init__(
            alpha=alpha,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=None,
            random_state=0,
        )
        self.deadly = deadly
        self.killed = killed
        self.home = home
        self.seconds = seconds

    def fit(self, X, y):
        time.sleep(self.seconds)
        if self.deadly is not None and self.deadly < self.alpha and self._may_kill():
            os.kill(os.getpid(), signal.SIGKILL)
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
