"""The loss of a training step: that of the task, or distillation from a teacher."""
