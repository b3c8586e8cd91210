"""Optuna studies of runs: a sweep file is one question, a trial is one configuration of `python -m src.train`."""
