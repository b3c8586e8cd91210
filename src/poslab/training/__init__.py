"""Training: the LightningModule, its callbacks, checkpoints and processes."""
