"""Raw data in nnU-Net v2's layout: description, cases, reading, writing, checks and splits."""
