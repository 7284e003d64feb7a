"""Training runs in tracking tools: TensorBoard, MLflow, Weights & Biases. Off unless requested."""
