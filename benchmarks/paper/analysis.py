"""The contents of an experiment's tables: numbers only, computed from the CSV alone.

Errors are 1 - score. All comparisons are paired by the repeat, in which runs have
splits and random states in common.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from benchmarks.paper.experiments import EXPERIMENTS, Experiment
from benchmarks.paper.run import JOB, get_jobs, read_tables
from sklearn_iis import IISSearchCV, ImageResizer, PerLayer, SearchSpace
from sklearn_iis.cnn import paper_classifier
from sklearn_iis.inspection import hyperparameter_importance, hyperparameter_marginal

PAIR = ["search", "repeat"]

# How likely differences as large as those seen may be by chance, to be called real.
LEVEL = 0.05
CONFIDENCE = 0.95

# Marginal errors that differ by less are about the same.
PLATEAU = 0.01


@dataclass(frozen=True)
class Difference:
    """Paired differences, and what a t-test says of their mean.

    Parameters
    ----------
    values : ndarray of shape (n_repeats,)
        The differences.
    """

    values: np.ndarray

    @classmethod
    def between(cls, values, reference):
        """Return the differences of runs from others, averaged over the searches.

        Searches of the same repeat share splits and random states, so that they are not
        independent: repeats are.

        Parameters
        ----------
        values : Series
            A number for each search and repeat.

        reference : Series or float
            What they are compared with.
        """
        differences = (values - reference).groupby("repeat").mean()
        return cls(differences.dropna().to_numpy(float))

    @property
    def mean(self):
        return self.values.mean()

    @property
    def std(self):
        return self.values.std(ddof=1) if len(self.values) > 1 else np.nan

    @property
    def standard_error(self):
        return self.std / np.sqrt(len(self.values))

    @property
    def p_value(self):
        """Of a two-sided paired t-test; 1 if there is nothing to test."""
        if len(self.values) < 2 or not self.values.any():
            return 1.0
        if self.standard_error == 0:
            return 0.0
        t = abs(self.mean) / self.standard_error
        return float(2 * stats.t.sf(t, len(self.values) - 1))

    @property
    def interval(self):
        """The interval of the mean with a confidence of `CONFIDENCE`."""
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(self.values) - 1)
        half = quantile * self.standard_error
        return self.mean - half, self.mean + half

    def detectable(self, level):
        """Return the smallest mean that would pass a test with this spread."""
        quantile = stats.t.ppf(1 - level / 2, len(self.values) - 1)
        return quantile * self.standard_error

    @property
    def sign(self):
        """-1 or 1 if the mean differs from 0 by more than chance, else 0."""
        return int(np.sign(self.mean)) if self.p_value < LEVEL else 0


class Results:
    """The results of an experiment.

    Parameters
    ----------
    experiment : Experiment
        What was run.

    about : dict
        When, where and with what it was run.

    evaluations, models : DataFrame
        Its tables.
    """

    def __init__(self, experiment: Experiment, about, evaluations, models):
        self.experiment = experiment
        self.about = about
        self.evaluations = evaluations
        self.models = models

    @classmethod
    def read(cls, folder):
        """Read the results of the repeats that are complete from their folder."""
        path = Path(folder, "about.json")
        if not path.exists():
            raise FileNotFoundError(
                f"{folder} holds no results: run it first, or name the folder that "
                "results are in by --results"
            )
        about = json.loads(path.read_text())
        experiment = EXPERIMENTS[about["experiment"]]
        tables = read_tables(folder)
        done = set(get_jobs(tables["evaluations"]))
        unfinished = {job[2] for job in experiment.jobs() if job not in done}
        if len(unfinished) == experiment.n_repeats:
            raise ValueError(
                f"{folder} holds no complete repeat of {about['experiment']}: run it on"
            )
        complete = {
            key: table[~table["repeat"].isin(unfinished)]
            for key, table in tables.items()
        }
        return cls(experiment, about, **complete)

    @property
    def searches(self):
        return list(dict.fromkeys(self.evaluations["search"]))

    @property
    def arms(self):
        """The arms that every search has run."""
        return [
            name for name, arm in self.experiment.arms.items() if arm.searches is None
        ]

    @property
    def sizes(self):
        return sorted(set(self.evaluations["size"]))

    @property
    def n_repeats(self):
        return self.evaluations["repeat"].nunique()

    def runs(self):
        """Return the evaluations of each run, by (search, arm, repeat)."""
        return dict(list(self.evaluations.groupby(JOB, sort=False)))

    def cost(self, evaluations):
        """Return the seconds of evaluations, by the clock of the experiment.

        Those that failed are timed by the wall.
        """
        seconds = evaluations["seconds"].fillna(0)
        if self.experiment.clock == "wall":
            return seconds
        return evaluations["cpu_seconds"].fillna(seconds)

    def errors(self, evaluations):
        """Return the validation errors; 1 where an evaluation failed."""
        return 1 - evaluations["score"].where(evaluations["failed"] == 0, 0)

    def tabulate(self, function):
        """Return a number of each run: a row a search and repeat, a column an arm."""
        values = {job: function(run) for job, run in self.runs().items()}
        table = pd.Series(values)
        table.index.names = JOB
        return table.unstack("arm").reindex(columns=list(self.experiment.arms))

    def seconds(self):
        """Return the time of all evaluations of a run."""
        return self.tabulate(lambda run: self.cost(run).sum())

    def final_errors(self):
        """Return the lowest validation error of the last stage, at its size."""
        return self.tabulate(lambda run: self.errors(self.last_stage(run)).min())

    def test_errors(self, selection="last"):
        """Return the mean test error of the chosen candidate's models, if there are."""
        chosen = self.models[self.models["selection"] == selection]
        errors = (1 - chosen["test_score"]).groupby([chosen[key] for key in JOB]).mean()
        return errors.unstack("arm").reindex(columns=list(self.experiment.arms))

    def last_stage_shares(self):
        """Return which part of a run's time its last stage takes."""
        return self.tabulate(
            lambda run: self.cost(self.last_stage(run)).sum() / self.cost(run).sum()
        )

    def last_stage_seconds(self):
        """Return the mean time of an evaluation of the last stage."""
        return self.tabulate(lambda run: self.cost(self.last_stage(run)).mean())

    def last_stage_epochs(self):
        """Return the mean number of epochs of an evaluation of the last stage."""
        return self.tabulate(lambda run: self.last_stage(run)["epochs"].mean())

    def times_to_final(self, arm, reference="full size"):
        """Return how long an arm takes to the final error of the reference.

        Returns
        -------
        times : DataFrame
            A row a search and repeat: `reference`, when that found it first; `arm`,
            when the arm found one as low at the full size, infinite if never;
            `outcome`, whether that was "sooner" or "later", or is "open", as the arm
            had ended before.
        """
        full_size = self.experiment.full_size
        rows = {}
        runs = self.runs()
        for (search, name, repeat), run in runs.items():
            if name != arm:
                continue
            other = runs[search, reference, repeat]
            target = self.errors(other).min()
            goal = self._time_to(other, target, full_size)
            time = self._time_to(run, target, full_size)
            is_open = np.isinf(time) and self.cost(run).sum() < goal
            outcome = "open" if is_open else "sooner" if time < goal else "later"
            rows[search, repeat] = {"reference": goal, "arm": time, "outcome": outcome}
        times = pd.DataFrame.from_dict(rows, orient="index")
        times.index.names = PAIR
        return times

    def errors_in_time(self, arm, reference="full size"):
        """Return the final error of an arm, and that of the reference at that time.

        Returns
        -------
        errors : DataFrame
            A row a search and repeat: `arm`, and `reference`, the lowest error that it
            had found when the arm had ended, or in the end, if that was before; 1 if
            it had found none.
        """
        rows = {}
        runs = self.runs()
        for (search, name, repeat), run in runs.items():
            if name == arm:
                other = runs[search, reference, repeat]
                in_time = self.cost(other).cumsum() <= self.cost(run).sum()
                rows[search, repeat] = {
                    "reference": self.errors(other)[in_time].min(),
                    "arm": self.errors(self.last_stage(run)).min(),
                }
        errors = pd.DataFrame.from_dict(rows, orient="index").fillna(1)
        errors.index.names = PAIR
        return errors

    def _time_to(self, run, error, size):
        reached = ((self.errors(run) <= error) & (run["size"] == size)).to_numpy()
        if not reached.any():
            return np.inf
        return self.cost(run).to_numpy().cumsum()[reached.argmax()]

    @staticmethod
    def last_stage(run):
        return run[run["stage"] == run["stage"].max()]

    def best_so_far(self, search, arm):
        """Return the lowest error so far in the stage, and the time, repeat by repeat.

        Returns
        -------
        errors, seconds : ndarray of shape (n_repeats, n_evaluations)
        """
        errors, seconds = [], []
        for (one, its_arm, _), run in self.runs().items():
            if (one, its_arm) == (search, arm):
                errors.append(self.errors(run).groupby(run["stage"]).cummin())
                seconds.append(self.cost(run).cumsum())
        return np.array(errors), np.array(seconds)

    def whole_space(self, repeat=None):
        """Return the random candidates of each size, drawn from the whole space.

        Parameters
        ----------
        repeat : int, default=None
            Those of one repeat only; None means all.

        Returns
        -------
        search : IISSearchCV
            As if they had been the stages of a search.
        """
        space = SearchSpace(self.experiment.space)
        network = paper_classifier(**self.experiment.network)
        search = IISSearchCV(
            Pipeline([("resize", ImageResizer()), ("cnn", network)]), space
        )
        tables = [self.at_random(size) for size in self.sizes]
        if repeat is not None:
            tables = [one[one["repeat"] == repeat] for one in tables]
        table = pd.concat(tables)
        search.sizes_ = self.sizes
        search.spaces_ = [space] * len(tables)
        search.stages_ = [
            Bunch(candidates_=[space.encode(params) for params in self.params(one)])
            for one in tables
        ]
        failed = table["failed"].to_numpy() == 1
        search.cv_results_ = {
            "stage": np.repeat(range(len(tables)), [len(one) for one in tables]),
            "size": table["size"].to_numpy(object),
            "error": np.where(failed, "failed", None),
            "params": self.params(table),
            "mean_fit_time": self.cost(table).to_numpy(),
            "mean_score_time": np.zeros(len(table)),
            "split0_test_score": table["score"].to_numpy(),
            "mean_test_score": table["score"].to_numpy(),
        }
        return search

    def at_random(self, size):
        """Return the random evaluations of one size only, in the whole space."""
        arm = "full size" if size == self.experiment.full_size else f"only {size} px"
        rows = self.evaluations
        return rows[(rows["search"] == "random") & (rows["arm"] == arm)]

    def params(self, evaluations):
        """Return the hyperparameters of evaluations."""
        names = list(self.experiment.space)
        return [
            {name: decode(value) for name, value in row.items()}
            for row in evaluations[names].to_dict("records")
        ]

    def rank_correlations(self):
        """Return Spearman's correlation of the errors at each size with the largest.

        They are those of the same candidates, which are the same in all sizes of a
        repeat.

        Returns
        -------
        correlations : dict of int to ndarray of shape (n_repeats,)
        """
        keys = ["repeat", *self.experiment.space]
        largest = self.at_random(self.sizes[-1])
        largest = largest[keys].assign(largest=self.errors(largest))
        correlations = {}
        for size in self.sizes[:-1]:
            rows = self.at_random(size)
            rows = rows[keys].assign(error=self.errors(rows))
            pairs = rows.merge(largest, on=keys, how="left", validate="one_to_one")
            if pairs["largest"].isna().any():
                raise ValueError(f"candidates at {size} px are not those at full size")
            correlations[size] = np.array(
                [
                    stats.spearmanr(pair["error"], pair["largest"]).statistic
                    for _, pair in pairs.groupby("repeat")
                ]
            )
        return correlations

    @cached_property
    def importances(self):
        """The shares of variance, a row a subset, a column a size."""
        result = hyperparameter_importance(self.whole_space(), random_state=0)
        columns = {
            stage.size: pd.Series(
                stage.importances_mean, [" x ".join(s) for s in stage.subsets]
            )
            for stage in result.stages
        }
        order = [" x ".join(subset) for subset in result.rank()]
        return pd.DataFrame(columns).reindex(order)

    def shares_by_repeat(self, name):
        """Return the share of variance of a hyperparameter, a forest a repeat.

        Returns
        -------
        shares : DataFrame
            A row a repeat, a column a size.
        """
        shares = {}
        for repeat in sorted(set(self.evaluations["repeat"])):
            result = hyperparameter_importance(
                self.whole_space(repeat), max_order=1, random_state=0
            )
            shares[repeat] = {
                stage.size: stage.importances_mean[list(stage.subsets).index((name,))]
                for stage in result.stages
            }
        return pd.DataFrame.from_dict(shares, orient="index").rename_axis("repeat")

    @cached_property
    def marginals(self):
        """The mean error over each hyperparameter, a Series for each size.

        Of those that are one number, not one a layer.
        """
        search = self.whole_space()
        names = [
            name
            for name, values in self.experiment.space.items()
            if not isinstance(values, PerLayer)
        ]
        return {
            name: {
                stage.size: pd.Series(1 - stage.mean, stage.grid_values[0])
                for stage in hyperparameter_marginal(
                    search, name, random_state=0
                ).stages
            }
            for name in names
        }

    @property
    def best_values(self):
        """The lowest marginal errors: a row per hyperparameter, a column per size."""
        best = {
            name: {size: errors.idxmin() for size, errors in stages.items()}
            for name, stages in self.marginals.items()
        }
        return pd.DataFrame.from_dict(best, orient="index", dtype=object)

    def plateau(self, name):
        """Return the lowest and highest value that are about as good as the best.

        Returns
        -------
        values : dict of int to tuple
            For each size, those with a marginal error within `PLATEAU` of the lowest.
        """
        plateaus = {}
        for size, errors in self.marginals[name].items():
            values = errors.index[errors <= errors.min() + PLATEAU]
            plateaus[size] = (values.min(), values.max())
        return plateaus


def decode(value):
    """Return a hyperparameter as it was: layers are a tuple."""
    value = json.loads(value) if isinstance(value, str) else value
    return tuple(value) if isinstance(value, list) else value
