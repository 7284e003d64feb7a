from training.tiny import tiny_backbone

__all__ = ["tiny_backbone"]
