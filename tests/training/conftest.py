from builders.tiny import tiny_backbone

__all__ = ["tiny_backbone"]
