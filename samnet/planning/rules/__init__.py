"""One function for each decision. A rule looks at the facts and the decisions before it, and gives value and reason."""
