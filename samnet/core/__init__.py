"""The lowest layer of the package: errors, files, paths, geometry, worker processes and signals."""
