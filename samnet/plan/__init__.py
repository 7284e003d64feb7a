"""The vocabulary of a plan: its file, the values of a configuration, one declaration for each key, backbones."""
