"""The command line: one small module per command, which parses, calls a station and reports errors."""
