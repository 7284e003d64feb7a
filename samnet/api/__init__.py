"""What `import samnet` offers: one function for each step, one file for each function.

The functions do what the commands do. They print nothing, take folders as arguments in place of
environment variables, and return what the commands print as numbers.
"""
