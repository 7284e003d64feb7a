"""The ground every station stands on: errors, files, folders, geometry, jobs."""
