"""The libraries of `python -m src.train`, imported once for all commands that tests start."""

import hydra
import lightning.pytorch
import lightning.pytorch.loggers
import optuna
import pandas
import tokenizers
import torch._dynamo
import torch.utils.tensorboard
import torchmetrics

__all__ = ["hydra", "lightning", "optuna", "pandas", "tokenizers", "torch", "torchmetrics"]
