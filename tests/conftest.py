import torch

# Two workers with two threads each get in each other's way on two cores: tests of small models then take four times as
# long. This process alone: commands that a test starts choose for themselves.
torch.set_num_threads(1)
