"""The vocabulary of a plan: its file, its values, the declaration of each key, the backbones."""
