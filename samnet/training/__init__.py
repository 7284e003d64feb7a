"""Training of a network by its plan: samples, augmentation, loss, schedule, loop, checkpoints."""
