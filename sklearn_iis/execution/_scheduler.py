"""The scheduler of a stage: hands out evaluations, collects records, retries."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any

from sklearn_iis._sklearn_compat import make_evaluation_context
from sklearn_iis.execution._deadline import Deadline, DeadlineReached
from sklearn_iis.execution._evaluate import Job
from sklearn_iis.execution._executors import Executor
from sklearn_iis.execution._patience import Patience
from sklearn_iis.execution._record import Record, Row, Task
from sklearn_iis.execution._worker import Failure

# An evaluation that crashes its worker so often is recorded as failed.
MAX_CRASHES = 2

OnRow = Callable[[Row], None] | None


class Scheduler:
    """Evaluates rows, each on all splits, on the workers of an executor.

    - After the deadline, or once patience is used up, nothing is handed out.
    - An evaluation that was lost in a crash is retried, alone; if that crashes its
      worker again, it is recorded as failed.
    - Once a candidate has exceeded `trial_timeout` on a split, it is not evaluated on
      those that it was not begun on.
    - An evaluation whose record is known is not handed out.

    Parameters
    ----------
    executor : Executor
        Runs the evaluations.

    job : Job
        The data and settings that all evaluations share.

    directory : str
        For files that workers share.

    deadline : Deadline
        When the stage ends.

    pre_dispatch : int
        Evaluations that are begun or queued before there is room for another row. A
        single worker has one, so that each proposal knows the score before it.

    callback_ctx : CallbackContext, default=None
        The parent of the contexts of evaluations.

    listeners : sequence of callable, default=()
        Called with each row that is complete.

    patience : Patience, default=None
        How long the stage goes on without an improvement. None means to its end.
    """

    def __init__(
        self,
        executor: Executor,
        job: Job,
        directory: str,
        deadline: Deadline,
        *,
        pre_dispatch: int,
        callback_ctx: Any = None,
        listeners: Sequence[Callable[[Row], None]] = (),
        patience: Patience | None = None,
    ):
        self.executor = executor
        self.job = job
        self.deadline = deadline
        self.callback_ctx = callback_ctx
        self.rows: list[Row] = []
        self.patience = Patience() if patience is None else patience
        self._listeners = [*listeners, self.patience.note]
        self._capacity = 1 if executor.n_workers == 1 else pre_dispatch
        # What waits here is not lost in a crash, and not begun after the deadline.
        self._most_in_flight = min(self._capacity, executor.n_workers + 1)
        self._known = self._read_records()
        self._handle = executor.share(job, directory)
        self._queue: deque[tuple[Row, Task]] = deque()
        self._in_flight: dict[Future, tuple[Row, Task]] = {}
        self._done: SimpleQueue[Future] = SimpleQueue()
        self._complete: list[Row] = []
        self._is_closed = False
        # Evaluations that were lost in crashes, and how often each was.
        self._retries: deque[tuple[Row, Task]] = deque()
        self._n_crashes: Counter[int] = Counter()
        # A retry that is in flight.
        self._alone: Future | None = None

    @property
    def n_splits(self) -> int:
        """The number of evaluations of a row."""
        return len(self.job.splits)

    @property
    def complete_rows(self) -> list[Row]:
        """The rows that are complete and count, in the order of their submission."""
        counts = self.patience.counts
        return [row for row in self.rows if row.is_complete and counts(row)]

    def submit(self, row: Row) -> None:
        """Evaluate a row as soon as there are free workers."""
        row.number = len(self.rows)
        self.rows.append(row)
        self._queue.extend((row, task) for task in row.tasks)
        self._hand_out()

    def wait_for_room(self, on_row: OnRow = None) -> None:
        """Take what has come in, and wait until a worker is free for another row.

        Raises
        ------
        DeadlineReached
            If there is no time for another row, or no patience; nothing is under way
            any more.
        """
        self.take(on_row)
        while (
            self._complete
            or self._is_retrying
            or len(self._queue) + len(self._in_flight) >= self._capacity
        ):
            self.take(on_row, block=True)

    def finish(self, on_row: OnRow = None) -> None:
        """Wait for all that is under way.

        Raises
        ------
        DeadlineReached
            If the time was up before all was handed out.
        """
        while self._complete or self._queue or self._in_flight or self._retries:
            self.take(on_row, block=True)
        if self._is_closed:
            raise DeadlineReached

    def take(self, on_row: OnRow = None, *, block: bool = False) -> None:
        """Take the outcomes that are there; `block` waits for one if there is none.

        Raises
        ------
        DeadlineReached
            If the time is up, or the patience; nothing is under way any more.
        """
        self._hand_out()
        if not self._done.empty() or (block and self._in_flight and not self._complete):
            self._collect()
            self._hand_out()
        rows, self._complete = self._complete, []
        if on_row is not None:
            for row in rows:
                on_row(row)
        if self._is_closed or self._is_over:
            self._end()
            while self._in_flight:
                self._collect()
            raise DeadlineReached

    @property
    def _is_over(self):
        return self.deadline.is_over or self.patience.is_over

    @property
    def _is_retrying(self):
        return bool(self._retries) or self._alone in self._in_flight

    @property
    def _has_room(self):
        return not self._is_retrying and len(self._in_flight) < self._most_in_flight

    def _hand_out(self):
        """Hand out what is queued, as far as there are workers and time."""
        while self._retries or self._queue:
            if self._is_over:
                self._end()
            elif self._retries and not self._in_flight:
                self._alone = self._start(*self._retries.popleft())
            elif self._queue and self._has_room:
                row, task = self._queue.popleft()
                record = self._find_record(row, task)
                if record is None:
                    self._start(row, task)
                else:
                    self._accept(row, task, record)
            else:
                return

    def _end(self):
        """Hand nothing out any more."""
        self._is_closed = True
        self.patience.has_ended |= self.patience.is_over
        self._queue.clear()
        self._retries.clear()

    def _start(self, row, task):
        """Hand an evaluation to the executor; return its future."""
        try:
            future = self.executor.submit(
                self._handle,
                task,
                self.deadline.seconds_left,
                self._make_context(row, task),
            )
        except self.executor.crash_errors as error:
            future = Future()
            future.set_exception(error)
        self._in_flight[future] = row, task
        future.add_done_callback(self._done.put)
        return future

    def _collect(self):
        """Wait for an outcome, and take all that there are."""
        done = [self._done.get()]
        while not self._done.empty():
            done.append(self._done.get())
        # Some were taken when their pool broke.
        done = [future for future in done if future in self._in_flight]
        if self.executor.crash_ends_all and any(map(self._is_lost, done)):
            wait(self._in_flight)
            done = list(self._in_flight)
        lost, failed = [], []
        for future in done:
            row, task = self._in_flight.pop(future)
            if self._is_lost(future):
                lost.append((row, task))
            elif future.exception() or isinstance(future.result(), Failure):
                failed.append(future)
            else:
                self._accept(row, task, future.result())
        for future in failed:
            future.result().reraise()
        if lost:
            self.executor.restart()
            self._retry(lost)

    def _is_lost(self, future):
        return future.cancelled() or isinstance(
            future.exception(), self.executor.crash_errors
        )

    def _retry(self, lost):
        """Queue evaluations that were lost in a crash; fail those lost twice."""
        if self.job.recorder is not None:
            self.job.recorder.end_dead_trials()
        self._known = self._read_records()
        for row, task in lost:
            number = self._number(row, task)
            self._n_crashes[number] += 1
            if (record := self._known.get(task.key)) is not None:
                self._accept(row, task, record)
            elif self._n_crashes[number] < MAX_CRASHES:
                self._retries.append((row, task))
            else:
                error = RuntimeError(
                    "the evaluation crashed its worker twice, the second time running "
                    "alone. It may need more memory than there is."
                )
                self._accept(row, task, self._make_failed(task, error))

    def _accept(self, row, task, record):
        """Add a record to its row."""
        if record.unfinished:
            self._end()
            return
        row.records[task.split] = record
        if record.error is None:
            self.deadline.note(row.stage, record.own_fit_time)
        if row.is_complete:
            self.deadline.has_result = True
            self._complete.append(row)
            for listen in self._listeners:
                listen(row)

    def _find_record(self, row, task):
        """Return the record of a task that need not be evaluated, or None."""
        record = self._known.get(task.key)
        is_slow = any(r.time_limit is not None for r in row.records.values())
        if record is None and is_slow:
            error = TimeoutError(
                "the candidate is not evaluated on this split, as another one took "
                f"longer than trial_timeout={self.job.trial_timeout} seconds"
            )
            record = self._make_failed(task, error, time_limit=self.job.trial_timeout)
        if record is not None and (context := self._make_context(row, task)):
            context.call_on_fit_task_begin(estimator=self.job.caller)
            context.call_on_fit_task_end(estimator=self.job.caller)
        return record

    def _make_failed(self, task, error, **fields):
        """Return, and store, the record of an evaluation that fails without running."""
        scoring = self.job.scoring
        if scoring.raises:
            raise error
        record = Record(
            scoring.all_failed,
            started=time.time(),
            error=f"{type(error).__name__}: {error}",
            **fields,
        )
        if scoring.return_train_score:
            record.train_scores = record.scores
        if self.job.recorder is not None:
            self.job.recorder.add(task, record)
        return record

    def _make_context(self, row, task):
        """Return the callback context of an evaluation; None without callbacks."""
        if self.callback_ctx is None or self.job.caller is None:
            return None
        return make_evaluation_context(self.callback_ctx, self._number(row, task))

    def _number(self, row, task):
        return row.number * self.n_splits + task.split

    def _read_records(self) -> Mapping[str, Record]:
        """Return the stored records, except those stopped by a shorter time limit."""
        if self.job.recorder is None:
            return {}
        limit = self.job.trial_timeout
        allowed = math.inf if limit is None else limit
        return {
            key: record
            for key, record in self.job.recorder.read().items()
            if record.time_limit is None or record.time_limit >= allowed
        }
