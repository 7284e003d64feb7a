"""A server for annotation programs that speak MONAI Label's protocol."""
