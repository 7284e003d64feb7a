"""Training a network by its plan: sampling, augmentation, loss, schedule, loop and checkpoints."""
