"""The libraries of our commands, imported once for all of those that tests start."""

import importlib
import pkgutil

import hydra

NAMES = [
    *("alembic.command", "datasets", "lightning.pytorch", "lightning.pytorch.loggers", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg"),
    *("fontTools.subset", "optuna.storages", "pandas", "psutil", "pyarrow.parquet", "rich.console", "rich.progress"),
    *("sqlalchemy.dialects.sqlite", "statsmodels.stats.multitest", "tokenizers", "torch._dynamo"),
    *("torch.distributed.elastic.multiprocessing", "torch.utils.tensorboard", "torchmetrics"),
]

for name in [
    *NAMES,
    *(f"hydra.{one.name}" for one in pkgutil.iter_modules(hydra.__path__) if one.name != "experimental"),
]:
    importlib.import_module(name)
