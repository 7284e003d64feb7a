"""Statistics of a raw data set: everything the planner may know about it."""
