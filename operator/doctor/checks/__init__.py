"""The judgement: each check is a function from facts to findings, and asks nobody anything."""
