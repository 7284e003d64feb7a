"""Raw data in nnU-Net v2's layout: description, cases, readers and writers, integrity, splits."""
