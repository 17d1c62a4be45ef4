"""Compare searches of tabular data with all and with increasing principal components.

Each search has the same number of candidates, at random, and the same split:

- "full size": a single stage with all components;
- "IIS": over a quarter, a half and all of the components;
- "narrowing only": the same stages, all of them with all components;
- "full size, time of IIS": what had been evaluated of "full size" when "IIS" was at its
  end. If that was later, it goes on, with a quarter more candidates at most;
- "components searched": a single stage, with the three numbers of components as values
  of one more hyperparameter.

The first four begin with the same candidates. The best candidate with all components is
fitted on all training data and scored on held-out data; so is the best one of any
number of components. A repeat has splits and candidates of its own.

    OMP_NUM_THREADS=1 python benchmarks/tabular.py --output tabular.csv
    OMP_NUM_THREADS=1 python benchmarks/tabular.py --output tabular.csv --repeats 0
    OMP_NUM_THREADS=1 python benchmarks/tabular.py --costs

The first one appends a row for each search to the file, skips what is there, and prints
the tables; the second one prints the tables only. The third one measures what fits and
scores cost. Seconds are those of the processor, so that what else runs on the machine
matters less.
"""

import argparse
import datetime
import gzip
import os
import pathlib
import platform
import time
import warnings
from functools import cache
from importlib.metadata import version
from importlib.resources import files

import pandas as pd
from scipy.io.arff import loadarff
from scipy.stats import loguniform, randint, ttest_rel
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import (
    ParameterSampler,
    StratifiedShuffleSplit,
    train_test_split,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from sklearn_iis import IISSearchCV


def load_chess():
    """Return King+Rook against King+Pawn, which scikit-learn's tests have a copy of."""
    file = files("sklearn.datasets.tests.data.openml.id_3") / "data-v1-dl-3.arff.gz"
    with file.open("rb") as binary, gzip.open(binary, "rt") as text:
        frame = pd.DataFrame(loadarff(text)[0])
    y = frame.pop("class") == b"won"
    return pd.get_dummies(frame, drop_first=True).to_numpy(float), y.to_numpy()


def load_breast_cancer_products():
    """Return the 30 features together with their squares and products.

    Features are centred and scaled before, on all samples: it needs no labels.
    """
    X, y = load_breast_cancer(return_X_y=True)
    products = PolynomialFeatures(2, include_bias=False)
    return products.fit_transform(StandardScaler().fit_transform(X)), y


def make_synthetic():
    """Return 256 features, of which 48 are informative and 48 their combinations."""
    return make_classification(
        1500,
        256,
        n_informative=48,
        n_redundant=48,
        n_clusters_per_class=4,
        random_state=0,
    )


# The most components are the number of features, or less than that of the samples.
DATA = {
    "digits": (lambda: load_digits(return_X_y=True), (16, 32, 64)),
    "chess": (load_chess, (9, 18, 37)),
    "breast cancer, products": (load_breast_cancer_products, (60, 120, 240)),
    "synthetic": (make_synthetic, (64, 128, 256)),
}
CLASSIFIERS = {
    "SVC": (
        SVC(),
        {
            "classifier__C": loguniform(1e-2, 1e4),
            "classifier__gamma": loguniform(1e-6, 10),
        },
    ),
    "boosting": (
        HistGradientBoostingClassifier(max_iter=10, random_state=0),
        {
            "classifier__learning_rate": loguniform(0.01, 1),
            "classifier__max_leaf_nodes": randint(4, 33),
            "classifier__min_samples_leaf": randint(1, 51),
            "classifier__l2_regularization": loguniform(1e-3, 100),
        },
    ),
}
# Its cost hardly depends on the number of components, so that it is not searched.
INSENSITIVE = {
    "MLP": (
        MLPClassifier(max_iter=20, random_state=0),
        {
            "classifier__learning_rate_init": loguniform(1e-4, 0.1),
            "classifier__hidden_layer_sizes": randint(16, 129),
            "classifier__batch_size": [32, 64, 128, 256],
        },
    ),
}
SIZE_PARAM = "pca__n_components"
ARMS = ("full size", "IIS", "narrowing only", "full size, time of IIS")
SEARCHED = "components searched"


class TimedPCA(PCA):
    """PCA with `seconds_`, those of the processor for its fit."""

    def fit_transform(self, X, y=None):
        start = time.process_time()
        transformed = super().fit_transform(X, y)
        self.seconds_ = time.process_time() - start
        return transformed


class TimedPipeline(Pipeline):
    """Pipeline with `seconds_`, those of the processor for its fit."""

    def fit(self, X, y=None, **params):
        start = time.process_time()
        super().fit(X, y, **params)
        self.seconds_ = time.process_time() - start
        return self


def make_pipeline(classifier):
    return TimedPipeline(
        [
            ("scale", StandardScaler()),
            ("pca", TimedPCA(random_state=0)),
            ("classifier", classifier),
        ]
    )


def score(estimator, X, y):
    """Return the accuracy, and the seconds of fit and score."""
    start = time.process_time()
    accuracy = estimator.score(X, y)
    seconds = estimator.seconds_ + time.process_time() - start
    return {
        "accuracy": accuracy,
        "seconds": seconds,
        "pca_seconds": estimator["pca"].seconds_,
    }


def run_search(pipe, space, sizes, n_iter, train, seed):
    """Return the candidates of a search, a row each, in their order."""
    search = IISSearchCV(
        pipe,
        space,
        sizes=sizes,
        size_param=SIZE_PARAM,
        n_iter=n_iter,
        scoring=score,
        refit=False,
        cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=seed),
        random_state=seed,
    ).fit(*train)
    columns = ["params", "mean_test_accuracy", "mean_test_seconds"]
    columns += ["mean_test_pca_seconds"]
    results = pd.DataFrame({name: search.cv_results_[name] for name in columns})
    results = results.rename(columns=lambda name: name.removeprefix("mean_test_"))
    return results.assign(size=[params[SIZE_PARAM] for params in results["params"]])


