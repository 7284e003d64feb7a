"""The command line: one small module per command.

Each parses its options, calls another layer of the package, and reports errors.
"""
