"""What is done to predicted label maps: components and holes, by rules kept with the model."""