def run_arms(pipe, space, sizes, n, train, seed):
    """Return the candidates of each arm."""
    full = sizes[-1]
    longer = run_search(pipe, space, (full,), n * 5 // 4, train, seed)
    iis = run_search(pipe, space, sizes, n, train, seed)
    same = run_search(pipe, space, (full,) * len(sizes), n, train, seed)
    in_time = longer["seconds"].cumsum() <= iis["seconds"].sum()
    arms = (longer[:n], iis, same, longer[: max(1, in_time.sum())])
    larger_space = space | {SIZE_PARAM: list(sizes)}
    searched = run_search(pipe, larger_space, None, n, train, seed)
    return {**dict(zip(ARMS, arms, strict=True)), SEARCHED: searched}


def run(data, classifier, n_candidates, repeat):
    """Return a row for each arm."""
    load, sizes = DATA[data]
    X, y = load()
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=repeat
    )
    estimator, space = CLASSIFIERS[classifier]
    pipe = make_pipeline(estimator)

    @cache
    def test(params):
        best = clone(pipe).set_params(**dict(params)).fit(X_train, y_train)
        return best.score(X_test, y_test)

    def choose(candidates):
        best = candidates.loc[candidates["accuracy"].idxmax()]
        return best["size"], best["accuracy"], test(tuple(best["params"].items()))

    arms = run_arms(pipe, space, sizes, n_candidates, (X_train, y_train), repeat)
    rows = []
    for arm, candidates in arms.items():
        with_all = candidates[candidates["size"] == sizes[-1]]
        _, validation, test_accuracy = choose(with_all)
        best_size, best_validation, best_test = choose(candidates)
        rows.append(
            {
                "data": data,
                "classifier": classifier,
                "repeat": repeat,
                "arm": arm,
                "date": datetime.date.today(),
                "n_candidates": len(candidates),
                "seconds": candidates["seconds"].sum().round(4),
                "pca_seconds": candidates["pca_seconds"].sum().round(4),
                "validation": round(validation, 5),
                "test": round(test_accuracy, 5),
                "best_size": best_size,
                "best_validation": round(best_validation, 5),
                "best_test": round(best_test, 5),
            }
        )
    return rows


def run_all(args):
    """Run what has no rows yet, and append them."""
    done = set()
    if args.output.exists():
        groups = pd.read_csv(args.output).groupby(["data", "classifier", "repeat"])
        n_arms = groups["arm"].nunique()
        if (n_arms < len(ARMS) + 1).any():
            raise ValueError(
                f"{args.output} ends in the middle of a run, {n_arms.idxmin()}: remove "
                "its rows"
            )
        done = set(n_arms.index)
    for repeat in range(args.repeats):
        for data in args.data:
            for classifier in CLASSIFIERS:
                if (data, classifier, repeat) in done:
                    continue
                rows = pd.DataFrame(run(data, classifier, args.candidates, repeat))
                is_first = not args.output.exists()
                rows.to_csv(args.output, mode="a", header=is_first, index=False)


def print_row(*cells):
    print("|", " | ".join(map(str, cells)), "|")


def print_header(*names):
    print_row(*names)
    print("|---" * len(names) + "|")


