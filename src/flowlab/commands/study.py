"""The study of a search, which the same command goes on with."""

from pathlib import Path

from omegaconf import DictConfig


def go_on(sweeper: DictConfig, folder: Path) -> None:
    """Keep an Optuna study in the sweep's folder; leave one that has begun what it lacks.

    Trials that were cut come first.
    """
    from optuna.storages import RDBStorage  # an extra
    from optuna.trial import TrialState

    sweeper.storage = sweeper.storage or f"sqlite:///{folder}/study.db"
    sweeper.study_name = sweeper.study_name or "flowlab"
    storage = RDBStorage(sweeper.storage)
    try:
        trials = storage.get_all_trials(storage.get_study_id_from_name(sweeper.study_name))
    except KeyError:
        return
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            storage.set_trial_state(trial._trial_id, TrialState.WAITING)
    finished = sum(trial.state.is_finished() for trial in trials)
    sweeper.n_trials = max(0, sweeper.n_trials - finished)
    if sweeper.sampler.get("seed") is not None:
        sweeper.sampler.seed += len(trials)  # else it would draw the same points again
