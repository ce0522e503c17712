"""provider.yaml as values: what every key means and what it is when it is not given.

The keys are those of the first Kip, so that its files go on working; new ones are named as those would have
been. A file per section; docs/provider-config.md is generated from the descriptions in them.
"""