def describe(values, digits=3):
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def compare(values, others):
    """Return the mean difference of paired values, and its p of a t-test."""
    difference = values - others
    if len(difference) < 2 or not difference.any():
        return f"{difference.mean():+.4f}"
    p = ttest_rel(values, others).pvalue
    return f"{difference.mean():+.4f} (p={p:.2g})"


def make_groups(rows):
    """Return the rows of each data set and classifier, and their mean over all."""
    keys = [(data, classifier) for data in DATA for classifier in CLASSIFIERS]
    known = dict(list(rows.groupby(["data", "classifier"])))
    groups = {key: known[key] for key in keys if key in known}
    means = rows.groupby(["repeat", "arm"]).mean(numeric_only=True).reset_index()
    return groups | {("mean", ""): means}


def print_table(rows, arms, best=""):
    """Print means and standard deviations, and how much better IIS is."""
    print_header(
        *("data", "classifier", "search", "candidates", "seconds", "of full size"),
        *("of that PCA", "validation accuracy", "test accuracy"),
        *("IIS better by: validation", "IIS better by: test"),
    )
    for names, group in make_groups(rows).items():
        values = group.pivot(index="repeat", columns="arm")
        seconds = values["seconds"]
        for arm in arms:
            metrics = [values[f"{best}validation"], values[f"{best}test"]]
            print_row(
                *(*names, arm, f"{values['n_candidates'][arm].mean():.1f}"),
                describe(seconds[arm], digits=2),
                f"{seconds[arm].sum() / seconds['full size'].sum():.2f}",
                f"{values['pca_seconds'][arm].sum() / seconds[arm].sum():.0%}",
                *(describe(metric[arm]) for metric in metrics),
                *(
                    "" if arm == "IIS" else compare(metric["IIS"], metric[arm])
                    for metric in metrics
                ),
            )


def print_chosen(rows):
    """Print how often which number of components was the best."""
    arms = ("IIS", SEARCHED)
    print_header("data", "classifier", *(f"chosen by {arm}" for arm in arms))
    for (data, classifier), group in make_groups(rows).items():
        if data == "mean":
            continue
        counts = group.groupby("arm")["best_size"].value_counts().sort_index()
        chosen = (
            ", ".join(f"{size}: {count}" for size, count in counts[arm].items())
            for arm in arms
        )
        print_row(data, classifier, *chosen)


def print_tables(rows):
    print("The best candidate with all components:\n")
    print_table(rows, ARMS)
    print("\nThe best candidate with any number of components:\n")
    print_table(rows, ("full size", "IIS", ARMS[-1], SEARCHED), best="best_")
    print("\nIts number of components, and how often:\n")
    print_chosen(rows)


def measure_cost(pipe, space, size, train, test, n_candidates=8):
    """Return the mean seconds of candidates at random, the same for all sizes."""
    scores = []
    for params in ParameterSampler(space, n_candidates, random_state=0):
        candidate = clone(pipe).set_params(**{SIZE_PARAM: size}, **params)
        scores.append(score(candidate.fit(*train), *test))
    return pd.DataFrame(scores).mean()


def print_costs(names):
    """Print what a candidate costs at each size."""
    print_header(
        *("data", "classifier", "components", "ms a candidate", "of that PCA"),
        "of all components",
    )
    for name in names:
        load, sizes = DATA[name]
        X, y = load()
        # As many samples as in a search.
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, train_size=0.49, test_size=0.21, stratify=y, random_state=0
        )
        train, test = (X_train, y_train), (X_test, y_test)
        for classifier, (estimator, space) in (CLASSIFIERS | INSENSITIVE).items():
            pipe = make_pipeline(estimator)
            costs = [measure_cost(pipe, space, size, train, test) for size in sizes]
            for size, cost in zip(sizes, costs, strict=True):
                print_row(
                    *(name, classifier, size, f"{1000 * cost['seconds']:.0f}"),
                    f"{1000 * cost['pca_seconds']:.0f}",
                    f"{cost['seconds'] / costs[-1]['seconds']:.2f}",
                )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, default="tabular.csv")
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    # The networks are given few epochs.
    warnings.simplefilter("ignore", ConvergenceWarning)

    libraries = ", ".join(f"{n} {version(n)}" for n in ("scikit-learn", "numpy"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {libraries}"
    if args.costs:
        print(f"{datetime.date.today()}, {machine}\n")
        print_costs(args.data)
        return
    run_all(args)
    rows = pd.read_csv(args.output)
    print(f"{rows['date'].max()}, {machine}, {rows['repeat'].nunique()} repeats\n")
    print_tables(rows)


if __name__ == "__main__":
    main()
